"""Carry out one unit, by the commands that a user has, in this process."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.quality.units import LEARNERS, LOCK, LONG, SHORT, SUPERNETS, TUNERS, Plan, Unit
from spaces.arch import Arch, arch_id, save_arch
from spaces.errors import InputError
from spaces.files import load_json, save_json
from trials.common import locks, run_dir
from trials.networks.answers import FILE, Answers
from trials.scoring import noise

PRECISION = ("--precision", "32")  # on a GPU too, or units of a GPU could not stand beside those of a CPU


def carry_out(unit: Unit, plan: Plan, results: Path, work: Path, device: str) -> None:
    """Measure a unit and write its file; what the commands print goes to output.txt in its run.

    Args:
        results, work: folders of results, and of runs.
    Raises:
        InputError: a command refuses it, or another process measures it.
    """
    run = unit.run(work)
    measure = {"networks": train_network, "supernets": train_supernet, "learned": learn}[unit.kind]
    began = time.perf_counter()
    with (
        locks.exclusive(run, LOCK),
        open(run / "output.txt", "a") as output,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        try:
            found = measure(unit, plan, run, work, device)
        except InputError as error:
            raise InputError(f"{unit}: {error}; see '{run / 'output.txt'}'") from None
    made = run_dir.provenance()
    machine = {key: made[key] for key in ("commit", "processor", "cores", "gpus", "started")}
    machine["torch"] = made["versions"]["torch"]
    whole = {"training": unit.training, "seed": unit.seed, **found, "machine": machine}
    save_json(results / unit.path, whole | {"seconds": round(time.perf_counter() - began, 1)})


def train_network(unit: Unit, plan: Plan, run: Path, work: Path, device: str) -> dict[str, Any]:
    """Train a network from scratch on all training images, and test it on all test images; one that diverges is a result, too."""
    from trials.common import cli
    from trials.training.loop import Diverged
    from trials.training.retrain_config import Config
    from trials.training.retrain_loop import train_seed
    from trials.training.retrain_plan import plan_retraining

    words = [*unit.pair.words(work), "--epochs", str(unit.pair.epochs), "--batch-size", str(unit.pair.batch)]
    words += ["--lr", str(unit.pair.lr if unit.lr is None else unit.lr)]
    words += ["--device", device, "--out", str(run), "--seeds", str(unit.seed + 1), "--resume", *PRECISION]
    if unit.arch is None:
        words += ["--baseline", unit.baseline]
    else:
        save_arch(run / "arc.json", unit.arch)
        words += ["--fixed-arc", str(run / "arc.json")]
    retraining = plan_retraining(cli.parse(Config, words, "", "trials.retrain"))
    run_dir.open_run(run, "retrain", retraining.config, resume=True, quiet=True)
    folder = run / f"seed{unit.seed}"
    found = {"name": unit.name, "arch": unit.arch, "macs": retraining.macs, "params": retraining.params}
    if not (folder / "result.json").exists():
        try:
            train_seed(retraining.config, retraining.network, unit.seed)
        except Diverged as error:
            return {**found, "diverged": str(error).partition(";")[0]}
    result = load_json(folder / "result.json", "result")
    return {
        **found,
        "test_top1": result["test_top1"],
        "test_images": result["test_images"],
        "right": noise.pack_answers(Answers.load(folder / FILE).right),
    }


def train_supernet(unit: Unit, plan: Plan, run: Path, work: Path, device: str) -> dict[str, Any]:
    """Train a supernet, score all random architectures with it, and search it with every tuner."""
    epochs = max(1, round(LONG.get(unit.name, 1) * unit.pair.supernet_epochs))
    if unit.name in SHORT:
        epochs = max(1, round(epochs / paths_of_fair_step(unit)))
    options = call_supernet(unit, SUPERNETS[unit.name], epochs, run, work, device)
    scores = score_pool(unit, plan, run, device)
    searches = {tuner: search(unit, plan, run, tuner) for tuner in TUNERS}
    epochs *= supernets_of(options)
    return {"variant": unit.name, "options": options, "epochs": epochs, "scores": scores, "searches": searches}


def learn(unit: Unit, plan: Plan, run: Path, work: Path, device: str) -> dict[str, Any]:
    """Let a differentiable strategy learn an architecture within the limit."""
    options = call_supernet(unit, LEARNERS[unit.name], unit.pair.supernet_epochs, run, work, device)
    learned = load_json(run / "most_probable.json", "most probable architecture")
    return {"variant": unit.name, "options": options, "epochs": unit.pair.supernet_epochs, **learned}


def call_supernet(unit: Unit, options: str, epochs: int, run: Path, work: Path, device: str) -> str:
    """Train a supernet, from the checkpoint where there is one. Returns the options that make the variant.

    Where it is several supernets, no two units share a seed of one: they are 0 to 2, 3 to 5, and so on.
    """
    options = options.replace("LIMIT", str(unit.pair.max_macs))
    seed = unit.seed * supernets_of(options)
    words = [*unit.pair.words(work), *options.split(), "--epochs", str(epochs), "--seed", str(seed)]
    call("supernet", [*words, "--eval-paths", "0", "--device", device, "--out", str(run), "--resume", *PRECISION])
    return options


def supernets_of(options: str) -> int:
    """How many supernets a variant trains."""
    return int(options.partition("--supernets ")[2].partition(" ")[0] or 1)


def call(command: str, words: Sequence[str]) -> None:
    """Run a command of trials/ in this process."""
    importlib.import_module(f"trials.{command}").main(list(words))


def paths_of_fair_step(unit: Unit) -> int:
    """How often a step of strict fairness goes through the network: once for each candidate of the largest choice."""
    return max(len(candidates) for candidates in unit.pair.table().choices.values())


def score_pool(unit: Unit, plan: Plan, run: Path, device: str) -> dict[str, dict[str, float]]:
    """The scores of the random architectures, by id."""
    from trials.scoring.evaluate_config import Config, Settings
    from trials.scoring.scorer import Scorer

    scorer = Scorer(run, Settings.of(Config(run=str(run), device=device)), device)
    scores: dict[str, dict[str, float]] = {}
    for arch, record in scorer.results(unit.pair.random_archs(plan.pool)):
        if isinstance(record, Exception):
            raise record
        scores[arch_id(arch)] = {key: record[key] for key in ("top1", "loss") if key in record}
    return scores


def search(unit: Unit, plan: Plan, run: Path, tuner: str) -> dict[str, Any]:
    """Search the supernet under the limit."""
    name, arguments = TUNERS[tuner]
    experiment = yaml.safe_load((run / "search.yml").read_text())
    experiment["maxTrialNumber"] = plan.evaluations
    costs = experiment["tuner"]["classArgs"]["cost_table"]
    experiment["tuner"]["className"] = name
    experiment["tuner"]["classArgs"] = {
        "cost_table": costs,
        "max_macs": unit.pair.max_macs,
        "seed": unit.seed,
        **arguments,
    }
    path = run / f"{tuner}.yml"
    path.write_text(yaml.safe_dump(experiment, sort_keys=False))
    began = time.perf_counter()
    call("search", [str(path), "--in-process"])
    arch: Arch = load_json(run / "arc.json", "architecture")
    score = load_json(run / "search" / f"{arch_id(arch)}.json", "score")
    save_json(run / f"{tuner}.json", arch)
    return {"arch": arch, "top1": score["top1"], "seconds": round(time.perf_counter() - began, 1)}
