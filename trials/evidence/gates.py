"""The gates: each looks at a few plain numbers of a run and warns where its result cannot be trusted.

A warning is one line: the numbers, and the command that mends it. A healthy run gets none. docs/trust.md says of every gate what
it means and what to do; those of the images are in `image_gates.py`. Accuracies and scores are in percent.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from spaces.files import save_json
from trials.common import places, run_files, typed
from trials.common.commands import as_typed, in_road, neutral
from trials.evidence.intervals import Interval, percent, score_sd
from trials.evidence.learned import LEAST_ABOVE_CHANCE, above_chance, is_below

FILE = "warnings.json"
FEW_STEPS, SHORT = "few steps", "short training"
FEW_SCORING, NEAR_CHANCE, BELOW = "few scoring images", "near chance", "below the floor"
NOTHING, EQUAL_SCORES = "nothing learned", "equal scores"  # after these nothing can be learned from what follows
STEPS_SHARE = 0.25  # fewer steps than this part of the recipe's are too few
BATCH_SHARE = 1 / 8  # the largest part of the training images that one batch may be
RATE_FACTOR = 3.0  # how far rate per image of a batch may be from the recipe's
LEAST_FALL = 0.02  # the part of itself that a loss falls by in any training that learns
SIGMAS = 2  # standard deviations that a change is more than noise from
LONGER = 3  # factor of the epochs, and divisor of the rate, where the recipe's own did not do
LINES_OF_A_TREND = 10  # a loss with fewer lines in the log says nothing


@dataclass(frozen=True)
class GateWarning:
    """What a gate found.

    Attributes:
        gate: its name, such as "few steps"; docs/trust.md has a paragraph with this title.
        text: what is wrong, with the numbers.
        command: what mends it, of any entry.
        options: what mends it, as options of the command that is running; "" where it is no option of it.
    """

    gate: str
    text: str
    command: str
    options: str = ""

    def __str__(self) -> str:
        mends = as_typed(self.command)
        # nobody can type it now: a road goes on with the folder, or moves it by itself; the report has it when all has ended
        if typed.moves_what_is_trained(self.command) or (in_road() and typed.moves_of(self.command)):
            mends = f"better with {self.options}" if self.options else "the report says what mends it"
        return f"warning: {self.text}; {mends}"

    def plain(self) -> dict[str, str]:
        """What is kept: the command is of no entry, for another one may show it."""
        return {"gate": self.gate, "text": self.text, "command": neutral(self.command)}


def few_steps(steps: int, wanted: int, batch: int, images: int, command: str, after: str = "") -> GateWarning | None:
    """Too few steps to learn; how often an image is seen is said, too, for that stays much the same in batches of another size.

    Args:
        steps: of the weights, after a warm start.
        wanted: those that the recipe chooses for so many images in such batches, counted alike.
        batch, images: of a step; of the training part.
        after: what is not counted, such as " after the warm start".
    """
    if steps >= STEPS_SHARE * wanted:
        return None
    text = f"{steps:,} steps of {batch:,} images{after} are too few: each of {images:,} is seen {steps * batch / images:.0f} times, "
    text += f"and the recipe shows it {wanted * batch / images:.0f} times ({wanted:,} such steps)"
    return GateWarning(FEW_STEPS, text, command)


def large_batch(batch: int, images: int, command: str) -> GateWarning | None:
    """A batch that is so large a part of the training images that an epoch has hardly a step.

    Args:
        batch: images of a step.
        images: of the training part.
    """
    if batch <= BATCH_SHARE * images:
        return None
    steps = images // batch
    text = f"a batch of {batch:,} is above an eighth of the {images:,} training images: {steps} step{'s' * (steps != 1)} an epoch"
    return GateWarning("large batch", text, command)


def rate_of_batch(lr: float, batch: int, usual_lr: float, usual_batch: int, command: str) -> GateWarning | None:
    """A learning rate that does not fit the batch size; the two are compared in proportion.

    Args:
        lr, batch: of the run.
        usual_lr, usual_batch: of the recipe, for the same optimiser.
    """
    factor = lr / batch / (usual_lr / usual_batch)
    if 1 / RATE_FACTOR <= factor <= RATE_FACTOR:
        return None
    wrong = f"{factor:.3g} times too high" if factor > 1 else f"{1 / factor:.3g} times too low"
    text = (
        f"a rate of {lr:g} is {wrong} for batches of {batch:,}, in proportion to {usual_lr:g} for {usual_batch:,} "
        f"of the recipe ({usual_lr * batch / usual_batch:.3g})"
    )
    return GateWarning("rate and batch", text, command)


def flat_loss(losses: Sequence[float], command: str, *, whole: bool = True) -> GateWarning | None:
    """A loss that does not fall: the mean of the last fifth of a phase is not below that of its first fifth, beyond noise.

    Args:
        losses: of the lines of the log, in order, of a phase whose losses are comparable.
        whole: whether the phase is over. Before, only a loss that rises beyond noise is said.
    """
    if len(losses) < LINES_OF_A_TREND:
        return None
    fifth = max(1, len(losses) // 5)
    first, last = statistics.fmean(losses[:fifth]), statistics.fmean(losses[-fifth:])
    changes = [after - before for before, after in itertools.pairwise(losses)]
    # Changes between neighbours have twice the variance of the noise, and so has a difference of two means. The median leaves
    # out the steep fall at the start; of a squared normal variate it is 0.455 of the mean.
    noise = math.sqrt(statistics.median(change**2 for change in changes) / 0.455 / fifth)
    if first - last > max(LEAST_FALL * first, SIGMAS * noise) if whole else last - first <= SIGMAS * noise:
        return None
    what = "does not fall beyond its noise" if whole else "rises after half of the steps"
    text = f"the loss {what}: {first:.3f} in the first fifth, {last:.3f} in the last, noise {noise:.3f}"
    return GateWarning("flat loss", text, command)


def near_chance(known: Mapping[str, Any], command: str, *, flat: bool = False) -> GateWarning | None:
    """Paths of a trained supernet that know hardly more than chance, or that too few images tell from it.

    Accuracies are balanced: always the same class has one in the number of classes then, and so has a network that knows
    nothing, however unequal the classes are and whatever the loss lets them count.

    Args:
        known: what `FixedPaths.measure` tells a gate; one path that learned shows that the supernet did.
        flat: whether the loss did not fall. Only with it, and with all of both intervals near chance, nothing was learned.
    """
    mean, best, images, classes = Interval(*known["mean"]), Interval(*known["best"]), known["images"], known["classes"]
    chance = 100 / classes
    if classes == 1 or above_chance(mean, chance) or above_chance(best, chance):
        return None
    scored = f"fixed paths have a balanced accuracy of {percent(mean)}"
    same = f"the {chance:.1f}% of always the same class"
    least = chance + LEAST_ABOVE_CHANCE * (100 - chance)
    if mean.value >= least:
        text = f"{scored}, which {images:,} scoring images cannot tell from {same}"
        return GateWarning(FEW_SCORING, text, command)
    if flat and max(mean.high, best.high) < least:
        return GateWarning(NOTHING, f"{scored}, like {same}, and the loss did not fall", command)
    return GateWarning(NEAR_CHANCE, f"{scored}, near {same}", command)


def noisy_scores(scores: Sequence[float], images: int, command: str) -> GateWarning | None:
    """Scores that differ by less than their own noise: the search then chooses at random.

    Args:
        scores: of the architectures of a search.
        images: that each was measured on.
    """
    if len(scores) < 3:
        return None
    if len(set(scores)) == 1:
        text = f"all {len(scores)} architectures score {scores[0]:.2f}%: the search has nothing to choose by"
        return GateWarning(EQUAL_SCORES, text, command)
    spread, noise = statistics.stdev(scores), score_sd(statistics.fmean(scores), images)
    if noise <= spread:
        return None
    text = (
        f"scores differ by {spread:.2f} points (standard deviation of {len(scores)}), which is below the noise of "
        f"{noise:.2f} that {images:,} scoring images leave"
    )
    return GateWarning("noisy scores", text, command)


def below_floor(accuracy: Interval, floor: Mapping[str, Any], command: str) -> GateWarning | None:
    """A network that a method without deep learning beats: it is undertrained.

    Args:
        accuracy: the test accuracy of the network, with its interval.
        floor: what `trials.evidence.floor` measured on the same test part.
    """
    if not is_below(accuracy, floor):
        return None
    beaten_by = f"{floor['top1']:.1f}% ({floor['name']})"
    text = f"the network is undertrained: {percent(accuracy)} is below the floor of {beaten_by}"
    return GateWarning(BELOW, text, command)


def keep_warnings(
    run: Path, command: str, warnings: Sequence[GateWarning | None], *, more: bool = False, quiet: bool = False
) -> None:
    """Print each warning as one line and keep them in RUN/warnings.json, in place of what this command kept before.

    Args:
        run: the folder of the run that the warnings are of: a retraining keeps its own.
        command: supernet, search, retrain or certify.
        warnings: what the gates found; None stands for nothing.
        more: add to what the command kept before; only warnings of the same gates are replaced.
        quiet: print nothing, where the same was said of another network.
    """
    found = [warning for warning in warnings if warning is not None]
    for warning in () if quiet else found:
        if not (in_road() and warning.gate in (NOTHING, EQUAL_SCORES)):  # trials.run ends with it
            tqdm.write(str(warning))  # above a progress bar, where there is one
    path = run / FILE
    earlier = run_files.read_if_there(path, "warnings", [])
    gates = {warning.gate for warning in found}
    kept = [entry for entry in earlier if entry["from"] != command or (more and entry["gate"] not in gates)]
    entries = kept + [{"from": command, **warning.plain()} for warning in found]
    if entries != earlier:
        save_json(path, entries)


def warnings_from(run: Path, command: str) -> list[dict[str, Any]]:
    """What a command warned of in a run, as `read_warnings` has it."""
    return [warning for warning in read_warnings(run) if warning["from"] == command]


def read_warnings(run: Path) -> list[dict[str, Any]]:
    """All warnings of a run and of the networks that were retrained in it.

    Returns:
        For each `from` (the command), `gate`, `text`, `command` (what mends it, as it is typed here) and `run`: "" for the run itself, else the
        folder in it, such as "retrain" or "baselines/NAME". What two of them say in the same words is there once. [] for a
        run of an older version.
    """
    folders = ["", *(path.name for path in sorted(run.glob("retrain*"))), "baselines", "controls"]
    found: list[dict[str, Any]] = []
    was = run_files.read_if_there(run / "config.json", "run configuration", {"config": {}})["config"].get("out")
    for folder in folders:
        inner = sorted((run / folder).glob(f"*/{FILE}")) if folder in ("baselines", "controls") else []
        for path in inner or [run / folder / FILE]:
            name = path.parent.relative_to(run).as_posix()
            for entry in run_files.read_if_there(path, "warnings", []):
                if (entry["gate"], entry["text"]) not in {(other["gate"], other["text"]) for other in found}:
                    command = places.follow(entry.get("command", ""), was, run)
                    found.append({**entry, "command": as_typed(command), "run": "" if name == "." else name})
    return found
