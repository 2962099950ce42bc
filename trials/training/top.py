"""The best architectures of a search, trained from scratch and chosen among by held-out images: `trials.retrain --top`.

The scores of a search are those of paths of a supernet, on few images, and the best of them is often best by luck. So the best
few are trained by the recipe without the supernet's scoring images, and the one that is best on these becomes the winner. No
test image is read for that. A candidate is a run of trials.retrain in RUN/top/ID, so that all go on after a kill.
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

from spaces.arch import arch_id, save_arch
from spaces.errors import InputError
from spaces.files import save_json
from trials.common import cli, locks, run_dir, run_files
from trials.common.supernet_run import SupernetRun
from trials.evidence.intervals import accuracy_interval, accuracy_text
from trials.scoring import noise
from trials.scoring.score_store import TOP_FILE, score_path
from trials.scoring.score_value import score_value, searched_by
from trials.training.parallel import Job, train_jobs
from trials.training.retrain_config import TOP_FOLDER, Config
from trials.training.retrain_plan import RetrainPlan, describe_network, plan_retraining
from trials.training.retrain_result import seed_results


@dataclass(frozen=True)
class Candidate:
    """An architecture that may become the winner.

    Attributes:
        score: its score in the search, see `ScoreStore.record`.
        plan: its training without the held-out images.
    """

    score: dict[str, Any]
    plan: RetrainPlan

    @property
    def name(self) -> str:
        """The id of the architecture."""
        return arch_id(self.score["arch"])

    @property
    def run(self) -> Path:
        """The folder of its training."""
        return Path(self.plan.config.out)

    def figures(self, supernet: Path) -> dict[str, Any]:
        """What top.json says about it; accuracies in percent."""
        results = seed_results(self.run, self.plan.config.seeds)
        correct, images = [result["val_correct"] for result in results], results[0]["val_images"]
        interval = accuracy_interval(correct, images)
        return {
            "id": self.name,
            **self.plan.summary(),
            "score": self.score["top1"],
            "correct": correct,
            "images": images,
            "mean": 100 * statistics.mean(correct) / images,
            "interval": [interval.low, interval.high],
            "run": str(self.run.relative_to(supernet)),
        }


def choose_winner(config: Config) -> Config:
    """Train the candidates that have no result yet, choose one, write top.json and arc.json of the supernet's run.

    Args:
        config: with --top and --supernet.
    Returns:
        The options of the winner's own retraining, into RUN/retrain; of a dry run those for the best by score.
    Raises:
        InputError: there are not enough scores, or the candidates were trained in another way.
        Stopped: a training stopped.
    """
    run = Path(str(config.supernet))
    scores = best_scored(run, config.top)
    options = dataclasses.replace(config, top=0, fixed_arc=str(run / "arc.json"), resume=False)
    winner = plan_retraining(options, scores[0]["arch"])
    if winner.recipe:
        print(winner.recipe)
    candidates = plan_candidates(winner.config, scores)
    if config.dry_run:
        networks = config.seeds * config.top
        rounds, own = (math.ceil(n / min(config.jobs, n)) for n in (networks, config.seeds))
        print(
            f"--top {config.top} trains {networks} candidates first: in all {1 + rounds / own:.3g} times the hours below"
        )
        return winner.config
    with contextlib.ExitStack() as held:
        for candidate in candidates:
            held.enter_context(locks.exclusive(candidate.run, "training"))
        open_candidates(run, candidates, resume=config.resume)
        train_candidates(config, candidates)

    # choose; of equal ones that with the best score
    figures = [candidate.figures(run) for candidate in candidates]
    chosen = max(range(len(figures)), key=lambda number: figures[number]["mean"])
    names = {"chosen": figures[chosen]["id"], "search_best": figures[0]["id"]}
    save_json(run / TOP_FILE, {**names, "seeds": config.seeds, "candidates": figures})
    save_arch(run / "arc.json", candidates[chosen].score["arch"])
    _print_choice(run, candidates, figures, chosen)
    resume = make_room(winner.config, candidates[chosen].score["arch"])
    return dataclasses.replace(winner.config, resume=resume)


def train_candidates(config: Config, candidates: Sequence[Candidate]) -> None:
    """Train what has no result yet. Raises Stopped: a training stopped."""
    seeds = range(config.seeds)
    jobs = [
        Job(candidate.plan.config, candidate.plan.network, seed, candidate.plan.images, candidate.name, tests=False)
        for candidate in candidates
        for seed in seeds
        if not (candidate.run / f"seed{seed}" / "result.json").exists()
    ]
    print(
        f"the best {len(candidates)} architectures by score, {config.seeds} seed{'s' * (config.seeds > 1)} each, without the "
        f"{candidates[0].plan.data.size('score'):,} held-out images: {len(jobs)} networks to train"
    )
    if jobs:
        failures = train_jobs(jobs, config.jobs, title="candidates", on_done=_result_line)
        if failures:
            raise next(iter(failures.values()))


def best_scored(run: Path, count: int) -> list[dict[str, Any]]:
    """The scores of the best architectures of a search, the best first; of equal ones that which was scored first.

    Args:
        run: of the supernet; its search.json names the architectures within the limits.
    Raises:
        InputError: there was no search, or fewer architectures have a score.
    """
    supernet = SupernetRun.open(run)
    if not (run / "search.json").exists():
        if (run / "most_probable.json").exists():
            remedy = cli.command("retrain", "--fixed-arc", run / "arc.json", "--supernet", run)
            raise InputError(
                f"--top {count}: '{run}' learned one architecture, and scored none; take it with: {remedy}"
            )
        raise InputError(
            f"--top {count}: no search of '{run}' has ended yet; search it with: {cli.command('search', run)}"
        )
    history = run_files.read(run / "search.json", "search summary")["history"]
    stored = [run_files.read_score(score_path(run, entry["id"])) for entry in history]
    scores = [score for score in stored if score and score.get("supernet") == supernet.hash]
    if count > len(scores):
        raise InputError(
            f"--top {count}: the search of '{run}' scored {len(scores):,} architectures; give 2 to {len(scores)}"
        )
    score_by = searched_by(run)
    return sorted(scores, key=lambda score: -score_value(score, score_by))[:count]


def plan_candidates(config: Config, scores: Sequence[dict[str, Any]]) -> list[Candidate]:
    """Check the training of each candidate against its network, its images and the device.

    The last epoch counts, as in the winner's own training: the best epoch would be chosen by the same images.

    Args:
        config: of the winner's own training, on all training images; the candidates have the same recipe.
        scores: what `best_scored` returned.
    Raises:
        InputError: something of these cannot be used, or does not fit together.
    """
    run = Path(str(config.supernet))
    fraction = SupernetRun.open(run).config["score_fraction"]
    config = dataclasses.replace(config, hold_out=fraction, eval_every=config.epochs)
    candidates: list[Candidate] = []
    for score in scores:
        arch, folder = score["arch"], run / TOP_FOLDER / arch_id(score["arch"])
        own = dataclasses.replace(config, fixed_arc=str(folder / "arc.json"), out=str(folder))
        if not candidates:
            several = dataclasses.replace(own, seeds=own.seeds * len(scores))  # that may be in memory at the same time
            plan = dataclasses.replace(plan_retraining(several, arch), config=own)
        else:  # the images are the same
            network, macs, params = describe_network(own, arch, candidates[0].plan.data)
            first = candidates[0].plan
            plan = dataclasses.replace(first, config=own, arch=arch, network=network, macs=macs, params=params)
        candidates.append(Candidate(score, plan))
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
        changed = run_dir.changed_option(stored["config"], candidate.plan.config)
        if changed:
            flag, was, value = changed
            raise InputError(
                f"'{candidate.run}' was begun with {flag} {was}, not {value}; give {was}, or move '{run / TOP_FOLDER}' away to begin anew"
            )
    for candidate in candidates:
        run_dir.open_run(candidate.run, "retrain", candidate.plan.config, resume=True, quiet=True)
        save_arch(candidate.run / "arc.json", candidate.score["arch"])


def _result_line(job: Job) -> str:
    """What is printed when a candidate was trained with a seed."""
    result = run_files.read(Path(job.config.out) / f"seed{job.seed}" / "result.json", "result of a seed")
    accuracy = accuracy_text([result["val_correct"]], result["val_images"])
    return f"{job.name}, seed {job.seed}: {accuracy} of held-out images"


def _print_choice(run: Path, candidates: Sequence[Candidate], figures: Sequence[dict[str, Any]], chosen: int) -> None:
    """Print the table of the candidates, which is chosen, and how sure that is."""
    rows = []
    for number, (candidate, figure) in enumerate(zip(candidates, figures, strict=True)):
        notes = ["chosen"] * (number == chosen) + ["best score"] * (number == 0)
        score = noise.short_score_text(candidate.score, run)
        held_out = accuracy_text(figure["correct"], figure["images"])
        rows.append((figure["id"], score, held_out, f"{figure['macs']:,}", f"{figure['params']:,}", ", ".join(notes)))
    print(cli.table(rows, ("architecture", "score % +- sd", "held-out top-1", "MACs", "params", ""), as_is=True))
    best, own = figures[chosen], figures[0]
    if chosen:
        ahead = f"{best['mean'] - own['mean']:.2f} points above {own['id']}, which has the best score"
    else:
        ahead = "which has the best score, too"
    within = sum(figure["mean"] >= best["interval"][0] for figure in figures) - 1
    print(
        f"chosen by held-out images: {best['id']}, {ahead}; {within} of the {len(figures) - 1} others reach into its interval, and may "
        "be as good"
    )
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
    if held == arch and not run_dir.changed_option(stored["config"], config):
        return True
    name = f"{folder.name}-{arch_id(held)}"
    places = [folder.with_name(name), *(folder.with_name(f"{name}-{number}") for number in range(2, 1000))]
    aside = next(place for place in places if not place.exists())
    folder.rename(aside)
    print(f"'{folder}' holds another network or recipe; it is now '{aside}'")
    return False
