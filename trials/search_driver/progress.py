"""The progress bar of a search."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from trials.common import cli
from trials.scoring import noise
from trials.scoring.score_value import score_value
from trials.search_driver.curves import SearchCurves
from trials.search_driver.plan import Plan


class SearchProgress:
    """A bar of the architectures that have a score; beside it the best of them, and how many trials failed.

    Attributes:
        best: the stored score that the search holds best so far; None before the first.
    """

    def __init__(self, plan: Plan, curves: SearchCurves, done: int = 0) -> None:
        """Begin at `done` of the architectures that the plan wants.

        Args:
            curves: what the loggers are told through; closed at the end.
        """
        self.curves = curves
        self.value = partial(score_value, score_by=plan.evaluate.score_by)
        self.bar = cli.progress(plan.wanted, desc="search", unit="arch", initial=done)
        self.best: dict[str, Any] | None = None
        self.failures = 0
        self.group = ""  # text about the candidates that are being scored together

    def add_score(self, result: dict[str, Any] | None, *, earlier: bool = False) -> None:
        """Count one more architecture with a score.

        Args:
            result: its stored score; None where that cannot be read, and then the best stays what it is.
            earlier: whether it got it before this process began, so that it says nothing of the speed.
        """
        if result and (self.best is None or self.value(result) > self.value(self.best)):
            self.best = result
        if result:
            self.curves.add(result)
        self._show()
        if earlier:
            cli.count_earlier(self.bar, 1)
        else:
            self.bar.update()

    def add_failure(self) -> None:
        """Count one more trial that ended without a score."""
        self.failures += 1
        self._show()

    def show_group(self, group: int, share: float) -> None:
        """Show how far candidates are that are scored together, since none of them ends before the others.

        Args:
            group: how many candidates there are.
            share: the part of their work that is done, 0 to 1.
        """
        self.group = f"scoring {group} together: {100 * share:.0f}%" if share < 1 else ""
        self._show()
        self.refresh()

    def refresh(self) -> None:
        """Let the bar's clock go on while trials run; a log file gets no line for that."""
        if sys.stderr.isatty():
            self.bar.refresh()

    def _show(self) -> None:
        texts = []
        if self.best:
            texts.append(f"best {noise.short_score_text(self.best)}% at {self.best['macs'] / 1e6:.2f}M MACs")
        if self.group:
            texts.append(self.group)
        if self.failures:
            texts.append(f"{self.failures} trials failed")
        self.bar.set_postfix_str(", ".join(texts), refresh=False)

    def __enter__(self) -> SearchProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bar.close()
        self.curves.close(succeeded=kind is None)
