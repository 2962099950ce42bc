"""Show a run: tables and pictures in one self-contained HTML file, and a short table in the terminal.

    python -m trials.report runs/digits

Reads what the other commands left in the run: the supernet's log, what a differentiable strategy learned
(probabilities.jsonl, most_probable.json), search.json and search/*.json, retrain/result.json, baselines/*/result.json.
"""

from __future__ import annotations

import dataclasses
import html
import io
import json
import statistics
from pathlib import Path
from typing import Any

from spaces.arch import arch_id
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import atomic, load_json
from trials import cli, comparison, run_dir, search_result
from trials.cli import option

BLUE, ORANGE, GREY = "#2563eb", "#ea580c", "#94a3b8"


@dataclasses.dataclass(frozen=True)
class Config:
    run: str = option(help="run directory of trials.supernet")


@dataclasses.dataclass(frozen=True)
class Found:
    """What a run holds."""

    config: dict[str, Any]
    table: CostTable
    log: list[dict[str, Any]]  # of the supernet's training
    learned: dict[str, Any] | None  # most_probable.json
    probabilities: list[dict[str, Any]]  # over time, of a differentiable strategy
    summary: dict[str, Any]  # search.json; {} before a search
    results: list[dict[str, Any]]  # scored architectures in the order of the search, with "generation"
    best: dict[str, Any]  # of the results; {} before a search
    retrained: dict[str, Any] | None
    compared: list[comparison.Row]  # the winner and baselines; [] without baselines

    @property
    def winner(self) -> dict[str, Any]:
        """The architecture: the search's, or else the one that was learned."""
        return self.best["arch"] if self.best else self.learned["arch"] if self.learned else {}


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__, positional="run")
    run = Path(config.run)
    found = collect(run)
    print(cli.table(facts(found), ("", ""), as_is=True))
    print(f"\nreport: {write(run, found)}")


def write(run: Path, found: Found | None = None) -> Path:
    """Write report.html of a run. Returns its path. Raises InputError: no run there, or it is not trained to the end."""
    found = found or collect(run)
    path = run / "report.html"
    with atomic(path) as temporary:
        temporary.write_text(page(run, found, facts(found)), encoding="utf-8")
    return path


def collect(run: Path) -> Found:
    """Read a run.

    Raises:
        InputError: no run there, or it is not trained to the end.
    """
    config = run_dir.load_run(run, "supernet")
    if not (run / "supernet.pt").exists():
        raise InputError(f"'{run}' is not trained to the end; run trials.supernet with --resume first")

    def lines(name: str) -> list[dict[str, Any]]:
        path = run / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def content(name: str, what: str) -> Any:
        return load_json(run / name, what) if (run / name).exists() else None

    summary = content("search.json", "search summary") or {}
    results = []
    for entry in summary.get("history", []):
        result = load_json(run / "search" / f"{entry['id']}.json", "score")
        results.append({**result, **entry})
    found = Found(
        config,
        CostTable.load(run / "cost_table.json"),
        lines("log.jsonl"),
        content("most_probable.json", "learned architecture"),
        lines("probabilities.jsonl"),
        summary,
        results,
        max(results, key=lambda result: result["top1"]) if results else {},
        content("retrain/result.json", "retrain result"),
        comparison.collect(run) if (run / "baselines").is_dir() else [],
    )
    if found.retrained and found.retrained["arch"] != found.winner:
        others = [row for row in found.compared if not row.found]
        found = dataclasses.replace(found, retrained=None, compared=others)  # of an earlier search
    return found


def facts(found: Found) -> list[tuple[str, str]]:
    """The table: what was searched, and what came out."""
    best, results = found.best, found.results
    space = f"{found.config['space']} {found.config['preset']}"
    rows = [
        ("space, data", ", ".join(filter(None, (space, found.config["space_options"], found.config["data"])))),
        ("strategy", found.config.get("strategy", "uniform")),
    ]
    followed = [line for line in found.log if "fixed_paths" in line]
    if followed:
        last = followed[-1]
        rows.append(
            (f"{len(last['fixed_paths'])} fixed paths, at the end", f"{last['fixed_paths_top1']:.2f}% on the supernet")
        )
    if found.learned:
        limit, milliseconds = found.learned["max_macs"], found.learned.get("max_latency_ms")
        rows += [
            ("most probable architecture", arch_id(found.learned["arch"])),
            ("its MACs, params", f"{found.learned['macs']:,}, {found.learned['params']:,}"),
            (
                "within",
                f"max_macs {limit:,}" if limit else f"max_latency_ms {milliseconds:g}" if milliseconds else "no limit",
            ),
            *latency_row(found.learned.get("latency")),
        ]
    if results:
        top1 = [result["top1"] for result in results]
        before = [result["top1_before_recalibration"] for result in results]
        limits = ", ".join(f"{name} {value:,}" for name, value in found.summary["limits"].items() if value) or "none"
        rows += [
            ("limits", f"{limits} ({100 * found.summary['share_of_space']:.1f}% of {found.table.architectures():.2e})"),
            ("architectures scored", str(len(results))),
            ("mean score with BN recalibration", f"{statistics.mean(top1):.2f}%"),
            ("mean score without", f"{statistics.mean(before):.2f}%"),
            ("best architecture", arch_id(best["arch"])),
            ("its MACs, params", f"{best['macs']:,}, {best['params']:,}"),
            *latency_row(found.summary.get("latency")),
            (
                "its score on the supernet",
                f"{best['top1']:.2f}% ({best['top1_before_recalibration']:.2f}% without recalibration)",
            ),
        ]
    else:
        rows.append(("searched", "not yet: python -m trials.search EXPERIMENT.yml"))
    if found.retrained:
        accuracy, n = f"{found.retrained['mean']:.2f}%", len(found.retrained["test_top1"])
        if n > 1:
            accuracy += f" +- {found.retrained['std']:.2f}"
        which = "its" if found.retrained["arch"] == found.winner else "most probable one's"
        rows.append(
            (f"{which} test accuracy, retrained", f"{accuracy} (n = {n}, {found.retrained['test_images']:,} images)")
        )
    elif found.winner:
        rows.append(("its test accuracy", "not retrained yet: python -m trials.retrain --fixed-arc arc.json"))
    for row in found.compared:
        if not row.found:
            accuracy = f"{row.mean:.2f}%" + (f" +- {row.std:.2f}" if row.std is not None else "")
            rows.append((f"baseline {row.network}", f"{accuracy} (n = {row.n}), {row.macs:,} MACs, {row.latency} ms"))
    return rows


def latency_row(latency: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What the latency table of the search says of the winner."""
    if latency is None:
        return []
    return [("its latency", f"{latency['best_ms']:.3g} ms {latency['error']} ({latency['on']}; by the table)")]


def page(run: Path, found: Found, rows: list[tuple[str, str]]) -> str:
    """The HTML file: no script, no reference to anything outside."""
    body = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
    drawn = (
        [
            (
                training,
                "Training of the supernet: loss (grey), and accuracy of a fixed set of paths (each, and their mean).",
            )
        ]
        if found.log
        else []
    )
    if found.probabilities:
        drawn.append(
            (learning, "What was learned: one column per choice block, one row per candidate; time goes down.")
        )
    if found.results:
        drawn += [
            (
                distribution,
                "Scores of the evaluated architectures on the held-out scoring images, with and without "
                "BN recalibration.",
            ),
            (frontier, "Score over cost. The line joins architectures that no cheaper one beats."),
            (progress, "Progress of the search: every architecture, and the best so far."),
        ]
    if found.winner:
        drawn.append((winner, "The architecture: one column per choice block, one row per candidate."))
    pictures = "".join(
        f"<figure>{draw(found)}<figcaption>{html.escape(caption)}</figcaption></figure>" for draw, caption in drawn
    )
    ranked = sorted(found.results, key=lambda result: -result["top1"])[:10]
    listing = "".join(
        f"<tr><td><code>{arch_id(r['arch'])}</code></td><td>{r['top1']:.2f}</td><td>{r['top5']:.2f}</td>"
        f"<td>{r['top1_before_recalibration']:.2f}</td><td>{r['macs']:,}</td><td>{r['params']:,}</td>"
        + (f"<td>{r['latency_ms']:.3g}</td></tr>" if "latency_ms" in r else "</tr>")
        for r in ranked
    )
    if listing:
        listing = (
            "<h2>Ten best</h2><table><tr><th>architecture</th><th>top-1 %</th><th>top-5 %</th><th>before recalibration</th>"
            f"<th>MACs</th><th>params</th>{'<th>ms</th>' if 'latency_ms' in found.best else ''}</tr>{listing}</table>"
        )
    beside = ""
    if found.compared:
        header = "".join(f"<th>{html.escape(name)}</th>" for name in comparison.HEADER)
        cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row.cells) for row in found.compared)
        lines = "".join(f"<tr>{row}</tr>" for row in cells)
        about = html.escape(comparison.measured_on(run))
        beside = f"<h2>Beside baselines</h2><table><tr>{header}</tr>{lines}</table><p>{about}</p>"
    searched = ""
    if found.summary:
        names = [html.escape(str(found.summary[key])) for key in ("yaml", "tuner", "experiment")]
        searched = " Search: {}, {}, NNI experiment {}.".format(*names)
    settings = ", ".join(f"{key} {value}" for key, value in found.config.items() if value not in (None, "", False))
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Onepath: {html.escape(run.name)}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #0f172a }}
table {{ border-collapse: collapse; margin: 1rem 0 }} th, td {{ text-align: left; padding: .25rem .9rem .25rem 0 }}
th {{ font-weight: 500; color: #475569 }} tr {{ border-bottom: 1px solid #e2e8f0 }}
figure {{ margin: 2rem 0 }} svg {{ max-width: 100%; height: auto }} figcaption, footer {{ color: #475569 }}
</style>
<h1>{html.escape(run.name)}</h1><table>{body}</table>{pictures}
{listing}{beside}
<footer>Supernet: {html.escape(settings)}.{searched}</footer></html>
"""


def _figure(height: float = 3.2) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def training(found: Found) -> str:
    """Loss over the epochs, and the accuracy of the fixed paths."""
    figure, axes = _figure()
    lines = [line for line in found.log if "loss" in line]
    axes.plot([line["epoch"] for line in lines], [line["loss"] for line in lines], color=GREY)
    axes.set(xlabel="epoch", ylabel="training loss (grey)")
    followed = [line for line in found.log if "fixed_paths" in line]
    if followed:
        right = axes.twinx()
        epochs = [line["epoch"] for line in followed]
        for path in zip(*(line["fixed_paths"] for line in followed), strict=True):
            right.plot(epochs, path, color=BLUE, alpha=0.3, linewidth=0.8)
        right.plot(epochs, [line["fixed_paths_top1"] for line in followed], "o-", color=BLUE, markersize=4)
        right.set_ylabel("top-1 of fixed paths, %")
        right.set_ylim(bottom=0)
        right.spines["top"].set_visible(False)
    return _svg(figure)


def learning(found: Found) -> str:
    """Probabilities of all candidates at five moments, as heat maps."""
    from matplotlib.figure import Figure

    choices, history = found.table.choices, found.probabilities
    moments = [history[round(part * (len(history) - 1))] for part in (0, 0.25, 0.5, 0.75, 1)]
    moments = list({moment["step"]: moment for moment in moments}.values())
    kinds, rows = _kinds(choices)
    heights = [0.6 + 0.16 * len(candidates) for _ in moments for candidates in rows.values()]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    most = max(p for moment in moments for row in moment["probabilities"].values() for p in row)
    panels = iter(figure.subplots(len(heights), height_ratios=heights, squeeze=False)[:, 0])
    for moment in moments:
        for kind, labels in kinds.items():
            axes = next(panels)
            grid = [[float("nan")] * len(labels) for _ in rows[kind]]
            for x, label in enumerate(labels):
                for candidate, probability in zip(choices[label], moment["probabilities"][label], strict=True):
                    grid[rows[kind].index(candidate)][x] = probability
            image = axes.imshow(grid, aspect="auto", cmap="Blues", vmin=0, vmax=most)
            axes.set_yticks(range(len(rows[kind])), [str(candidate) for candidate in rows[kind]], fontsize=6)
            axes.set_xticks([])
            axes.set_title(f"{kind}, step {moment['step']:,}", fontsize=8, loc="left")
    figure.colorbar(image, ax=figure.axes, shrink=0.4, label="probability")
    return _svg(figure)


def _kinds(choices: Any) -> tuple[dict[str, list[str]], dict[str, list[Any]]]:
    """ "block" -> "block00", "block01", ..., and "block" -> all their candidates."""
    kinds: dict[str, list[str]] = {}
    for label in choices:
        kinds.setdefault(label.rstrip("0123456789"), []).append(label)
    return kinds, {
        kind: list(dict.fromkeys(c for label in labels for c in choices[label])) for kind, labels in kinds.items()
    }


def distribution(found: Found) -> str:
    """Histogram of the scores with and without BN recalibration."""
    figure, axes = _figure()
    after = [result["top1"] for result in found.results]
    before = [result["top1_before_recalibration"] for result in found.results]
    low, high = min(after + before), max(after + before)
    span = (low, high if high > low else low + 1)
    axes.hist(before, bins=30, range=span, color=GREY, label=f"without, mean {statistics.mean(before):.1f}%")
    axes.hist(after, bins=30, range=span, color=BLUE, alpha=0.8, label=f"with, mean {statistics.mean(after):.1f}%")
    axes.set(xlabel="top-1 on the supernet, %", ylabel="architectures")
    axes.legend(title="BN recalibration", frameon=False)
    return _svg(figure)


def frontier(found: Found) -> str:
    """Score over MACs, or milliseconds where the search had a latency table; non-dominated architectures are joined."""
    figure, axes = _figure()
    timed = "latency_ms" in found.best
    name, unit, title = ("max_latency_ms", 1, "milliseconds") if timed else ("max_macs", 1e6, "million MACs")
    costs = [search_result.cost(result) / unit for result in found.results]
    axes.scatter(costs, [result["top1"] for result in found.results], s=16, color=GREY, label="evaluated")
    line = [(search_result.cost(result) / unit, result["top1"]) for result in search_result.frontier(found.results)]
    axes.plot(*zip(*line, strict=True), "o-", color=BLUE, markersize=4, label="frontier")
    axes.plot(search_result.cost(found.best) / unit, found.best["top1"], "*", color=ORANGE, markersize=14, label="best")
    limit = found.summary["limits"].get(name)
    if limit:
        axes.axvline(limit / unit, color=ORANGE, linestyle=":", label=name)
    axes.set(xlabel=title, ylabel="top-1 on the supernet, %")
    axes.legend(frameon=False)
    return _svg(figure)


def progress(found: Found) -> str:
    """Scores in the order of evaluation; generations apart by lines."""
    figure, axes = _figure()
    scores = [result["top1"] for result in found.results]
    numbers = range(1, len(scores) + 1)
    axes.scatter(numbers, scores, s=16, color=GREY, label="evaluated")
    axes.plot(numbers, [max(scores[:n]) for n in numbers], color=BLUE, label="best so far")
    generations = [result["generation"] for result in found.results]
    for number in range(1, len(generations)):
        if generations[number] != generations[number - 1]:
            axes.axvline(number + 0.5, color=GREY, linewidth=0.5)
    means = {
        g: statistics.mean(s for s, k in zip(scores, generations, strict=True) if k == g) for g in set(generations)
    }
    if len(means) > 1:
        for generation, mean in means.items():
            places = [n for n, g in zip(numbers, generations, strict=True) if g == generation]
            label = "mean of a generation" if generation == generations[0] else None
            axes.hlines(mean, places[0] - 0.5, places[-1] + 0.5, color=ORANGE, label=label)
    axes.set(xlabel="architecture, in order of evaluation", ylabel="top-1 on the supernet, %")
    axes.legend(frameon=False)
    return _svg(figure)


def winner(found: Found) -> str:
    """The path through the choice blocks; a row of squares per candidate, a panel per kind of choice."""
    from matplotlib.figure import Figure

    choices, arch = found.table.choices, found.winner
    kinds, rows = _kinds(choices)
    heights = [0.9 + 0.35 * len(candidates) for candidates in rows.values()]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    panels = figure.subplots(len(kinds), height_ratios=heights, squeeze=False)[:, 0]
    for (kind, labels), axes in zip(kinds.items(), panels, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        for x, label in enumerate(labels):
            for candidate in choices[label]:
                color = BLUE if candidate == arch[label] else "#e2e8f0"
                axes.plot(x, rows[kind].index(candidate), "s", markersize=13, color=color)
        path = [rows[kind].index(arch[label]) for label in labels]
        axes.plot(range(len(path)), path, color=ORANGE, linewidth=1.5)
        axes.set_xticks(range(len(labels)), [label.removeprefix(kind) for label in labels])
        axes.set_yticks(range(len(rows[kind])), [str(candidate) for candidate in rows[kind]])
        axes.invert_yaxis()
        axes.set_ylabel(kind)
    panels[-1].set_xlabel("choice block, from the image to the classifier")
    return _svg(figure)


if __name__ == "__main__":
    cli.run(main)
