"""What a tuner looks at when NNI's manager starts it: is the manager guarded, and which experiment is it of?"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import logging
import os
import select
import shlex
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import CLONE

GUARD_FILE = "nni_guard.js"  # sets ONEPATH_GUARD in the processes that NNI's manager starts
_logger = logging.getLogger(__name__)


def guard_loaded() -> bool:
    """Whether this process was started by an NNI manager that runs with the guard."""
    return bool(os.environ.get("ONEPATH_GUARD"))


def experiment_of_manager() -> dict[str, Any] | None:
    """The experiment whose tuner this process is, as NNI's manager tells it; None: it is no tuner process."""
    if "--exp_params" not in sys.argv[:-1]:
        return None
    return json.loads(base64.b64decode(sys.argv[sys.argv.index("--exp_params") + 1]))


def enter_tuner_process(table: CostTable) -> None:
    """Make sure that this process may be the tuner of its experiment; does nothing where it is no tuner process.

    The process ends with its manager from now on: a tuner that outlives a killed manager would meet the next manager of
    the same port.

    Args:
        table: the cost table that the tuner judges limits by.
    Raises:
        InputError: several trials at a time without the guard, or a cost table that is not that of the trials.
    """
    experiment = experiment_of_manager()
    if experiment is None:
        return
    end_with_manager()
    refuse_without_guard(experiment)
    refuse_other_costs(experiment, table)
    if not guard_loaded():
        warn_of_open_port()


def export_line() -> str:
    """The shell command that loads the guard into every NNI manager that is started after it."""
    # The file is found by its name, because strategies know nothing of the folders above them.
    return f"export NODE_OPTIONS='--require \"{next(CLONE.glob(f'*/{GUARD_FILE}'))}\"'"


def refuse_without_guard(experiment: dict[str, Any]) -> None:
    """Refuse several trials at a time without the guard: NNI 3.0 alone gives trials the wrong architectures then.

    Raises:
        InputError: there are several at a time, and no guard.
    """
    if experiment.get("trialConcurrency", 1) > 1 and not guard_loaded():
        raise InputError(
            f"trialConcurrency {experiment['trialConcurrency']}: NNI 3.0 alone gives trials the wrong architectures above 1; set it "
            f"to 1, use python -m trials.search, or first: {export_line()}"
        )


def refuse_other_costs(experiment: dict[str, Any], table: CostTable) -> None:
    """Refuse limits that would be judged by the costs of another space than that of the trials.

    Where the run of the supernet is on another machine, `ArchTuner.receive_trial_result` compares the costs instead.

    Raises:
        InputError: the run that the trial's command names has a cost table of another space, resolution or number of
            classes.
    """
    words = shlex.split(str(experiment.get("trialCommand", "")))
    runs = [after for word, after in itertools.pairwise(words) if word == "--run"]
    runs += [word.removeprefix("--run=") for word in words if word.startswith("--run=")]
    file = Path(experiment.get("trialCodeDirectory", "."), *runs[-1:], "cost_table.json")
    if not runs or not file.exists():
        return
    space = CostTable.load(file).space
    if table.space != space:
        raise InputError(
            f"the cost_table of the tuner is of {table.space}, the supernet of {space}: limits would be judged by the wrong "
            f"costs; give cost_table: {file}"
        )


def end_with_manager() -> None:
    """End this process when the manager that started it ends, in whatever way. The tuner's journal survives that."""
    managers = [process for process in psutil.Process().parents() if "--experiment-id" in process.cmdline()]

    def wait(manager: psutil.Process) -> None:
        try:
            select.select([os.pidfd_open(manager.pid)], [], [])  # readable once the process has ended
        except (AttributeError, OSError):  # it has ended already, or this system has no such thing
            manager.wait()
        os._exit(1)

    for manager in managers[:1]:  # a shell stands between the two
        threading.Thread(target=wait, args=(manager,), daemon=True).start()


def warn_of_open_port() -> None:
    """Say that the port is open to everybody: in the terminal from which nnictl was called, and in the tuner's log.

    NNI gives a tuner the manager's streams, which are log files unless nnictl runs in the foreground; but the process is
    still of the terminal's session.
    """
    line = (
        "this NNI manager runs without Onepath's guard: its port is open to everybody who reaches this machine, "
        f"without a password; stop it (nnictl stop), then: {export_line()}, and start it again (docs/search.md, The guard)"
    )
    _logger.warning(line)
    with contextlib.suppress(OSError), open("/dev/tty", "w") as terminal:  # OSError: it has no terminal
        terminal.write(f"\r\nWARNING: {line}\r\n")
