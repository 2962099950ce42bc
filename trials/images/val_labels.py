"""The classes of the images in a flat val/ folder: from a table of file and class, or from ImageNet's development kit.

A table is read in one way from its first line to its last: with one separator, and with one meaning of its classes.
"""

from __future__ import annotations

import csv
import difflib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from spaces.errors import InputError, shown
from spaces.files import read_text, require_file

# names of files and folders that may hold these classes, in the order in which they are looked for
LABEL_FILES = (
    "LOC_val_solution.csv",
    "val_labels.csv",
    "val.csv",
    "val.txt",
    "val_annotations.txt",
    "ILSVRC2012_devkit_t12",
    "ILSVRC2012_devkit_t12.tar.gz",
)


def read_val_labels(source: Path, files: list[str], classes: list[str]) -> tuple[list[int], str]:
    """Find the class of each image of a flat val/.

    Args:
        source: a table of file and class, or ImageNet's development kit: its folder, its archive, or its ground truth file.
        files: paths of the images, in the order of their names, which is the order of the development kit.
        classes: names of all class folders of train/, in order.
    Returns:
        For each image the number of its class; what the classes in the source are, for people.
    Raises:
        InputError: `source` cannot be read, lacks an image, names an unknown class, or can be read in two ways.
    """
    if not source.is_dir():
        require_file(source, "--val-labels")
    return _read_devkit(source, files, classes) if _is_devkit(source) else _read_table(source, files, classes)


def _is_devkit(source: Path) -> bool:
    return source.is_dir() or "ground_truth" in source.name or source.name.endswith((".tar.gz", ".tar", ".tgz"))


def _read_devkit(source: Path, files: list[str], classes: list[str]) -> tuple[list[int], str]:
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


def _read_table(source: Path, files: list[str], classes: list[str]) -> tuple[list[int], str]:
    """Class numbers from lines with a file and a class, with tab, comma, semicolon or space between; further columns are ignored.

    A file may stand with or without its folder and suffix; a class is a name, or a number that counts from 0.
    """
    labels: dict[str, str] = {}
    try:
        lines = read_text(source, "--val-labels").splitlines()
        for row in _rows(lines):
            if len(row) >= 2:
                name, label = Path(row[0].strip()).name, row[1].strip()
                if labels.setdefault(name, label) != label:
                    raise InputError(
                        f"--val-labels '{source}' has '{shown(name)}' in class '{shown(labels[name])}' and '{shown(label)}'; give it one"
                    )
    except csv.Error as error:
        raise InputError(f"--val-labels '{source}' cannot be read ({error}); give a CSV of file,class") from None
    if not labels:
        raise InputError(
            f"--val-labels '{source}' has no line of the form file,class (the first is '{shown(lines[0]) if lines else ''}')"
        )
    names = [labels.get(Path(path).name, labels.get(Path(path).stem)) for path in files]
    without = [Path(path).name for path, name in zip(files, names, strict=True) if name is None]
    if without:
        raise InputError(
            f"--val-labels '{source}' has no line for '{without[0]}', nor for {len(without) - 1:,} more of {len(files):,} images "
            f"(its first line is '{shown(lines[0])}'); give every image one"
        )
    return _class_numbers([name or "" for name in names], classes, source)


def _rows(lines: list[str]) -> Iterator[list[str]]:
    """The columns of each line, with the one separator that most lines have; without one, the last space is it."""
    separator = max("\t,;", key=lambda mark: sum(mark in line for line in lines))
    if 2 * sum(separator in line for line in lines) > len(lines):
        yield from (next(csv.reader([line], delimiter=separator)) for line in lines)
    else:
        yield from (line.rsplit(None, 1) for line in lines)


def _class_numbers(names: list[str], classes: list[str], source: Path) -> tuple[list[int], str]:
    """Class numbers of classes that are given as names or as numbers, all in one way.

    Kaggle's table has the coordinates of a box after the name of the class; then the first word is the name, of all.

    Returns:
        For each name the number of its class; what the names are.
    Raises:
        InputError: neither all are names nor all are numbers, or they may be either, and mean different classes.
    """
    number_of = {name: number for number, name in enumerate(classes)}
    words = [(name.split() or [""])[0] for name in names]
    by_number = {str(number): number for number in range(len(classes))}
    readings = {
        "names of class folders": (number_of, names),
        "first words are names of class folders": (number_of, words),
    }
    if all(name.isdecimal() for name in classes):  # folder 01 is class 1
        values = {str(int(name)): number for number, name in enumerate(classes)}
        if len(values) == len(classes):
            readings["numbers that class folders have as names"] = (values, [_plain(word) for word in words])
    found = {
        meaning: [table[label] for label in labels]
        for meaning, (table, labels) in readings.items()
        if all(label in table for label in labels)
    }
    counted = [by_number.get(_plain(word), -1) for word in words]
    if not found and -1 not in counted:
        return counted, "numbers of class folders in the order of their names, from 0"
    if not found:
        known = [word in number_of for word in words]
        unknown = known.index(False) if any(known) else counted.index(-1)
        close = difflib.get_close_matches(words[unknown], classes, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"numbers count from 0 to {len(classes) - 1}"
        raise InputError(
            f"--val-labels '{source}': class '{shown(names[unknown])}' is not among the {len(classes)} class folders of train/; {hint}"
        )
    meaning, numbers = next(iter(found.items()))
    if numbers != counted and -1 not in counted and len(set(numbers)) < len(classes):
        raise InputError(
            f"--val-labels '{source}': its classes, such as '{shown(words[0])}', may be names of class folders or numbers of class folders "
            "from 0, which are others here; write names that no number can be, or rename the class folders"
        )
    return numbers, meaning


def _plain(word: str) -> str:
    """A whole number without zeros in front; other text as it is."""
    return word.lstrip("0") or "0" if word.isdecimal() and word else word
