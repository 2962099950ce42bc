"""How long a training took, by the speeds that its log holds: each is the mean since the line before, over all that was done then."""

from collections.abc import Iterable, Mapping
from typing import Any


def seconds_of(lines: Iterable[Mapping[str, Any]], size: int) -> float:
    """Seconds of the steps of a log, of all processes one after the other; 0 where no line has a speed.

    Args:
        lines: of log.jsonl, in order; those without `images_per_second` are of something else.
        size: images of a step.
    """
    seconds, before = 0.0, 0
    for line in lines:
        if line.get("images_per_second"):
            seconds += (line["step"] - before) * size / line["images_per_second"]
            before = line["step"]
    return seconds
