"""What a search leaves in its run: a score file per architecture, arc.json, frontier/, search.json, the report."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spaces.arch import arch_id, save_arch
from spaces.errors import Stopped
from spaces.files import load_json, save_json
from strategies import pareto
from trials.common import cli, run_dir
from trials.scoring import score_store
from trials.search_driver.plan import Plan


def arch_of(job: dict[str, Any]) -> dict[str, Any] | None:
    """The architecture of one of NNI's trials."""
    given = job.get("hyperParameters")
    return json.loads(given[0])["parameters"] if given else None


def score_of(plan: Plan, arch: dict[str, Any] | None) -> dict[str, Any] | None:
    """The stored score of an architecture; None when it has none or breaks the limits."""
    result = score_store.stored_score(plan.run, arch or {}, plan.supernet, vars(plan.settings))
    return result if result and plan.feasible.allows(result["arch"]) else None


def scored(plan: Plan, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Architectures and scores of NNI's trials, as a tuner imports them."""
    results = [score_of(plan, arch_of(job)) for job in jobs if job["status"] == "SUCCEEDED"]
    return [{"parameter": result["arch"], "value": result["top1"]} for result in results if result]


def store_remote(plan: Plan, job: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
    """Keep the score of a trial that ran on another machine: NNI's metrics are all that came back.

    Args:
        metrics: of this trial, from NNI's /metric-data.
    """
    arch = arch_of(job)
    values = {metric["type"]: json.loads(json.loads(metric["data"])) for metric in metrics}
    if arch is None or "FINAL" not in values:
        return
    final = values["FINAL"]
    result = {
        "arch": arch,
        "top1": final["default"],
        "top5": final["top5"],
        "top1_before_recalibration": float(values.get("PERIODICAL", final["default"])),
        "macs": plan.table.macs(arch),
        "params": plan.table.params(arch),
        "seconds": ((job.get("endTime") or 0) - (job.get("startTime") or 0)) / 1000,  # of the whole trial
        "calibration_images": plan.settings.calibration_images,
        "seed": run_dir.load_run(plan.run, "supernet")["seed"],
        "supernet": plan.supernet,
        "settings": vars(plan.settings),
        "finished": time.time(),
        "trial": job.get("logPath"),
    }
    save_json(plan.run / "search" / f"{arch_id(arch)}.json", result)


def frontier(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results that no other one beats in top-1 and cost, the cheapest first; cost: latency where it is known, else MACs."""
    return [entry[2] for entry in pareto.pareto_front([(result["top1"], cost(result), result) for result in results])]


def cost(result: dict[str, Any]) -> float:
    """Milliseconds of a result in a search with a latency table, else MACs."""
    return result.get("latency_ms", result["macs"])


def history_of(plan: Plan, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Scored architectures in the order in which the tuner gave them out: id, generation, failures."""
    if plan.tuner:
        asked = [entry for entry in plan.tuner.asked.values() if score_of(plan, entry["arch"])]
        keys = ("generation", "failures")
        return [
            {"id": arch_id(entry["arch"])} | {key: entry[key] for key in keys}
            for entry in asked
            if entry["score"] is not None
        ]
    done = [arch for job in jobs if job["status"] == "SUCCEEDED" and score_of(plan, arch := arch_of(job))]
    return [{"id": name, "generation": None, "failures": 0} for name in dict.fromkeys(map(arch_id, filter(None, done)))]


def finish(plan: Plan, name: str, jobs: list[dict[str, Any]], log: Path) -> None:
    """Write what was found, and print a table.

    Args:
        name: of the experiment.
        jobs: NNI's trials; of a search without NNI, their "status" alone.
        log: where to look when nothing was found.
    Raises:
        Stopped: no architecture has a score.
    """
    history = history_of(plan, jobs)
    latency = plan.feasible.latency
    results = []
    for entry in history:
        result = load_json(plan.run / "search" / f"{entry['id']}.json", "score")
        if latency:
            entry["latency_ms"] = latency.ms(result["arch"])
        results.append(result | entry)
    if not results:
        raise Stopped(f"no architecture within the limits got a score; see {log}")
    lost = [arch_id(entry["arch"]) for entry in plan.tuner.failed()] if plan.tuner else []
    front = frontier(results)
    summary = {
        "experiment": name,
        "yaml": plan.yaml.name,
        "tuner": plan.content["tuner"].get("className", plan.content["tuner"].get("name")),
        "limits": dataclasses.asdict(plan.limits),
        "share_of_space": plan.feasible.share(),
        "trials": dict(Counter(job["status"] for job in jobs)),
        "history": history,
        "failed": lost,
        "frontier": [arch_id(result["arch"]) for result in front],
    }
    best = max(results, key=lambda result: result["top1"])
    if latency:
        summary["latency"] = {"on": str(latency), "error": latency.error(), "best_ms": latency.ms(best["arch"])}
    save_json(plan.run / "search.json", summary)
    for old in (plan.run / "frontier").glob("*.json"):  # of an earlier search
        old.unlink()
    for result in front:  # each of them can be retrained
        save_arch(plan.run / "frontier" / f"{result['macs']}-{arch_id(result['arch'])}.json", result["arch"])
    save_arch(plan.run / "arc.json", best["arch"])

    rows = [
        (
            *(arch_id(r["arch"]), r["top1"], r["top1_before_recalibration"], r["macs"], r["params"]),
            *((f"{latency.ms(r['arch']):.3g}",) if latency else ()),
        )
        for r in sorted(results, key=lambda result: -result["top1"])[:5]
    ]
    header = ["architecture", "top-1 %", "before BN recal.", "MACs", "params"]
    print(cli.table(rows, header + ([f"ms {latency.error()}"] if latency else [])))
    again = sum(job["status"] not in ("SUCCEEDED", "RUNNING", "WAITING") for job in jobs)
    print(
        f"{len(results)} architectures scored, the best {len(rows)} above"
        + (f"; {again} trials failed or were stopped" if again else "")
    )
    if len(results) < plan.wanted:
        print(f"that is less than {plan.wanted:,}: the limits leave nothing new, or maxExperimentDuration was over")
    if lost:
        print(f"failed {plan.tuner.tries} times and were left out: {', '.join(lost)}")
    if latency:
        print(f"latency: {latency}, by the table")
    print(f"limits ({plan.limits}) leave {100 * summary['share_of_space']:.1f}% of the space")
    print(
        f"best architecture: {plan.run / 'arc.json'}; the best for each cost ({len(front)}): {plan.run / 'frontier'}/"
    )
