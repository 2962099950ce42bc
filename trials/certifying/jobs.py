"""The trainings of a certificate: ordinary runs of trials.retrain, all with one recipe, the same seeds and the same images."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from spaces.errors import InputError, Stopped
from spaces.files import save_json
from trials.certifying import certify_config
from trials.certifying.controls import Network, Networks
from trials.common import changes, run_dir, run_files
from trials.common.distributed import make_fabric, use_cuda
from trials.common.supernet_run import SupernetRun
from trials.evidence.intervals import accuracy_text
from trials.images.options import default_workers
from trials.networks import answers
from trials.networks.accuracy import answer_images
from trials.networks.answers import Answers
from trials.networks.build import load_network
from trials.training import memory, parallel
from trials.training.retrain_config import Config
from trials.training.retrain_plan import RetrainPlan, describe_network, plan_retraining
from trials.training.retrain_result import collect_result, with_finished


@dataclass(frozen=True)
class Retraining:
    """A network of the certificate, and the run that trains it.

    Attributes:
        plan: of trials.retrain; its config is that of the run.
        folder: the run.
    """

    network: Network
    plan: RetrainPlan
    folder: Path

    def seed_folder(self, seed: int) -> Path:
        """Where the training with a seed is."""
        return self.folder / f"seed{seed}"

    def trained(self, seed: int) -> bool:
        """Whether the training with a seed has a result."""
        return (self.seed_folder(seed) / "result.json").exists()

    def job(self, seed: int) -> parallel.Job:
        """The training with a seed."""
        return parallel.Job(self.plan.config, self.plan.network, seed, self.plan.images, self.network.name)


def longer_time(retrainings: Sequence[Retraining], seeds: int, longer: Mapping[str, object]) -> str:
    """How long all trainings take with more epochs, in words, by the seconds of those that there are; "" where none has any.

    Args:
        seeds: of each network.
        longer: options of the longer training; without "--epochs" it has as many as now.
    """
    paths = [one.seed_folder(seed) / "result.json" for one in retrainings for seed in range(seeds) if one.trained(seed)]
    taken = [found["seconds"] for path in paths if "seconds" in (found := run_files.read(path, "result of a seed"))]
    if not taken:
        return ""
    now = retrainings[0].plan.config.epochs
    epochs = int(str(longer.get("--epochs", now)))
    each = statistics.median(taken) * epochs / now
    time = f"{each:.0f} seconds" if each < 120 else f"{each / 60:.0f} minutes"
    return f"{len(retrainings) * seeds} trainings of {epochs:,} epochs take about {time} each"


def default_jobs(device: str, precision: str) -> int:
    """Trainings at the same time where no number is given: networks as small as these gain little from a second thread, and a GPU is one.

    Args:
        device, precision: as options of trials.certify.
    """
    return 1 if use_cuda(device, precision) else default_workers()


def choose_seeds(run: Path, folder: str, given: int | None) -> int:
    """Number of seeds of each network: what was given, else that of the winner's retraining, at least SEEDS.

    Args:
        folder: of the winner's retraining, relative to the run.
    """
    if given is not None:
        return given
    stored = run / folder / "config.json"
    planned = run_files.read(stored, "run configuration")["config"].get("seeds", 1) if stored.exists() else 0
    result = run / folder / "result.json"
    trained = len(run_files.read(result, "result")["test_top1"]) if result.exists() else 0
    return max(certify_config.SEEDS, planned, trained)


def plan_retrainings(
    run: SupernetRun, networks: Networks, seeds: int, options: certify_config.Config
) -> list[Retraining]:
    """Plan the training of every network: the winner's first.

    Args:
        options: of trials.certify.
    Raises:
        InputError: the images are gone, a network was trained before with another recipe, or memory does not suffice.
    """
    winner = plan_retraining(recipe_config(run, networks.winner.folder, seeds, options))
    plans = []
    for network in networks.all:
        folder = run.path / network.folder
        arc = run.path if network.role == "winner" else folder
        config = dataclasses.replace(winner.config, fixed_arc=str(arc / "arc.json"), out=str(folder))
        description, macs, params = describe_network(config, network.arch, winner.data)
        plan = dataclasses.replace(
            winner, config=config, arch=network.arch, network=description, macs=macs, params=params
        )
        check_same_recipe(folder, networks.winner.folder, config)
        plans.append(Retraining(network, plan, folder))
    processes = min(options.jobs, len(plans) * seeds)
    estimate = partial(memory.network_bytes, winner.config, winner.network, winner.data.resolution)
    memory.require_memory(winner.config, estimate, winner.data.resolution, processes=processes)
    return plans


def recipe_config(run: SupernetRun, folder: str, seeds: int, options: certify_config.Config) -> Config:
    """The options of trials.retrain for the winner: those of its retraining, of an earlier winner's, or the defaults.

    Args:
        folder: of the winner's retraining, relative to the run.
    Raises:
        InputError: that folder holds something else than a network of the search.
    """
    given: dict[str, Any] = {}
    source = recipe_source(run.path, folder)
    if source is not None:
        stored = run_dir.load_run(source, "retrain")
        if stored.get("baseline") or stored.get("import_official"):
            raise InputError(
                f"'{source}' holds a baseline or an imported network, not the winner of the search; move it away"
            )
        if stored.get("from_supernet"):
            raise InputError(
                f"'{source}' was fine-tuned from the supernet's weights, and a certificate compares networks from scratch; move it away"
            )
        given = {field.name: stored[field.name] for field in dataclasses.fields(Config) if field.name in stored}
    given |= {
        "fixed_arc": str(run.path / "arc.json"),
        "supernet": str(run.path),
        "out": str(run.path / folder),
        **{"seeds": seeds, "jobs": options.jobs, "device": options.device, "resume": True},
    }
    for name in ("precision", "cuda_graphs", "compile", "data_root"):
        if getattr(options, name):
            given[name] = getattr(options, name)
    return Config(**given)


def recipe_source(run: Path, folder: str) -> Path | None:
    """The run of trials.retrain whose recipe is taken; None where there is none yet."""
    for name in (folder, "retrain"):
        if (run / name / "config.json").exists():
            return run / name
    return None


def check_same_recipe(folder: Path, winner: str, config: Config) -> None:
    """Raises InputError: a network was trained with other options than the winner is."""
    if not run_dir.begun(folder):
        return
    changed = changes.changed_options(run_dir.load_run(folder, "retrain"), config)
    if changed:
        differs = ", and ".join(f"with {flag} {was}, and now it is {now}" for flag, was, now in changed)
        _, was = changes.change_texts(changed)
        anew = folder if folder.name == winner else folder.parent
        raise InputError(
            f"'{folder}' was trained {differs}, so the networks could not be compared; make it {was} "
            f"again, or move '{anew}' away to train anew"
        )


def open_retrainings(retrainings: Sequence[Retraining]) -> None:
    """Make the runs that do not exist yet, each with its options and its architecture."""
    for retraining in retrainings:
        run_dir.open_run(retraining.folder, "retrain", retraining.plan.config, resume=True, quiet=True)
        if not (retraining.folder / "arc.json").exists():
            save_json(retraining.folder / "arc.json", retraining.network.arch)
        retraining.plan.data.save(retraining.folder)


def missing_jobs(retrainings: Sequence[Retraining], seeds: int) -> list[tuple[Retraining, int]]:
    """The trainings without a result, in an order in which an interrupted certificate is useful.

    The winner comes first, with all its seeds; then seed 0 of all others, seed 1, and so on.
    """
    winner, *others = retrainings
    order = [(winner, seed) for seed in range(seeds)]
    order += [(other, seed) for seed in range(seeds) for other in others]
    return [(retraining, seed) for retraining, seed in order if not retraining.trained(seed)]


def train_missing(retrainings: Sequence[Retraining], seeds: int, processes: int) -> dict[str, str]:
    """Train what has no result yet, and write result.json of the runs that are complete.

    Returns:
        Name of a network whose training stopped -> why; it is left out, the others are kept.
    """
    missing = missing_jobs(retrainings, seeds)
    jobs = [retraining.job(seed) for retraining, seed in missing]

    failures = parallel.train_jobs(jobs, processes, title="certificate", on_done=_result_line) if jobs else {}
    for retraining in retrainings:
        if all(retraining.trained(seed) for seed in range(seeds)):
            write_result(retraining, seeds)
    return {jobs[number].name: str(error) for number, error in failures.items()}


def _result_line(job: parallel.Job) -> str:
    """What is printed when a training is done."""
    result = run_files.read(Path(job.config.out) / f"seed{job.seed}" / "result.json", "result of a seed")
    return f"{job.name}, seed {job.seed}: {accuracy_text([result['test_correct']], result['test_images'])}"


def write_result(retraining: Retraining, seeds: int) -> None:
    """Write result.json of a run, over all its seeds, at least those of the certificate."""
    seeds = with_finished(retraining.folder, seeds)
    path = retraining.folder / "result.json"
    summary = collect_result(retraining.folder, seeds, retraining.plan.summary(), retraining.plan.data.classes)
    if not path.exists() or run_files.read(path, "result") != summary:
        save_json(path, summary)


def answers_of(retraining: Retraining, seed: int) -> Answers:
    """The answers of a network to the test images; it is tested anew where an older version did not keep them.

    Raises:
        InputError: neither its answers nor its weights are there.
    """
    folder = retraining.seed_folder(seed)
    if not (folder / answers.FILE).exists():
        test_anew(retraining.plan, folder)
    return Answers.load(folder / answers.FILE)


def test_anew(plan: RetrainPlan, folder: Path) -> None:
    """Test the network in seedK/ and keep its answers.

    Raises:
        InputError: its weights are not there any more.
    """
    if not (folder / "network.pt").exists():
        raise InputError(
            f"'{folder}' has neither {answers.FILE} nor network.pt; move '{folder / 'result.json'}' away to train it anew"
        )
    fabric = make_fabric(plan.config.device, plan.config.precision)
    plan.data.to(fabric.device)
    # as it lay in memory when it was trained, so that the last bits are the same
    network = load_network(folder / "network.pt").to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found, _ = answer_images(fabric, network, plan.data, "test")
    found.save(folder / answers.FILE)
    then = run_files.read(folder / "result.json", "result of a seed").get("test_correct")
    now = int(found.right.sum())
    if then != now:
        print(f"note: '{folder}' had {then} of {found.size} test images right when it was trained, and has {now} here")


def require_all_trained(stopped: Mapping[str, str]) -> None:
    """Raises Stopped: naming the networks whose training stopped."""
    if stopped:
        first, reason = next(iter(stopped.items()))
        more = f" (and {len(stopped) - 1} more: {', '.join([*stopped][1:])})" if len(stopped) > 1 else ""
        raise Stopped(f"{first} stopped{more}: {reason}; the other networks are kept")
