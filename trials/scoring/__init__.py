"""Scores of architectures on a trained supernet: many are computed at once, stored in the run, and shared by its trials."""
