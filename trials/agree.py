"""Do the supernets of a run, trained with different seeds, rank architectures alike? Nothing is retrained for it.

    python -m trials.supernet ... --out runs/mine --supernets 2     where it is complete: with --resume, too
    python -m trials.agree runs/mine                                50 random architectures, scored by each

What the seed decides is not of the architecture: where two supernets do not agree within a band of cost, neither ranks it, and a search of
either chooses by luck. The mean of several ranks better, and how much better follows from their agreement. What is printed as the most is
tau with the accuracy after retraining that it allows; an error that all share is not seen, so `trials.certify` has the last word. The
architectures are drawn from the band of cost of the winner, or below the limit where nothing is found yet, or from the whole space. Their
scores are stored in the run, as those of a search, and are no results of it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from spaces.errors import InputError
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from trials.choosing.band import Band, band_of, random_archs
from trials.choosing.otherwise import find_otherwise
from trials.choosing.searched import Searched, Within, read_latency, read_limits, read_searched
from trials.common import cli, typed
from trials.common.answers import answer
from trials.common.cli import option, reuse
from trials.common.commands import as_typed
from trials.common.options import DeviceOptions
from trials.common.run_dir import supernets_of
from trials.common.supernet_run import SupernetRun
from trials.evidence.ranking import Tau, kendall, most_with_truth, seed_ceiling
from trials.search_driver.experiment_file import quantile_of_macs
from trials.training.strategy_options import DIFFERENTIABLE

ARCHS = 50  # with which the interval of a tau of 0 is +-0.19
FEWEST, MOST = 10, 10_000
SEED = 0  # of the drawing
MORE = 2  # times as many supernets: what they would do is foretold


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of trials.agree."""

    positional: ClassVar[str] = "run"

    run: str = option(help="Run directory of trials.supernet with several supernets")
    archs: int = option(ARCHS, f"Random architectures that each scores, {FEWEST} to {MOST:,}")
    device: str = reuse(DeviceOptions, "device")

    def __post_init__(self) -> None:
        if not FEWEST <= self.archs <= MOST:
            raise InputError(f"--archs {self.archs} is out of range; give {FEWEST} to {MOST:,}")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.agree")
    run = SupernetRun.open(config.run)
    number = count_supernets(run)
    within = what_is_searched(run)
    band = band_to_rank(within)
    archs = random_archs(within, band, config.archs, known=(), seed=SEED)
    if len(archs) < FEWEST:
        raise InputError(
            f"the band of {band} holds {len(archs)} architectures; {FEWEST} are the fewest that say anything"
        )
    from trials.scoring.run_scores import score_archs  # with torch

    named = {f"architecture {place}": arch for place, arch in enumerate(archs, 1)}
    records = [record for _, record in sorted(score_archs(run, named, config.device).items()) if "supernets" in record]
    agreement = {
        key: seed_ceiling(np.array([[one[key] for one in record["supernets"]] for record in records]))
        for key in ("top1", "loss")
    }
    top1 = agreement["top1"]
    if top1 is None:
        raise InputError(f"{len(records)} of {len(archs)} architectures have a score of each supernet; that is too few")
    macs = kendall([float(record["macs"]) for record in records], [record["top1"] for record in records])
    pairs = number * (number - 1) // 2
    beside = "one with the other" if pairs == 1 else f"one with another, mean of {pairs} pairs"
    print(f"{len(records)} random architectures of {band}, scored by the {number} supernets of '{run.path}'")
    most = {many: most_with_truth(top1.tau or 0.0, many) for many in (1, number, MORE * number)}
    rows = [
        (f"top-1, {beside}", str(top1)),
        (f"cross-entropy, {beside}", str(agreement["loss"])),
        ("MACs with the mean top-1", str(macs)),
        *(
            (f"the most of {'one supernet' if many == 1 else f'the mean of {many}'} with the truth", f"{tau:.2f}")
            for many, tau in most.items()
        ),
    ]
    print(cli.table(rows, ("Kendall's tau", ""), as_is=True))
    verdict, following = conclude(run, band, top1, number)
    print(f"verdict: {verdict}")
    cli.say_next(as_typed(following), "")
    return answer(
        "agree",
        run=run.path,
        supernets=number,
        band=dataclasses.asdict(band),
        architectures=len(records),
        agreement={name: dataclasses.asdict(tau) for name, tau in agreement.items() if tau is not None},
        most=most_with_truth(top1.high, number),
        verdict=verdict,
        next=as_typed(following),
    )


def count_supernets(run: SupernetRun) -> int:
    """How many supernets a run has, 2 or more.

    Raises:
        InputError: it has one; with the command that trains a second one.
    """
    number = supernets_of(run.config)
    if number > 1:
        return number
    strategy = run.config.get("strategy")
    if strategy in DIFFERENTIABLE or run.config.get("import_official"):
        made = f"of --strategy {strategy}" if strategy in DIFFERENTIABLE else "of the official code"
        raise InputError(
            f"'{run.path}' holds one supernet, {made}, beside which no second one is trained; give a run of a sampling strategy"
        )
    raise InputError(
        f"'{run.path}' has one supernet, and nothing to compare it with; train a second one: {typed.go_on(run.path)} --supernets 2"
    )


def what_is_searched(run: SupernetRun) -> Within:
    """What a run has found and within which limits; the limits alone where nothing is found yet."""
    if (Path(run.path) / "arc.json").exists():
        return read_searched(run)
    limits = read_limits(run)
    return Within(run, limits, read_latency(run, limits))


def band_to_rank(within: Within) -> Band:
    """The winner's band of cost; that below the limit where nothing is found yet; without a limit all that the space costs."""
    winner = within.winner if isinstance(within, Searched) else None
    if winner is None and within.limits.max_macs is None and within.limits.max_latency_ms is None:
        bounds = within.table.bounds()
        return Band("macs", bounds.min_macs, bounds.max_macs)
    return band_of(within, winner)


def conclude(run: SupernetRun, band: Band, tau: Tau, number: int) -> tuple[str, str]:
    """The verdict in a sentence without its full stop, and the command that comes next.

    Args:
        tau: of one supernet's top-1 with another's.
        number: of the supernets.
    """
    if tau.tau is None:
        return "all architectures have one score, so there is nothing to rank by", without_ranking(run)
    high = f"{most_with_truth(tau.high, number):.2f}"
    mean = f"tau of the mean of {number} with the accuracy after retraining can"
    if tau.low <= 0:
        return (
            f"no agreement is shown: within {band} what ranks is rather the seed than the architecture, and {mean} hardly be above {high}",
            without_ranking(run),
        )
    found = (run.path / "arc.json").exists()
    return (
        f"the supernets agree, so {mean} be up to {most_with_truth(tau.tau, number):.2f}, hardly above {high}; errors that all share are not seen",
        cli.command("certify", run.path) if found else cli.command("search", run.path, "--in-process"),
    )


def without_ranking(run: SupernetRun) -> str:
    """The command that finds an architecture without such scores."""
    command, _ = find_otherwise(
        run, quantile_of_macs(FeasibleSpace(run.table, Limits()))
    )  # the limit of RUN/search.yml
    return command


if __name__ == "__main__":
    cli.run(main)
