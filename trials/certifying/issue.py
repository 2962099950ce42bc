"""How a certificate comes about: planned and checked, trained, compared, written."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spaces.errors import InputError
from spaces.files import save_json
from trials.certifying import certify_config
from trials.certifying.advice import Adviser
from trials.certifying.certificate import FILE, Tested, make_certificate
from trials.certifying.controls import Networks, choose_networks, winners_folder
from trials.certifying.jobs import (
    Retraining,
    answers_of,
    choose_seeds,
    default_jobs,
    longer_time,
    missing_jobs,
    open_retrainings,
    plan_retrainings,
    recipe_source,
    require_all_trained,
    train_missing,
)
from trials.certifying.rivals import rivals_of
from trials.certifying.show import print_certificate
from trials.choosing.how import how_chosen
from trials.choosing.searched import Searched
from trials.common import cli, locks, run_dir, run_files, typed
from trials.common.supernet_run import SupernetRun
from trials.evidence.classes import balanced_of
from trials.evidence.floor import floor_of, floor_text
from trials.evidence.gates import FEW_STEPS, GateWarning, keep_warnings, read_warnings
from trials.evidence.image_gates import DOUBTFUL
from trials.evidence.learned import learned_nothing, not_above_text
from trials.scoring import noise
from trials.scoring.run_scores import score_archs
from trials.scoring.score_value import score_value, searched_by
from trials.training import recipes, run_gates
from trials.training.dry_run import time_network
from trials.training.memory import GIB
from trials.training.short_training import short_training


@dataclass(frozen=True)
class CertificatePlan:
    """A certificate that has passed all checks.

    Attributes:
        retrainings: one for each network, the winner's first.
        recipe: where the recipe is from.
        latency: how the milliseconds of the table were measured; None without a table.
    """

    config: certify_config.Config
    run: SupernetRun
    networks: Networks
    retrainings: list[Retraining]
    seeds: int
    recipe: str
    latency: str | None

    @property
    def winner(self) -> Retraining:
        """The winner's training."""
        return self.retrainings[0]


def plan_certificate(config: certify_config.Config, searched: Searched) -> CertificatePlan:
    """Find the networks, and check their trainings.

    Args:
        searched: what the run has found.
    Raises:
        InputError: images that are gone, or trainings that do not go together.
    """
    if cli.rank_and_world()[1] > 1:
        raise InputError(
            "a certificate under torchrun: every network is trained by one process; start it without, with --jobs"
        )
    run = searched.run
    if config.jobs is None:
        config = dataclasses.replace(config, jobs=default_jobs(config.device, config.precision or "auto"))
    number = config.random or max(certify_config.RANDOM, _earlier_randoms(run, searched.winner))
    folder = winners_folder(searched)
    seeds = choose_seeds(run.path, folder, config.seeds)
    networks = choose_networks(searched, number)
    source = recipe_source(run.path, folder)
    retrainings = plan_retrainings(run, networks, seeds, config)
    recipe = f"that of '{source}'" if source else f"{retrainings[0].plan.config.recipe}, the default of trials.retrain"
    latency = str(searched.latency) if searched.latency else None
    return CertificatePlan(config, run, networks, retrainings, seeds, recipe, latency)


def _earlier_randoms(run: SupernetRun, winner: Mapping[str, Any]) -> int:
    """Random architectures of the last certificate; 0 where there is none of this winner."""
    path = run.path / FILE
    stored = run_files.read_if_there(path, "certificate", {"random": []})
    return len(stored["random"]) if not stored["random"] or stored["winner"]["arch"] == winner else 0


def print_plan(plan: CertificatePlan) -> None:
    """Say which networks are compared, and what of it is left to do."""
    networks, config = plan.networks, plan.winner.plan.config
    few = ""
    if len(networks.randoms) < networks.wanted:
        few = f" (all that there are; {networks.wanted} were asked for)"
    cheapest = "which is the cheapest architecture, too" if networks.cheapest.role == "winner" else ""
    beside = f"the cheapest architecture ({networks.cheapest.macs:,} MACs) and " if not cheapest else ""
    print(
        f"winner {networks.winner.id} ({networks.winner.macs:,} MACs{', ' + cheapest if cheapest else ''}) beside {beside}"
        f"{counted(len(networks.randoms), 'random architecture')} of {networks.band}{few}"
    )
    print(
        f"recipe: {plan.recipe}: {counted(config.epochs, 'epoch')}, batches of {config.batch_size:,}, rate {config.lr:g}, "
        f"{counted(plan.seeds, 'seed')} each"
    )
    if plan.winner.plan.recipe and not plan.recipe.startswith("that of"):
        print(plan.winner.plan.recipe)
    if plan.seeds == 1:
        print("note: with one seed the noise of training is unknown, and the interval is wide; two are worth much more")
    left, all_jobs = len(missing_jobs(plan.retrainings, plan.seeds)), len(plan.retrainings) * plan.seeds
    print(f"{left} of {all_jobs} trainings are left to do" if left < all_jobs else f"{all_jobs} trainings")


def counted(number: int, name: str) -> str:
    """Such as `1 seed` and `2 seeds`."""
    return f"{number:,} {name}{'s' * (number != 1)}"


def print_estimate(plan: CertificatePlan) -> list[tuple[str, str]]:
    """Time a few real steps of the winner, the cheapest and a random network; say what all that is left takes.

    Returns:
        Rows of name and value: what all takes.
    """
    missing = missing_jobs(plan.retrainings, plan.seeds)
    by_role = {retraining.network.role: retraining for retraining in reversed(plan.retrainings)}
    rows, seconds_of, most = [], {}, 0
    for role, retraining in sorted(by_role.items(), key=lambda item: plan.retrainings.index(item[1])):
        own = retraining.plan
        step, needed = time_network(own.config, own.network, own.data)
        seconds_of[role], most = step * own.images / own.config.batch_size, max(most, needed)
        count = sum(other.network.role == role for other, _ in missing)
        rows.append((role, f"{step:.3f}", f"{seconds_of[role] / 3600:.3f}", str(count), f"{needed / GIB:.2f}"))
    print(cli.table(rows, ("network", "seconds per step", "hours each", "trainings left", "GiB"), as_is=True))
    jobs = min(plan.config.jobs, max(1, len(missing)))
    hours = sum(seconds_of[retraining.network.role] for retraining, _ in missing) / 3600
    at_best = (
        f" / {jobs} processes = {hours / jobs:.2f} hours where the machine has cores or memory for all"
        if jobs > 1
        else ""
    )
    print(
        f"{len(missing)} trainings, {hours:.2f} hours{at_best}, {jobs * most / GIB:.2f} GiB of memory for weights and activations"
    )
    print(f"start it with: {_command(plan)}")
    return [
        ("trainings left", str(len(missing))),
        ("hours, one process", f"{hours:.2f}"),
        ("processes", str(jobs)),
        ("GiB of memory", f"{jobs * most / GIB:.2f}"),
        ("command", _command(plan)),
    ]


def _command(plan: CertificatePlan) -> str:
    """The command of this certificate, as it is typed."""
    config = plan.config
    words: list[object] = [config.run]
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name, default in defaults.items():
        value = getattr(config, name)
        if name not in ("run", "dry_run") and value != default:
            words += [cli.flag(name), value]
    return cli.command("certify", *words)


def issue_certificate(plan: CertificatePlan) -> dict[str, str]:
    """Do all that is left to do, and write and print the certificate.

    Returns:
        Name of a network whose training stopped -> why.
    Raises:
        InputError: another certificate of this run is being made, or one of its networks is being trained by another command.
        Stopped: the winner's training stopped, or that of every random network.
    """
    run = plan.run.path
    with contextlib.ExitStack() as held:
        held.enter_context(locks.exclusive(run, "certificate"))
        for retraining in plan.retrainings:
            held.enter_context(locks.exclusive(retraining.folder, "training"))
        open_retrainings(plan.retrainings)
        winner = plan.winner.plan
        warnings = run_gates.before_retraining(winner.config, winner.data)
        keep_warnings(run, "certify", warnings)
        scored = [retraining.network for retraining in plan.retrainings]
        named = {network.name: network.arch for network in scored}
        scores = score_archs(plan.run, named, plan.config.device) if plan.run.trained else {}
        stopped = train_missing(plan.retrainings, plan.seeds, plan.config.jobs)
        tested = test_all(plan, scores, stopped)
        floor = floor_of(run, winner.data)
        certificate = certify(plan, tested, scores, floor, warnings)
        save_json(run / FILE, certificate)
    own = tested[plan.networks.winner.id].interval
    print_certificate(certificate, floor_text(floor), not_above_text("the winner", own, floor))
    print(f"certificate: {run / FILE}")
    return stopped


def test_all(
    plan: CertificatePlan, scores: Mapping[str, Mapping[str, Any]], stopped: Mapping[str, str]
) -> dict[str, Tested]:
    """The answers of every network that was trained with all seeds, by the id of its architecture.

    Raises:
        InputError: networks were tested on other images than the winner.
        Stopped: the winner or all random networks stopped.
    """
    tested: dict[str, Tested] = {}
    score_by = searched_by(plan.run.path)
    labels: np.ndarray | None = None
    for retraining in plan.retrainings:
        if not all(retraining.trained(seed) for seed in range(plan.seeds)):
            continue
        found = [answers_of(retraining, seed) for seed in range(plan.seeds)]
        for seed, one in enumerate(found):
            labels = one.labels if labels is None else labels
            if not np.array_equal(one.labels, labels):
                folder = retraining.seed_folder(seed)
                aside = typed.put_aside(plan.run.path / "other-images", folder)
                raise InputError(
                    f"'{folder}' was tested on other images than the winner; restore the images, or train it anew: {aside}, and this "
                    "command again"
                )
        network = retraining.network
        score = scores.get(network.id)
        right, value = np.stack([one.right for one in found]), score_value(score, score_by) if score else None
        tested[network.id] = Tested(network, right, value, balanced_of(right, found[0].labels))
    randoms = [network for network in plan.networks.randoms if network.id in tested]
    if plan.networks.winner.id not in tested or not randoms:
        require_all_trained(stopped)
    return tested


def certify(
    plan: CertificatePlan,
    tested: Mapping[str, Tested],
    scores: Mapping[str, Mapping[str, Any]],
    floor: Mapping[str, Any],
    warnings: Sequence[GateWarning | None],
) -> dict[str, Any]:
    """Make certificate.json, and keep the warning where the winner is below the floor.

    Args:
        warnings: of the trainings, before their first step.
    """
    networks, config, data = plan.networks, plan.winner.plan.config, plan.winner.plan.data
    own = tested[networks.winner.id].interval
    randoms = [tested[network.id] for network in networks.randoms if network.id in tested]
    longer = run_gates.longer_training(config, data)
    few_steps = next((warning for warning in warnings if warning and warning.gate == FEW_STEPS), None)
    balanced = [network.balanced for network in tested.values() if network.balanced]
    classes = sum(number > 0 for number in data.class_counts("test").values())
    nothing = learned_nothing([network.interval for network in tested.values()], floor, balanced, classes)
    adviser = Adviser(
        *(plan.run.path, networks.winner.folder, plan.seeds, len(randoms), longer, few_steps, data, floor, nothing),
        short=short_training(config, data, own, floor),
        time=longer_time(plan.retrainings, plan.seeds, longer),
    )
    keep_warnings(plan.run.path, "certify", [adviser.warn(own)], more=True)
    by_top1 = searched_by(plan.run.path) == "top1"  # only of a top-1 is the noise known from the number of images
    images = [number for score in scores.values() if (number := noise.scoring_images(score, plan.run.path))]
    names = ("recipe", *recipes.OPTIONS, "class_weights", "hold_out", "precision", "data", "resolution")
    return make_certificate(
        tested[networks.winner.id],
        tested.get(networks.cheapest.id),
        randoms,
        band=networks.band,
        scoring_images=min(images, default=None) if by_top1 else None,
        first=adviser.first,
        advise=adviser.advise,
        about={
            "recipe": {"from": plan.recipe} | {name: getattr(config, name) for name in names},
            "choice": how_chosen(plan.run, networks.winner.arch),
            "rivals": rivals_of(plan.run.path),
            "latency": plan.latency,
            "images": [entry["text"] for entry in read_warnings(plan.run.path) if entry["gate"] in DOUBTFUL],
            "supernet": plan.run.hash if plan.run.trained else None,
            "provenance": run_dir.provenance(),
        },
    )
