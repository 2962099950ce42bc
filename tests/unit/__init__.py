"""Tests of functions and classes; `make quick` runs them."""
