"""Show a search space, and write its NNI search space and cost table as JSON.

python -m trials.space spos
python -m trials.space spos --preset tiny --classes 5 --out experiments/spaces
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from trials import cli
from trials.cli import option


@dataclasses.dataclass(frozen=True)
class Config:
    space: str = option(help="name of the space")
    preset: str = option("imagenet", "preset of the space")
    classes: int | None = option(None, "number of classes (default: the preset's)")
    resolution: int | None = option(None, "height and width of an image, pixels (default: the preset's)")
    out: str = option("experiments/spaces", "folder for the two JSON files")


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__, positional="space")

    import spaces
    from spaces.cost import measure, search_space
    from spaces.errors import InputError
    from spaces.files import save_json
    from spaces.published import PUBLISHED

    chain = spaces.describe(config.space, config.preset, classes=config.classes, resolution=config.resolution)
    table = measure(chain)
    bounds = table.bounds()
    candidates = sorted({len(candidates) for candidates in chain.choices.values()})
    print(f"{chain.name} {chain.preset}: {chain.resolution}x{chain.resolution} pixels, {chain.classes} classes")
    print(
        f"{len(chain.choices)} choice blocks, {'-'.join(map(str, candidates))} candidates each, "
        f"{table.architectures():,} architectures\n"
    )
    rows = [("smallest", bounds.min_macs, bounds.min_params), ("largest", bounds.max_macs, bounds.max_params)]
    print(cli.table(rows, ("", "MACs", "params")), "\n")

    stock = spaces.describe(config.space, config.preset)
    same = (stock.classes, stock.resolution) == (chain.classes, chain.resolution)
    found = {key: entry for key, entry in PUBLISHED.get(config.space, {}).items() if entry.preset == config.preset}
    if found and same:
        networks = [
            (key, table.macs(e.arch), table.params(e.arch), e.top1, e.published, e.source) for key, e in found.items()
        ]
        print(cli.table(networks, ("published network", "MACs", "params", "top-1 %", "as printed", "source")), "\n")

    name = f"{chain.name.replace(':', '.')}-{chain.preset}"
    try:
        save_json(Path(config.out) / f"{name}.json", search_space(chain.choices))
        table.save(Path(config.out) / f"{name}.costs.json")
    except OSError as error:
        raise InputError(f"cannot write to '{config.out}' ({error.strerror}); choose another --out") from None
    print(f"wrote {Path(config.out) / name}.json (NNI search space) and {name}.costs.json (cost table)")


if __name__ == "__main__":
    cli.run(main)
