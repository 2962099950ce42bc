"""The search in the report: its pictures, its ten best architectures, and the candidates that the winner was chosen among."""

from __future__ import annotations

from typing import Any

from spaces.arch import arch_id
from trials.evidence.intervals import accuracy_text
from trials.reporting import plots
from trials.reporting.collect import RunContents
from trials.reporting.figures import Picture, for_page
from trials.scoring import noise

FRONT_CAPTION = (
    "Score over cost. The line is the highest score of all that cost as little. The architectures of frontier/, and the winner, are chosen by a "
    "model of all scores among those that noise cannot tell apart from the best: single scores are partly luck, and these may lie below the line."
)


def view(contents: RunContents) -> dict[str, Any]:
    """The pictures of the search, its ten best architectures, and the winner's picture."""
    alike = noise.like_the_best(contents.results, contents.path, contents.score_by)
    ranked = zip(contents.results, alike, strict=True)
    pairs = sorted(ranked, key=lambda pair: -contents.value(pair[0]))[:10]
    scored = bool(contents.results)
    figures: list[Picture] = []
    if scored:
        figures += for_page(plots.plot_front(contents), FRONT_CAPTION)
        figures += for_page(
            plots.plot_progress(contents), "Every architecture in the order of scoring, and the best so far."
        )
        figures += for_page(
            plots.plot_scores(contents),
            "Scores on the held-out scoring images. BatchNorm's statistics are measured anew for each architecture.",
        )
    return {
        "figures": figures,
        "winner": for_page(
            plots.plot_winner(contents),
            "One column per choice block, one row per candidate; the line is the architecture.",
            wide=True,
        )
        if contents.winner
        else [],
        "ten": [
            {
                "id": arch_id(result["arch"]),
                "winner": result["arch"] == contents.winner,
                "top1": noise.short_score_text(result, contents.path),
                "beside": "best" if number == 0 else "=" if like_best else "worse",
                "before": f"{result['top1_before_recalibration']:.2f}",
                "macs": f"{result['macs']:,}",
                "params": f"{result['params']:,}",
                "ms": f"{result['latency_ms']:.3g}" if "latency_ms" in result else "",
            }
            for number, (result, like_best) in enumerate(pairs)
        ],
        "choice": _choice(contents),
        "timed": any("latency_ms" in result for result, _ in pairs),
    }


def _choice(contents: RunContents) -> list[dict[str, Any]]:
    """The architectures that trials.retrain --top chose the winner among; [] where it did not."""
    if not contents.choice:
        return []
    return [
        {
            "id": candidate["id"],
            "winner": candidate["id"] == contents.choice["chosen"],
            "source": candidate.get("source", "search"),
            "score": "-" if candidate["score"] is None else f"{candidate['score']:.2f}",
            "accuracy": accuracy_text(candidate["correct"], candidate["images"]),
        }
        for candidate in contents.choice["candidates"]
    ]
