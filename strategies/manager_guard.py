"""The check that NNI's manager runs with our guard when several trials run at a time."""

from __future__ import annotations

import base64
import json
import os
import sys

from spaces.errors import InputError
from spaces.files import CLONE

GUARD_FILE = "nni_guard.js"  # sets ONEPATH_GUARD in the processes that NNI's manager starts


def guard_loaded() -> bool:
    """Whether this process was started by an NNI manager that runs with the guard."""
    return bool(os.environ.get("ONEPATH_GUARD"))


def refuse_without_guard() -> None:
    """Refuse to be the tuner of several trials at a time without the guard.

    NNI 3.0 alone gives trials the wrong architectures above concurrency 1.

    Raises:
        InputError: this is the tuner process of such an experiment.
    """
    if "--exp_params" not in sys.argv or guard_loaded():
        return
    experiment = json.loads(base64.b64decode(sys.argv[sys.argv.index("--exp_params") + 1]))
    if experiment.get("trialConcurrency", 1) > 1:
        # The file is found by its name, because strategies know nothing of the folders above them.
        guard = next(CLONE.glob(f"*/{GUARD_FILE}"))
        raise InputError(
            f"trialConcurrency {experiment['trialConcurrency']}: NNI 3.0 alone gives trials the wrong architectures above 1; set it "
            f"to 1, use python -m trials.search, or first: export NODE_OPTIONS='--require \"{guard}\"'"
        )
