"""Latencies that were measured elsewhere, on a phone for example: a CSV with a row for each part of a search space.

    part,choice,latency_ms
    stem,,0.41
    block,block00=k3 width00=0.4,0.73
    head,,0.35
    network,block00=k3 width00=0.4 block01=...,21.7
    space,"spos tiny, 10 classes, 32x32 pixels, 0f3a...",
    device,Raspberry Pi 4,

Rows of `space`, `device` and the rest of ABOUT say what was measured and where: a space must be this one, the others are optional, as
forms of older versions have none. Rows of `network` are whole networks. They are optional. With enough of them the table is corrected for the time that a
runtime spends between the parts, and its error becomes known.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spaces.cost import BlockCosts, CostTable
from spaces.errors import InputError, shown
from spaces.files import atomic, read_text
from spaces.latency import FIT_NETWORKS, MIN_CHECK_NETWORKS, LatencyTable

LEAST_MS = 1e-6  # a nanosecond, the unit of a latency table
HEADER = ["part", "choice", "latency_ms"]
# rows that say what was measured, with their value in place of a choice
ABOUT = ("space", "device", "runtime", "provider", "threads", "batch", "rounds", "python", "date")
COUNTS = ("threads", "batch", "rounds")


def arch_text(arch: Mapping[str, Any]) -> str:
    """An architecture, or the choices of a block, as a row names them: `block00=k3 width00=0.4`."""
    return " ".join(f"{label}={value}" for label, value in arch.items())


def write_template(path: str, costs: CostTable, networks: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV with a row for each part of a space, to be filled in.

    Args:
        costs: cost table of the space.
        networks: architectures that get a row of their own.
    """
    rows = [("stem", "")]
    for block in costs.blocks:
        rows += [("block", arch_text(choices)) for choices in _combinations(block)]
    rows += [("head", ""), *(("network", arch_text(arch)) for arch in networks), ("space", costs.identity())]
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows((*row, "") for row in rows)


def read(path: str, costs: CostTable) -> LatencyTable:
    """Make a latency table from a CSV that was filled in.

    Args:
        costs: cost table of the space.
    Raises:
        InputError: not such a CSV; one of another space; a row that is missing, unknown, given twice, or without a time.
    """
    about = _about(path)
    if about.get("space", costs.identity()) != costs.identity():
        raise InputError(
            f"'{path}' is of {shown(about['space'])}, and this space is {costs.identity()}; name the space that was measured, or measure "
            "this one"
        )
    expected = {("stem", ""): False, ("head", ""): False}
    for block in costs.blocks:
        for index, choices in enumerate(_combinations(block)):
            expected[_key("block", arch_text(choices))] = index in block.identities
    times = _times_of_rows(path, expected)

    def milliseconds(part: str, choice: str) -> float:
        key = _key(part, choice)
        if key not in times:
            missing, number = f"{part} {choice}".strip(), len(expected - times.keys())
            raise InputError(
                f"'{path}' lacks {missing}; give every row of the form that --template writes ({number} of {len(expected)} "
                f"{'is' if number == 1 else 'are'} missing)"
            )
        return times[key]

    ends_ms = milliseconds("stem", "") + milliseconds("head", "")
    blocks = [
        [round(1e6 * milliseconds("block", arch_text(choices))) for choices in _combinations(block)]
        for block in costs.blocks
    ]
    networks = [(choice, time) for (part, choice), time in times.items() if part == "network"]
    archs = [_arch(path, choice, costs) for choice, _ in networks]

    choices_of_blocks = [block.choices for block in costs.blocks]
    measured = {"device": f"that of {Path(path).name}"} | {k: v for k, v in about.items() if k != "space"}
    table = LatencyTable(costs.space, choices_of_blocks, round(1e6 * ends_ms), blocks, measured=measured)
    if not networks:
        return table
    if len(networks) < FIT_NETWORKS + MIN_CHECK_NETWORKS:
        raise InputError(
            f"'{path}' has times of {len(networks)} networks; give at least {FIT_NETWORKS + MIN_CHECK_NETWORKS} (the first {FIT_NETWORKS} tell what "
            "lies between the parts, the others check the table), or none"
        )
    return table.validated_on(archs, [time for _, time in networks])


def _about(path: str) -> dict[str, Any]:
    """What the rows of ABOUT say. Raises InputError: not such a CSV, one is there twice, or a number is none."""
    about: dict[str, Any] = {}
    for number, row in _rows(path):
        part, value = row["part"].strip(), row["choice"].strip()
        if part not in ABOUT:
            continue
        if part in about:
            raise InputError(f"'{path}', line {number}: {part} is there twice; leave one out")
        if part in COUNTS and not (value.isascii() and value.isdecimal() and int(value[:9]) > 0):
            raise InputError(f"'{path}', line {number}: {part} is '{shown(value)}'; give a whole number above 0")
        about[part] = int(value[:9]) if part in COUNTS else value
    return about


def _combinations(block: BlockCosts) -> list[dict[str, Any]]:
    """All combinations of the choices of a block, in the order of its tables."""
    return [block.combination(index) for index in range(len(block.macs))]


def _key(part: str, choice: str) -> tuple[str, str]:
    """What identifies a row; the order of the words of a choice does not matter."""
    return part, " ".join(sorted(choice.split()))


def _times_of_rows(path: str, expected: Mapping[tuple[str, str], bool]) -> dict[tuple[str, str], float]:
    """Milliseconds of every row that has a time, by the row's `_key`; rows of networks without a time are left out.

    Args:
        expected: the keys of all rows that are not whole networks, and whether the row is that of a skip, which alone may
            take no time.
    Raises:
        InputError: a row that is unknown, given twice, or without a time.
    """
    times: dict[tuple[str, str], float] = {}
    for number, row in _rows(path):
        part, choice, text = (row[name].strip() for name in HEADER)
        line = f"'{path}', line {number}"
        if (part == "network" and not text) or part in ABOUT:
            continue
        key, named = _key(part, choice), shown(f"{part} {choice}".strip())
        if part != "network" and key not in expected:
            raise InputError(f"{line}: this space has no {named}; compare it with what --template writes")
        if key in times:
            raise InputError(f"{line}: {named} is there twice; leave one out")
        try:
            milliseconds = float(text)
            if not 0 <= milliseconds < 1e9:
                raise ValueError
        except ValueError:
            raise InputError(f"{line}: latency_ms is '{shown(text)}'; give milliseconds, such as 0.73") from None
        if milliseconds < LEAST_MS and not expected.get(key, False):
            raise InputError(
                f"{line}: {named} takes {text} ms, which is no time; a skip alone may take none: measure it, and give milliseconds"
            )
        times[key] = milliseconds
    return times


def require_form(path: str) -> None:
    """Raises InputError: there is no such file."""
    if not Path(path).exists():
        raise InputError(f"'{path}' does not exist; write a form with --template")


def _rows(path: str) -> list[tuple[int, dict[str, str]]]:
    """Line number and columns of each row. Raises InputError: not a CSV file with these columns."""
    require_form(path)
    try:
        text = read_text(path, "latency CSV")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"'{path}' is not a CSV file ({error}); write a form with --template") from None
    if reader.fieldnames is None or list(reader.fieldnames) != HEADER:
        begins = shown(text.partition("\n")[0])
        raise InputError(
            f"'{path}' begins with '{begins}'; its first line must be: {','.join(HEADER)}; --template writes a form"
        )
    for number, row in rows:
        if None in row or None in row.values():
            raise InputError(f"'{path}', line {number} has not three columns; give part,choice,latency_ms")
    return rows


def _arch(path: str, choice: str, costs: CostTable) -> dict[str, Any]:
    """The architecture that a row of a network names. Raises InputError: a label is missing or has no such candidate."""
    words = dict(word.partition("=")[::2] for word in choice.split())
    arch = {}
    for label, candidates in costs.choices.items():
        known = {str(candidate): candidate for candidate in candidates}
        if words.get(label) not in known:
            raise InputError(
                f"'{path}': a network has {label}={shown(words.get(label, ''))}; give one of {', '.join(known)}"
            )
        arch[label] = known[words[label]]
    return arch
