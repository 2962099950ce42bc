"""Read an experiment YAML, and check what NNI and the trials will read in it."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.errors import InputError, is_whole_number, shown, unknown
from spaces.files import parse_yaml, read_text
from trials.common import cli, machine
from trials.scoring.evaluate_config import Config as EvaluateConfig

if TYPE_CHECKING:
    from nni.experiment.config import ExperimentConfig

NEEDED = ("trialCommand", "trialCodeDirectory", "experimentWorkingDirectory", "tuner", "trainingService")
TEXTS = (
    "experimentName",
    "searchSpaceFile",
    "nniManagerIp",
    "logLevel",
)  # keys whose value is text, where they are given
MOST_REMOTE = 1_000  # trials at a time on other machines
MOST_VALUES = 10_000  # in an experiment; the shipped ones have about 40, an inline search space some hundreds
# keys of NNI 1.x, and what they are called since 2.0 (nni/experiment/config/convert.py)
OLD_KEYS = {
    "trainingServicePlatform": "trainingService: {platform: ...}",
    "searchSpacePath": "searchSpaceFile",
    "maxExecDuration": "maxExperimentDuration",
    "maxTrialNum": "maxTrialNumber",
    "logDir": "experimentWorkingDirectory",
    "trial": "trialCommand, trialCodeDirectory, trialGpuNumber",
    "machineList": "trainingService: {machineList: ...}",
    "localConfig": "trainingService",
    "authorName": "(leave it out)",
    "useAnnotation": "(leave it out)",
    "multiPhase": "(leave it out)",
    "multiThread": "(leave it out)",
    "versionCheck": "(leave it out)",
    "logCollection": "(leave it out)",
}
SERVICES = ("local", "remote", "openpai", "aml", "dlc", "kubeflow", "frameworkcontroller")


def read_yaml(path: Path) -> dict[str, Any]:
    """The experiment as a dict.

    Raises:
        InputError: the file is no YAML, or it lacks a key, has one that NNI does not know, or one of another kind.
    """
    text, compare = read_text(path, "experiment"), "compare it with experiments/quickstart.yml"
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise InputError(f"experiment '{path}' is not valid YAML: {shown(str(error))}; {compare}") from None
    if not isinstance(content, dict):
        raise InputError(f"experiment '{path}' is empty or no mapping of keys; {compare}")
    refuse_old_format(path, content)
    check_plain(path, content)
    if content.get("searchSpaceFile") is None and content.get("searchSpace") is None:
        raise InputError(f"experiment '{path}' lacks 'searchSpaceFile'; {compare}")
    for key in NEEDED:
        if key not in content:
            raise InputError(f"experiment '{path}' lacks '{key}'; {compare}")
    from nni.experiment.config import ExperimentConfig

    known = [_camel(field.name) for field in dataclasses.fields(ExperimentConfig)]
    for key in content:
        if key not in known:
            raise InputError(f"experiment '{path}': {unknown('key', key, known, 'docs/yaml.md')}")
    check_kinds(path, content)
    return content


def refuse_old_format(path: Path, content: dict[str, Any]) -> None:
    """Raises InputError: the file is in the format of NNI 1.x; says what its keys are called now."""
    old = {key: new for key, new in OLD_KEYS.items() if key in content}
    if "trainingServicePlatform" not in old and "trial" not in old:
        return
    names = ", ".join(f"{key} -> {new}" for key, new in old.items())
    raise InputError(
        f"experiment '{path}' is in the format of NNI 1.x; rename its keys ({names}), and write the tuner as in "
        "experiments/quickstart.yml"
    )


def check_plain(path: Path, content: Any) -> None:
    """Check that an experiment holds plain values, few enough to be written out.

    Raises:
        InputError: aliases or lists make it larger than an experiment is, or a text has a null byte.
    """
    left, count = [content], 0
    while left:
        value, count = left.pop(), count + 1
        if count > MOST_VALUES:
            raise InputError(
                f"experiment '{path}' has more than {MOST_VALUES:,} values once its aliases (*NAME) are written out; write it without"
            )
        if isinstance(value, str) and "\0" in value:
            raise InputError(f"experiment '{path}' has a null byte in {shown(repr(value))}; write it again")
        if isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            left += value
        elif not isinstance(value, str | int | float | None):
            raise InputError(
                f"experiment '{path}' has {shown(value)}, a {type(value).__name__}; put it in quotes to make it text"
            )


def check_kinds(path: Path, content: dict[str, Any]) -> None:
    """Raises InputError: a value of an experiment is of another kind than this command and NNI read there."""
    kinds: dict[str, type] = dict.fromkeys(("tuner", "trainingService"), dict)
    kinds |= dict.fromkeys((*TEXTS, "trialCommand", "trialCodeDirectory", "experimentWorkingDirectory"), str)
    where: list[tuple[str, dict[str, Any], dict[str, type]]] = [("", content, kinds)]
    if isinstance(content["tuner"], dict):
        kinds = {"className": str, "name": str, "codeDirectory": str, "classArgs": dict}
        where.append(("tuner.", content["tuner"], kinds))
    if isinstance(content["trainingService"], dict):
        where.append(("trainingService.", content["trainingService"], {"platform": str, "machineList": list}))
    names: dict[type, str] = {str: "text", dict: "NAME: VALUE lines", list: "a list"}
    for prefix, values, kinds in where:
        for key, kind in kinds.items():
            given = values.get(key)
            if key in values and not isinstance(given, kind) and not (given is None and key in ("classArgs", *TEXTS)):
                raise InputError(
                    f"{prefix}{key} of experiment '{path}' is '{shown(given)}'; give {names[kind]}, as experiments/quickstart.yml does"
                )
    tuner, service = content["tuner"], content["trainingService"]
    if "className" in tuner and not tuner.get("codeDirectory"):
        raise InputError(
            f"tuner of experiment '{path}' lacks 'codeDirectory', the root of the clone; give for example .."
        )
    if ("className" in tuner) == ("name" in tuner):
        raise InputError(
            f"tuner of experiment '{path}' needs className (one of ours) or name (one of NNI's), and not both"
        )
    if "platform" not in service:
        raise InputError(f"trainingService of experiment '{path}' lacks 'platform'; give for example: platform: local")
    for key in ("maxExperimentDuration", "maxTrialDuration"):
        seconds_of(path, key, content.get(key))


def seconds_of(path: Path, key: str, value: object) -> float | None:
    """The seconds of a duration, which is a whole number, or a number and its unit; None where none is given.

    Raises:
        InputError: it is not of this form.
    """
    if value is None:
        return None
    text = str(value) if isinstance(value, str) or is_whole_number(value, 1) else ""
    form = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.lower())
    number = float(form[1]) if form and len(text) < 20 else 0.0
    if not form or number <= 0 or (isinstance(value, str) and not form[2]):
        raise InputError(f"{key} of '{path}' is '{shown(value)}'; give a number and s, m, h or d, for example 10m")
    return number * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[form[2]]


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
        raise InputError(f"{name} of '{path}' is '{shown(value)}'; give a whole number above 0")


def check_concurrency(name: str, number: int, platform: str) -> None:
    """Refuse more trials at a time than there can be.

    Args:
        name: of the option or of the key of the YAML.
        platform: of NNI's trainingService; `local` starts a process of this machine for each trial.
    Raises:
        InputError: they are too many.
    """
    if platform == "local":
        machine.require_few(name, number, "a process")
    elif number > MOST_REMOTE:
        raise InputError(
            f"{name} {shown(str(number))} is too many: NNI's manager looks after each of them by itself; give at most {MOST_REMOTE:,}"
        )


def service_of(content: dict[str, Any]) -> dict[str, Any]:
    """NNI's trainingService, with what stands at the top level of the YAML, where NNI reads it too."""
    return {key: content[key] for key in ("trialGpuNumber",) if key in content} | content["trainingService"]


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
                f"trialGpuNumber of '{path}' is {shown(service['trialGpuNumber'])}, and NNI sees no GPU here ({error}); leave it out"
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


def nni_config(path: Path, concurrency: int, wanted: int, default: str) -> ExperimentConfig:
    """The experiment as NNI itself reads it, with absolute paths.

    Args:
        concurrency, wanted: in place of the YAML's trialConcurrency and maxTrialNumber.
        default: what the portal's "default metric" is; it stands beside the experiment's name, the one text there that is ours.
    Raises:
        InputError: NNI refuses the YAML.
    """
    from nni.experiment.config import ExperimentConfig

    try:
        config = ExperimentConfig.load(path)
        config.trial_concurrency, config.max_trial_number = concurrency, wanted
        config.experiment_name = f"{config.experiment_name or path.stem} (default = {default})"
        config = config.canonical_copy()
        config.validate()
    except Exception as error:  # NNI raises exceptions of all kinds here
        raise InputError(f"experiment '{path}': {shown(str(error)) or type(error).__name__}") from None
    return config
