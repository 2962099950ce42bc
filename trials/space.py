"""Show a search space, and write its NNI search space and cost table as JSON; or list them all.

    python -m trials.space --list
    python -m trials.space spos
    python -m trials.space spos --space-options variant=channel --max-macs 330M
    python -m trials.space fbnet --preset tiny --classes 5 --out experiments/spaces
    python -m trials.space --for 100M --resolution 128 --classes 8     which spaces, presets and widths reach a budget

Nothing is written without --out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import spaces
from spaces.cost import CostTable, measure, search_space
from spaces.counting import COUNTING
from spaces.errors import InputError
from spaces.files import CLONE, save_json
from spaces.published import PUBLISHED, Published
from spaces.published_rows import listed, published_rows, top1_text
from spaces.spec import space_options_text
from strategies import budget as budgets
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits, amount
from trials.common import cli
from trials.common.answers import answer
from trials.common.cli import option, reuse
from trials.common.options import RangeOptions, SpaceSizeOptions, check_space
from trials.networks.timm_rivals import print_rivals
from trials.training.sizing import ASSUMED_CLASSES, ASSUMED_RESOLUTION

if TYPE_CHECKING:
    from spaces.chain import Chain

STORED = CLONE / "experiments" / "spaces"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SpaceSizeOptions):
    """Options of trials.space."""

    positional: ClassVar[str] = "space"

    list: bool = option(False, "List all spaces, their presets and the published networks")
    out: str = option("", "Folder to write the NNI search space and the cost table to, as JSON")
    for_: str = option(
        "",
        "List the spaces, presets and widths that reach a budget of MACs, such as 100M; where neither they nor --data are given, "
        f"--resolution is {ASSUMED_RESOLUTION} and --classes {ASSUMED_CLASSES}",
        brief="List what reaches a budget of MACs, such as 100M, at --resolution (128)",
    )
    data: str = option(
        "",
        "With --for, images whose resolution and number of classes are taken: a folder, or a data set such as digits",
        brief="With --for, images to take resolution and classes from: a folder, or a data set",
    )
    rivals: bool = option(
        False,
        "With --for, list networks of timm of about this cost, for trials.retrain --baseline",
        brief="With --for, list networks of timm of about this cost",
    )
    counting: str = option("macs", "What is counted; others than macs are for comparison", choices=tuple(COUNTING))

    space: str = reuse(SpaceSizeOptions, "space", default=None)
    max_macs: str = reuse(
        RangeOptions, "max_macs", help="Show what part of the space stays at or below this, such as 330M"
    )
    min_macs: str = reuse(RangeOptions, "min_macs", help="Show what part of the space stays at or above this")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.space")

    if config.space is not None:
        check_space(config)
    if config.list:
        if config != Config(list=True):
            raise InputError("--list shows everything and takes no other option; leave the others out")
        return answer("space", spaces=show_all(), published=listed(PUBLISHED))
    if config.rivals and not config.for_:
        raise InputError("--rivals lists networks of a budget; give --for, such as --for 100M")
    if config.data and not config.for_:
        raise InputError("--data gives --for its resolution and classes; give --for, such as --for 100M")
    if config.for_:
        from trials.road.reach import show_reach  # it imports Pillow

        size, reached = show_reach(config, Config())
        budget = amount(config.for_, "--for")
        return answer(
            "space",
            reach=reached,
            rivals=print_rivals(budget, size.resolution, size.classes) if config.rivals else None,
        )
    if config.space is None:
        raise InputError(
            f"no space given; choose from: {', '.join(spaces.SPACES)}; or see them all with --list, or those for a budget with --for 100M"
        )
    options = cli.space_options(config.space_options)
    limits = Limits.of({"max_macs": config.max_macs or None, "min_macs": config.min_macs or None})
    chain = spaces.describe(
        config.space, config.preset, classes=config.classes, resolution=config.resolution, **options
    )
    given = {"classes": config.classes, "resolution": config.resolution}
    name = file_name(config.space, config.preset, options | {key: value for key, value in given.items() if value})
    stored = config.counting == "macs" and not config.out  # what is written is measured
    table = stored_table(name, chain) if stored else measure(chain, config.counting)
    feasible = FeasibleSpace(table, limits)
    bounds = table.bounds()
    candidates = sorted({len(candidates) for candidates in chain.choices.values()})
    counted = "MACs" if config.counting == "macs" else f"operations counted as {config.counting}"
    print(f"{chain.name} {chain.preset}: {chain.resolution}x{chain.resolution} pixels, {chain.classes} classes")
    print(
        f"{len(chain.blocks)} choice blocks, {len(chain.choices)} choices of {'-'.join(map(str, candidates))} candidates "
        f"each, {table.architectures():,} architectures\n"
    )
    rows = [("smallest", bounds.min_macs, bounds.min_params), ("largest", bounds.max_macs, bounds.max_params)]
    print(cli.table(rows, ("", counted, "params")), "\n")
    within = None
    if config.max_macs or config.min_macs:
        reach = feasible.macs_range()
        least, most = reach or (None, None)
        within = {"share": feasible.share(), "min_macs": least, "max_macs": most}
        span = f", {reach[0]:,} to {reach[1]:,} {counted}" if reach else ""
        print(f"{limits}: {100 * feasible.share():.3g}% of the space{span}\n")

    published = []
    if ":" not in config.space and (config.classes, config.resolution) == (None, None):
        networks = published_rows(config.space, config.preset, None if config.counting == "macs" else table)
        if networks:
            header = ("published network", "options", counted, "params", "top-1 %", "arXiv, or GitHub")
            print(cli.table([(*row[:-1], row[-1].removeprefix("github.com/")) for row in networks], header))
            names = [row[0] for row in networks]
            published = listed({config.space: {name: PUBLISHED[config.space][name] for name in names}})
            print_counts_only(item for item in PUBLISHED[config.space].items() if item[0] in names)
            print()
    anchors = budgets.fitting(table, options)
    if anchors and not any(spaces.same_preset(config.space, item.preset, config.preset) for item in anchors.values()):
        rows = [(key, table.macs(item.arch), table.params(item.arch)) for key, item in anchors.items()]
        print(cli.table(rows, ("published architecture, in this preset", counted, "params")), "\n")
    if config.counting != "macs":
        name += f"-{config.counting}"
    found = answer(
        "space",
        space={
            **{"name": chain.name, "preset": chain.preset, "options": options, "blocks": len(chain.blocks)},
            **{"resolution": chain.resolution, "classes": chain.classes, "choices": chain.choices},
            "architectures": table.architectures(),
        },
        counted=config.counting,
        bounds=dataclasses.asdict(bounds),
        within=within,
        published=published,
        files=[],
    )
    if not config.out:
        return found
    files = [Path(config.out) / f"{name}.json", Path(config.out) / f"{name}.costs.json"]
    try:
        save_json(files[0], search_space(chain.choices))
        table.save(files[1])
    except OSError as error:
        raise InputError(f"cannot write to '{config.out}' ({error.strerror}); choose another --out") from None
    print(f"wrote {Path(config.out) / name}.json (NNI search space) and {name}.costs.json (cost table)")
    return found | {"files": files}


def file_name(space: str, preset: str, options: dict[str, Any]) -> str:
    """Name the files of a space: spos-imagenet, spos-imagenet-channel, fbnet-imagenet-last_width1504."""
    words = [str(value) if isinstance(value, str) else f"{name}{value}" for name, value in options.items()]
    return "-".join([space.replace(":", "."), preset, *words])


def stored_table(name: str, chain: Chain) -> CostTable:
    """Read the cost table in experiments/spaces, which a test compares with networks; count one where there is none."""
    path = STORED / f"{name}.costs.json"
    return CostTable.load(path) if path.exists() else measure(chain)


def show_all() -> list[dict[str, Any]]:
    """Print two tables: the spaces with their sizes and bounds, and the published networks.

    Returns:
        The spaces, for --json.
    """
    rows, found = [], []
    for name in spaces.SPACES:
        for preset, options in spaces.presets(name):
            chain = spaces.describe(name, preset, **options)
            table = stored_table(file_name(name, preset, options), chain)
            bounds = table.bounds()
            found.append(
                {
                    **{"name": name, "preset": preset, "options": options, "resolution": table.space["resolution"]},
                    **{"blocks": len(table.blocks), "architectures": table.architectures()},
                    **dataclasses.asdict(bounds),
                }
            )
            rows.append(
                (
                    name,
                    preset,
                    space_options_text(options),
                    f"{table.space['resolution']}x{table.space['resolution']}",
                    str(len(table.blocks)),
                    f"{table.architectures():.1e}",
                    f"{bounds.min_macs / 1e6:,.1f} - {bounds.max_macs / 1e6:,.1f}",
                    f"{bounds.min_params / 1e6:.2f} - {bounds.max_params / 1e6:.2f}",
                )
            )
    header = ("space", "preset", "options", "image", "blocks", "architectures", "million MACs", "million params")
    print(cli.table(rows, header, as_is=True), "\n")
    networks = [
        (key, name, e.preset, space_options_text(e.options), f"{e.macs:,}", f"{e.params:,}", top1_text(e))
        for name, published in PUBLISHED.items()
        for key, e in published.items()
    ]
    print(
        cli.table(
            networks, ("published network", "space", "preset", "options", "MACs", "params", "top-1 %"), as_is=True
        )
    )
    print_counts_only([item for published in PUBLISHED.values() for item in published.items()])
    return found


def print_counts_only(networks: Iterable[tuple[str, Published]]) -> None:
    """Say of which published networks only the counts are those of their authors, and why."""
    for key, entry in networks:
        if entry.counts_only:
            cli.say(
                f"* {key}: only the counts are those of its authors, the top-1 is of their function: {entry.counts_only}"
            )


if __name__ == "__main__":
    cli.run(main)
