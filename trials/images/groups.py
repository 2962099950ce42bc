"""Pictures that belong together, by their names: frames of one scene, photographs of one thing, pictures of one patient.

A regular expression, --group-by, says it. It is looked for in the path of a picture inside its class folder, without the suffix:
'(.+)_\\d+' finds the scene of `cats/barn_12.jpg`, '(.+)/' that of `cats/barn/12.jpg`. All pictures of which it says the same,
in whatever class, are a group, and a group is in one part. A picture that it does not match is a group of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spaces.errors import InputError, shown
from trials.images.packed_paths import PackedPaths
from trials.images.walk import EXTENSIONS

EXAMPLES = r"such as '(.+)_\d+' for scene_12.jpg, or '(.+)/' for scene/12.jpg"
NAMED = 3  # classes that a line names


@dataclass(frozen=True)
class Groups:
    """Which images belong together; n is the number of images.

    Attributes:
        numbers: the group of each image, from 0 on, int64 (n,).
        names: what the expression found, for each group; "" for an image that is alone because it does not match.
        expression: of --group-by; "" where it is not known any more.
    """

    numbers: np.ndarray
    names: PackedPaths
    expression: str = ""

    def of(self, images: np.ndarray) -> Groups:
        """The groups of some images, by their numbers; those that have none of them are there still."""
        return Groups(self.numbers[images], self.names, self.expression)


def pattern_of(expression: str) -> re.Pattern[str]:
    """The expression of --group-by. Raises InputError: it is none, or has several groups."""
    try:
        pattern = re.compile(expression)
    except re.error as error:
        why = f"is no regular expression ({error.msg} at character {(error.pos or 0) + 1})"
        raise InputError(f"--group-by '{shown(expression)}' {why}; give one, {EXAMPLES}") from None
    if pattern.groups > 1:
        raise InputError(
            f"--group-by '{shown(expression)}' has {pattern.groups} groups in brackets, and one is taken; write the others as (?:...)"
        )
    return pattern


def group_images(paths: Sequence[str], inside: np.ndarray, expression: str) -> Groups:
    """Put images into groups.

    Args:
        paths: their paths, n of them.
        inside: where in each path the part inside the class folder begins, in characters, (n,).
        expression: of --group-by.
    Raises:
        InputError: it matches none of them, or puts no two of them together.
    """
    pattern, numbers, names = pattern_of(expression), np.zeros(len(paths), np.int64), PackedPaths()
    seen: dict[str, int] = {}
    for number, (path, start) in enumerate(zip(paths, inside.tolist(), strict=True)):
        match = pattern.search(without_suffix(path[start:]))
        name = (match[pattern.groups] if match else "") or ""
        if name and name in seen:
            numbers[number] = seen[name]
            continue
        numbers[number] = len(names)
        if name:
            seen[name] = len(names)
        names.append(name)
    first = without_suffix(paths[0][int(inside[0]) :]) if len(paths) else ""
    if len(paths) and not seen:
        raise InputError(
            f"--group-by '{shown(expression)}' matches none of {len(paths):,} pictures; it is looked for in paths inside the class "
            f"folder, without suffix, such as '{shown(first)}'; give another, {EXAMPLES}"
        )
    if len(paths) and len(names) == len(paths):
        found = pattern.search(first)
        says = f"of '{shown(first)}' it says '{shown(found[pattern.groups] or '')}'" if found else "it matches few"
        raise InputError(
            f"--group-by '{shown(expression)}' puts no two of {len(paths):,} pictures together ({says}); what numbers the pictures of a "
            f"scene has to stand outside of its brackets, {EXAMPLES}"
        )
    return Groups(numbers, names, expression)


def without_suffix(path: str) -> str:
    """A path without the suffix of an image, or those of one that was converted, such as .gif.png."""
    while path.lower().endswith(EXTENSIONS):
        path = path.rpartition(".")[0]
    return path


def groups_text(groups: Groups, labels: np.ndarray) -> str:
    """How many groups there are, and how large, for people.

    Args:
        labels: class numbers of the images, (n,).
    """
    numbers, sizes = np.unique(groups.numbers, return_counts=True)
    alone = sum(not groups.names[number] for number in numbers.tolist())
    pairs = np.unique(np.stack((groups.numbers, labels)), axis=1)
    shared = int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
    text = f"{len(numbers) - alone:,}, the largest of {sizes.max():,} images"
    text += f", {shared:,} of them in several classes" * bool(shared)
    return text + f"; {alone:,} images match nothing, and each is by itself" * bool(alone)


def require_parts(groups: Groups, parts: np.ndarray, names: Sequence[str]) -> None:
    """Refuse groups that are so large that nothing is left for a part.

    Args:
        parts: the part of each image, as a number in `names`, (n,).
        names: of the parts.
    Raises:
        InputError: naming the part.
    """
    empty = [name for number, name in enumerate(names) if not (parts == number).any()]
    if empty and len(parts):
        number, sizes = np.unique(groups.numbers, return_counts=True)
        largest = groups.names[int(number[sizes.argmax()])]
        raise InputError(
            f"--group-by '{shown(groups.expression)}' leaves no image for the part '{empty[0]}': it makes {len(number):,} groups, the largest "
            f"('{shown(largest)}') of {sizes.max():,} of {len(parts):,} images; give an expression of smaller groups, or leave it out"
        )


def group_notes(
    groups: Groups, labels: np.ndarray, parts: np.ndarray, names: Sequence[str], classes: Sequence[str]
) -> list[str]:
    """What is doubtful about groups and parts: groups that given folders put into several, classes that lack in one. A line each.

    Args:
        labels, parts: of the images, (n,); parts as numbers in `names`.
        classes: names of the classes.
    """
    notes = []
    parts_of = np.unique(groups.numbers * len(names) + parts) // len(names)
    if torn := int((np.unique(parts_of, return_counts=True)[1] > 1).sum()):
        notes.append(
            f"{torn:,} groups of --group-by are in several of the parts that the folders give, which are left as they are"
        )
    for number, name in enumerate(names):
        counts = np.bincount(labels[parts == number], minlength=len(classes))
        lacking = [classes[k] for k in np.flatnonzero(counts == 0).tolist()]
        if lacking:
            more = f" and {len(lacking) - NAMED:,} more" if len(lacking) > NAMED else ""
            notes.append(
                f"{len(lacking):,} of {len(classes):,} classes have so few groups that none is in the part '{name}': "
                f"{', '.join(map(shown, lacking[:NAMED]))}{more}; what is measured there says nothing of them"
            )
    return notes
