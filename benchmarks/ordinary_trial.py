"""Run a module as an ordinary NNI trial does, with `import nni` as it is; for benchmarks/trial_turnaround.py.

    python -m benchmarks.ordinary_trial trials.evaluate --run runs/digits --no-warm

Nothing else is imported here: the time of a trial is measured.
"""

import runpy
import sys

import nni  # noqa: F401

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
