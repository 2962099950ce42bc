"""Watch a running NNI experiment, and stop it with the reason when it cannot go on.

NNI itself notices none of these: a tuner that has raised or died, a full disk, trials that all fail, and trials that never
end. It then shows RUNNING for ever.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import requests

from spaces.errors import Stopped
from spaces.files import read_jsonl
from strategies.search_state import JOURNAL, has_unscored
from trials.search_driver.nni_manager import Manager
from trials.search_driver.plan import Plan

POLL_SECONDS = 1.0
DEAD_SECONDS = 5.0  # a tuner whose process is gone for this long is dead
SILENT_SECONDS = 60.0  # a manager that lives and does not answer for this long counts as dead
FULL_BYTES = 1 << 18  # a disk with less left counts as full
FIRST_FAILURES, FAILURES = 3, 9  # trials in a row that fail before the search stops: at its beginning, and later
QUIET_POLLS = 5  # polls in a row without anything to wait for, before the search is done
ENDED = ("SUCCEEDED", "FAILED", "USER_CANCELED", "SYS_CANCELED", "EARLY_STOPPED")


def watch_experiment(
    manager: Manager,
    plan: Plan,
    on_trial_end: Callable[[dict[str, Any], bool], None],
    *,
    stall_minutes: float,
    on_poll: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Follow an experiment until it is done.

    Args:
        on_trial_end: is told each trial that has ended, once, and whether it is of before a resume; of those, only the ones with a score.
        stall_minutes: stop when no trial has ended for so long.
        on_poll: called about once a second.
    Returns:
        NNI's trial jobs.
    Raises:
        Stopped: the tuner, the manager or the disk failed, trials fail one after another, or nothing moves.
    """
    seen: set[str] = set()  # ids of the trials that have ended
    ended_before: set[str] | None = None  # ids of the trials that had ended when this began
    failures_in_a_row, any_success, quiet_polls = 0, False, 0
    last_end = last_answer = tuner_seen = time.monotonic()
    while True:
        on_poll()
        try:
            status, jobs = manager.get("/check-status"), manager.get("/trial-jobs")

            # trials that have ended since the last poll, in the order in which they did
            ended = [job for job in jobs if job["status"] in ENDED and job["trialJobId"] not in seen]
            ended_before = {job["trialJobId"] for job in ended} if ended_before is None else ended_before
            for job in sorted(ended, key=lambda job: job.get("endTime") or 0):
                old, good = job["trialJobId"] in ended_before, job["status"] == "SUCCEEDED"
                if good or not old:
                    on_trial_end(job, old)
                seen.add(job["trialJobId"])
                any_success |= good
                if old:
                    continue
                last_end = time.monotonic()
                failures_in_a_row = 0 if good else failures_in_a_row + 1
                if failures_in_a_row >= (FAILURES if any_success else FIRST_FAILURES):
                    raise_if_full(plan, manager)
                    which = (
                        f"{failures_in_a_row} trials in a row"
                        if any_success
                        else f"the first {failures_in_a_row} trials"
                    )
                    raise Stopped(f"{which} failed: {trial_error(manager, job['trialJobId'])}")
            last_answer = time.monotonic()

        # a manager that does not answer
        except requests.RequestException as error:
            raise_if_full(plan, manager)
            if manager.process.poll() is not None:
                raise Stopped(f"NNI's manager died ({exit_text(manager.process.poll())}){see_log(manager)}") from None
            if time.monotonic() - last_answer > SILENT_SECONDS:
                raise Stopped(f"NNI's manager stopped answering ({type(error).__name__}){see_log(manager)}") from None
            time.sleep(POLL_SECONDS)
            continue
        raise_if_full(plan, manager)

        # an experiment or a tuner that says that it has failed
        if status["status"] == "ERROR":
            reason = manager.log.error() or "; ".join(status.get("errors") or []) or "no reason given"
            raise Stopped(f"the experiment failed: {reason}{see_log(manager)}")
        if failure := manager.log.error():
            raise Stopped(f"the tuner failed: {failure}{see_log(manager, 'dispatcher.log')}")

        # the end: enough trials, or the tuner has nothing more to give, for which NNI would wait for ever
        if status["status"] in ("DONE", "STOPPED"):
            return jobs
        quiet = status["status"] == "TUNER_NO_MORE_TRIAL" and len(seen) == len(jobs)
        quiet = quiet and not tuner_awaits_score(manager, plan)
        quiet_polls = quiet_polls + 1 if quiet else 0
        if quiet_polls >= QUIET_POLLS:
            return jobs

        # a tuner that died, or trials that never end
        now = time.monotonic()
        if tuner_alive(manager):
            tuner_seen = now
        elif now - tuner_seen > DEAD_SECONDS:
            raise Stopped(f"the tuner died without a word{see_log(manager, 'dispatcher.log')}")
        if now - last_end > stall_minutes * 60:
            raise Stopped(f"no trial ended for {stall_minutes:g} minutes{see_log(manager)}")
        time.sleep(POLL_SECONDS)


def see_log(manager: Manager, file: str = "") -> str:
    """The end of an error message: where more can be read."""
    return f"; see {manager.folder / 'log' / file}"


def exit_text(code: int | None) -> str:
    """A process's exit code in words; a negative one is the number of the signal that killed it."""
    return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"


def raise_if_full(plan: Plan, manager: Manager) -> None:
    """Stop when a disk that is written to is full: whatever else goes wrong then has this cause.

    Raises:
        Stopped: the disk of the experiment or of the run has less than FULL_BYTES left.
    """
    for folder in (manager.folder, plan.run):
        if folder.exists() and (left := shutil.disk_usage(folder).free) < FULL_BYTES:
            raise Stopped(
                f"no space left on device: the disk of '{folder}' has {left:,} bytes; make room, then add --resume"
            )


def tuner_alive(manager: Manager) -> bool:
    """Whether the process that runs the tuner lives: the manager's child with --exp_params in its command line."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(manager.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "--exp_params" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    return True
    return False


def tuner_awaits_score(manager: Manager, plan: Plan) -> bool:
    """Whether the tuner has handed out an architecture that may still get a score.

    NNI's list of trials is not enough: it lacks those that no machine has taken yet.
    """
    path = manager.folder / "checkpoint" / JOURNAL
    return plan.tuner is not None and path.exists() and has_unscored(read_jsonl(path), plan.tuner.tries)


def trial_error(manager: Manager, trial: str) -> str:
    """The last line that a trial printed, from the first of its files that has one.

    Args:
        trial: NNI's id of the trial.
    """
    for name in ("stderr", "trial.log", "stdout"):
        text = ""
        with contextlib.suppress(requests.RequestException):
            api = f"http://127.0.0.1:{manager.port}/api/v1/nni/trial-file/{trial}/{name}"
            answer = requests.get(api, timeout=20)
            text = answer.text if answer.ok and not answer.text.endswith("is empty.") else ""
        lines = [line for line in text.strip().splitlines() if line.strip()]
        if lines:
            return lines[-1].removeprefix("error: ")
    return f"it printed nothing; see {manager.folder / 'environments'}"
