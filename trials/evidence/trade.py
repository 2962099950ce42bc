"""What to say of networks whose accuracy stands beside what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def beside_the_best(row: Mapping[str, Any]) -> str:
    """A network's place beside the most accurate one: "best", "=" where noise may hide that it is better, or "worse"."""
    return "best" if row["best"] else "=" if row["like_the_best"] else "worse"


def trained_enough(row: Mapping[str, Any]) -> str:
    """A network's place at the floor of its images: "below the floor", or "" where it is above or that is not known."""
    return "below the floor" if row.get("below_floor") else ""


def not_above_sentence(rows: Sequence[Mapping[str, Any]], floor: Mapping[str, Any]) -> str:
    """Which networks are neither above the floor of their images nor below it beyond noise, without a full stop; "": none.

    Args:
        rows: `networks` of tradeoff.json.
        floor: of these images.
    """
    found = [row["id"] for row in rows if row["mean"] <= floor["top1"] and not row.get("below_floor")]
    return f"not above the floor, within noise: {', '.join(found)}" if found else ""


def cheapest_sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which network takes the least time of those that cannot be told apart from the best, without a full stop.

    Args:
        rows: `networks` of tradeoff.json.
    """
    best = next(row for row in rows if row["best"])
    if all(row.get("below_floor") for row in rows):
        return "All points are below the floor: they are undertrained, and their order says nothing of the trade"
    cheapest = min((row for row in rows if row["like_the_best"]), key=lambda row: row["latency_ms"])
    if cheapest is best:
        return f"{best['id']} is the most accurate, and no faster point is as accurate, beyond the noise of the images (95 %)"
    saved = 100 * (1 - cheapest["latency_ms"] / best["latency_ms"])
    return (
        f"{cheapest['id']} cannot be told apart from the most accurate, {best['id']} (95 %), and takes {saved:.0f} % less time; more "
        "test images or seeds tell more"
    )


def search_name(summary: Mapping[str, Any]) -> str:
    """A name that tells the searches of a run apart, such as `search.yml, 100 scored, best 84c7f6000c3f`.

    Args:
        summary: search.json.
    """
    history = summary.get("history", [])
    best = summary.get("ranking", [])[:1]
    words = [str(summary.get("yaml") or summary.get("experiment") or "a search"), f"{len(history):,} scored"]
    return ", ".join([*words, *(f"best {name}" for name in best)])
