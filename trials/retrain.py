"""Train one network from scratch with a paper's recipe, as a plain torch network, and test it.

    python -m trials.retrain --fixed-arc runs/digits/arc.json --supernet runs/digits --seeds 3
    python -m trials.retrain --fixed-arc spos-block --data folder --data-root ~/imagenet        # a published network
    python -m trials.retrain --baseline timm:mobilenetv2_100 --supernet runs/digits             # with the winner's recipe
    torchrun --nproc-per-node 8 -m trials.retrain --fixed-arc spos-block --data folder --data-root ~/imagenet
    python -m trials.retrain --import-official NETWORK.pth.tar --data folder --data-root ~/imagenet --out RUN

All training images are used (the scoring part too), but for those that --hold-out keeps to choose the best epoch; the test
images are read once, at the end. With --supernet, space, data and resolution are those of the search. Options that are given
win over --recipe. With --resume a killed run goes on, bitwise on a CPU. --import-official reads a network that the official
SPOS code trained: its architecture, found from its weights, goes to RUN/arc.json (for --fixed-arc), and its accuracy on the
test images is measured instead of training.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from trials.common import cli
from trials.training import recipes
from trials.training.retrain_config import Config, winners_config
from trials.training.retrain_trainer import open_data


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__, "trials.retrain")
    rank, _ = cli.rank_and_world()
    if rank:
        sys.stdout = open(os.devnull, "w")  # one process speaks

    from spaces.files import save_json
    from trials.common import run_dir
    from trials.common.distributed import use_cuda

    use_cuda(config.device, config.precision)
    imported = None
    if config.import_official:
        from trials.networks import official_spos

        imported = official_spos.read_network(config.import_official, config.space, config.preset, config.space_options)
        if config.seeds != 1:
            raise InputError(f"--seeds {config.seeds} with --import-official: there is one network; leave --seeds out")
        config = dataclasses.replace(config, space_options=cli.space_options_text(imported.options))
    arch = None if config.baseline else imported.arch if imported else read_arch(config)
    data = open_data(config)
    if not data.size("test"):
        raise InputError(f"'{config.data_root}' has no test images: too few of each class; give more, or a val/ folder")
    data.check_files("test")
    if imported:
        official_spos.check_classes(imported, data)
    elif config.hold_out and not data.size("score"):
        raise InputError(f"--hold-out {config.hold_out} of so few images is none; raise it")
    else:
        # refuses a batch that is too large
        data.steps_per_epoch("train" if config.hold_out else "all", config.batch_size)
    about, macs, params = describe(config, arch, data)

    run = Path(config.out)
    if not rank:
        _tell(config, data)
        run = run_dir.open_run(config.out, "retrain", config, resume=config.resume)
        _keep_arch(run, arch)
        data.save(run)
    missing = [seed for seed in range(config.seeds) if not (run / f"seed{seed}" / "result.json").exists()]
    train_all(config, about, missing, data, imported)
    if rank:
        return
    summary = summarise(run, config.seeds, {**_what(config, arch), "macs": macs, "params": params})
    save_json(run / "result.json", summary)
    if config.baseline:
        from trials.reporting.compare_baselines import compare_baselines

        compare_baselines(Path(config.supernet) if config.supernet else run, run, config.device)


def read_arch(config: Config) -> dict[str, Any]:
    """The architecture that --fixed-arc names.

    Raises:
        InputError: there is no such file or published network, or it does not fit the space.
    """
    import spaces
    from spaces.arch import ArchError
    from spaces.published import find_published
    from spaces.published import read_arch as read

    given = str(config.fixed_arc)
    options = cli.space_options(config.space_options)
    choices = spaces.describe(config.space, config.preset, resolution=config.resolution, **options).choices
    key = find_published(given)
    space = " ".join(filter(None, (config.space, config.preset, config.space_options)))
    try:
        return read(given, choices)
    except ArchError as error:
        if key:
            home = " ".join(filter(None, (key[0], key[1].preset, cli.space_options_text(key[1].options))))
            raise InputError(f"--fixed-arc {given}: {error} (in space {space}; it is of {home})") from None
        if not Path(given).is_file():
            raise
        hint = "" if config.supernet else "; give --supernet RUN, or --space and --preset, if it is of another"
        raise InputError(f"{error} (in space {space}{hint})") from None


def describe(config: Config, arch: dict[str, Any] | None, data: Any) -> tuple[dict[str, Any], int, int]:
    """The network for trials.networks, its MACs and params.

    Raises:
        InputError: it cannot be made for these images, or the space is no longer what it was.
    """
    import spaces
    from spaces.cost import CostTable, measure

    if config.baseline:
        from trials.networks import baselines

        macs, params = baselines.check_baseline(config.baseline, len(data.classes), data.resolution)
        return {"arch": None, "space": None, "baseline": config.baseline, "classes": len(data.classes)}, macs, params
    assert arch is not None
    options = cli.space_options(config.space_options) | {"classes": len(data.classes), "resolution": data.resolution}
    table = measure(spaces.describe(config.space, config.preset, **options))
    if config.supernet and not CostTable.load(Path(config.supernet) / "cost_table.json").same_costs(table):
        raise InputError(
            f"space {config.space} is not what it was when supernet '{config.supernet}' was trained; restore it"
        )
    about = {"arch": arch, "space": {"name": config.space, "preset": config.preset, "options": options}}
    return about, table.macs(arch), table.params(arch)


def train_all(config: Config, about: dict[str, Any], missing: list[int], data: Any, imported: Any) -> None:
    """Train and test the seeds that have no result yet; an imported network is only tested."""
    from trials.networks import build
    from trials.training import retrain_loop

    if imported:
        from trials.common.distributed import make_fabric

        network = build.build_network(about)
        network.load_state_dict(imported.weights)
        fabric = make_fabric(config.device, "32")
        for seed in missing:
            retrain_loop.test(fabric, network.to(fabric.device), config, about, seed, data, 0.0)
    elif config.jobs > 1 and len(missing) > 1:
        with ProcessPoolExecutor(config.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(retrain_loop.train, [config] * len(missing), [about] * len(missing), missing))
    else:
        for seed in missing:
            retrain_loop.train(config, about, seed)


def summarise(run: Path, seeds: int, about: dict[str, Any]) -> dict[str, Any]:
    """Print the results of all seeds; returns what result.json of the run holds."""
    from spaces.files import load_json

    results = [load_json(run / f"seed{seed}" / "result.json", "result") for seed in range(seeds)]
    top1 = [result["test_top1"] for result in results]
    summary = {
        **about,
        "test_top1": top1,
        "mean": statistics.mean(top1),
        "std": statistics.stdev(top1) if len(top1) > 1 else None,
        "test_images": results[0]["test_images"],
        "seconds": [result["seconds"] for result in results],
    }
    rows = [(seed, r["test_top1"], r["test_top5"], r["seconds"]) for seed, r in enumerate(results)]
    print(cli.table(rows, ("seed", "test top-1 %", "test top-5 %", "seconds")))
    spread = f" +- {summary['std']:.2f} (standard deviation)" if summary["std"] is not None else ""
    print(
        f"test top-1 {summary['mean']:.2f}%{spread}, n = {len(top1)}, {summary['test_images']:,} test images, "
        f"{summary['macs']:,} MACs, {summary['params']:,} params"
    )
    return summary


def _what(config: Config, arch: dict[str, Any] | None) -> dict[str, Any]:
    return {"arch": None, "baseline": config.baseline} if config.baseline else {"arch": arch}


def _keep_arch(run: Path, arch: dict[str, Any] | None) -> None:
    """Write the architecture into a run. Raises InputError: it was started with another."""
    from spaces.arch import arch_id
    from spaces.files import load_json, save_json

    if arch is None:
        return
    stored = load_json(run / "arc.json", "fixed arc") if (run / "arc.json").exists() else arch
    if stored != arch:
        raise InputError(f"'{run}' was started with another architecture ({arch_id(stored)}); choose another --out")
    save_json(run / "arc.json", arch)


def _tell(config: Config, data: Any) -> None:
    """Say what may surprise."""
    if config.import_official:
        return
    if winners_config(config):
        print(f"recipe: options that are not given are those of the winner, '{config.supernet}/retrain'")
    recipe = recipes.RECIPES[config.recipe]
    if config.lr == recipe["lr"] and config.batch_size != recipe["batch_size"]:
        print(
            f"note: lr {config.lr:g} of recipe {config.recipe} is for batches of {recipe['batch_size']:,}, and is not scaled for "
            f"{config.batch_size:,}; in proportion it would be --lr {config.lr * config.batch_size / recipe['batch_size']:.3g}"
        )
    if config.baseline and data.resolution < 64 and "output_stride" not in config.baseline:
        print(
            f"note: most models shrink images 32 times, {data.resolution}x{data.resolution} pixels to "
            f"{-(-data.resolution // 32)}x{-(-data.resolution // 32)}; where a model takes it, ,output_stride=8 is a stronger baseline"
        )


if __name__ == "__main__":
    cli.run(main)
