"""A run in a short table: what was searched, what came out, and the four answers; for the terminal and the page."""

from __future__ import annotations

import statistics
import textwrap
from typing import Any

from spaces.arch import arch_id
from trials.evidence.floor import balanced_text, floor_text
from trials.evidence.learned import not_above_text
from trials.reporting.collect import RunContents
from trials.reporting.verdict import answer_all, latency_of
from trials.scoring import noise

WIDTH = 80  # characters of a sentence in the table of the terminal
INDENT = "  "  # before a command that mends something


def summary_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The table that trials.report prints: a name and a value per row; the four answers come last."""
    _, chance, trust, following = answer_all(contents)
    warnings = [
        line for step in trust.steps for line in (_wrapped(step.why), f"{INDENT}{step.command}") if line.strip()
    ]
    rows = [
        *fact_rows(contents),
        *_accuracy_rows(contents),
        (chance.short, _wrapped(chance.headline)),
        (trust.short, "\n".join([trust.headline, *warnings])),
    ]
    return rows + [("next" if number == 0 else "or", step.command) for number, step in enumerate(following.steps)]


def fact_rows(contents: RunContents) -> list[tuple[str, str]]:
    """What was searched, and the architecture that was found."""
    config = contents.config
    space = f"{config['space']} {config['preset']}"
    return [
        ("space, data", ", ".join(filter(None, (space, config["space_options"], config["data"])))),
        ("strategy", config.get("strategy", "uniform")),
        *_fixed_paths_rows(contents),
        *_learned_rows(contents),
        *_search_rows(contents),
    ]


def _wrapped(sentence: str) -> str:
    return "\n".join(textwrap.wrap(sentence, WIDTH))


def _fixed_paths_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The accuracy of the fixed paths that were followed during training, after its end."""
    followed = [line for line in contents.log if "fixed_paths" in line]
    if not followed:
        return []
    last = followed[-1]
    name = f"{len(last['fixed_paths'])} fixed paths, at the end"
    return [(name, f"{last['fixed_paths_top1']:.2f}% on the supernet, BatchNorm by few images")]


def _learned_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The architecture that a differentiable strategy learned."""
    learned = contents.learned
    if not learned:
        return []
    max_macs, max_latency_ms = learned["max_macs"], learned.get("max_latency_ms")
    within = f"max_macs {max_macs:,}" if max_macs else ""
    within = within or (f"max_latency_ms {max_latency_ms:g}" if max_latency_ms else "no limit")
    rows = [
        ("most probable architecture", arch_id(learned["arch"])),
        ("its MACs, params", f"{learned['macs']:,}, {learned['params']:,}"),
        ("within", within),
    ]
    return rows if contents.results else rows + _latency_rows(contents)


def _search_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The limits of the search, the mean scores, and the architecture that it found."""
    results, summary, table, winner = contents.results, contents.summary, contents.table, contents.winner
    if not results:
        return [] if winner else [("searched", "not yet")]
    limits = ", ".join(f"{name} {value:,}" for name, value in summary["limits"].items() if value) or "none"
    share = f"{100 * summary['share_of_space']:.1f}% of {table.architectures():.2e}"
    return [
        ("limits", f"{limits} ({share})"),
        ("architectures scored", str(len(results))),
        ("mean score with BN recalibration", f"{mean_of(results, 'top1'):.2f}%"),
        ("mean score without", f"{mean_of(results, 'top1_before_recalibration'):.2f}%"),
        ("architecture found", arch_id(winner)),
        ("its MACs, params", f"{table.macs(winner):,}, {table.params(winner):,}"),
        *_latency_rows(contents),
        *_score_rows(contents),
    ]


def mean_of(results: list[dict[str, Any]], key: str) -> float:
    """The mean of a value over scored architectures."""
    return statistics.mean(result[key] for result in results)


def _score_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The winner's score on the supernet, how many others cannot be told apart from the best, and who chose the winner."""
    rows = []
    if contents.score:
        text, before = noise.score_text(contents.score, contents.path), contents.score["top1_before_recalibration"]
        rows.append(("its score on the supernet", f"{text}, {before:.2f}% without recalibration"))
    alike = sum(noise.like_the_best(contents.results, contents.path, contents.score_by)) - 1
    rows.append(
        ("as good as the best, within noise", f"{alike} of the {len(contents.results) - 1} other architectures")
    )
    if contents.choice:
        rows.append(("chosen among", f"{len(contents.choice['candidates'])} candidates, by held-out images"))
    return rows


def _latency_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The winner's latency; no row where it is not known."""
    latency = latency_of(contents)
    return [("its latency", latency)] if latency else []


def _accuracy_rows(contents: RunContents) -> list[tuple[str, str]]:
    """The winner's test accuracy, the floor, and the baselines."""
    rows = []
    retrained, floor = contents.retrained, contents.floor
    if retrained:
        rows.append(("its test accuracy, retrained", retrained.accuracy))
        if retrained.balanced:
            rows.append(("its balanced accuracy", retrained.balanced))
    elif contents.winner:
        rows.append(("its test accuracy", "not known yet, it is not retrained"))
    if floor:
        rows.append(("floor, without deep learning", floor_text(floor).removeprefix("floor ")))
        own = retrained.interval if retrained else None
        beside = not_above_text("the winner", own, floor) if own else ""
        said = (("balanced accuracy of it", balanced_text(floor)), ("beside the floor", beside))
        rows += [(name, _wrapped(line)) for name, line in said if line]
    for network in contents.networks:
        if network.place.startswith("baselines/") or (network.start and network.arch == contents.winner):
            costs = [f"{network.macs:,} MACs"] if network.macs else []
            costs += [f"{network.latency} ms in {network.runtime}"] if network.latency else []
            what = "baseline " if network.arch is None else ""
            rows.append((f"{what}{network.label}", ", ".join([network.accuracy, *costs])))
    return rows
