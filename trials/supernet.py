"""Train a supernet.

    python -m trials.supernet --preset tiny --data digits --out runs/digits
    python -m trials.supernet --preset tiny --data digits --out runs/digits --resume
    python -m trials.supernet --space proxylessnas --strategy gumbel --max-macs 320M --cost-loss power --out RUN
    python -m trials.supernet --data folder --data-root ~/imagenet --workers 16 --out runs/spos-imagenet [--dry-run]
    torchrun --nproc-per-node 8 -m trials.supernet --data folder --data-root ~/imagenet --workers 8 --out RUN
    python -m trials.supernet --epochs 0 --max-macs 3M --out RUN      # no supernet: for trials.retrain --top-random
    python -m trials.supernet --import-official checkpoint-150000.pth.tar --data folder --data-root ~/imagenet --out RUN

Sampling strategies (uniform, window, binned, strict-fair) draw the paths that a step trains; differentiable ones (softmax,
gumbel, gates, threshold) also learn how probable each candidate is, and write the most probable architecture within
--max-macs to RUN/arc.json. With --resume a run goes on from its last checkpoint, and on a CPU ends with the very weights it
would have had without the interruption: batches, augmentation, paths and dropout of a step are functions of (seed, step)
alone. --import-official makes a run of a supernet that the official SPOS code trained.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.cost import search_space
from spaces.files import save_json
from trials.common import cli, locks, run_dir, run_files
from trials.common.answers import answer
from trials.common.commands import in_road
from trials.common.options import check_space
from trials.evidence.gates import keep_warnings, warnings_from
from trials.images.options import require_images
from trials.search_driver.experiment_file import write_experiment
from trials.training.supernet_config import Config

if TYPE_CHECKING:
    from trials.training.supernet_plan import SupernetPlan


def main(argv: list[str] | None = None) -> dict[str, Any] | None:
    config = cli.parse(Config, argv, __doc__, "trials.supernet")
    speaks = cli.only_first_process_speaks()

    # What a user can get wrong is checked before the imports that take seconds: torch here, NNI's NAS below.
    check_space(config)
    require_images(config)
    if speaks and not config.dry_run:
        run_dir.refuse_before_training("supernet", config)
    from trials.common.threads import use_free_cores
    from trials.images import image_list
    from trials.training import supernets
    from trials.training.supernet_plan import plan_supernet

    plan = plan_supernet(config)
    config = plan.config
    use_free_cores(config.out)
    if plan.recipe:
        print(plan.recipe)

    # A dry run times a few steps and writes nothing.
    if config.dry_run:
        from trials.training.dry_run import advise, estimate
        from trials.training.supernet_trainer import SupernetTrainer

        trainer = SupernetTrainer(config, plan.data, plan.space, plan.loss_table, plan.paths)
        rows = estimate(trainer, plan.table)
        print(cli.table(rows, ("dry run", ""), as_is=True))
        print(advise(config, config.recipe(), plan.data.size(trainer.part), "supernet"))
        return answer("supernet", estimate=dict(rows))

    # The run directory says what is trained before it is trained, and no other command trains there meanwhile.
    run = Path(config.out)
    with locks.exclusive(run, "training") if speaks else contextlib.nullcontext():
        if speaks:
            run_dir.open_run(config.out, "supernet", config, resume=config.resume, discards=(image_list.LIST,))
        if (run / "supernet.pt").exists() and len(supernets.trained_weights(run)) == config.supernets:
            print(f"'{run}' is complete: {run / 'supernet.pt'}")
            return told(run, print_next(run, plan, config))
        if speaks:
            supernets.reopen(run)
            plan.data.save(run)
            plan.table.save(run / "cost_table.json")
            save_json(run / "search_space.json", search_space(plan.chain.choices))
        if config.trains_none:
            choose = cli.command("retrain", "--supernet", run, "--top-random", 8)
            print("no supernet is trained; the best of random architectures, by short trainings")
            cli.say_next(choose)
            return told(run, choose)
        return told(run, train(run, plan, config, speaks))


def told(run: Path, following: str | None) -> dict[str, Any]:
    """What --json says of a run.

    Args:
        following: the command that comes next.
    """
    weights = run / "supernet.pt"
    return answer(
        "supernet",
        run=run,
        supernet=weights if weights.exists() else None,
        learned=run_files.read_if_there(run / "learned_arc.json", "fixed arc"),
        warnings=warnings_from(run, "supernet"),
        next=following,
    )


def train(run: Path, plan: SupernetPlan, config: Config, speaks: bool) -> str | None:
    """Import the weights, or train them from the last checkpoint on; write supernet.pt.

    Args:
        speaks: whether this is the first process, which writes.
    Returns:
        The command that comes next; None where the training was stopped before its end.
    """
    from trials.training import run_gates, supernets

    if plan.imported:
        weights = [plan.imported.weights]
    else:
        from trials.training.supernet_loop import training_loop
        from trials.training.supernet_trainer import SupernetTrainer

        if speaks:
            keep_warnings(run, "supernet", run_gates.before_supernet(config, plan.data))
        weights = supernets.trained_weights(run)
        for number in range(len(weights), config.supernets):
            if config.supernets > 1:
                print(f"supernet {number + 1} of {config.supernets}, seed {config.seed + number}")
            own, folder = supernets.plan_of(plan, number), supernets.folder_of(run, config, number)
            trainer = SupernetTrainer(own.config, own.data, own.space, own.loss_table, own.paths)
            found = training_loop(trainer, run, folder, own.feasible, own.fixed_archs)
            if not found:
                return None
            weights.append(found)
            if speaks:
                keep_warnings(run, "supernet", run_gates.after_supernet(config, plan.data, folder), more=True)
                if len(weights) < config.supernets:
                    supernets.keep_weights(run, plan, weights)
    if not speaks:
        return None
    supernets.keep_weights(run, plan, weights)
    print(f"supernet: {run / 'supernet.pt'}")
    return print_next(run, plan, config)


def print_next(run: Path, plan: SupernetPlan, config: Config) -> str:
    """Write search.yml where it is missing; print and return the command that comes next: a search, or the certificate."""
    experiment = write_experiment(run, plan.feasible, config.latency_table)
    search = cli.command("search", run)
    if (run / "learned_arc.json").exists():
        certify = cli.command("certify", run)
        cli.say_next(certify)
        if not in_road():
            cli.say(f"a search of this supernet is possible, too: {search}")
        return certify
    cli.say_next(f"{search} --in-process")
    if not in_road():  # which searches by itself
        cli.say(f"the limits of a search are those in {experiment}; without --in-process it is in NNI, with its portal")
    return f"{search} --in-process"


if __name__ == "__main__":
    cli.run(main)
