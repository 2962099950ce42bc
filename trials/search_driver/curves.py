"""The course of a search for its loggers: scores and costs in the order of the evaluations, and the scores over the cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from strategies import pareto
from trials.scoring.score_value import has_value, score_value
from trials.search_driver.plan import Plan
from trials.search_driver.ranking import cost_of
from trials.watching.boards import Boards
from trials.watching.subject import Point, Subject

PICTURES = 5  # of the scores over the cost, at equal distances, in a search
OVER_COST = "score/over_cost"  # the picture
BEST_BY = "score/best_by"  # _macs or _us: the best score at that cost or below


class SearchCurves:
    """What loggers are told of a search. Its score files and the tuner's journal stay the truth of it.

    Args:
        logger: as given to --logger.
        earlier: scores of the search that is continued, in their order.
        resumes: whether a search is continued, so that services go on with their runs; scores come again then.
    Raises:
        InputError: a logger cannot begin.
    """

    def __init__(self, plan: Plan, logger: str, earlier: Iterable[Mapping[str, Any]], *, resumes: bool) -> None:
        self.plan, self.score_by = plan, plan.evaluate.score_by
        self.results: list[dict[str, Any]] = []
        self.best = 0.0
        tuner = plan.content["tuner"]
        about = {
            "command": "search",
            "tuner": tuner.get("className", tuner.get("name")),
            "score_by": self.score_by,
            "max_trials": plan.wanted,
            **{name: value for name, value in dataclasses.asdict(plan.limits).items() if value is not None},
        }
        subject = Subject(plan.run, plan.run, f"{plan.run.resolve().name}/search", about, sub="search")
        points = [self._point(result) for result in earlier]
        self.boards = Boards(logger, subject, int(resumes), points)

    def _point(self, result: Mapping[str, Any]) -> Point:
        """Count a score in; returns what is plotted of it."""
        kept = dict(result)
        if self.plan.feasible.latency:
            kept["latency_ms"] = self.plan.feasible.latency.ms(result["arch"])
        self.results.append(kept)
        value = score_value(kept, self.score_by)
        self.best = max(self.best, value)
        values = {"score/top1": kept["top1"], "score/top1_before_recalibration": kept["top1_before_recalibration"]}
        if has_value(kept, "loss"):
            values["score/loss"] = kept["loss"]
        values["score/best"] = self.best
        values |= {f"arch/million_{name}": kept[name] / 1e6 for name in ("macs", "params")}
        if "latency_ms" in kept:
            values["arch/latency_ms"] = kept["latency_ms"]
        return len(self.results), values, kept.get("finished")

    def add(self, result: Mapping[str, Any]) -> None:
        """Tell of one more score, in the order in which they came."""
        if not self.boards.boards:
            return
        self.boards.scalars(*self._point(result))
        if len(self.results) % max(1, self.plan.wanted // PICTURES) == 0:
            self._show()

    def _show(self) -> None:
        """Show all scores over their costs."""
        self.boards.image(OVER_COST, len(self.results), self._picture())
        self.boards.flush()

    def close(self, succeeded: bool) -> None:
        """Tell of the best score for each cost, and close the loggers."""
        if self.boards.boards and self.results and succeeded:
            if len(self.results) % max(1, self.plan.wanted // PICTURES):
                self._show()
            by_latency = self.plan.feasible.latency is not None
            scale, name = (1000, "us") if by_latency else (1, "macs")
            self.boards.curve(f"{BEST_BY}_{name}", {round(cost * scale): score for cost, score in self._frontier()})
        self.boards.close(succeeded)

    def _frontier(self) -> list[tuple[float, float]]:
        """Cost and score of the architectures that are better than all that cost as little, the cheapest first."""
        points = [(score_value(result, self.score_by), cost_of(result)) for result in self.results]
        return [(cost, score) for score, cost in pareto.pareto_front(points)]

    def _picture(self) -> np.ndarray:
        """Scores over costs as dots, coloured by their order, with the best for each cost: uint8 (H, W, 3)."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        scale, unit = (1.0, "milliseconds, by the table") if self.plan.feasible.latency else (1e-6, "million MACs")
        figure = Figure(figsize=(4.8, 3.6), dpi=120, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        costs = [cost_of(result) * scale for result in self.results]
        values = [score_value(result, self.score_by) for result in self.results]
        order = range(1, len(values) + 1)
        dots = axes.scatter(
            costs, values, c=order, cmap="viridis", vmin=1, vmax=max(2, len(values)), s=24, edgecolors="#546e7a", lw=0.3
        )
        front = self._frontier()
        ends = [*front, (max(costs) / scale, front[-1][1])]
        axes.step([cost * scale for cost, _ in ends], [value for _, value in ends], where="post", color="#ef6c00")
        axes.set_xlabel(unit)
        what = "top-1 %" if self.score_by == "top1" else "mean probability of the right class, %"
        axes.set_ylabel(f"supernet: {what}")
        axes.set_title(f"{len(values):,} architectures, the best for each cost", fontsize=10)
        axes.grid(alpha=0.25)
        figure.colorbar(dots, label="evaluation", ticks=MaxNLocator(integer=True))
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
