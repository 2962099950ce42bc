"""WHAT RUNS: one file per command, each readable from top to bottom."""

import os

# Before torch is imported. OpenMP's default is to spin while it waits: two processes with two threads each on two
# cores then train at 12 instead of 180 images/s each (measured on 2 shared cores; alone it makes no difference).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorBoard
