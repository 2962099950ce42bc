"""Train one network from scratch with a paper's recipe, as a plain torch network, and test it.

    python -m trials.retrain --fixed-arc runs/digits/arc.json --supernet runs/digits --seeds 3
    python -m trials.retrain --supernet runs/digits --top 4 --top-random 4 --jobs 2       # by short trainings, of eight
    python -m trials.retrain --supernet runs/digits --frontier 5 --seeds 3 --jobs 2       # accuracy beside cost
    python -m trials.retrain --fixed-arc spos-block --data folder --data-root ~/imagenet  # a published network
    python -m trials.retrain --baseline timm:mobilenetv2_100 --supernet runs/digits       # with the winner's recipe
    torchrun --nproc-per-node 8 -m trials.retrain --fixed-arc spos-block --data folder --data-root ~/imagenet
    python -m trials.retrain --import-official NETWORK.pth.tar --data folder --data-root ~/imagenet --out RUN

All training images are used (the scoring part too), but for those that --hold-out keeps to choose the best epoch; the test
images are read once, at the end. With --supernet, space, data and resolution are those of the search. Options that are given
win over --recipe. With --resume a killed run goes on, bitwise on a CPU. --import-official reads a network that the official
SPOS code trained: its architecture, found from its weights, goes to RUN/arc.json (for --fixed-arc), and its accuracy on the
test images is measured instead of training. --top trains the best architectures of a search for --top-epochs without its scoring
images, and --top-random as many random ones of the same cost; the best of them on these images becomes RUN/arc.json, and is
trained in full on all training images. RUN/top.json says how it was chosen.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.arch import Arch, arch_id
from spaces.errors import InputError
from spaces.files import save_json
from spaces.fixed_arc import require_arch
from trials.choosing.candidates import find_candidates
from trials.common import cli, locks, places, run_dir, run_files
from trials.common.answers import answer
from trials.common.options import check_space
from trials.common.supernet_run import SupernetRun
from trials.evidence.classes import ClassRow, balanced_accuracy
from trials.evidence.floor import balanced_text, floor_of, floor_text
from trials.evidence.gates import keep_warnings, warnings_from
from trials.evidence.intervals import Interval, accuracy_interval, percent
from trials.evidence.learned import not_above_text
from trials.images.options import require_images
from trials.networks.baselines import require_model
from trials.scoring.score_value import TOP5_CLASSES
from trials.training.frontier_options import require_search
from trials.training.retrain_config import Config
from trials.training.retrain_result import (
    collect_result,
    missing_seeds,
    result_text,
    rows_of_classes,
    seed_results,
    with_finished,
)
from trials.training.start_options import FILE

if TYPE_CHECKING:
    from trials.training.retrain_plan import RetrainPlan


MOST_CLASSES = 5  # that are printed; result.json and the report have all


def main(argv: list[str] | None = None) -> dict[str, Any] | None:
    config = cli.parse(Config, argv, __doc__, "trials.retrain")
    speaks = cli.only_first_process_speaks()

    # What a user can get wrong is checked before the imports that take seconds, and all of it before anything is written.
    check_space(config)
    candidates = None
    if config.frontier:
        require_search(SupernetRun.open(str(config.supernet), trained=False), config.frontier)
    elif config.chooses:
        supernet = SupernetRun.open(str(config.supernet), trained=config.top > 0)
        candidates = find_candidates(supernet, config.top, config.top_random)
    else:
        if config.fixed_arc:
            require_arch(config.fixed_arc)
        if config.baseline:
            require_model(config.baseline)
        require_images(config)
        if speaks and not config.dry_run:
            run_dir.refuse_before_training("retrain", config)
    from trials.common.threads import use_free_cores
    from trials.images import image_list
    from trials.training import run_gates
    from trials.training.initial_weights import keep_start
    from trials.training.retrain_plan import plan_retraining, print_notes

    if config.supernet and (config.frontier or candidates):
        use_free_cores(config.supernet)
    if config.frontier:
        from trials.frontier.trade import retrain_frontier
        from trials.reporting.page import write_report

        found = retrain_frontier(config)
        if "tradeoff" in found:
            print(f"report: {write_report(Path(str(config.supernet)))}")
        return answer("retrain", **found)
    arch = None
    if candidates:
        from trials.choosing import top

        config, arch = top.choose_winner(config, *candidates)

    plan = plan_retraining(config, arch)
    config = plan.config
    run = Path(config.out)
    use_free_cores(run)
    print_notes(plan)

    # A dry run times a few steps and writes nothing.
    if config.dry_run:
        from trials.training.dry_run import advise, estimate_network

        rows = estimate_network(plan)
        print(cli.table(rows, ("dry run", ""), as_is=True))
        print(advise(config, config.recipe_values(), plan.data.size(config.training_part), config.kind))
        return answer("retrain", estimate=dict(rows))

    if speaks:
        keep_apart(config, run, plan.arch)
    with locks.exclusive(run, "training") if speaks else contextlib.nullcontext():
        if speaks:
            run_dir.open_run(
                config.out, "retrain", config, resume=config.resume, discards=(image_list.LIST, "arc.json", FILE)
            )
            keep_arch(run, plan.arch)
            keep_start(run, plan.start)
            plan.data.save(run)
            keep_warnings(run, "retrain", run_gates.before_retraining(config, plan.data))

        # Seeds that have a result are not trained again, and stay in the result where fewer are asked for.
        train_missing_seeds(plan, run)
        if not speaks:
            return None
        seeds = with_finished(run, config.seeds)
        if seeds > config.seeds:
            print(f"--seeds {config.seeds}: '{run}' has results of {seeds} seeds, and all of them count")
            config = dataclasses.replace(config, seeds=seeds)
        result = summarise(run, config.seeds, plan.summary(), plan.data.classes)
        save_json(run / "result.json", result)

    # How good is that, and what comes next?
    floor = floor_of(Path(config.supernet or run), plan.data)
    print(floor_text(floor))
    said = not_above_text("the network", Interval(result["mean"], *result["interval"]), floor)
    for line in filter(None, (balanced_text(floor), said)):
        print(line)
    keep_warnings(run, "retrain", run_gates.after_retraining(config, plan.data, floor), more=True)
    following = None
    if config.baseline or config.start:
        from trials.reporting.compare_baselines import compare_baselines

        compare_baselines(Path(config.supernet) if config.supernet else run, run, config.device)
    elif config.supernet and run.resolve() == winners_run(config, plan.arch):
        following = cli.command("certify", config.supernet)
        cli.say_next(following, "is it better than random architectures of the same cost?")
    elif not config.supernet:  # a network of its own: nothing is compared with it
        following = cli.command("export", "--weights", run)
        cli.say_next(following, "files that run without Onepath")
    warned = warnings_from(run, "retrain")
    return answer("retrain", run=run, result=result, floor=floor, warnings=warned, next=following)


def winners_run(config: Config, arch: Arch | None) -> Path | None:
    """Where trials.certify looks for the winner of the supernet's run; None where the winner, in arc.json, is not what is trained.

    Args:
        arch: what is trained; arc.json itself may be in another form than ours.
    """
    supernet, file = Path(config.supernet or ""), Path(config.fixed_arc or "")
    if not config.supernet or file.resolve() != (supernet / "arc.json").resolve():
        return None
    return places.winners_folder(supernet, arch).resolve()


def keep_apart(config: Config, run: Path, arch: Arch | None) -> None:
    """Keep what is trained apart from the winner of another search.

    Args:
        arch: what is trained.
    Raises:
        InputError: a search of the supernet is going on, which replaces the arc.json that would be trained.
    """
    winners = winners_run(config, arch)
    if winners is None:
        return
    locks.refuse_while(Path(str(config.supernet)), "search", f"which replaces '{config.fixed_arc}' at its end")
    usual = Path(str(config.supernet)) / "retrain"
    if run.resolve() == winners != usual.resolve() and not run_dir.begun(run):
        print(f"'{usual}' is of the winner of an earlier search and stays as it is; this winner goes to '{run}'")


def train_missing_seeds(plan: RetrainPlan, run: Path) -> None:
    """Train and test the seeds that have no result yet; an imported network is only tested."""
    from trials.common.distributed import make_fabric
    from trials.networks.build import build_network
    from trials.training import parallel, retrain_loop

    config, network = plan.config, plan.network
    missing = missing_seeds(run, config.seeds)
    if plan.imported:
        imported = build_network(network)
        imported.load_state_dict(plan.imported.weights)
        fabric = make_fabric(config.device, "32")
        for seed in missing:
            retrain_loop.test_network(fabric, imported.to(fabric.device), config, network, seed, plan.data, 0.0)
    elif config.jobs > 1 and len(missing) > 1:
        jobs = [parallel.Job(config, network, seed, plan.images) for seed in missing]
        failures = parallel.train_jobs(jobs, config.jobs, title="retrain")
        if failures:
            raise next(iter(failures.values()))
    else:
        for seed in missing:
            retrain_loop.train_seed(config, network, seed)


def summarise(run: Path, seeds: int, network: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Print the results of all seeds.

    Args:
        network: what result.json says about the network: architecture or baseline, MACs, params.
        classes: names of them; of five or fewer, a top-5 would always be 100.
    Returns:
        What result.json of the run holds; accuracies in percent.
    """
    of_classes, results = rows_of_classes(run, seeds, classes), seed_results(run, seeds)
    summary = collect_result(run, seeds, network, classes, of_classes)
    images = summary["test_images"]

    def shown(percent: float) -> str:
        return str(accuracy_interval([round(percent * images / 100)], images))

    tops = (1, 5) if len(classes) >= TOP5_CLASSES else (1,)
    rows = [(seed, *(shown(r[f"test_top{k}"]) for k in tops), f"{r['seconds']:.2f}") for seed, r in enumerate(results)]
    print(cli.table(rows, ("seed", *(f"test top-{k} %" for k in tops), "seconds"), as_is=True))
    print(f"test top-1 {result_text(summary)}, {summary['macs']:,} MACs, {summary['params']:,} params")
    print_classes(of_classes)
    return summary


def print_classes(rows: Sequence[ClassRow]) -> None:
    """Print the balanced accuracy and the classes that are known least; nothing where there are no rows."""
    if not rows:
        return
    print(f"balanced accuracy {percent(balanced_accuracy(rows))}: every class counts alike, however many images it has")
    lowest = [(row.name, str(row.interval), f"{row.images:,}", row.mistaken_for or "-") for row in rows[:MOST_CLASSES]]
    which = f"class, the {len(lowest)} least accurate of {len(rows)}" if len(lowest) < len(rows) else "class"
    print(cli.table(lowest, (which, "test top-1 %", "test images", "mostly taken for"), as_is=True))


def keep_arch(run: Path, arch: Arch | None) -> None:
    """Write the architecture into a run. Raises InputError: it was started with another."""
    if arch is None:
        return
    stored = run_files.read_if_there(run / "arc.json", "fixed arc", arch)
    if stored != arch:
        raise InputError(
            f"'{run}' was started with another architecture ({arch_id(stored)}); choose another --out, such as {run}-{arch_id(arch)}"
        )
    save_json(run / "arc.json", arch)


if __name__ == "__main__":
    cli.run(main)
