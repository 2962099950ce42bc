"""The report of a run as one self-contained HTML file."""

from __future__ import annotations

import html
import statistics
from pathlib import Path
from typing import Any

from spaces.arch import arch_id
from spaces.files import atomic
from trials.reporting import baselines_table
from trials.reporting.collect import Found, collect
from trials.reporting.plots import distribution, frontier, learning, progress, training, winner


def write_report(run: Path, found: Found | None = None) -> Path:
    """Write report.html of a run. Returns its path. Raises InputError: no run there, or it is not trained to the end."""
    found = found or collect(run)
    path = run / "report.html"
    with atomic(path) as temporary:
        temporary.write_text(page(run, found, facts(found)), encoding="utf-8")
    return path


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
        header = "".join(f"<th>{html.escape(name)}</th>" for name in baselines_table.HEADER)
        cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row.cells) for row in found.compared)
        lines = "".join(f"<tr>{row}</tr>" for row in cells)
        about = html.escape(baselines_table.measured_on(run))
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
