"""Tests in three rooms: unit (no process of NNI), nni (real NNI managers), end_to_end (whole roads of commands)."""
