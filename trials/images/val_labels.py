"""The classes of the images in a flat val/ folder: from a CSV file, or from ImageNet's development kit."""

from __future__ import annotations

import csv
import difflib
import io
import tarfile
from pathlib import Path

from spaces.errors import InputError

# names of files and folders that may hold these classes, in the order in which they are looked for
LABEL_FILES = (
    "LOC_val_solution.csv",
    "val_labels.csv",
    "val.csv",
    "val.txt",
    "ILSVRC2012_devkit_t12",
    "ILSVRC2012_devkit_t12.tar.gz",
)


def read_val_labels(source: Path, files: list[str], classes: list[str]) -> list[int]:
    """Find the class of each image of a flat val/.

    Args:
        source: a table of file and class, or ImageNet's development kit: its folder, its archive, or its ground truth file.
        files: paths of the images, in the order of their names, which is the order of the development kit.
        classes: names of all class folders of train/, in order.
    Returns:
        For each image the number of its class.
    Raises:
        InputError: `source` cannot be read, lacks an image, or names an unknown class.
    """
    return _read_devkit(source, files, classes) if _is_devkit(source) else _read_table(source, files, classes)


def _is_devkit(source: Path) -> bool:
    return source.is_dir() or "ground_truth" in source.name or source.name.endswith((".tar.gz", ".tar", ".tgz"))


def _read_devkit(source: Path, files: list[str], classes: list[str]) -> list[int]:
    """Class numbers from meta.mat and ILSVRC2012_validation_ground_truth.txt of ImageNet's development kit.

    The ground truth has one line per image, in the order of the files' names: the number of a class in meta.mat.
    """
    import scipy.io

    try:
        meta, truth = (
            _read_devkit_file(source, name) for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")
        )
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
    return _class_numbers(names, classes, source)


def _read_devkit_file(source: Path, name: str) -> bytes:
    """A file of the development kit, from its folder, its archive, or beside the ground truth file."""
    if source.is_file() and "ground_truth" not in source.name:
        with tarfile.open(source) as archive:
            member = next(member for member in archive.getnames() if member.endswith(f"data/{name}"))
            return archive.extractfile(member).read()  # type: ignore[union-attr]
    folder = source if source.is_dir() else source.parent
    return next(folder.rglob(name)).read_bytes()


def _read_table(source: Path, files: list[str], classes: list[str]) -> list[int]:
    """Class numbers from lines with a file and a class, with comma, semicolon or space between.

    A file may stand with or without its folder and suffix; a class is a name, or a number that counts from 0.
    """
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
    names = [labels.get(Path(path).name, labels.get(Path(path).stem)) for path in files]
    without = [Path(path).name for path, name in zip(files, names, strict=True) if name is None]
    if without:
        raise InputError(
            f"--val-labels '{source}' has no line for '{without[0]}', nor for {len(without) - 1:,} more of {len(files):,} images; "
            "give every image one"
        )
    return _class_numbers([name or "" for name in names], classes, source)


def _class_numbers(names: list[str], classes: list[str], source: Path) -> list[int]:
    """Class numbers of classes that are given as names or numbers.

    Kaggle's table has the coordinates of a box after the name of the class; only the first word counts.
    """
    number_of = {name: number for number, name in enumerate(classes)}
    numbers = []
    for name in names:
        first = name.split()[0] if name.split() else ""
        number = number_of.get(name, number_of.get(first, int(first) if first.isdecimal() else -1))
        if not 0 <= number < len(classes):
            close = difflib.get_close_matches(first, classes, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"numbers count from 0 to {len(classes) - 1}"
            raise InputError(
                f"--val-labels '{source}': class '{name}' is not among the {len(classes)} class folders of train/; {hint}"
            )
        numbers.append(number)
    return numbers
