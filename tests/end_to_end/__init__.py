"""Whole commands, and roads of them, on real images."""
