"""WHAT RUNS: one file per command, each readable from top to bottom."""

import os

# Before torch is imported. OpenMP's default is to spin for long while it waits, so two training processes with two
# threads each on two cores stand in each other's way: 12 images/s each. With this bound it is 111, and 353 for one
# process alone, as without it (spos tiny, digits, 2 shared cores). Waiting without spinning makes one alone slow: 121.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorBoard
