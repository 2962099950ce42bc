"""The random forest of the floor: how many pixels, and does colour pay?

    python -m benchmarks.floor --photographs FOLDER --fashion-mnist FOLDER
    python -m benchmarks.floor --smoke

Top-1 of the forest of trials/evidence/floor.py on the test part, mean over the seeds, with the seconds of reading, training and
testing. `python -m benchmarks.roads` makes a folder of photographs.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from benchmarks.common import parse
from trials.common import cli
from trials.evidence import floor
from trials.images.dataset import Data
from trials.images.load import load_data
from trials.images.options import DataOptions

RESOLUTION = 32  # of the networks that the floor stands beside


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", default="", help="image folder; none where it is not given")
    parser.add_argument("--fashion-mnist", default="", help="folder with Fashion-MNIST; none where it is not given")
    parser.add_argument("--pixels", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--seeds", type=int, default=2)
    args = parse(parser, argv, {"pixels": [16], "seeds": 1})
    roots = {"digits": "", "folder": args.photographs, "fashion-mnist": args.fashion_mnist}
    rows = [
        row
        for name, root in roots.items()
        if root or name == "digits"  # which need no folder
        for row in measure(open_data(name, root), args.pixels, args.seeds)
    ]
    print(cli.table(rows, ("images", "trained on", "pixels", "top-1 %", "seconds"), as_is=True))


def open_data(name: str, root: str) -> Data:
    """The images as networks of 32x32 pixels see them."""
    return load_data(DataOptions(data=name, data_root=root), RESOLUTION, score_fraction=0.1)


def measure(data: Data, pixels: Sequence[int], seeds: int) -> list[tuple[str, ...]]:
    """A row for each number of pixels, grey and in colour."""
    rows: list[tuple[str, ...]] = []
    for side in pixels:
        for grey in (True, False):
            forests = [floor.random_forest(data, pixels=side, grey=grey, seed=seed) for seed in range(seeds)]
            top1, seconds = (statistics.mean(forest[key] for forest in forests) for key in ("top1", "seconds"))
            kind = f"{side}x{side}, {'grey' if grey else 'colour'}"
            rows.append((data.name, f"{forests[0]['train_images']:,}", kind, f"{top1:.1f}", f"{seconds:.1f}"))
    return rows


if __name__ == "__main__":
    main()
