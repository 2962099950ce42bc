"""Time and memory until the first batches of a folder as large as ImageNet, each start in a process of its own."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from benchmarks.data.images import make_tree
from trials.images.inspect_file import inspect_image
from trials.images.scan import COLUMNS, INSERT, TABLE

CLASSES = 1000
LOADERS = ("dali", "torchvision")


def make_links(folder: Path, count: int) -> None:
    """A tree of hard links to 120 images, and a cache that says it was scanned, with a digest of its own for each link."""
    make_tree(folder / "few", 60)
    few = sorted((folder / "few").rglob("*.JPEG"))  # several, because a file can have 65,000 links
    infos = [inspect_image(str(path)) for path in few]
    stamps = [(path.stat().st_size, path.stat().st_mtime_ns) for path in few]
    (folder / "cache" / "onepath").mkdir(parents=True)
    print(f"making {count:,} links", flush=True)
    with sqlite3.connect(folder / "cache" / "onepath" / "scan.sqlite") as cache:
        cache.execute(f"CREATE TABLE {TABLE} ({COLUMNS})")
        for label in range(CLASSES):
            of_class = folder / "tree" / f"n{label:08d}"
            of_class.mkdir(parents=True)
            rows = []
            for number in range(label, count, CLASSES):
                path, source = of_class / f"n{label:08d}_{number}.JPEG", number % len(few)
                os.link(few[source], path)
                rows.append((os.fsencode(path), *stamps[source], *infos[source]._replace(digest=number)))
            cache.executemany(INSERT, rows)


def time_starts(folder: Path, count: int) -> None:
    """Print time and memory until the first batches of a large folder, for each loader, twice: with and without its list."""
    make_links(folder, count)
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    for loader in LOADERS:
        for listed in (False, True):
            words = ["-m", "benchmarks.data.start", str(folder), loader, str(listed)]
            subprocess.run([sys.executable, *words], check=True, env=environment)
