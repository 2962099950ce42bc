"""Read an experiment YAML, and check what NNI and the trials will read in it."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from spaces.errors import InputError, is_whole_number, unknown
from spaces.files import CLONE
from trials.common import cli
from trials.scoring.evaluate_config import Config as EvaluateConfig

if TYPE_CHECKING:
    from nni.experiment.config import ExperimentConfig

SERVICES = ("local", "remote", "openpai", "aml", "dlc", "kubeflow", "frameworkcontroller")


def read_yaml(path: Path) -> dict[str, Any]:
    """The experiment as a dict.

    Raises:
        InputError: the file is missing or no YAML, or it lacks a key, has one that NNI does not know, or one of another kind.
    """
    if not path.is_file():
        raise InputError(f"experiment '{path}' does not exist; choose one: {', '.join(known_experiments())}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"experiment '{path}' is not valid YAML: {' '.join(str(error).split())}") from None
    needed = (
        *("searchSpaceFile", "trialCommand", "trialCodeDirectory", "experimentWorkingDirectory", "tuner"),
        "trainingService",
    )
    if not isinstance(content, dict):
        raise InputError(
            f"experiment '{path}' is empty or no mapping of keys; compare it with experiments/quickstart.yml"
        )
    for key in needed:
        if key not in content:
            raise InputError(f"experiment '{path}' lacks '{key}'; compare it with experiments/quickstart.yml")
    from nni.experiment.config import ExperimentConfig

    known = [_camel(field.name) for field in dataclasses.fields(ExperimentConfig)]
    for key in content:
        if key not in known:
            raise InputError(f"experiment '{path}': {unknown('key', key, known)}")
    kinds = {key: dict if key in ("tuner", "trainingService") else str for key in needed}
    for key, kind in kinds.items():
        if not isinstance(content[key], kind):
            raise InputError(
                f"{key} of experiment '{path}' is '{content[key]}'; compare it with experiments/quickstart.yml"
            )
    if "platform" not in content["trainingService"]:
        raise InputError(f"trainingService of experiment '{path}' lacks 'platform'; give for example: platform: local")
    return content


def _camel(name: str) -> str:
    """NNI's name of a field in a YAML: "trial_command" is trialCommand there."""
    first, *rest = name.strip("_").split("_")
    return first + "".join(word.title() for word in rest)


def trial_options(path: Path, content: dict[str, Any]) -> EvaluateConfig:
    """The options of trials.evaluate in the experiment's trialCommand.

    Args:
        path, content: of the YAML.
    Raises:
        InputError: the command is another one, or has an option that trials.evaluate refuses.
    """
    try:
        words = shlex.split(content["trialCommand"])
    except ValueError:  # an open quote
        words = []
    if "trials.evaluate" not in words or "--run" not in words[:-1] or {"-h", "--help"} & set(words):
        raise InputError(f"trialCommand of '{path}' must be: python -m trials.evaluate --run RUN ...")
    return cli.parse(EvaluateConfig, words[words.index("trials.evaluate") + 1 :], None, "trials.evaluate")


def run_folder(path: Path, content: dict[str, Any], evaluate: EvaluateConfig) -> Path:
    """The run directory that trialCommand names, which is relative to trialCodeDirectory, seen from here.

    Args:
        path, content: of the YAML.
        evaluate: what `trial_options` returned.
    """
    folder = (path.parent / content["trialCodeDirectory"]).resolve() / evaluate.run
    return Path(os.path.relpath(folder)) if folder.is_relative_to(Path.cwd()) else folder


def check_count(path: Path, name: str, value: object) -> None:
    """Raises InputError: a number of trials in a YAML is no whole number above 0."""
    if not is_whole_number(value, 1):
        raise InputError(f"{name} of '{path}' is {value}; give a whole number above 0")


def check_service(path: Path, service: dict[str, Any], manager_ip: str | None, *, warm: bool) -> None:
    """Check where the trials are to run.

    Args:
        service: NNI's trainingService.
        manager_ip: nniManagerIp, the address at which workers reach this machine.
        warm: whether trials leave a process with the supernet in memory, which holds its GPU.
    Raises:
        InputError: an unknown platform, GPUs where NNI sees none, or a remote service without machines or an address.
    """
    if service["platform"] not in SERVICES:
        raise InputError(f"trainingService of '{path}': {unknown('platform', service['platform'], SERVICES)}")
    if service["platform"] == "local" and service.get("trialGpuNumber"):
        try:
            from pynvml import nvmlInit

            nvmlInit()
        except Exception as error:  # each version of pynvml has exceptions of its own
            raise InputError(
                f"trialGpuNumber of '{path}' is {service['trialGpuNumber']}, and NNI sees no GPU here ({error}); leave it out"
            ) from None
    machines = {"local": [service], "remote": service.get("machineList") or []}.get(service["platform"], [])
    if (
        warm
        and service.get("trialGpuNumber")
        and not all(one.get("useActiveGpu") for one in machines if isinstance(one, dict))
    ):
        raise InputError(
            f"'{path}' has trialGpuNumber without useActiveGpu: true; the warm evaluator stays on its GPU, so NNI would not start the "
            "next trial there until it leaves; give it, or add --no-warm to trialCommand"
        )
    if service["platform"] == "remote" and not manager_ip:
        raise InputError(
            f"'{path}' lacks nniManagerIp, where the workers reach this machine; compare it with experiments/spos_evo_remote.yml"
        )
    if service["platform"] == "remote" and not service.get("machineList"):
        raise InputError(
            f"trainingService of '{path}' lacks machineList; compare it with experiments/spos_evo_remote.yml"
        )


def nni_config(path: Path, concurrency: int, wanted: int) -> ExperimentConfig:
    """The experiment as NNI itself reads it, with absolute paths.

    Args:
        concurrency, wanted: in place of the YAML's trialConcurrency and maxTrialNumber.
    Raises:
        InputError: NNI refuses the YAML.
    """
    from nni.experiment.config import ExperimentConfig

    try:
        config = ExperimentConfig.load(path)
        config.trial_concurrency, config.max_trial_number = concurrency, wanted
        config = config.canonical_copy()
        config.validate()
    except Exception as error:  # NNI raises exceptions of all kinds here
        raise InputError(f"experiment '{path}': {' '.join(str(error).split())}") from None
    return config


def known_experiments() -> list[str]:
    """The experiments that are shipped with this clone, as paths."""
    return sorted(f"experiments/{path.name}" for path in (CLONE / "experiments").glob("*.yml"))
