"""The classes of a flat ImageNet val/ folder: from a CSV file or from the development kit."""

from __future__ import annotations

import csv
import difflib
import io
import tarfile
from pathlib import Path

from spaces.errors import InputError

LABEL_FILES = (
    "LOC_val_solution.csv",
    "val_labels.csv",
    "val.csv",
    "val.txt",
    "ILSVRC2012_devkit_t12",
    "ILSVRC2012_devkit_t12.tar.gz",
)


def _is_devkit(source: Path) -> bool:
    return source.is_dir() or "ground_truth" in source.name or source.name.endswith((".tar.gz", ".tar", ".tgz"))


def _devkit(source: Path, files: list[str], classes: list[str]) -> list[int]:
    """ImageNet's development kit, a folder or its archive: meta.mat and ILSVRC2012_validation_ground_truth.txt."""
    import scipy.io

    try:
        meta, truth = (_devkit_file(source, name) for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"))
        synsets = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        wnids = dict(zip(synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True))
        names = [wnids[int(number)] for number in truth.split()]
    except Exception as error:  # whatever scipy says of a damaged file
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"--val-labels '{source}' is no ImageNet devkit ({type(error).__name__}: {reason}); it needs "
            "data/meta.mat and data/ILSVRC2012_validation_ground_truth.txt"
        ) from None
    if len(names) != len(files):
        raise InputError(
            f"--val-labels '{source}' has {len(names):,} lines for {len(files):,} images; give all images their line"
        )
    return _numbers(names, classes, source)


def _devkit_file(source: Path, name: str) -> bytes:
    if source.is_file() and "ground_truth" not in source.name:
        with tarfile.open(source) as archive:
            member = next(member for member in archive.getnames() if member.endswith(f"data/{name}"))
            return archive.extractfile(member).read()  # type: ignore[union-attr]
    home = source if source.is_dir() else source.parent
    return next(home.rglob(name)).read_bytes()


def _table(source: Path, files: list[str], classes: list[str]) -> list[int]:
    """Lines of a file and a class, with comma, semicolon or space between; the class a name, or a number from 0."""
    labels: dict[str, str] = {}
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
        for line in lines:
            separator = "," if "," in line else ";"
            row = next(csv.reader([line], delimiter=separator)) if separator in line else line.rsplit(None, 1)
            if len(row) >= 2:
                name, label = Path(row[0].strip()).name, row[1].strip()
                if labels.setdefault(name, label) != label:
                    raise InputError(
                        f"--val-labels '{source}' has '{name}' in class '{labels[name]}' and '{label}'; give it one"
                    )
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--val-labels '{source}' cannot be read ({error}); give a CSV of file,class") from None
    if not labels:
        raise InputError(
            f"--val-labels '{source}' has no line of the form file,class (the first is '{lines[0] if lines else ''}')"
        )
    found = [labels.get(Path(path).name, labels.get(Path(path).stem)) for path in files]
    without = [Path(path).name for path, name in zip(files, found, strict=True) if name is None]
    if without:
        raise InputError(
            f"--val-labels '{source}' has no line for '{without[0]}', nor for {len(without) - 1:,} more of {len(files):,} images; "
            "give every image one"
        )
    return _numbers([name or "" for name in found], classes, source)


def _numbers(names: list[str], classes: list[str], source: Path) -> list[int]:
    """Class numbers; Kaggle's table has a box after the class."""
    known = {name: number for number, name in enumerate(classes)}
    found = []
    for name in names:
        first = name.split()[0] if name.split() else ""
        number = known.get(name, known.get(first, int(first) if first.isdecimal() else -1))
        if not 0 <= number < len(classes):
            close = difflib.get_close_matches(first, classes, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"numbers count from 0 to {len(classes) - 1}"
            raise InputError(
                f"--val-labels '{source}': class '{name}' is not among the {len(classes)} class folders of train/; {hint}"
            )
        found.append(number)
    return found
