"""The report of a run as one self-contained HTML file."""

from __future__ import annotations

import html
import statistics
from pathlib import Path
from typing import Any

from spaces.arch import arch_id
from spaces.files import atomic
from trials.reporting import baselines_table, plots
from trials.reporting.collect import RunContents, collect_run

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #0f172a }
table { border-collapse: collapse; margin: 1rem 0 } th, td { text-align: left; padding: .25rem .9rem .25rem 0 }
th { font-weight: 500; color: #475569 } tr { border-bottom: 1px solid #e2e8f0 }
figure { margin: 2rem 0 } svg { max-width: 100%; height: auto } figcaption, footer { color: #475569 }
"""


def write_report(run: Path, contents: RunContents | None = None) -> Path:
    """Write report.html of a run.

    Args:
        contents: what `collect_run` returned, where that has been read already.
    Returns:
        The path of the file.
    Raises:
        InputError: there is no run, or it is not trained to the end.
    """
    contents = contents or collect_run(run)
    path = run / "report.html"
    with atomic(path) as temporary:
        temporary.write_text(render_page(run, contents), encoding="utf-8")
    return path


def summary_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The table at the top of the report: what was searched, and what came out; a name and a value per row."""
    config = contents.config
    space = f"{config['space']} {config['preset']}"
    return [
        ("space, data", ", ".join(filter(None, (space, config["space_options"], config["data"])))),
        ("strategy", config.get("strategy", "uniform")),
        *_fixed_paths_rows(contents),
        *_learned_rows(contents),
        *_search_rows(contents),
        *_retrained_rows(contents),
        *_baseline_rows(contents),
    ]


def _fixed_paths_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The accuracy of the fixed paths that were followed during training, after its end."""
    followed = [line for line in contents.log if "fixed_paths" in line]
    if not followed:
        return []
    last = followed[-1]
    name = f"{len(last['fixed_paths'])} fixed paths, at the end"
    return [(name, f"{last['fixed_paths_top1']:.2f}% on the supernet")]


def _learned_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The architecture that a differentiable strategy learned."""
    learned = contents.learned
    if not learned:
        return []
    max_macs, max_latency_ms = learned["max_macs"], learned.get("max_latency_ms")
    within = f"max_macs {max_macs:,}" if max_macs else ""
    within = within or (f"max_latency_ms {max_latency_ms:g}" if max_latency_ms else "no limit")
    return [
        ("most probable architecture", arch_id(learned["arch"])),
        ("its MACs, params", f"{learned['macs']:,}, {learned['params']:,}"),
        ("within", within),
        *_latency_rows(learned.get("latency")),
    ]


def _search_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The limits of the search, the mean scores, and the best architecture."""
    best, results, summary = contents.best, contents.results, contents.summary
    if not results:
        return [("searched", "not yet: python -m trials.search EXPERIMENT.yml")]
    limits = ", ".join(f"{name} {value:,}" for name, value in summary["limits"].items() if value) or "none"
    share = f"{100 * summary['share_of_space']:.1f}% of {contents.table.architectures():.2e}"
    before = best["top1_before_recalibration"]
    return [
        ("limits", f"{limits} ({share})"),
        ("architectures scored", str(len(results))),
        ("mean score with BN recalibration", f"{statistics.mean(result['top1'] for result in results):.2f}%"),
        (
            "mean score without",
            f"{statistics.mean(result['top1_before_recalibration'] for result in results):.2f}%",
        ),
        ("best architecture", arch_id(best["arch"])),
        ("its MACs, params", f"{best['macs']:,}, {best['params']:,}"),
        *_latency_rows(summary.get("latency")),
        ("its score on the supernet", f"{best['top1']:.2f}% ({before:.2f}% without recalibration)"),
    ]


def _latency_rows(latency: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What the latency table of the search says about the winner; no row where there was no such table."""
    if latency is None:
        return []
    return [("its latency", f"{latency['best_ms']:.3g} ms {latency['error']} ({latency['on']}; by the table)")]


def _retrained_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The winner's test accuracy after retraining."""
    retrained = contents.retrained
    if retrained:
        accuracy, n = f"{retrained['mean']:.2f}%", len(retrained["test_top1"])
        if n > 1:
            accuracy += f" +- {retrained['std']:.2f}"
        which = "its" if retrained["arch"] == contents.winner else "most probable one's"
        return [(f"{which} test accuracy, retrained", f"{accuracy} (n = {n}, {retrained['test_images']:,} images)")]
    if contents.winner:
        return [("its test accuracy", "not retrained yet: python -m trials.retrain --fixed-arc arc.json")]
    return []


def _baseline_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The baselines' test accuracies and costs."""
    rows = []
    for row in contents.networks:
        if not row.is_winner:
            accuracy = f"{row.mean:.2f}%" + (f" +- {row.std:.2f}" if row.std is not None else "")
            rows.append((f"baseline {row.network}", f"{accuracy} (n = {row.n}), {row.macs:,} MACs, {row.latency} ms"))
    return rows


def render_page(run: Path, contents: RunContents) -> str:
    """The HTML file: no script, no reference to anything outside."""
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in summary_rows(contents)
    )
    title = html.escape(run.name)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Onepath: {title}</title>
<style>{STYLE}</style>
<h1>{title}</h1><table>{rows}</table>{_pictures(contents)}
{_ten_best(contents)}{_beside_baselines(run, contents)}
<footer>{_footer(contents)}</footer></html>
"""


def _pictures(contents: RunContents) -> str:
    """The pictures that the run has something for, each with its caption."""
    has_log, has_results = bool(contents.log), bool(contents.results)
    pictures = [
        (
            has_log,
            plots.plot_training,
            "Training of the supernet: loss (grey), and accuracy of a fixed set of paths (each, and their mean).",
        ),
        (
            bool(contents.probabilities),
            plots.plot_probabilities,
            "What was learned: one column per choice block, one row per candidate; time goes down.",
        ),
        (
            has_results,
            plots.plot_scores,
            "Scores of the evaluated architectures on the held-out scoring images, with and without BN recalibration.",
        ),
        (has_results, plots.plot_front, "Score over cost. The line joins architectures that no cheaper one beats."),
        (has_results, plots.plot_progress, "Progress of the search: every architecture, and the best so far."),
        (
            bool(contents.winner),
            plots.plot_winner,
            "The architecture: one column per choice block, one row per candidate.",
        ),
    ]
    return "".join(
        f"<figure>{plot(contents)}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for wanted, plot, caption in pictures
        if wanted
    )


def _ten_best(contents: RunContents) -> str:
    """The table of the ten architectures with the highest scores; "" before a search."""
    ranked = sorted(contents.results, key=lambda result: -result["top1"])[:10]
    rows = "".join(
        f"<tr><td><code>{arch_id(r['arch'])}</code></td><td>{r['top1']:.2f}</td><td>{r['top5']:.2f}</td>"
        f"<td>{r['top1_before_recalibration']:.2f}</td><td>{r['macs']:,}</td><td>{r['params']:,}</td>"
        + (f"<td>{r['latency_ms']:.3g}</td></tr>" if "latency_ms" in r else "</tr>")
        for r in ranked
    )
    if not rows:
        return ""
    return (
        "<h2>Ten best</h2><table><tr><th>architecture</th><th>top-1 %</th><th>top-5 %</th><th>before recalibration</th>"
        f"<th>MACs</th><th>params</th>{'<th>ms</th>' if 'latency_ms' in contents.best else ''}</tr>{rows}</table>"
    )


def _beside_baselines(run: Path, contents: RunContents) -> str:
    """The table of the winner beside baselines; "" without baselines."""
    if not contents.networks:
        return ""
    header = "".join(f"<th>{html.escape(name)}</th>" for name in baselines_table.HEADER)
    cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row.cells) for row in contents.networks)
    rows = "".join(f"<tr>{row}</tr>" for row in cells)
    note = html.escape(baselines_table.latency_note(run))
    return f"<h2>Beside baselines</h2><table><tr>{header}</tr>{rows}</table><p>{note}</p>"


def _footer(contents: RunContents) -> str:
    """The supernet's options, and which search this was."""
    options = ", ".join(f"{key} {value}" for key, value in contents.config.items() if value not in (None, "", False))
    text = f"Supernet: {html.escape(options)}."
    if contents.summary:
        names = [html.escape(str(contents.summary[key])) for key in ("yaml", "tuner", "experiment")]
        text += " Search: {}, {}, NNI experiment {}.".format(*names)
    return text
