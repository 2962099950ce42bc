"""Progress bars, made in one place: a bar in a terminal; in a file (`2> log`, nohup, cron) a plain line now and then."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from trials.common.machine import rank_and_world

REDRAW = 0.5  # seconds between two states of a bar
# a line is written after so many seconds and so much more of the work, whichever comes later
LINE_SECONDS, LINE_SHARE = 30.0, 0.1


class LineBar(tqdm):
    """What tqdm counts, as lines: at most ten while the work goes on, and one at its end. None of them has a carriage return."""

    _time: Callable[[], float]  # tqdm's clock
    _decr_instances: Callable[[tqdm], None]  # lets tqdm forget a bar

    def __init__(self, **settings: Any) -> None:
        line = "{desc}: {percentage:3.0f}%, {n_fmt} of {total_fmt} {unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
        self.said_n = -1.0  # how much was done when a line was written last; tqdm shows a bar while it makes it
        super().__init__(bar_format=line, **settings)
        self.said_n, self.said_t = self.n, 0.0 if self.disable else self.start_t

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Say how far the work is, where a line is due."""
        now, more = self._time(), self.n - self.said_n
        if self.said_n >= 0 and now - self.said_t >= LINE_SECONDS and more >= LINE_SHARE * (self.total or 0):
            self._say(now)

    def close(self) -> None:
        """Say how far the work came, where that is not said yet."""
        if self.disable:
            return
        self.disable = True
        self._decr_instances(self)
        # What is silent at first is worth no line where it was short.
        least = max(LINE_SECONDS, self.delay) if self.delay else 0.0
        if self.n != self.said_n and self._time() >= self.start_t + least:
            self._say(self._time())

    def _say(self, now: float) -> None:
        self.said_n, self.said_t = self.n, now
        with contextlib.suppress(ValueError):  # stderr is closed already
            self.fp.write(f"{self}\n")
            self.fp.flush()

    def clear(self, nolock: bool = False) -> None:
        """Nothing has to be wiped away for what is printed beside the lines."""


def progress(total: int, *, desc: str, unit: str, initial: int = 0, silent: float = 0) -> Any:
    """A bar on stderr, or lines where that is no terminal. For the first `silent` seconds nothing is shown."""
    terminal = sys.stderr.isatty()
    return (tqdm if terminal else LineBar)(
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        unit_scale=total >= 10_000,
        dynamic_ncols=terminal,
        disable=rank_and_world()[0] > 0,
        mininterval=REDRAW if terminal else LINE_SECONDS,
        delay=silent,
    )


def count_earlier(bar: Any, number: int) -> None:
    """Move a bar of `progress` on by what an earlier process did: its rate and remaining time stay those of this one."""
    bar.n += number
    if not bar.disable:
        bar.initial += number
        bar.last_print_n += number  # from which tqdm counts for its rate
