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

import signal
import sys
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from strategies.tuner import JOURNAL
from trials.common import cli
from trials.reporting import page
from trials.search_driver import nni_manager, ports, results, watchdog
from trials.search_driver.plan import Plan, check
from trials.search_driver.session import Config, continue_tuner, earlier, only_search, record


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__, "trials.search", positional="experiment")
    plan = check(Path(config.experiment), run=config.run, concurrency=config.concurrency, max_trials=config.max_trials)
    if config.in_process and plan.tuner is None:
        raise InputError(
            f"tuner {plan.content['tuner'].get('name')} of '{plan.yaml}' is NNI's own and runs in NNI alone; leave --in-process out, "
            "or take strategies.evolution.EvolutionTuner"
        )
    if config.check:
        from trials.search_driver import workers

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
            from trials.search_driver import in_process

            name, folder = "in this process", plan.run / "in_process"
            if before is None:
                (folder / JOURNAL).unlink(missing_ok=True)
                record(plan, config, name, folder)
            scored = continue_tuner(plan, folder)
            with Bar(plan, scored) as bar:
                for entry in plan.tuner.ranked()[:1]:
                    bar.best = results.score_of(plan, entry["arch"])
                jobs = in_process.search(plan, bar.scored, bar.together)
        else:
            name, folder, jobs = through_nni(plan, config, before)
            continue_tuner(plan, folder / "checkpoint")
            if plan.tuner:  # NNI may have stopped it before it took the last score
                plan.tuner.import_data(results.scored(plan, jobs))
        results.finish(plan, name, jobs, folder)
        print(f"report: {page.write(plan.run)}")


def through_nni(plan: Plan, config: Config, before: dict[str, Any] | None) -> tuple[str, Path, list[dict[str, Any]]]:
    """Run or resume the experiment in NNI. Returns its id, its folder, its trials."""
    port = ports.choose_port(config.port, pair=plan.remote)
    if plan.remote:
        from trials.search_driver import workers

        workers.check(plan)
    else:
        from trials.scoring.scorer import Scorer

        # decode the fixed images once, so that no trial has to
        Scorer(plan.run, plan.settings, "cpu")
    if before:
        nni_manager.end_leftovers(before["id"])

    def started(name: str, folder: Path) -> None:
        record(plan, config, name, folder)

    print("starting NNI")
    with nni_manager.manager(plan, port, before["id"] if before else None, started) as running:
        print(f"experiment {running.id}: portal {ports.portals(port)}, log {running.folder / 'log'}")
        with Bar(plan) as bar:

            def ended(job: dict[str, Any]) -> None:
                if job["status"] != "SUCCEEDED":
                    return bar.failed()
                if plan.remote:
                    results.store_remote(plan, job, running.get(f"/metric-data/{job['trialJobId']}"))
                bar.scored(results.score_of(plan, results.arch_of(job)))

            jobs = watchdog.watch(running, plan, ended, stall_minutes=config.stall_minutes, tick=bar.tick)
    return running.id, running.folder, jobs


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
