"""Won, or luck? Set the winner of a search beside random architectures of the same cost, trained in the same way.

    python -m trials.certify runs/digits                     8 random architectures, 2 seeds each
    python -m trials.certify runs/digits --dry-run           how many hours would it take?
    python -m trials.certify runs/digits --jobs 4            four trainings at a time
    python -m trials.certify runs/digits --random 20         12 more; nothing is trained twice
    python -m trials.certify runs/digits --seeds 3           a seed more of every network

Trains the winner (RUN/arc.json, searched or learned), the cheapest architecture, and random ones of the winner's cost with one
recipe, the same seeds and the same images: that of RUN/retrain, or the defaults of trials.retrain where the winner is not
retrained yet (for another recipe, retrain it first). Each is an ordinary run of trials.retrain in RUN/controls/. Writes
RUN/certificate.json and the report; docs/certificate.md says what each figure means. After Ctrl-C or any kill the same command
goes on: nothing is lost and nothing is trained twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trials.certifying.certify_config import Config
from trials.choosing.searched import read_searched
from trials.common import cli, run_files
from trials.common.answers import answer
from trials.common.commands import as_typed
from trials.common.supernet_run import SupernetRun
from trials.scoring.score_store import TOP_FILE


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.certify")

    # Torch is imported when the options are known to be right and something was found.
    run = SupernetRun.open(config.run, trained=not (Path(config.run) / TOP_FILE).exists())  # random draws need none
    searched = read_searched(run, config.latency_table)
    if config.device == "cuda":
        from trials.common.distributed import use_cuda  # with torch, and not yet all the rest

        use_cuda(config.device)
    from trials.certifying import issue, jobs
    from trials.certifying.certificate import FILE
    from trials.common.threads import use_free_cores
    from trials.export_formats.model_card import renew_certificate
    from trials.reporting.page import write_report

    use_free_cores(run.path)

    # what a user can get wrong is refused before anything is written
    plan = issue.plan_certificate(config, searched)
    issue.print_plan(plan)
    if config.dry_run:
        return answer("certify", run=plan.run.path, estimate=dict(issue.print_estimate(plan)))

    # score, train, test, compare; what is there already is not done again
    stopped = issue.issue_certificate(plan)
    certificate = run_files.read(plan.run.path / FILE, "certificate")
    for card in renew_certificate(plan.winner.folder, certificate):
        print(f"model card: {card} has this verdict now")
    report = write_report(plan.run.path)
    print(f"report: {report}")
    jobs.require_all_trained(stopped)
    following = as_typed(certificate["verdict"]["next"])
    return answer("certify", run=plan.run.path, certificate=certificate, report=report, next=following)


if __name__ == "__main__":
    cli.run(main)
