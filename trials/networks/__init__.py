"""Fixed networks: built from an architecture or a baseline, BatchNorm recalibrated or folded, accuracy measured."""
