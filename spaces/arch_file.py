"""Fixed-arc files: an architecture as it is kept on disk by us and by others.

Each format is read in one stated way, or the file is refused; nothing is ever unpickled or executed.

    {"block00": "k3", ...}                              ours: label -> candidate, as save_arch and NNI's tuners write it
    {"arch": {...}, "top1": ...}                        ours, within a score, a result or a learned architecture
    {"parameter_id": 7, "parameters": {...}}            what NNI gave to a trial (parameter.cfg)
    {"LayerChoice1": [false, true, ...], ...}           NNI 1.0 to 1.5: masks, one for each block in the order of the numbers
    {"LayerChoice1": "2", ...}                          NNI 1.6 to 2.10: numbers or names of candidates, in the same order
    {"layer_1": "k3", ..., "layer_20": "xcep"}          ShuffleNetSpace of NNI 3.0
    backbone.layers.0.0: {chosen: shuffle_3x3}          mmrazor's YAML, by stage and block
    (2, 1, 0, ...)                                      the official SPOS code: a candidate number for each block
    [[0, 0, ...], [6, 5, ...]]                          block_choices and channel_choices of the channel search: one list
                                                        of candidate numbers for each kind of label
"""

from __future__ import annotations

import ast
import itertools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spaces.arch import Arch, ArchError, Choices, validate
from spaces.errors import is_whole_number, shown
from spaces.files import parse_json, parse_yaml, read_text

FORMATS = (
    "{label: candidate} as trials.search writes it, a score or result file, NNI's LayerChoice1 or layer_1, mmrazor's "
    "YAML, or a tuple of candidate numbers"
)
# what other codes call a candidate -> what ours is called
OTHER_NAMES = {"xcep": "xception", "shuffle_xception": "xception"}
OTHER_NAMES |= {f"shuffle_{k}x{k}": f"k{k}" for k in (3, 5, 7)}


class ReadArch(NamedTuple):
    """An architecture from a file, and how the file was understood; `how` is "" for our own form, which needs no explanation."""

    arch: Arch
    how: str


def load_arch(path: str | Path, choices: Choices) -> Arch:
    """Read a fixed-arc file; a form that is not ours is read aloud. Arguments and exceptions are those of `read_arch_file`."""
    arch, how = read_arch_file(path, choices)
    if how:
        print(f"'{path}' was read as {how}: {' '.join(f'{label}={candidate}' for label, candidate in arch.items())}")
    return arch


def read_arch_file(path: str | Path, choices: Choices) -> ReadArch:
    """Read a fixed-arc file in one of the formats above, and check it against a space.

    Args:
        choices: label -> candidates in order, from `spaces.choices(space)`.
    Returns:
        The architecture, with the labels in the order of the space; and how it was read.
    Raises:
        ArchError: the file is no architecture, or one that does not fit the space.
        InputError: the file is missing or cannot be read.
        Stopped: the machine could not read it.
    """
    content = _parse(path, read_text(path, "fixed-arc file", f"give {FORMATS}"))
    try:
        arch, how = _interpret(content, choices)
        validate(arch, choices)
    except ArchError as error:
        raise ArchError(f"fixed-arc file '{path}': {error}") from None
    return ReadArch({label: values[list(values).index(arch[label])] for label, values in choices.items()}, how)


def _parse(path: str | Path, text: str) -> Any:
    """The value in a file that is JSON, a Python tuple or YAML. Raises ArchError: none of them, or a key stands twice."""
    if not text.strip():
        raise ArchError(f"fixed-arc file '{path}' is empty; give {FORMATS}")
    reason = "it is neither JSON nor a tuple of candidate numbers nor YAML"
    for parse in (parse_json, _parse_tuple, parse_yaml):
        try:
            content = parse(text)
        except ValueError as error:
            if "stands there twice" in str(error):
                reason = str(error)
        else:
            if not isinstance(content, str):  # almost any text is a string of YAML
                return content
    raise ArchError(f"fixed-arc file '{path}': {reason}; give {FORMATS}")


def _parse_tuple(text: str) -> Any:
    """A tuple or list as Python prints it. Raises ValueError: it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's own remarks on text that is no tuple
            content = ast.literal_eval(text.strip())
    except (SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError("no tuple") from None
    if not isinstance(content, list | tuple):
        raise ValueError("no tuple")
    return content


def _interpret(content: Any, choices: Choices) -> tuple[Arch, str]:
    """The architecture in the content of a file, not yet checked, and how it was read."""
    if isinstance(content, list | tuple):
        return _from_lists(content, choices)
    if not isinstance(content, dict):
        raise ArchError(f"it holds a {type(content).__name__}; give {FORMATS}")
    for key, what in (("arch", "a file of scores or results"), ("parameters", "the parameters of one of NNI's trials")):
        if isinstance(content.get(key), dict) and key not in choices:
            arch, how = _interpret(content[key], choices)
            return arch, f"the architecture in {what}" + (f": {how}" if how else "")
    names = [str(name) for name in content]
    for pattern, read in _FORMS.items():
        if names and all(re.fullmatch(pattern, name) for name in names):
            return read(dict(zip(names, content.values(), strict=True)), choices)
    if any(re.fullmatch(r"channel_\d+", name) for name in names) and "channel_1" not in choices:
        raise ArchError(
            f"'channel_1' is a number of channels of NNI's ShuffleNetSpace, which is not read; give {{label: candidate}} "
            f"with {', '.join(list(choices)[:3])}, ..."
        )
    return content, ""


def _from_lists(content: Sequence[Any], choices: Choices) -> tuple[Arch, str]:
    """Candidate numbers: one list where all labels are of one kind, else a list of lists."""
    kinds = _kinds(choices)
    if content and all(isinstance(part, list | tuple) for part in content):
        lengths, wanted = [len(part) for part in content], [len(labels) for labels in kinds.values()]
        if lengths != wanted:
            raise ArchError(
                f"it holds lists of {shown(lengths)} numbers; this space needs {' and '.join(map(str, wanted))}, for "
                f"{' and '.join(kinds)}"
            )
        lists = [list(part) for part in content]
    elif len(kinds) == 1:
        if len(content) != len(choices):
            raise ArchError(f"it holds {len(content)} choices; this space has {len(choices)}")
        lists = [list(content)]
    else:
        raise ArchError(
            f"a flat list of {len(content)} does not say which numbers are of {' and which of '.join(kinds)}; give "
            f"{len(kinds)} lists: [{', '.join(f'[{kind} numbers]' for kind in kinds)}]"
        )
    arch: Arch = {}
    for labels, numbers in zip(kinds.values(), lists, strict=True):
        arch |= {label: _numbered(label, number, choices) for label, number in zip(labels, numbers, strict=True)}
    return arch, " then ".join(f"{len(labels)} {kind} numbers" for kind, labels in kinds.items())


def _kinds(choices: Choices) -> dict[str, list[str]]:
    """The labels of a space by their kind, which is what their number leaves of them: block, width, kernel, expand."""
    kinds: dict[str, list[str]] = {}
    for label in choices:
        kinds.setdefault(re.sub(r"_?\d+$", "", label) or label, []).append(label)
    return kinds


def _from_numbered_keys(content: Mapping[str, Any], choices: Choices) -> tuple[Arch, str]:
    """NNI's LayerChoiceN, and layer_N of its ShuffleNetSpace: a mask, a number or a name for each block."""
    numbers = {key: tuple(map(int, re.findall(r"\d+", key))) for key in content}
    keys = sorted(content, key=numbers.__getitem__)
    if [numbers[key][0] for key in keys] != list(range(numbers[keys[0]][0], numbers[keys[0]][0] + len(keys))):
        raise ArchError(
            f"the numbers of its keys, '{keys[0]}' to '{keys[-1]}', do not follow each other; restore the file"
        )
    return _one_each(keys, content, choices), f"{keys[0]} to {keys[-1]}, in the order of their numbers"


def _from_mmrazor(content: Mapping[str, Any], choices: Choices) -> tuple[Arch, str]:
    """mmrazor's subnet: stages and blocks are counted from 0, without a gap."""
    places = {tuple(map(int, key.split(".")[-2:])): key for key in content}
    for stage, group in itertools.groupby(sorted(places), key=lambda place: place[0]):
        blocks = [block for _, block in group]
        if (
            blocks != list(range(len(blocks)))
            or (stage and (stage - 1, 0) not in places)
            or len(places) != len(content)
        ):
            raise ArchError(f"the blocks of stage {stage} are {shown(blocks)}; give each once, from 0")
    chosen = {}
    for key, value in content.items():
        if not isinstance(value, dict) or not isinstance(value.get("chosen"), str):
            raise ArchError(f"'{key}' is {shown(value)}; give chosen: NAME")
        chosen[key] = value["chosen"]
    keys = [places[place] for place in sorted(places)]
    return _one_each(keys, chosen, choices), f"mmrazor's {keys[0]} to {keys[-1]}, by stage and block"


_FORMS: dict[str, Callable[[Mapping[str, Any], Choices], tuple[Arch, str]]] = {
    r"LayerChoice\d+": _from_numbered_keys,
    r"layer_\d+": _from_numbered_keys,
    r"(\w+\.)*layers\.\d+\.\d+": _from_mmrazor,
}


def _one_each(keys: Sequence[str], content: Mapping[str, Any], choices: Choices) -> Arch:
    """The architecture whose labels have what these keys say, in order. Raises ArchError: they do not fit the space."""
    kinds = _kinds(choices)
    if len(kinds) > 1:
        raise ArchError(
            f"'{keys[0]}' names {next(iter(kinds))}s alone; this space has {' and '.join(kinds)}: give {{label: candidate}}"
        )
    if len(keys) != len(choices):
        raise ArchError(f"it holds {len(keys)} choices; this space has {len(choices)}")
    return {label: _candidate(key, content[key], label, choices) for key, label in zip(keys, choices, strict=True)}


def _candidate(key: str, value: Any, label: str, choices: Choices) -> Any:
    """The candidate that a mask, a number or a name says. Raises ArchError: there is none."""
    candidates = choices[label]
    if isinstance(value, list):
        if len(value) == 1 and not isinstance(value[0], bool | list):  # NNI 1.6 writes several choices as a list
            return _candidate(key, value[0], label, choices)
        if not all(isinstance(entry, bool) for entry in value) or sum(value) != 1 or len(value) != len(candidates):
            raise ArchError(
                f"'{key}' is {shown(value)}; a mask has exactly one true, and {len(candidates)} entries for '{label}'"
            )
        return candidates[value.index(True)]
    if isinstance(value, str) and value.isascii() and value.isdecimal() and value not in candidates and len(value) < 10:
        value = int(value)
    if isinstance(value, str):
        return OTHER_NAMES.get(value, value) if OTHER_NAMES.get(value) in candidates else value
    return _numbered(label, value, choices)


def _numbered(label: str, number: Any, choices: Choices) -> Any:
    """The candidate with a number. Raises ArchError: there is none."""
    candidates = choices[label]
    if not is_whole_number(number, 0) or number >= len(candidates):
        raise ArchError(f"{shown(number)} for '{label}' is not a candidate number; give 0 to {len(candidates) - 1}")
    return candidates[number]
