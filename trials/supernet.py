"""Train a supernet.

    python -m trials.supernet --preset tiny --data digits --out runs/digits
    python -m trials.supernet --preset tiny --data digits --out runs/digits --resume
    python -m trials.supernet --space proxylessnas --strategy gumbel --max-macs 320M --cost-loss power --data ... --out RUN
    python -m trials.supernet --data folder --data-root ~/imagenet --workers 16 --out runs/spos-imagenet [--dry-run]
    torchrun --nproc-per-node 8 -m trials.supernet --data folder --data-root ~/imagenet --workers 8 --out RUN
    python -m trials.supernet --import-official checkpoint-150000.pth.tar --data folder --data-root ~/imagenet --out RUN

Sampling strategies (uniform, window, binned, strict-fair) draw the paths that a step trains; differentiable ones (softmax,
gumbel, gates, threshold) also learn how probable each candidate is, and write the most probable architecture within
--max-macs to RUN/arc.json. With --resume a run goes on from its last checkpoint, and on a CPU ends with the very weights it
would have had without the interruption: batches, augmentation, paths and dropout of a step are functions of (seed, step)
alone. --import-official makes a run of a supernet that the official SPOS code trained.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from spaces.errors import InputError
from trials.common import cli
from trials.training.supernet_config import DIFFERENTIABLE, Config
from trials.training.supernet_loop import make_paths, train


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__, "trials.supernet")
    rank, _ = cli.rank_and_world()
    if rank:
        sys.stdout = open(os.devnull, "w")  # one process speaks

    import spaces
    from trials.common.distributed import use_cuda
    from trials.images.load import load_data

    options = cli.space_options(config.space_options)
    imported = None
    if config.import_official:
        from trials.networks import official_spos

        imported = official_spos.read_supernet(
            config.import_official, config.space, config.preset, config.space_options
        )
    # everything a user can get wrong is checked before the slow imports
    use_cuda(config.device, config.precision)
    described = spaces.describe(config.space, config.preset, resolution=config.resolution, **options)
    data = load_data(
        config,
        described.resolution,
        score_fraction=config.score_fraction,
        arch_fraction=config.arch_fraction,
        run=config.out,
    )
    if not data.size("score"):
        raise InputError(f"--score-fraction {config.score_fraction} of so few images is none; raise it")
    if imported:
        official_spos.check_classes(imported, data)
    else:
        for part in ("weights", "arch") if config.strategy in DIFFERENTIABLE else ("train",):
            config.first_arch_epoch(data.steps_per_epoch(part, config.batch_size))  # refuses a batch that is too large
    if config.warm_start and described.inherit is None and any(block.label for block in described.blocks):
        raise InputError(f"space {config.space} has no warm start (no `inherit`); leave --warm-start out")
    if config.strategy == "threshold" and any(block.label for block in described.blocks):
        raise InputError(
            f"--strategy threshold decides on superkernels; space {config.space} has blocks with candidates; use gumbel"
        )

    from spaces.cost import measure, search_space
    from spaces.files import save_json
    from spaces.latency import LatencyTable
    from strategies.feasible import FeasibleSpace
    from trials.common import run_dir

    options |= {"classes": len(data.classes), "resolution": data.resolution}
    chain = spaces.describe(config.space, config.preset, **options)
    table = measure(chain)  # builds every candidate once: what is wrong with a space comes out before the run exists
    latency = LatencyTable.load(config.latency_table, table) if config.latency_table else None
    feasible = FeasibleSpace(table, config.limits(), latency)  # refuses limits out of reach
    about = {"name": config.space, "preset": config.preset, "options": options}
    loss_table = latency.costs if latency else table  # nanoseconds, or MACs
    if config.cost_loss == "power" and loss_table.bounds().min_macs <= 1e6:
        raise InputError(
            f"--cost-loss power takes the logarithm of the cost in {'milliseconds' if latency else 'millions'}, and the space "
            f"starts at {loss_table.bounds().min_macs / 1e6:.3g}; use linear or target, with --cost-weight"
        )
    paths = make_paths(config, chain, feasible, data)
    # the paths whose accuracy is followed, within the limits; always the same ones
    watched = [feasible.sample(random.Random(f"fixed path {place}")) for place in range(config.eval_paths)]

    if config.dry_run:
        from trials.training.dry_run import estimate
        from trials.training.supernet_trainer import Trainer

        trainer = Trainer(config, data, about, loss_table, paths)
        print(cli.table(estimate(trainer, table), ("dry run", ""), as_is=True))
        return
    run = Path(config.out)
    if not rank:
        run = run_dir.open_run(config.out, "supernet", config, resume=config.resume)
    if (run / "supernet.pt").exists():
        print(f"'{run}' is complete: {run / 'supernet.pt'}")
        return
    if not rank:
        data.save(run)
        table.save(run / "cost_table.json")
        save_json(run / "search_space.json", search_space(chain.choices))
    if imported:
        weights = imported.weights
    else:
        from trials.training.supernet_trainer import Trainer

        weights = train(Trainer(config, data, about, loss_table, paths), run, feasible, watched)
    if weights and not rank:
        more = {"space": about, "seed": config.seed, "preprocessing": data.preprocessing()}
        run_dir.save_checkpoint(run / "supernet.pt", {"model": weights, **more})
        print(f"supernet: {run / 'supernet.pt'}")


if __name__ == "__main__":
    cli.run(main)
