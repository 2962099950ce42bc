"""Watch a running NNI experiment: NNI itself does not notice a dead tuner, a full disk or a stalled trial."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil

from spaces.errors import Stopped
from spaces.files import read_jsonl
from strategies.tuner import JOURNAL, has_unscored
from trials.search_driver.nni_manager import Manager
from trials.search_driver.plan import Plan

POLL_SECONDS = 1.0
DEAD_SECONDS = 5.0  # a tuner gone for this long is dead
SILENT_SECONDS = 20.0  # a manager that does not answer for this long is dead
FULL_BYTES = 1 << 18  # a disk with less left is full
FIRST_FAILURES, FAILURES = 3, 9  # trials in a row that fail, at the start and later, before the search stops
ENDED = ("SUCCEEDED", "FAILED", "USER_CANCELED", "SYS_CANCELED", "EARLY_STOPPED")


def watch(
    running: Manager,
    plan: Plan,
    ended: Callable[[dict[str, Any]], None],
    *,
    stall_minutes: float,
    tick: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Follow an experiment until it is done.

    Args:
        ended: is told each trial that has ended, once; of those from before a resume, the ones with a score.
        stall_minutes: stop when no trial has ended for so long.
        tick: called about once a second.
    Returns:
        NNI's trial jobs.
    Raises:
        Stopped: the tuner, the manager or the disk failed, trials fail one after another, or nothing moves.
    """
    import requests

    seen: set[str] = set()
    before: set[str] | None = None  # trials that had ended when this began
    row, any_success, quiet_polls = 0, False, 0  # failures in a row
    moved = tuner_seen = answered = time.monotonic()
    while True:
        tick()
        try:
            status, jobs = running.get("/check-status"), running.get("/trial-jobs")
            news = [job for job in jobs if job["status"] in ENDED and job["trialJobId"] not in seen]
            before = {job["trialJobId"] for job in news} if before is None else before
            for job in sorted(news, key=lambda job: job.get("endTime") or 0):
                old, good = job["trialJobId"] in before, job["status"] == "SUCCEEDED"
                if good or not old:
                    ended(job)
                seen.add(job["trialJobId"])
                any_success |= good
                if old:
                    continue
                moved = time.monotonic()
                row = 0 if good else row + 1
                if row >= (FAILURES if any_success else FIRST_FAILURES):
                    raise_if_full(plan, running)
                    which = f"{row} trials in a row" if any_success else f"the first {row} trials"
                    raise Stopped(f"{which} failed: {trial_error(running, job['trialJobId'])}")
            answered = time.monotonic()
        except requests.RequestException as error:
            raise_if_full(plan, running)
            if running.process.poll() is not None:
                raise Stopped(f"NNI's manager died ({exit_text(running.process.poll())}){see(running)}") from None
            if time.monotonic() - answered > SILENT_SECONDS:
                raise Stopped(f"NNI's manager stopped answering ({type(error).__name__}){see(running)}") from None
            time.sleep(POLL_SECONDS)
            continue
        raise_if_full(plan, running)
        if status["status"] == "ERROR":
            reason = running.log.error() or "; ".join(status.get("errors") or []) or "no reason given"
            raise Stopped(f"the experiment failed: {reason}{see(running)}")
        if failure := running.log.error():
            raise Stopped(f"the tuner failed: {failure}{see(running, 'dispatcher.log')}")
        if status["status"] in ("DONE", "STOPPED"):
            return jobs
        # the tuner has nothing more to give, and NNI would wait for ever
        quiet = status["status"] == "TUNER_NO_MORE_TRIAL" and len(seen) == len(jobs) and not handed_out(running, plan)
        quiet_polls = quiet_polls + 1 if quiet else 0
        if quiet_polls >= 5:
            return jobs
        now = time.monotonic()
        if tuner_alive(running):
            tuner_seen = now
        elif now - tuner_seen > DEAD_SECONDS:
            raise Stopped(f"the tuner died without a word{see(running, 'dispatcher.log')}")
        if now - moved > stall_minutes * 60:
            raise Stopped(f"no trial ended for {stall_minutes:g} minutes{see(running)}")
        time.sleep(POLL_SECONDS)


def see(running: Manager, file: str = "") -> str:
    return f"; see {running.folder / 'log' / file}"


def exit_text(code: int | None) -> str:
    return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"


def raise_if_full(plan: Plan, running: Manager) -> None:
    """Raises Stopped: a disk that is written to is full; everything else that goes wrong then has this cause."""
    for place in (running.folder, plan.run):
        if place.exists() and (left := shutil.disk_usage(place).free) < FULL_BYTES:
            raise Stopped(
                f"no space left on device: the disk of '{place}' has {left:,} bytes; make room, then add --resume"
            )


def tuner_alive(running: Manager) -> bool:
    """True while the process that runs the tuner lives."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(running.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "--exp_params" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    return True
    return False


def handed_out(running: Manager, plan: Plan) -> bool:
    """Whether the tuner waits for a trial: NNI's list lacks those that no machine has taken yet."""
    path = running.folder / "checkpoint" / JOURNAL
    return path.exists() and has_unscored(read_jsonl(path), plan.tuner.tries)


def trial_error(running: Manager, trial: str) -> str:
    """The last line that a trial printed."""
    import requests

    for name in ("stderr", "trial.log", "stdout"):
        text = ""
        with contextlib.suppress(requests.RequestException):
            api = f"http://127.0.0.1:{running.port}/api/v1/nni/trial-file/{trial}/{name}"
            answer = requests.get(api, timeout=20)
            text = answer.text if answer.ok and not answer.text.endswith("is empty.") else ""
        lines = [line for line in text.strip().splitlines() if line.strip()]
        if lines:
            return lines[-1].removeprefix("error: ")
    return f"it printed nothing; see {running.folder / 'environments'}"
