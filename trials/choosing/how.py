"""How the winner of a run was chosen, and what that cost in epochs: of candidates, and of the supernet where it was asked."""

from __future__ import annotations

from typing import Any

from spaces.arch import Arch, arch_id
from trials.common import run_files
from trials.common.run_dir import supernets_of
from trials.common.supernet_run import SupernetRun
from trials.scoring.score_store import TOP_FILE


def how_chosen(run: SupernetRun, winner: Arch) -> dict[str, Any]:
    """Say who has put the winner into arc.json.

    Returns:
        `by`: "short trainings", "search", "learned" or "hand"; `candidates`, `epochs`, `seeds` of short trainings;
        `candidate_epochs` in all; `supernet_epochs`, 0 where nothing of it was asked, of all `supernets` together; `scored`
        architectures; `sentence`.
    """
    path, name = run.path, arch_id(winner)
    choice = run_files.read_if_there(path / TOP_FILE, "choice of retrain --top") or {}
    summary = run_files.read_if_there(path / "search.json", "search summary") or {}
    learned = run_files.read_if_there(path / "most_probable.json", "learned architecture") or {}
    candidates = choice.get("candidates", [])
    asked = any(candidate.get("source", "search") != "random" for candidate in candidates)
    by = "hand"
    if choice.get("chosen") == name:
        by = "short trainings"
    elif summary and name in summary.get("ranking", [entry["id"] for entry in summary["history"]])[:1]:
        by = "search"
    elif learned.get("arch") == winner:
        by = "learned"
    elif summary and "ranking" not in summary and name in {entry["id"] for entry in summary["history"]}:
        by = "search"
    figures: dict[str, Any] = {"by": by, "candidate_epochs": 0, "supernets": 1, "supernet_epochs": 0, "scored": 0}
    if by == "short trainings":
        seeds, first = choice["seeds"], path / candidates[0]["run"] / "config.json"
        epochs = choice.get("epochs") or run_files.read(first, "run configuration")["config"]["epochs"]
        figures |= {"candidates": len(candidates), "epochs": epochs, "seeds": seeds}
        figures["candidate_epochs"] = len(candidates) * epochs * seeds
    if by in ("search", "learned") or (by == "short trainings" and asked):
        figures["supernets"] = supernets_of(run.config)
        figures["supernet_epochs"] = (run.config.get("epochs") or 0) * figures["supernets"]
        figures["scored"] = len(summary.get("history", [])) if by != "learned" else 0
    return figures | {"sentence": _sentence(figures)}


def _sentence(figures: dict[str, Any]) -> str:
    """Such as `chosen by short trainings: 8 candidates of 4 epochs, 32 in all; the supernet cost 20 epochs and 100 scores more`."""
    by = figures["by"]
    if by == "hand":
        return "arc.json was put there by hand; what that choice cost is not known"
    if by == "short trainings":
        seeds = f" and {figures['seeds']} seeds" if figures["seeds"] > 1 else ""
        text = f"chosen by short trainings: {figures['candidates']} candidates of {figures['epochs']} epochs{seeds}, "
        text += f"{figures['candidate_epochs']} epochs in all"
        cost = "supernet cost" if figures["supernets"] == 1 else f"{figures['supernets']} supernets cost"
        supernet = f"; the {cost} {figures['supernet_epochs']} epochs and {figures['scored']:,} scores more"
        return text + (supernet if figures["supernet_epochs"] else ", without a supernet")
    if by == "learned":
        return f"learned by the supernet in {figures['supernet_epochs']} epochs"
    of = "a supernet of" if figures["supernets"] == 1 else f"{figures['supernets']} supernets of together"
    return f"chosen by the search: {figures['scored']:,} scores of {of} {figures['supernet_epochs']} epochs"
