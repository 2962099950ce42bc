"""Search a supernet: an experiment YAML, run in the foreground, guarded, watched and resumable.

    python -m trials.search experiments/quickstart.yml                    in NNI, with its web portal
    python -m trials.search experiments/spos_evo.yml --concurrency 8
    python -m trials.search experiments/quickstart.yml --in-process       without NNI's manager: the same search, faster
    python -m trials.search experiments/spos_evo.yml --resume             goes on after Ctrl-C or any kill
    python -m trials.search experiments/spos_evo_remote.yml --check       looks at everything, workers too; starts nothing

The same YAML works with `nnictl create --config`. This command adds: everything is checked before NNI starts; NNI's
known faults are mended (trials/nni_guard.js); failed trials are tried again; a dead tuner, a full disk or a stalled
experiment stops it with the reason. At the end, arc.json, frontier/ and the report are in the run that the YAML's
trialCommand names.

Exit codes: 0 done; 1 a mistake in what was given, nothing was started; 3 the search was stopped by what went wrong, and
--resume goes on; 130 Ctrl-C and 143 SIGTERM, and --resume goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from spaces.files import load_json, save_json
from strategies.tuner import JOURNAL
from trials import cli, nni_experiment, report, search_result
from trials.cli import option
from trials.search_plan import Plan, check

RECORD = "experiment.json"  # in the run: which experiment --resume continues


@dataclasses.dataclass(frozen=True)
class Config:
    experiment: str = option(help="experiment YAML")
    in_process: bool = option(False, "without NNI's manager: one process, no portal")
    resume: bool = option(False, "continue this experiment; begins where there is nothing to continue")
    check: bool = option(False, "check everything, also that remote workers are ready, and start nothing")
    run: str | None = option(
        None, "run of the supernet on this machine, where trialCommand names another machine's path"
    )
    port: int | None = option(None, "of NNI's web portal (default: 8080, or the next free one)")
    concurrency: int | None = option(None, "trials at a time (default: trialConcurrency of the YAML)")
    max_trials: int | None = option(None, "architectures in all (default: maxTrialNumber of the YAML)")
    stall_minutes: float = option(60, "stop when no trial has ended for so long")

    def __post_init__(self) -> None:
        if self.port is not None and not 1 <= self.port <= 65535:
            raise InputError(f"--port {self.port} is not a port; give 1 to 65535")
        if not self.stall_minutes > 0:
            raise InputError(f"--stall-minutes {self.stall_minutes} is not above 0; give a larger number")


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__, positional="experiment")
    plan = check(Path(config.experiment), run=config.run, concurrency=config.concurrency, max_trials=config.max_trials)
    if config.in_process and plan.tuner is None:
        raise InputError(
            f"tuner {plan.content['tuner'].get('name')} of '{plan.yaml}' is NNI's own and runs in NNI alone; leave --in-process out, "
            "or take strategies.evolution.EvolutionTuner"
        )
    if config.check:
        from trials import workers

        workers.check(plan)
        share = f"{plan.limits} ({100 * plan.feasible.share():.3g}% of the space)"
        print(f"'{config.experiment}' is ready: {plan.wanted:,} architectures, {share}, run '{plan.run}'")
        if plan.feasible.latency and plan.limits.max_latency_ms is None:
            print("latencies are shown, not limited; max_latency_ms would limit them")
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    with only_search(plan.run):
        before = earlier(plan, config) if config.resume else None
        if before is None and (plan.run / "arc.json").exists():
            print(f"a new search: it replaces arc.json and frontier/ of '{plan.run}'")
        if config.in_process:
            from trials import in_process

            name, folder = "in this process", plan.run / "in_process"
            if before is None:
                (folder / JOURNAL).unlink(missing_ok=True)
                record(plan, config, name, folder)
            scored = continue_tuner(plan, folder)
            with Bar(plan, scored) as bar:
                for entry in plan.tuner.ranked()[:1]:
                    bar.best = search_result.score_of(plan, entry["arch"])
                jobs = in_process.search(plan, bar.scored, bar.together)
        else:
            name, folder, jobs = through_nni(plan, config, before)
            continue_tuner(plan, folder / "checkpoint")
            if plan.tuner:  # NNI may have stopped it before it took the last score
                plan.tuner.import_data(search_result.scored(plan, jobs))
        search_result.finish(plan, name, jobs, folder)
        print(f"report: {report.write(plan.run)}")


def through_nni(plan: Plan, config: Config, before: dict[str, Any] | None) -> tuple[str, Path, list[dict[str, Any]]]:
    """Run or resume the experiment in NNI. Returns its id, its folder, its trials."""
    port = nni_experiment.choose_port(config.port, pair=plan.remote)
    if plan.remote:
        from trials import workers

        workers.check(plan)
    else:
        from trials.scoring import Scorer

        # decode the fixed images once, so that no trial has to
        Scorer(plan.run, plan.settings, "cpu")
    if before:
        nni_experiment.end_leftovers(before["id"])

    def started(name: str, folder: Path) -> None:
        record(plan, config, name, folder)

    print("starting NNI")
    with nni_experiment.manager(plan, port, before["id"] if before else None, started) as running:
        print(f"experiment {running.id}: portal {nni_experiment.portals(port)}, log {running.folder / 'log'}")
        with Bar(plan) as bar:

            def ended(job: dict[str, Any]) -> None:
                if job["status"] != "SUCCEEDED":
                    return bar.failed()
                if plan.remote:
                    search_result.store_remote(plan, job, running.get(f"/metric-data/{job['trialJobId']}"))
                bar.scored(search_result.score_of(plan, search_result.arch_of(job)))

            jobs = nni_experiment.watch(running, plan, ended, stall_minutes=config.stall_minutes, tick=bar.tick)
    return running.id, running.folder, jobs


@contextlib.contextmanager
def only_search(run: Path) -> Iterator[None]:
    """Raises InputError: another search of the same run is going on."""
    with open(run / ".search.lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InputError(
                f"another search of '{run}' is going on (process {lock.read() or 'unknown'}); wait for it or stop it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def record(plan: Plan, config: Config, name: str, folder: Path) -> None:
    """Note in the run what --resume has to continue."""
    about = {"id": name, "folder": str(folder.resolve()), "in_process": config.in_process, **plan.identity}
    save_json(plan.run / RECORD, about)


def earlier(plan: Plan, config: Config) -> dict[str, Any] | None:
    """The experiment to continue; None: there is none.

    Raises:
        InputError: it was another one.
    """
    if not (plan.run / RECORD).exists():
        return None
    stored = load_json(plan.run / RECORD, "record of the search")
    for key, value in plan.identity.items():
        was = stored.get(key)
        if was == value:
            continue
        if isinstance(was, dict) and was.get("className") == value.get("className"):  # say what in it has changed
            was, value = ({**about, **about.get("classArgs", {})} for about in (was, value))
            was = {
                name: was.get(name)
                for name in {**was, **value}
                if name != "classArgs" and was.get(name) != value.get(name)
            }
        raise InputError(
            f"{key} of '{plan.yaml}' is not what it was when the search of '{plan.run}' began ({was}); restore it, or leave "
            "--resume out"
        )
    if stored["in_process"] != config.in_process:
        way = "with" if stored["in_process"] else "without"
        raise InputError(
            f"the search of '{plan.run}' was begun {way} --in-process; continue it so, or leave --resume out"
        )
    folder = Path(stored["folder"])
    return stored if (folder.exists() if config.in_process else nni_experiment.was_started(folder)) else None


def continue_tuner(plan: Plan, folder: Path) -> int:
    """Let the tuner of this process know what its journal holds. Returns the number of scores."""
    if plan.tuner is None:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    plan.tuner.folder = folder
    plan.tuner.load_checkpoint()
    return len(plan.tuner.ranked())


class Bar:
    """Progress: architectures with a score, the best of them."""

    def __init__(self, plan: Plan, done: int = 0) -> None:
        self.bar = cli.progress(plan.wanted, desc="search", unit="arch", initial=done)
        self.best: dict[str, Any] | None = None
        self.failures, self.group = 0, ""

    def scored(self, result: dict[str, Any] | None) -> None:
        if result and (self.best is None or result["top1"] > self.best["top1"]):
            self.best = result
        self.show()
        self.bar.update()

    def tick(self) -> None:
        """The clock goes on while trials run."""
        if sys.stderr.isatty():
            self.bar.refresh()

    def together(self, group: int, share: float) -> None:
        """Candidates that are scored together end together."""
        self.group = f"scoring {group} together: {100 * share:.0f}%" if share < 1 else ""
        self.show()
        self.tick()

    def failed(self) -> None:
        self.failures += 1
        self.show()

    def show(self) -> None:
        parts = []
        if self.best:
            parts.append(f"best {self.best['top1']:.2f}% at {self.best['macs'] / 1e6:.2f}M MACs")
        if self.group:
            parts.append(self.group)
        if self.failures:
            parts.append(f"{self.failures} trials failed")
        self.bar.set_postfix_str(", ".join(parts), refresh=False)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


if __name__ == "__main__":
    cli.run(main)
