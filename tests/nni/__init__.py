"""Tests with NNI itself: its manager, nnictl, its NasExperiment, and the evaluator that its trials share."""
