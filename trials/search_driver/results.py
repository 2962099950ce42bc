"""What a search leaves in its run: a score file per architecture, arc.json, frontier/ and search.json."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spaces.arch import arch_id, save_arch
from spaces.errors import Stopped
from spaces.files import save_json
from trials.common import cli, run_files
from trials.evidence.gates import keep_warnings
from trials.scoring import noise
from trials.scoring.score_store import TOP_FILE, score_path
from trials.scoring.score_value import has_value, score_value
from trials.search_driver.plan import Plan
from trials.search_driver.ranking import front, rank
from trials.search_driver.score_gates import check_scores

SHOWN = 5  # architectures in the last table


def arch_of(job: dict[str, Any]) -> dict[str, Any] | None:
    """The architecture of one of NNI's trials; None where NNI gave it none yet."""
    parameters = job.get("hyperParameters")
    return json.loads(parameters[0])["parameters"] if parameters else None


def score_of(plan: Plan, arch: dict[str, Any] | None) -> dict[str, Any] | None:
    """The stored score of an architecture; None when it has none by which this search goes, or breaks the limits."""
    result = plan.score_store.read(arch or {})
    known = result is not None and has_value(result, plan.evaluate.score_by)
    return result if result and known and plan.feasible.allows(result["arch"]) else None


def earlier_scores(plan: Plan) -> list[dict[str, Any]]:
    """The stored scores that the plan's tuner knows, in the order in which they came."""
    known = (
        [entry["arch"] for entry in plan.tuner.state.entries.values() if entry["score"] is not None]
        if plan.tuner
        else []
    )
    scores = [result for arch in known if (result := score_of(plan, arch))]
    return sorted(scores, key=lambda result: result.get("finished", 0.0))


def scores_to_import(plan: Plan, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The architectures and scores of NNI's trials, as a tuner's `import_data` takes them."""
    results = [score_of(plan, arch_of(job)) for job in jobs if job["status"] == "SUCCEEDED"]
    score_by = plan.evaluate.score_by
    return [{"parameter": result["arch"], "value": score_value(result, score_by)} for result in results if result]


def store_remote_score(plan: Plan, job: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
    """Write the score file of a trial that ran on another machine, from NNI's metrics, which are all that came back.

    Args:
        job: the trial, as NNI lists it.
        metrics: what NNI's /metric-data says about this trial.
    """
    arch = arch_of(job)
    values = {metric["type"]: json.loads(json.loads(metric["data"])) for metric in metrics}
    if arch is None or "FINAL" not in values:
        return
    final = values["FINAL"]
    top1 = final.get("top1", final["default"])  # NNI's trials of older versions told it as the default alone
    record = plan.score_store.record(
        arch,
        plan.table,
        top1=top1,
        loss=final.get("loss"),
        top5=final.get(
            "top5", 100.0
        ),  # trials tell it above five classes; with fewer, the right one is always among five
        top1_before_recalibration=float(values.get("PERIODICAL", top1)),
        scoring_images=final.get("scoring_images"),
        right=None,
        seconds=((job.get("endTime") or 0) - (job.get("startTime") or 0)) / 1000,  # NNI times the whole trial
        calibration_images=plan.settings.calibration_images,
        computed_with={},
        seed=plan.supernet_run.config["seed"],
    )
    plan.score_store.write(record | {"trial": job.get("logPath")})


def search_history(plan: Plan, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The scored architectures in the order in which the tuner gave them out.

    Returns:
        For each its id, its generation (None where one of NNI's own tuners bred it) and how often its trials failed.
    """
    if plan.tuner:
        asked = [entry for entry in plan.tuner.state.entries.values() if score_of(plan, entry["arch"])]
        keys = ("generation", "failures")
        return [
            {"id": arch_id(entry["arch"])} | {key: entry[key] for key in keys}
            for entry in asked
            if entry["score"] is not None
        ]
    done = [arch for job in jobs if job["status"] == "SUCCEEDED" and score_of(plan, arch := arch_of(job))]
    return [{"id": name, "generation": None, "failures": 0} for name in dict.fromkeys(map(arch_id, filter(None, done)))]


def announce_end_of_choice(run: Path) -> None:
    """Say that a search replaces what trials.retrain --top chose in this run; nothing where it chose nothing."""
    if not (run / TOP_FILE).exists():
        return
    choice = run_files.read(run / TOP_FILE, "choice of retrain --top")
    given = [("--top", choice.get("top", len(choice["candidates"]))), ("--top-random", choice.get("top_random", 0))]
    options = [word for pair in given if pair[1] for word in pair] + ["--seeds", choice["seeds"], "--resume"]
    command = cli.command("retrain", "--supernet", run, *options)
    cli.say(
        f"arc.json of '{run}' is {choice['chosen']}, which retrain --top chose; the search replaces it by its own "
        f"winner; then choose again, nothing is trained twice:"
    )
    print(f"  {command}")


def write_results(plan: Plan, name: str, jobs: list[dict[str, Any]], log: Path) -> dict[str, Any]:
    """Write arc.json, frontier/ and search.json, and print a table of the best architectures.

    A choice that trials.retrain --top made among the architectures of an earlier search no longer holds.

    Args:
        name: id of the experiment.
        jobs: NNI's trials; for a search without NNI, only their "status".
        log: the folder to look into when no architecture has a score.
    Returns:
        What --json says of the winner, the trials and the frontier.
    Raises:
        Stopped: no architecture has a score.
    """
    history = search_history(plan, jobs)
    latency = plan.feasible.latency

    # the results in the order of the search
    results = []
    for entry in history:
        result = run_files.read_score(score_path(plan.run, entry["id"]))
        if result is None:
            continue
        if latency:
            entry["latency_ms"] = latency.ms(result["arch"])
        results.append(result | entry)
    if not results:
        raise Stopped(f"no architecture within the limits got a score; see {log}")
    given_up = [arch_id(entry["arch"]) for entry in plan.tuner.state.failed()] if plan.tuner else []
    score_by = plan.evaluate.score_by
    alike = noise.like_the_best(results, plan.run, score_by)
    ranked = rank(plan.feasible, results, [score_value(result, score_by) for result in results], alike)
    winner, of_each_cost = ranked[0], front(ranked)

    # search.json, which the report reads
    summary = {
        "experiment": name,
        "yaml": plan.yaml.name,
        "tuner": plan.content["tuner"].get("className", plan.content["tuner"].get("name")),
        "score_by": score_by,
        "limits": dataclasses.asdict(plan.limits),
        "share_of_space": plan.feasible.share(),
        "trials": dict(Counter(job["status"] for job in jobs)),
        "history": history,
        "failed": given_up,
        "ranking": [arch_id(result["arch"]) for result in ranked],
        "frontier": [arch_id(result["arch"]) for result in of_each_cost],
    }
    if latency:
        summary["latency"] = {"on": str(latency), "error": latency.error(), "best_ms": latency.ms(winner["arch"])}
    save_json(plan.run / "search.json", summary)

    # one file for each architecture that can be retrained
    for old in (plan.run / "frontier").glob("*.json"):  # an earlier search wrote these
        old.unlink()
    for result in of_each_cost:
        save_arch(plan.run / "frontier" / f"{result['macs']}-{arch_id(result['arch'])}.json", result["arch"])
    save_arch(plan.run / "arc.json", winner["arch"])
    (plan.run / TOP_FILE).unlink(missing_ok=True)

    _print_results(plan, results, alike, winner, jobs, summary)
    keep_warnings(plan.run, "search", [check_scores(plan.run, results)])
    return {
        "arc": plan.run / "arc.json",
        "id": arch_id(winner["arch"]),
        **{key: winner[key] for key in ("arch", "macs", "params")},
        "latency_ms": latency.ms(winner["arch"]) if latency else None,
        "score": score_value(winner, score_by),
        "trials": summary["trials"],
        "frontier": sorted(map(str, (plan.run / "frontier").glob("*.json"))),
    }


def winner_first(
    results: Sequence[dict[str, Any]], alike: Sequence[bool], winner: dict[str, Any], score_by: str
) -> list[tuple[str, str, dict[str, Any]]]:
    """The rows of the last table: the winner, then the others of the SHOWN highest scores.

    Args:
        alike: what `noise.like_the_best` says of the results.
    Returns:
        For each its id, marked where it is the winner, "best", "=" or "worse", and the result.
    """
    ranked = sorted(zip(results, alike, strict=True), key=lambda pair: -score_value(pair[0], score_by))
    best = ranked[0][0]
    ranked.sort(key=lambda pair: pair[0] is not winner)  # the others keep their order
    return [
        (
            arch_id(result["arch"]) + " (winner)" * (result is winner),
            "best" if result is best else "=" if like_best else "worse",
            result,
        )
        for result, like_best in ranked[:SHOWN]
    ]


def _print_results(
    plan: Plan,
    results: list[dict[str, Any]],
    alike: list[bool],
    winner: dict[str, Any],
    jobs: list[dict[str, Any]],
    summary: dict[str, Any],
) -> None:
    """Print the winner and the highest scores, and what else search.json says about the search."""
    latency = plan.feasible.latency
    score_by = plan.evaluate.score_by
    by_loss = score_by == "loss"
    table = winner_first(results, alike, winner, score_by)
    rows = [
        (
            *(name, *((f"{r['loss']:.4f}",) if by_loss else ()), noise.short_score_text(r, plan.run)),
            beside,
            *(noise.short_before_text(r, plan.run), f"{r['macs']:,}", f"{r['params']:,}"),
            *((f"{latency.ms(r['arch']):.3g}",) if latency else ()),
        )
        for name, beside, r in table
    ]
    header = [
        "architecture",
        *["loss"] * by_loss,
        "top-1 % +- sd",
        "beside the best",
        "before BN recal.",
        "MACs",
        "params",
    ]
    print(cli.table(rows, header + ([f"ms {latency.error()}"] if latency else []), as_is=True))
    unsuccessful = sum(job["status"] not in ("SUCCEEDED", "RUNNING", "WAITING") for job in jobs)
    print(
        f"{len(results)} architectures scored; above, the winner and the highest scores"
        + (f"; {unsuccessful} trials failed or were stopped" if unsuccessful else "")
    )
    print(noise_line(plan.run, results, alike))
    if table[0][1] != "best":
        cli.say(
            f"the winner is {arch_id(winner['arch'])}, the first of the table: of what noise cannot tell apart from the best, a model "
            "of all scores expects most of it"
        )
    if len(results) < plan.wanted:
        print(f"that is less than {plan.wanted:,}: the limits leave nothing new, or maxExperimentDuration was over")
    if plan.tuner and summary["failed"]:
        cli.say(f"failed {plan.tuner.tries} times and were left out: {', '.join(summary['failed'])}")
    if latency:
        print(f"latency: {latency}, by the table")
    print(f"limits ({plan.limits}) leave {100 * summary['share_of_space']:.1f}% of the space")
    cli.say(
        f"best architecture: {plan.run / 'arc.json'}; the best for each cost ({len(summary['frontier'])}): "
        f"{plan.run / 'frontier'}/"
    )


def noise_line(run: Path, results: Sequence[dict[str, Any]], alike: Sequence[bool]) -> str:
    """How many architectures the noise of the scores hides the best one among, and what to do about it.

    Args:
        alike: what `noise.like_the_best` says of the results.
    """
    images = {noise.scoring_images(result, run) for result in results}
    of = f"{images.pop():,} scoring images" if len(images) == 1 and None not in images else "their scoring images"
    others = sum(alike) - 1
    if len(results) == 1:
        return f"its noise is that of {of}"
    if not others:
        return f"on {of} the best is better than each of the {len(results) - 1:,} others, beyond the noise (95 %)"
    return (
        f'noise: on {of}, {others:,} of the {len(results) - 1:,} others cannot be told apart from the best ("="; 95 %); '
        f"choose by short trainings of the best few and of random ones: {noise.top_command(run, others + 1)}"
    )
