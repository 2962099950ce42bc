"""The points of the frontier that were retrained, in the report: accuracy beside measured milliseconds, as picture and table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trials.common import cli, run_files
from trials.evidence.floor import floor_text
from trials.evidence.intervals import accuracy_text
from trials.evidence.trade import beside_the_best, cheapest_sentence, not_above_sentence, search_name, trained_enough
from trials.reporting.collect import RunContents
from trials.reporting.figures import BLUE, INK, ORANGE, draw_intervals, for_page, new_figure, style, to_svg

CAPTION = "Each point was trained from scratch in the same way; the bars are 95 % intervals, a square stands for what cannot be told apart from the best."


def view(contents: RunContents) -> dict[str, Any] | None:
    """What the template shows; None where no frontier was retrained. After a later search it stays, and says which search it is of."""
    trade = contents.tradeoff
    if not trade:
        return None
    rows, floor = trade["networks"], trade.get("floor")
    return {
        "sentence": cheapest_sentence(rows),
        "figures": for_page(plot(rows), CAPTION),
        "rows": [
            {
                "name": row["id"],
                "winner": row["arch"] == contents.winner,
                "point": row.get("point", "of the frontier"),
                "search": row.get("search") or "not known",
                "accuracy": accuracy_text(row["test_correct"], row["test_images"]),
                "beside": trained_enough(row) or beside_the_best(row),
                "ms": f"{row['latency_ms']:.3g} (IQR {row['spread_ms']:.2g})",
                "macs": f"{row['macs']:,}",
                "params": f"{row['params']:,}",
                "files": f"{_folder(contents.path, row)}/export/",
            }
            for row in rows
        ],
        "earlier": _earlier(contents, trade),
        "floor": "; ".join(filter(None, (floor_text(floor), not_above_sentence(rows, floor)))) if floor else "",
        "reach": trade.get("reach", ""),
        "note": f"Milliseconds: {trade['latency']}. Exported and timed: the network of seed {trade['exported_seed']} of each.",
        "limit": trade.get("latency_limit") or "",
    }


def _earlier(contents: RunContents, trade: dict[str, Any]) -> str:
    """A sentence that says that the points are of an earlier search than the last one; "" where they are of that."""
    last = search_name(contents.summary)
    if "search" in trade:
        same, of = trade["search"] == last, f"an earlier search ({trade['search']})"
    else:  # of an older version: its points were all of the frontier that the search had then
        same = {row["id"] for row in trade["networks"]} <= set(contents.summary.get("frontier", []))
        of = "an earlier search"
    if same:
        return ""
    command = cli.command("retrain", "--supernet", contents.path, "--frontier", len(trade["networks"]), "--resume")
    return f"These points are of {of}, and the last search is another one ({last}). Those of the last one: {command}"


def _folder(run: Path, row: dict[str, Any]) -> str:
    """Where a point is now, from the run: the training of an earlier winner may have been moved out of retrain/ since."""
    folders = (row["run"], f"retrain-{row['id']}")
    held = {folder: run_files.read_if_there(run / folder / "arc.json", "fixed arc") for folder in folders}
    return next((str(folder) for folder in folders if held[folder] == row["arch"]), str(row["run"]))


def plot(rows: Sequence[dict[str, Any]]) -> str:
    """Test accuracy over milliseconds, with intervals; the points in the order of the frontier are joined."""
    looks = {"best": (ORANGE, "*", 14), "=": (BLUE, "s", 5.5), "worse": (INK, "o", 5.5)}
    with style():
        figure, axes = new_figure(3.3)
        axes.plot(
            [row["latency_ms"] for row in rows], [row["mean"] for row in rows], color=INK, linewidth=0.6, zorder=1
        )
        for name, (color, marker, size) in looks.items():
            chosen = [row for row in rows if name == beside_the_best(row)]
            if not chosen:
                continue
            points = [(row["mean"], *row["interval"]) for row in chosen]
            label = {"=": "as good, within noise"}.get(name, name)
            draw_intervals(axes, [row["latency_ms"] for row in chosen], points, marker, size, color=color, label=label)
        axes.set(xlabel="milliseconds for one image, ONNX Runtime", ylabel="test accuracy, %")
        axes.margins(x=0.08)
        axes.locator_params(axis="x", nbins=5)
        figure.legend(loc="outside upper left", ncols=3, handletextpad=0.3, columnspacing=1.0)
        times = [row["latency_ms"] for row in rows]
        said = f"{len(rows)} networks between {min(times):.3g} and {max(times):.3g} milliseconds; {cheapest_sentence(rows)}."
        return to_svg(figure, "tradeoff", "Test accuracy against milliseconds, points of the frontier", said)
