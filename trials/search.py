"""Search a supernet: an experiment YAML, run in the foreground, guarded, watched and resumable.

    python -m trials.search runs/mine                                   a run of trials.supernet, by its search.yml
    python -m trials.search experiments/quickstart.yml                  in NNI, with its web portal
    python -m trials.search experiments/spos_evo.yml --concurrency 8
    python -m trials.search experiments/quickstart.yml --in-process     without NNI's manager: the same search, faster
    python -m trials.search experiments/spos_evo.yml --resume           goes on after Ctrl-C or any kill
    python -m trials.search experiments/spos_evo_remote.yml --check     looks at everything, workers too; starts nothing

The same YAML works with `nnictl create --config`. This command adds: everything is checked before NNI starts; NNI's
known faults are mended (trials/nni_guard.js); failed trials are tried again; a dead tuner, a full disk or a stalled
experiment stops it with the reason. At the end, arc.json, frontier/ and the report are in the run that the YAML's
trialCommand names.

Exit codes are those of docs/exit_codes.md; after 3, 130 and 143 --resume goes on.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from spaces.errors import InputError
from strategies.search_state import JOURNAL
from trials.common import cli
from trials.common.answers import answer
from trials.common.cli import option
from trials.evidence.gates import warnings_from
from trials.search_driver import experiment_file, experiment_yaml
from trials.watching.options import LoggerOptions, decide_loggers

if TYPE_CHECKING:
    from trials.search_driver.plan import Plan

GOES = 20.0  # seconds, and no more, that the manager of a killed search takes to let go of its port


@dataclasses.dataclass(frozen=True)
class Config(LoggerOptions):
    """Options of trials.search."""

    positional: ClassVar[str] = "experiment"

    experiment: str = option(help="Experiment YAML, or a run of trials.supernet, whose search.yml it is")
    in_process: bool = option(
        False,
        "Search in one process, without NNI's manager and portal: the same search, two to three times faster where scores take a second",
        brief="Search in one process, without NNI's manager and portal: faster",
    )
    resume: bool = option(
        False,
        "Continue this experiment, or begin it where there is nothing to continue",
        brief="Continue this experiment, or begin it",
    )
    check: bool = option(
        False,
        "Check everything, also that remote workers are ready, and start nothing",
        brief="Check everything, remote workers too, and start nothing",
    )
    run: str | None = option(
        None, "Run of the supernet on this machine, where trialCommand names another machine's path"
    )
    port: int | None = option(None, "Port of NNI's web portal", unset="8080, or the next free one")
    concurrency: int | None = option(None, "Trials at a time", unset="trialConcurrency of the YAML")
    max_trials: int | None = option(None, "Architectures in all", unset="maxTrialNumber of the YAML")
    stall_minutes: float = option(60, "Minutes without the end of a trial after which the search stops")

    def __post_init__(self) -> None:
        decide_loggers(self)
        if self.port is not None and not 1 <= self.port <= 65535:
            raise InputError(f"--port {self.port} is not a port; give 1 to 65535")
        for name in ("concurrency", "max_trials"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{cli.flag(name)} {getattr(self, name)} is below 1; give a whole number above 0")
        if not self.stall_minutes > 0:
            raise InputError(f"--stall-minutes {self.stall_minutes} is not above 0; give a larger number")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.search")

    # NNI is imported when the options are known to be right; the checks of a YAML end with those that need it.
    experiment_yaml.read_yaml(experiment_file.find_yaml(Path(config.experiment)))
    from trials.search_driver import results
    from trials.search_driver.plan import plan_experiment
    from trials.search_driver.session import experiment_to_continue, refuse_while_retrained, search_lock

    # check everything before anything is started
    plan = plan_experiment(
        Path(config.experiment), run=config.run, concurrency=config.concurrency, max_trials=config.max_trials
    )
    if config.in_process and plan.tuner is None:
        raise InputError(
            f"tuner {plan.content['tuner'].get('name')} of '{plan.yaml}' is NNI's own and runs in NNI alone; leave --in-process out, "
            "or take strategies.evolution.EvolutionTuner"
        )
    if config.check:
        print_readiness(plan, config)
        return answer("search", run=plan.run, wanted=plan.wanted, share_of_space=plan.feasible.share())

    with search_lock(plan.run):
        refuse_while_retrained(plan.run)
        # find what --resume continues
        earlier = experiment_to_continue(plan, in_process=config.in_process) if config.resume else None
        if earlier is None and (plan.run / "arc.json").exists():
            print(f"a new search: it replaces arc.json and frontier/ of '{plan.run}'; what was retrained stays")
        results.announce_end_of_choice(plan.run)

        # run the search
        if config.in_process:
            name, folder, jobs = run_in_process(plan, config, earlier)
        else:
            name, folder, jobs = run_in_nni(plan, config, earlier)

        # write arc.json, frontier/, search.json and the report
        found = results.write_results(plan, name, jobs, folder)

        from trials.reporting import page  # it opens the images, which takes torch

        report, certify = page.write_report(plan.run), cli.command("certify", plan.run)
        print(f"report: {report}")
        cli.say_next(certify, "is it better than random architectures of the same cost?")
        return answer(
            "search",
            run=plan.run,
            wanted=plan.wanted,
            share_of_space=plan.feasible.share(),
            **found,
            warnings=warnings_from(plan.run, "search"),
            report=report,
            next=certify,
        )


def print_readiness(plan: Plan, config: Config) -> None:
    """Say what the experiment would search. Raises InputError: a remote worker is not ready."""
    from trials.search_driver import workers

    workers.check_workers(plan)
    share = f"{plan.limits} ({100 * plan.feasible.share():.3g}% of the space)"
    print(f"'{config.experiment}' is ready: {plan.wanted:,} architectures, {share}, run '{plan.run}'")
    if plan.feasible.latency and plan.limits.max_latency_ms is None:
        print("latencies are shown, not limited; max_latency_ms would limit them")


def run_in_process(
    plan: Plan, config: Config, earlier: dict[str, Any] | None
) -> tuple[str, Path, list[dict[str, Any]]]:
    """Run or continue the search in this process.

    Args:
        earlier: the record of the search to continue; None begins a new one.
    Returns:
        What stands for the id of an experiment, its folder, its trials.
    """
    from trials.search_driver import results
    from trials.search_driver.curves import SearchCurves
    from trials.search_driver.in_process import search_in_process
    from trials.search_driver.progress import SearchProgress
    from trials.search_driver.session import IN_PROCESS, record_experiment, restore_tuner

    assert plan.tuner is not None  # main refuses the tuners that only NNI can run
    name, folder = "in this process", plan.run / IN_PROCESS
    if earlier is None:
        (folder / JOURNAL).unlink(missing_ok=True)
        record_experiment(plan, name, folder, in_process=True)
    done = restore_tuner(plan, folder)
    scores = results.earlier_scores(plan) if done else []
    curves = SearchCurves(plan, str(config.logger), scores, resumes=earlier is not None)
    with SearchProgress(plan, curves, done) as progress:
        for entry in plan.tuner.ranked()[:1]:
            progress.best = results.score_of(plan, entry["arch"])
        jobs = search_in_process(plan, progress.add_score, progress.show_group)
    return name, folder, jobs


def run_in_nni(plan: Plan, config: Config, earlier: dict[str, Any] | None) -> tuple[str, Path, list[dict[str, Any]]]:
    """Run or continue the experiment in NNI.

    Args:
        earlier: the record of the experiment to continue; None begins a new one.
    Returns:
        The experiment's id, its folder, its trials.
    """
    from trials.scoring import evaluator_client
    from trials.scoring.score_value import metric_text
    from trials.search_driver import nni_manager, ports, results, watchdog
    from trials.search_driver.curves import SearchCurves
    from trials.search_driver.progress import SearchProgress
    from trials.search_driver.session import record_experiment, restore_tuner

    port = ports.choose_port(config.port, with_next=plan.remote, wait=GOES if config.resume else 0)
    if plan.remote:
        from trials.search_driver import workers

        workers.check_workers(plan)
    else:
        from trials.scoring.recorded_blocks import scoring_device
        from trials.scoring.scorer import Scorer

        scoring_device(plan.evaluate.device, plan.evaluate.cuda_graphs)
        # decode the fixed images once, so that no trial has to
        Scorer(plan.run, plan.settings, "cpu")
    if earlier:
        nni_manager.end_leftovers(earlier["id"])
    evaluator_client.remove_dead_sockets(plan.run)

    def record(name: str, folder: Path) -> None:
        record_experiment(plan, name, folder, in_process=False)

    curves = SearchCurves(plan, str(config.logger), [], resumes=earlier is not None)
    print("starting NNI")
    with nni_manager.running_manager(plan, port, earlier["id"] if earlier else None, record) as manager:
        print(f"experiment {manager.id}: portal {ports.portal_addresses(port)}, log {manager.folder / 'log'}")
        cli.say(f"in the portal: {metric_text(plan.evaluate.score_by)}")
        with SearchProgress(plan, curves) as progress:

            def count_trial(job: dict[str, Any], earlier: bool) -> None:
                if job["status"] != "SUCCEEDED":
                    return progress.add_failure()
                if plan.remote:
                    results.store_remote_score(plan, job, manager.get(f"/metric-data/{job['trialJobId']}"))
                progress.add_score(results.score_of(plan, results.arch_of(job)), earlier=earlier)

            jobs = watchdog.watch_experiment(
                manager, plan, count_trial, stall_minutes=config.stall_minutes, on_poll=progress.refresh
            )

    restore_tuner(plan, manager.folder / "checkpoint")
    if plan.tuner:  # NNI may have stopped it before it took the last score
        plan.tuner.import_data(results.scores_to_import(plan, jobs))
    return manager.id, manager.folder, jobs


if __name__ == "__main__":
    cli.run(main)
