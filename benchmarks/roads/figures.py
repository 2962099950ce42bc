"""What a road ended with, read from its run, and the table of docs/results.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from spaces.files import load_json


def figures_of(run: Path) -> dict[str, Any]:
    """The figures of a run that has gone the whole road; what its files do not hold is None.

    Args:
        run: run directory of trials.supernet.
    Returns:
        "supernet": top-1 of the winner on the supernet, in percent, on "score_images" held-out training images; "winner" and
        "random": {"test_top1": mean in percent, "interval": [low, high], "seeds"}, random with "n" and the lowest and
        highest mean of its networks in place of the interval; "floor": {"name", "top1"}; "test_images"; "verdict": the
        certificate's code and sentence; "warnings": their texts.
    """
    certificate = _read(run / "certificate.json")
    floor = _read(run / "floor.json")
    retrained = _read(run / "retrain" / "result.json")
    scores = [load_json(path, "score") for path in (run / "search").glob("*.json")]
    best = max((score["top1"] for score in scores), default=None)
    winner = random = verdict = None
    if certificate:
        network = certificate["winner"]
        winner = {"test_top1": network["mean"], "interval": network["interval"], "macs": network["macs"]}
        winner["seeds"] = len(network["test_top1"])
        means = [one["mean"] for one in certificate["random"]]
        random = {"n": len(means), "seeds": certificate["seeds"], "test_top1": statistics.mean(means)}
        random["interval"] = [min(means), max(means)]
        verdict = {key: certificate["verdict"][key] for key in ("code", "sentence", "next")}
        verdict |= {key: certificate["comparison"][key] for key in ("difference", "interval", "beaten", "of")}
        best = network["score"] if network.get("score") is not None else best
    elif retrained:
        winner = {"test_top1": retrained["mean"], "interval": None, "seeds": len(retrained["test_top1"])}
        winner["macs"] = retrained["macs"]
    tested = (certificate or retrained or {}).get("test_images")
    return {
        "supernet": best,
        "winner": winner,
        "random": random,
        "floor": {"name": floor["name"], "top1": floor["top1"]} if floor else None,
        "test_images": tested,
        "verdict": verdict,
        "warnings": [entry["text"] for entry in _read(run / "warnings.json") or []],
    }


def table_rows(roads: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The rows of the table: road, supernet, winner, random, floor, difference, verdict, time."""
    rows: list[tuple[str, ...]] = []
    for road in roads:
        found, minutes = road["figures"], sum(step["seconds"] for step in road["steps"]) / 60
        winner, random, verdict, floor = (found[key] for key in ("winner", "random", "verdict", "floor"))
        rows.append(
            (
                road["road"],
                "-" if found["supernet"] is None else f"{found['supernet']:.1f}",
                _accuracy(winner) + (f" ({_seeds(winner['seeds'])})" if winner else ""),
                _accuracy(random) + (f" ({random['n']} networks, {_seeds(random['seeds'])})" if random else ""),
                f"{floor['top1']:.1f}" if floor else "-",
                "{:+.1f} [{:.1f}, {:.1f}]".format(verdict["difference"], *verdict["interval"]) if verdict else "-",
                verdict["code"] if verdict else "-",
                f"{found['test_images']:,}" if found["test_images"] else "-",
                f"{minutes:.1f}",
            )
        )
    return rows


HEADER = ("road", "supernet", "winner", "random", "floor", "difference", "verdict", "test images", "minutes")


def check(road: Mapping[str, Any]) -> None:
    """Refuse a road that does not show what it promises.

    Raises:
        InputError: a step failed, or the winner is below the floor, or there is no verdict.
    """
    found = road["figures"]
    failed = [step["command"] for step in road["steps"] if step["exit"]]
    if failed:
        raise InputError(f"road {road['road']} stopped at: {failed[0]}")
    if not found["verdict"]:
        raise InputError(f"road {road['road']} ended without a verdict; look into its log")
    if found["floor"] and found["winner"]["test_top1"] < found["floor"]["top1"]:
        raise InputError(
            f"the winner of road {road['road']} has {found['winner']['test_top1']:.1f}%, below {found['floor']['name']} with "
            f"{found['floor']['top1']:.1f}%"
        )


def _accuracy(network: Mapping[str, Any] | None) -> str:
    """Mean and interval (of random networks: lowest and highest), in percent."""
    if not network:
        return "-"
    span = "" if network["interval"] is None else " [{:.1f}, {:.1f}]".format(*network["interval"])
    return f"{network['test_top1']:.1f}{span}"


def _seeds(number: int) -> str:
    return f"{number} seed{'s' * (number != 1)}"


def _read(path: Path) -> Any:
    """The content of a JSON file; None where there is none."""
    return load_json(path, "file of the run") if path.exists() else None
