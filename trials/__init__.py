"""WHAT RUNS: one file per command, each readable from top to bottom."""

import contextlib
import ctypes
import os

# Before torch is imported. OpenMP's default is to spin for long while it waits, so two training processes with two
# threads each on two cores stand in each other's way: 12 images/s each. With this bound it is 111, and 353 for one
# process alone, as without it (spos tiny, digits, 2 shared cores). Waiting without spinning makes one alone slow: 121.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorBoard

# glibc gives large tensors back to the system and takes fresh pages for the next one; touching those is most of the time
# of making a batch on a CPU (64 images of 224x224: colour jitter and normalisation take 2.2 ms an image, with this 1.3).
# Memory of a training run: 3 % more. Its speed is the same.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
with contextlib.suppress(AttributeError, OSError):  # another C library
    ctypes.CDLL(None).mallopt(M_MMAP_MAX, 0)
    ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
