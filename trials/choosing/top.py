"""Candidates that are trained briefly from scratch and chosen among by held-out images: `trials.retrain --top`, `--top-random`.

The scores of a search are those of paths of a supernet, on few images, and the best of them is often best by luck. So the best
few, and random architectures of the same cost, are trained by the recipe in fewer epochs without the supernet's scoring
images, and the one that is best on these becomes the winner, which is trained in full. No test image is read for that. A
candidate is a run of trials.retrain in RUN/top/ID, so that all go on after a kill.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spaces.arch import Arch, arch_id, save_arch
from spaces.errors import InputError
from spaces.files import save_json
from trials.choosing.band import Band
from trials.choosing.candidates import Found
from trials.common import changes, cli, locks, run_dir, run_files
from trials.common.supernet_run import SupernetRun
from trials.evidence.comparison import as_good_as_the_best
from trials.evidence.intervals import accuracy_interval, accuracy_text
from trials.networks.answers import Answers
from trials.scoring import noise
from trials.scoring.score_store import TOP_FILE
from trials.training.choice_options import CHOICE_FILE, TOP_FOLDER, as_given
from trials.training.parallel import Job, train_jobs
from trials.training.retrain_config import Config
from trials.training.retrain_loop import HELD_OUT_FILE
from trials.training.retrain_plan import RetrainPlan, describe_network, plan_retraining
from trials.training.retrain_result import missing_seeds, seed_results

SHORT = 4  # a candidate has this part of the winner's epochs; docs/results.md measures what a quarter foretells


@dataclass(frozen=True)
class Candidate:
    """An architecture that may become the winner.

    Attributes:
        plan: its training without the held-out images.
    """

    found: Found
    plan: RetrainPlan

    @property
    def name(self) -> str:
        """The id of the architecture."""
        return arch_id(self.found.arch)

    @property
    def run(self) -> Path:
        """The folder of its training."""
        return Path(self.plan.config.out)

    def answers(self) -> np.ndarray:
        """Which held-out images are answered rightly, bool (seeds, images)."""
        folders = [self.run / f"seed{seed}" for seed in range(self.plan.config.seeds)]
        return np.stack([Answers.load(folder / HELD_OUT_FILE).right for folder in folders])

    def figures(self, supernet: Path) -> dict[str, Any]:
        """What top.json says about it; accuracies in percent."""
        results = seed_results(self.run, self.plan.config.seeds)
        correct, images = [result["val_correct"] for result in results], results[0]["val_images"]
        interval = accuracy_interval(correct, images)
        return {
            "id": self.name,
            **self.plan.summary(),
            "source": self.found.source,
            "score": self.found.score and self.found.score["top1"],
            "correct": correct,
            "images": images,
            "mean": 100 * statistics.mean(correct) / images,
            "interval": [interval.low, interval.high],
            "run": str(self.run.relative_to(supernet)),
        }


def choose_winner(config: Config, found: Sequence[Found], band: Band | None) -> tuple[Config, Arch]:
    """Train the candidates that have no result yet, choose one, write top.json and arc.json of the supernet's run.

    Args:
        config: with --top or --top-random, and --supernet.
        found, band: as `find_candidates` returns them.
    Returns:
        The options of the winner's own retraining, into RUN/retrain, and the winner; a dry run, which writes no arc.json, has
        the first candidate in its place.
    Raises:
        InputError: the candidates were trained in another way.
        Stopped: a training stopped.
    """
    supernet = SupernetRun.open(str(config.supernet), trained=False)
    run = supernet.path
    alone: dict[str, Any] = {"top": 0, "top_random": 0, "top_epochs": None}
    options = dataclasses.replace(config, **alone, fixed_arc=str(run / "arc.json"), resume=False)
    winner = plan_retraining(options, found[0].arch)
    if winner.recipe:
        print(winner.recipe)
    epochs = short_epochs(config.top_epochs, winner.config.epochs)
    candidates = plan_candidates(winner.config, found, epochs, supernet.config["score_fraction"])
    if config.dry_run:
        networks = config.seeds * len(candidates)
        rounds, own = (math.ceil(n / min(config.jobs, n)) for n in (networks, config.seeds))
        times = 1 + rounds / own * epochs / winner.config.epochs
        print(f"{candidates_text(candidates, epochs)} come first: in all {times:.3g} times the hours below")
        return winner.config, found[0].arch
    chosen_among = {"top": config.top, "top_random": config.top_random, "top_epochs": epochs}
    with contextlib.ExitStack() as held:
        for candidate in candidates:
            held.enter_context(locks.exclusive(candidate.run, "training"))
        open_candidates(run, candidates, resume=config.resume)
        save_json(run / TOP_FOLDER / CHOICE_FILE, {"config": dataclasses.asdict(winner.config) | chosen_among})
        train_candidates(config, candidates, epochs)

    # choose; of equal ones the first, which the search puts first
    figures = [candidate.figures(run) for candidate in candidates]
    chosen = max(range(len(figures)), key=lambda number: figures[number]["mean"])
    summary = {
        "chosen": figures[chosen]["id"],
        "search_best": figures[0]["id"] if config.top else None,
        "seeds": config.seeds,
        "epochs": epochs,
        **{name: chosen_among[name] for name in ("top", "top_random")},
        "band": band and dataclasses.asdict(band),
        "candidates": figures,
    }
    save_json(run / TOP_FILE, summary)
    arch = candidates[chosen].found.arch
    save_arch(run / "arc.json", arch)
    _print_choice(run, candidates, figures, chosen)
    return dataclasses.replace(winner.config, resume=make_room(winner.config, arch)), arch


def short_epochs(given: int | None, epochs: int) -> int:
    """Epochs of a candidate: those given, else a part of the winner's. Raises InputError: they are more than the winner's."""
    if given is not None and given > epochs:
        raise InputError(
            f"--top-epochs {given} is more than the winner's {epochs}; give at most {epochs}, or raise --epochs"
        )
    return given or max(1, round(epochs / SHORT))


def candidates_text(candidates: Sequence[Candidate], epochs: int) -> str:
    """How many candidates there are, where from, and how they are trained."""
    sources = [candidate.found.source for candidate in candidates]
    names = {"search": "the best of the search", "learned": "the learned one", "random": "random ones of one cost"}
    parts = [f"{sources.count(source)} {name}" for source, name in names.items() if source in sources]
    seeds = candidates[0].plan.config.seeds
    each = f"{epochs} epoch{'s' * (epochs > 1)} and {seeds} seed{'s' * (seeds > 1)} each"
    return (
        f"{len(candidates)} candidates ({', '.join(parts)}; {each}: {len(candidates) * epochs * seeds} epochs in all)"
    )


def train_candidates(config: Config, candidates: Sequence[Candidate], epochs: int) -> None:
    """Train what has no result yet. Raises Stopped: a training stopped."""
    jobs = [
        Job(candidate.plan.config, candidate.plan.network, seed, candidate.plan.images, candidate.name, tests=False)
        for candidate in candidates
        for seed in missing_seeds(candidate.run, config.seeds)
    ]
    print(
        f"{candidates_text(candidates, epochs)}, without the {candidates[0].plan.data.size('score'):,} held-out images: "
        f"{len(jobs)} networks to train"
    )
    if jobs:
        failures = train_jobs(jobs, config.jobs, title="candidates", on_done=_result_line)
        if failures:
            raise next(iter(failures.values()))


def plan_candidates(config: Config, found: Sequence[Found], epochs: int, fraction: float) -> list[Candidate]:
    """Check the training of each candidate against its network, its images and the device.

    The last epoch counts, as in the winner's own training: the best epoch would be chosen by the same images. A rate that
    falls goes all its way in the fewer epochs.

    Args:
        config: of the winner's own training, on all training images; the candidates have the same recipe.
        fraction: of the training images that are held out, as in the supernet's run.
    Raises:
        InputError: something of these cannot be used, or does not fit together.
    """
    falls = config.decay_epochs * epochs / config.epochs if config.schedule == "exponential" else config.decay_epochs
    short: dict[str, Any] = {"hold_out": fraction, "epochs": epochs, "eval_every": epochs, "decay_epochs": falls}
    config, run = dataclasses.replace(config, **short), Path(str(config.supernet))
    candidates: list[Candidate] = []
    for one in found:
        folder = run / TOP_FOLDER / arch_id(one.arch)
        own = dataclasses.replace(config, fixed_arc=str(folder / "arc.json"), out=str(folder))
        if not candidates:
            several = dataclasses.replace(own, seeds=own.seeds * len(found))  # that may be in memory at the same time
            plan = dataclasses.replace(plan_retraining(several, one.arch), config=own)
        else:  # the images are the same
            network, macs, params = describe_network(own, one.arch, candidates[0].plan.data)
            first = candidates[0].plan
            plan = dataclasses.replace(first, config=own, arch=one.arch, network=network, macs=macs, params=params)
        candidates.append(Candidate(one, plan))
    return candidates


def open_candidates(run: Path, candidates: Sequence[Candidate], *, resume: bool) -> None:
    """Make or reopen the run of each candidate.

    Raises:
        InputError: one exists and `resume` is off, or it was begun with another recipe.
    """
    for candidate in candidates:
        path = candidate.run / "config.json"
        if not run_dir.begun(candidate.run):
            continue
        if not resume:
            raise InputError(
                f"'{run / TOP_FOLDER}' holds candidates already; add --resume to go on with them, or move that folder away"
            )
        stored = run_files.read(path, "run configuration")
        changed = changes.changed_options(stored["config"], candidate.plan.config)
        if changed:
            differs, was = changes.change_texts(as_given(changed))
            raise InputError(
                f"'{candidate.run}' was begun with {differs}; give {was}, or move '{run / TOP_FOLDER}' away to begin anew"
            )
    for candidate in candidates:
        run_dir.open_run(candidate.run, "retrain", candidate.plan.config, resume=True, quiet=True)
        save_arch(candidate.run / "arc.json", candidate.found.arch)


def _result_line(job: Job) -> str:
    """What is printed when a candidate was trained with a seed."""
    result = run_files.read(Path(job.config.out) / f"seed{job.seed}" / "result.json", "result of a seed")
    accuracy = accuracy_text([result["val_correct"]], result["val_images"])
    return f"{job.name}, seed {job.seed}: {accuracy} of held-out images"


def _print_choice(run: Path, candidates: Sequence[Candidate], figures: Sequence[dict[str, Any]], chosen: int) -> None:
    """Print the table of the candidates, which is chosen, and how sure that is."""
    alike = as_good_as_the_best([candidate.answers() for candidate in candidates], chosen)
    rows = []
    for number, (candidate, figure) in enumerate(zip(candidates, figures, strict=True)):
        beside = "chosen" if number == chosen else "=" if alike[number] else "worse"
        score = noise.short_score_text(candidate.found.score, run) if candidate.found.score else "-"
        held_out = accuracy_text(figure["correct"], figure["images"])
        costs = f"{figure['macs']:,}", f"{figure['params']:,}"
        rows.append((figure["id"], figure["source"], *costs, score, held_out, beside))
    header = ("architecture", "from", "MACs", "params", "score % +- sd", "held-out top-1", "beside the chosen")
    print(cli.table(rows, header, as_is=True))
    best, own, others = figures[chosen], figures[0], len(figures) - 1
    ahead = ""
    if own["source"] != "random":
        what = "which the search puts first" if own["source"] == "search" else "which was learned"
        ahead = f", {best['mean'] - own['mean']:.2f} points above {own['id']}, {what}" if chosen else f", {what}, too"
    same = sum(alike) - 1
    if same == others:
        sure = "none of the others can be told apart from it: the candidates are not distinguishable, and any of them may be as good"
    elif same:
        sure = f"{same} of the {others} others cannot be told apart from it, and may be as good"
    else:
        sure = "each of the others is worse, beyond the noise of the images"
    print(f"chosen by held-out images: {best['id']}{ahead}; {sure} (95 %, {best['images']:,} images)")
    print(f"the winner is now {run / 'arc.json'}; how it was chosen: {run / TOP_FILE}")


def make_room(config: Config, arch: dict[str, Any]) -> bool:
    """Move what is in the folder of the winner's training away, unless it is this very training.

    Args:
        config: of the winner's training.
        arch: the winner.
    Returns:
        Whether the folder holds this training, so that it goes on.
    Raises:
        InputError: another command is training there.
    """
    folder = Path(config.out)
    if not run_dir.begun(folder):
        return False
    with locks.exclusive(folder, "training"):
        pass  # nobody trains there
    stored = run_files.read(folder / "config.json", "run configuration")
    held = run_files.read_if_there(folder / "arc.json", "fixed arc", {})
    if held == arch and not changes.changed_options(stored["config"], config):
        return True
    name = f"{folder.name}-{arch_id(held)}"
    places = [folder.with_name(name), *(folder.with_name(f"{name}-{number}") for number in range(2, 1000))]
    aside = next(place for place in places if not place.exists())
    folder.rename(aside)
    print(f"'{folder}' holds another network or recipe; it is now '{aside}'")
    return False
