"""Read an experiment YAML and find what is wrong with it before anything is started."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import shlex
from pathlib import Path
from typing import Any

from spaces.cost import CostTable, measure
from spaces.errors import InputError, unknown
from spaces.files import CLONE, load_json
from spaces.latency import LatencyTable
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from strategies.tuner import ArchTuner
from trials.common import cli
from trials.common.supernet_run import SupernetRun
from trials.scoring.evaluate_config import Config as Evaluate
from trials.scoring.evaluate_config import Settings

TUNERS = (
    "strategies.evolution.EvolutionTuner",
    "strategies.model_guided.ModelGuidedTuner",
    "strategies.pareto.ParetoTuner",
    "strategies.random_search.RandomTuner",
)
SERVICES = ("local", "remote", "openpai", "aml", "dlc", "kubeflow", "frameworkcontroller")


@dataclasses.dataclass(frozen=True)
class Plan:
    """An experiment that has passed all checks."""

    yaml: Path
    content: dict[str, Any]
    run: Path  # of the supernet, on this machine
    table: CostTable
    feasible: FeasibleSpace  # the part of the space within the limits
    evaluate: Evaluate  # what a trial is called with
    tuner: Any  # an ArchTuner, or None: one of NNI's own
    supernet: str  # hash of supernet.pt
    wanted: int  # architectures with a score
    concurrency: int
    nni: Any  # NNI's ExperimentConfig of all this, with absolute paths

    @property
    def limits(self) -> Limits:
        return self.feasible.limits

    @property
    def settings(self) -> Settings:
        return Settings.of(self.evaluate)

    @property
    def service(self) -> dict[str, Any]:
        """NNI's trainingService."""
        return self.content["trainingService"]

    @property
    def remote(self) -> bool:
        """Whether trials run on other machines, so that their scores come back through NNI alone."""
        return self.service["platform"] != "local"

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change between a search and its continuation."""
        given = {key: self.content[key] for key in ("tuner", "trialCommand")}
        return given | {"yaml": self.yaml.name, "supernet": self.supernet}


def plan_experiment(
    path: Path, *, run: str | None = None, concurrency: int | None = None, max_trials: int | None = None
) -> Plan:
    """Check an experiment.

    Args:
        run: directory of the supernet on this machine, where it is not what the YAML's trialCommand names.
        concurrency, max_trials: instead of what the YAML says.
    Raises:
        InputError: a missing file or key, an unfinished supernet, a mismatch, or a limit out of reach.
    """
    content = read_yaml(path)
    try:
        words = shlex.split(content["trialCommand"])
    except ValueError:  # an open quote
        words = []
    if "trials.evaluate" not in words or "--run" not in words[:-1] or {"-h", "--help"} & set(words):
        raise InputError(f"trialCommand of '{path}' must be: python -m trials.evaluate --run RUN ...")
    evaluate = cli.parse(Evaluate, words[words.index("trials.evaluate") + 1 :], None, "trials.evaluate")
    if run is None:
        where = (path.parent / content["trialCodeDirectory"]).resolve() / evaluate.run
        folder = Path(os.path.relpath(where)) if where.is_relative_to(Path.cwd()) else where
    else:
        folder = Path(run)
    supernet_run = SupernetRun.open(folder)
    _ = supernet_run.checkpoint  # a damaged one is refused here
    table = supernet_run.table
    about = table.space
    if not table.same_costs(measure(supernet_run.chain)):
        raise InputError(f"space {about['name']} is not what it was when supernet '{folder}' was trained; restore it")
    remedy = (
        f"write both again with: python -m trials.space {about['name']} --preset {about['preset']} "
        f"--classes {about['classes']} --resolution {about['resolution']} --out FOLDER"
    )
    if about["options"]:
        remedy += f" --space-options {cli.space_options_text(about['options'])}"
    offered = load_json(path.parent / content["searchSpaceFile"], "search space")
    if {label: entry["_value"] for label, entry in offered.items()} != table.choices:
        raise InputError(f"searchSpaceFile of '{path}' is not the space of supernet '{folder}'; {remedy}")

    given = content["tuner"].get("classArgs") or {}
    if not isinstance(given, dict):
        raise InputError(f"classArgs of '{path}' is {given}; give NAME: VALUE lines, as in experiments/quickstart.yml")
    tuner = None
    if "className" in content["tuner"]:
        if not isinstance(given.get("cost_table"), str):
            raise InputError(f"classArgs of '{path}' lacks 'cost_table'; compare it with experiments/quickstart.yml")
        costs = CostTable.load(CLONE / given["cost_table"])
        if costs.space != about:
            raise InputError(f"cost_table of '{path}' is of {costs.space}, the supernet of {about}; {remedy}")
        tuner = make_tuner(content["tuner"]["className"], given)
        feasible = tuner.feasible
    else:
        from nni.tools.package_utils import get_all_algo_meta

        names = [meta.name for meta in get_all_algo_meta() if meta.algo_type == "tuner"]
        if content["tuner"].get("name") not in names:
            raise InputError(unknown("tuner of NNI", content["tuner"].get("name"), names))
        latency = LatencyTable.load(CLONE / evaluate.latency_table, table) if evaluate.latency_table else None
        feasible = FeasibleSpace(table, evaluate.limits(), latency)

    wanted: Any = max_trials if max_trials is not None else content.get("maxTrialNumber")
    at_once = concurrency if concurrency is not None else content.get("trialConcurrency", 1)
    for name, value in (("maxTrialNumber", wanted), ("trialConcurrency", at_once)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name} of '{path}' is {value}; give a whole number above 0")
    check_service(path, content["trainingService"], content.get("nniManagerIp"), warm=evaluate.warm)
    config = nni_config(path, at_once, wanted)
    return Plan(path, content, folder, table, feasible, evaluate, tuner, supernet_run.hash, wanted, at_once, config)


def nni_config(path: Path, concurrency: int, wanted: int) -> Any:
    """What NNI reads in the YAML, with absolute paths. Raises InputError: NNI refuses it."""
    from nni.experiment.config import ExperimentConfig

    try:
        config = ExperimentConfig.load(path)
        config.trial_concurrency, config.max_trial_number = concurrency, wanted
        config = config.canonical_copy()
        config.validate()
    except Exception as error:  # NNI raises all kinds here
        raise InputError(f"experiment '{path}': {' '.join(str(error).split())}") from None
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """The experiment as a dict. Raises InputError: missing, not YAML, keys that are missing or unknown to NNI."""
    import yaml

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
    first, *rest = name.strip("_").split("_")
    return first + "".join(word.title() for word in rest)


def make_tuner(class_name: str, arguments: dict[str, Any]) -> Any:
    """Build the tuner here once, as NNI will; its own errors come before an experiment is started.

    Raises:
        InputError: no such tuner, an unknown argument, a bad number, or a limit out of reach.
    """
    module, _, name = class_name.rpartition(".")
    try:
        tuner = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise InputError(unknown("tuner", class_name, TUNERS)) from None
    if not issubclass(tuner, ArchTuner):
        raise InputError(
            f"tuner {class_name} is not an ArchTuner of strategies/tuner.py; choose from: {', '.join(TUNERS)}"
        )
    taken = [*inspect.signature(tuner).parameters, *inspect.signature(ArchTuner).parameters]
    known = [key for key in dict.fromkeys(taken) if key != "limits"]
    known += [field.name for field in dataclasses.fields(Limits)]
    for key in arguments:
        if key not in known:
            raise InputError(unknown(f"argument of {name}", key, known))
    try:
        return tuner(**arguments)
    except InputError:
        raise
    except Exception as error:  # a tuner of one's own may raise anything
        raise InputError(f"tuner {class_name} cannot be made: {type(error).__name__}: {error}") from None


def check_service(path: Path, service: dict[str, Any], manager_ip: str | None, *, warm: bool) -> None:
    """Raises InputError: GPUs are asked for on a machine where NNI sees none, or a remote service without machines."""
    if service["platform"] not in SERVICES:
        raise InputError(f"trainingService of '{path}': {unknown('platform', service['platform'], SERVICES)}")
    if service["platform"] == "local" and service.get("trialGpuNumber"):
        try:
            from pynvml import nvmlInit

            nvmlInit()
        except Exception as error:  # pynvml raises what its version has
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


def known_experiments() -> list[str]:
    return sorted(f"experiments/{path.name}" for path in (CLONE / "experiments").glob("*.yml"))
