"""Do two supernets of one space, trained with different seeds, rank architectures alike? Nothing is retrained for it.

    python -m trials.supernet ... --seed 1 --out runs/mine-2     the supernet of runs/mine once more, with another seed
    python -m trials.agree runs/mine --other runs/mine-2         minutes: 50 random architectures, scored by both

What the seed decides is not of the architecture: where the two do not agree within a band of cost, neither ranks it, and a search of either
chooses by luck. Where they agree, tau of a score with the accuracy after retraining can at most be what is printed; an error that both
share is not seen, so `trials.certify` has the last word. The architectures are drawn from the band of cost of the winner, or below the
limit where nothing is found yet, or from the whole space. Scores are stored in both runs, as those of a search, and are no results of it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

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
from trials.common.supernet_run import SupernetRun
from trials.evidence.ranking import Tau, kendall, most_with_truth
from trials.scoring.score_value import has_value
from trials.search_driver.experiment_file import quantile_of_macs

ARCHS = 50  # with which the interval of a tau of 0 is +-0.19
FEWEST, MOST = 10, 10_000
SEED = 0  # of the drawing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of trials.agree."""

    positional: ClassVar[str] = "run"

    run: str = option(help="Run directory of trials.supernet")
    other: str = option(None, "Another run of the same supernet, with another seed")
    archs: int = option(ARCHS, f"Random architectures that both score, {FEWEST} to {MOST:,}")
    device: str = reuse(DeviceOptions, "device")

    def __post_init__(self) -> None:
        if not FEWEST <= self.archs <= MOST:
            raise InputError(f"--archs {self.archs} is out of range; give {FEWEST} to {MOST:,}")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.agree")
    run = SupernetRun.open(config.run)
    other = open_other(run, config.other)
    within = what_is_searched(run)
    band = band_to_rank(within)
    archs = random_archs(within, band, config.archs, known=(), seed=SEED)
    if len(archs) < FEWEST:
        raise InputError(
            f"the band of {band} holds {len(archs)} architectures; {FEWEST} are the fewest that say anything"
        )
    from trials.scoring.run_scores import score_archs  # with torch

    named = {f"architecture {number}": arch for number, arch in enumerate(archs, 1)}
    scored = [score_archs(one, named, config.device) for one in (run, other)]
    both = sorted(name for name in scored[0] if all(has_value(records.get(name, {}), "loss") for records in scored))
    macs = [float(scored[0][name]["macs"]) for name in both]
    top1, loss = (
        [[sign * records[name][key] for name in both] for records in scored]
        for key, sign in (("top1", 1), ("loss", -1))
    )
    agreement = {"top1": kendall(*top1), "loss": kendall(*loss)}
    print(f"{len(both)} random architectures of {band}, scored by '{run.path}' and '{other.path}'")
    rows = [
        ("top-1, one with the other", agreement["top1"]),
        ("cross-entropy, one with the other", agreement["loss"]),
        *(
            (f"MACs with top-1 of '{one.path}'", kendall(macs, scores))
            for one, scores in zip((run, other), top1, strict=True)
        ),
    ]
    print(cli.table([(what, str(tau)) for what, tau in rows], ("Kendall's tau", ""), as_is=True))
    verdict, following = conclude(run, band, agreement["top1"])
    print(f"verdict: {verdict}")
    cli.say_next(as_typed(following), "")
    return answer(
        "agree",
        run=run.path,
        other=other.path,
        band=dataclasses.asdict(band),
        architectures=len(both),
        agreement={name: dataclasses.asdict(tau) for name, tau in agreement.items()},
        most=most_with_truth(agreement["top1"].high),
        verdict=verdict,
        next=as_typed(following),
    )


def open_other(run: SupernetRun, path: str | None) -> SupernetRun:
    """The second supernet.

    Raises:
        InputError: it is not given, which says how it is trained; or it has the same seed, another space, or other images.
    """
    seed = run.config["seed"]
    train = typed.again(run.path, {"--seed": seed + 1})
    if path is None:
        raise InputError(
            f"--other is missing: the supernet of '{run.path}' with another seed than {seed}; train it with: {train}"
        )
    other = SupernetRun.open(path)
    if not run.table.same_costs(other.table):
        raise InputError(f"'{path}' is not of the space and resolution of '{run.path}'; train such a one with: {train}")
    if other.config["data"] != run.config["data"]:
        raise InputError(
            f"'{path}' has seen {other.config['data']}, and '{run.path}' {run.config['data']}; train with the same images: {train}"
        )
    if other.config["seed"] == seed:  # supernets of one seed begin with the same weights, and share errors
        raise InputError(f"'{path}' has seed {seed} as '{run.path}' has; train one with another seed: {train}")
    return other


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


def conclude(run: SupernetRun, band: Band, tau: Tau) -> tuple[str, str]:
    """The verdict in a sentence without its full stop, and the command that comes next."""
    if tau.tau is None:
        return "all architectures have one score, so there is nothing to rank by", without_ranking(run)
    most = f"{most_with_truth(tau.high):.2f}"
    if tau.low <= 0:
        return (
            f"no agreement is shown: within {band} what ranks is rather the seed than the architecture, and tau of a score with the accuracy after "
            f"retraining can hardly be above {most}",
            without_ranking(run),
        )
    found = (run.path / "arc.json").exists()
    return (
        f"the two agree, so tau of a score with the accuracy after retraining can be up to {most_with_truth(tau.tau):.2f}, hardly above {most}; "
        "errors that both share are not seen",
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
