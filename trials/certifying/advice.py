"""What to do after a certificate: a command that works as it is printed, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trials.certifying.certify_config import MANY_RANDOM
from trials.choosing.otherwise import find_otherwise
from trials.common import cli, run_files, typed
from trials.common.supernet_run import SupernetRun
from trials.evidence.comparison import Comparison, Factor
from trials.evidence.gates import GateWarning, below_floor
from trials.evidence.intervals import NORMAL, Interval
from trials.images.dataset import Data
from trials.scoring import noise
from trials.scoring.score_store import TOP_FILE
from trials.training.short_training import ShortTraining

ENOUGH = 0.5  # points; where half the interval is below, more evidence would only show a difference that is small
LARGEST_TEST_FRACTION = 0.5

Advice = tuple[str, str]  # the command; why, a sentence without its full stop


@dataclass(frozen=True)
class Adviser:
    """Knows the run that a certificate is of.

    Args:
        run: the run directory.
        winner: the folder in it that holds the winner's retraining.
        seeds, randoms: of the certificate.
        longer: options of trials.retrain that train for longer.
        few_steps: the warning of too few steps; None where there are enough.
        images: the test images.
        floor: what `trials.evidence.floor` measured on them.
        nothing: that no network has learned enough for a comparison, in words; "" where one has.
        short: that they got less than half of the recipe's epochs, and are not clearly above the floor; None where that is not so.
        time: how long a longer training takes, in words; "" where that is not known.
    """

    run: Path
    winner: str
    seeds: int
    randoms: int
    longer: Mapping[str, object]
    few_steps: GateWarning | None
    images: Data
    floor: Mapping[str, Any]
    nothing: str = ""
    short: ShortTraining | None = None
    time: str = ""

    def advise(self, code: str, comparison: Comparison, accuracy: Interval, cheaper: str | None = None) -> Advice:
        """The next command, and why.

        Args:
            code: of the verdict.
            accuracy: of the winner.
            cheaper: the folder in the run of a cheaper network that is at least as good; None where there is none.
        """
        if below_floor(accuracy, self.floor, ""):
            return self._train_longer(), f"the networks are undertrained: the winner's {accuracy} % is below the floor"
        if self.nothing:
            return self._train_longer(), f"the networks are undertrained: {self.nothing}"
        if self.few_steps:
            return self._train_longer(), f"the networks were trained too briefly: {self.few_steps.text}"
        if self.short:
            return self._train_longer(), "; ".join(filter(None, (self.short.of_all(), self.time)))
        if code == "better" and cheaper:
            command = cli.command("export", "--weights", self.run / cheaper)
            return command, "the search paid, and a cheaper network is at least as good; ship that"
        if code == "better":
            return cli.command("export", "--weights", self.run / self.winner), "the search paid; ship the winner"
        if code == "worse":
            return self._search_better("the search chose an architecture below the average")
        half = (comparison.difference.high - comparison.difference.low) / 2
        if half < ENOUGH:
            return self._search_better(f"the difference is known to {half:.2f} points, and is small")
        if comparison.of == 1:
            return self._more("architectures")[0], "one random architecture says nothing about the others"
        for factor, sd in sorted(comparison.uncertainty.items(), key=lambda item: -item[1]):
            command, then, part = self._more(factor)
            if command:
                named = {
                    "seeds": "the seeds",
                    "architectures": "which random architectures were drawn",
                    "images": "which images are in the test part",
                }[factor]
                left = math.hypot(
                    part * sd, *(other for name, other in comparison.uncertainty.items() if name != factor)
                )
                why = f"the luck of {named} is the largest uncertainty: alone it moves the difference by about {sd:.2f} points, "
                why += f"with {then} by about {part * sd:.2f}; a difference of about {NORMAL * left:.1f} points would show then"
                return command, why
        raise AssertionError

    @property
    def first(self) -> str:
        """What must be said before the verdict; "" where nothing must."""
        said = self.nothing or (self.short.of_all() if self.short else "")
        return f"{said}: train them longer" if said else ""

    def warn(self, accuracy: Interval) -> GateWarning | None:
        """The warning of a winner that is below the floor, or that a short training left near it; None where neither is so."""
        command = self._train_longer()
        short = self.short and replace(self.short.warning(), command=command)
        return below_floor(accuracy, self.floor, command) or short

    def _train_longer(self) -> str:
        """The commands that put the trained networks aside, and train the winner and the others for longer."""
        folders = [self.run / name for name in (self.winner, "controls") if (self.run / name).exists()]
        words = ["--fixed-arc", self.run / "arc.json", "--supernet", self.run]
        words += ["--out", self.run / self.winner] if self.winner != "retrain" else []
        commands = [
            typed.put_aside(self.run / "undertrained", *folders),
            cli.command(
                "retrain", *words, *(word for pair in self.longer.items() for word in pair), "--seeds", self.seeds
            ),
            cli.command("certify", self.run),
        ]
        return " && ".join(commands)

    def _more(self, factor: Factor) -> tuple[str, str, float]:
        """What gives more seeds, random architectures or test images.

        Returns:
            The command, "" where that cannot be had; what there is then, in words; the part of the standard deviation that is left.
        """
        if factor == "seeds":
            more = 2 * self.seeds
            command = cli.command("certify", self.run, "--random", self.randoms, "--seeds", more)
            return command, f"{more} seeds of each", math.sqrt(self.seeds / more)
        if factor == "architectures":
            more = MANY_RANDOM if self.randoms < MANY_RANDOM else 2 * self.randoms
            command = cli.command("certify", self.run, "--random", more, "--seeds", self.seeds)
            return command, f"{more} of them", math.sqrt(self.randoms / more)
        return self._larger_test_part()

    def _larger_test_part(self) -> tuple[str, str, float]:
        """The supernet's command with a larger test part, in a new run, as `_more` has it; none where the data have their own."""
        stored = run_files.read(self.run / "config.json", "run configuration")
        fraction = stored["config"].get("test_fraction", 0.2)
        test, training = (self.images.class_counts(part) for part in ("test", "all"))
        cut = all(test[name] == round(fraction * (test[name] + training[name])) for name in test)
        if not cut or fraction >= LARGEST_TEST_FRACTION:
            return "", "", 1.0
        larger = min(LARGEST_TEST_FRACTION, 2 * fraction)
        command = typed.again(self.run, {"--test-fraction": f"{larger:g}"})
        return command, f"{round(sum(test.values()) * larger / fraction):,} of them", math.sqrt(fraction / larger)

    def _search_better(self, why: str) -> Advice:
        """What may find a better architecture, see `find_otherwise`; after short trainings more of them."""
        if (self.run / TOP_FILE).exists():
            choice = run_files.read(self.run / TOP_FILE, "choice of retrain --top")
            best = ("--top", choice["top"]) if choice.get("top") else ()
            more = ("--top-random", 2 * choice.get("top_random", noise.TOP), "--seeds", choice["seeds"], "--resume")
            command = cli.command("retrain", "--supernet", self.run, *best, *more)
            return command, f"{why}; choose among more random candidates"
        command, what = find_otherwise(SupernetRun.open(self.run))
        return command, f"{why}; {what}"
