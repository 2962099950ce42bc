"""Find everything that is wrong with an experiment before anything is started."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.cost import CostTable, measure
from spaces.errors import InputError, unknown
from spaces.files import CLONE, load_json
from spaces.latency import LatencyTable
from spaces.spec import preset_arguments, space_options_text
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from strategies.tuner import ArchTuner
from trials.common.supernet_run import SupernetRun
from trials.scoring.evaluate_config import Config as EvaluateConfig
from trials.scoring.evaluate_config import Settings
from trials.scoring.score_store import ScoreStore
from trials.search_driver import experiment_file, experiment_yaml

if TYPE_CHECKING:
    from nni.experiment.config import ExperimentConfig

TUNERS = (
    "strategies.evolution.EvolutionTuner",
    "strategies.model_guided.ModelGuidedTuner",
    "strategies.pareto.ParetoTuner",
    "strategies.random_search.RandomTuner",
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """An experiment that has passed all checks.

    Attributes:
        yaml: path of the experiment.
        content: the YAML as it stands there.
        supernet_run: the run of the supernet on this machine.
        feasible: the architectures within the limits.
        evaluate: the options that trials are called with.
        tuner: None where the tuner is one of NNI's own.
        wanted: number of architectures that shall get a score.
        concurrency: number of trials at a time.
        nni: all this as NNI reads it, with absolute paths.
    """

    yaml: Path
    content: dict[str, Any]
    supernet_run: SupernetRun
    feasible: FeasibleSpace
    evaluate: EvaluateConfig
    tuner: ArchTuner | None
    wanted: int
    concurrency: int
    nni: ExperimentConfig

    @property
    def run(self) -> Path:
        """The supernet's run directory."""
        return self.supernet_run.path

    @property
    def table(self) -> CostTable:
        """Costs of the space."""
        return self.supernet_run.table

    @property
    def supernet(self) -> str:
        """Hash of supernet.pt."""
        return self.supernet_run.hash

    @property
    def limits(self) -> Limits:
        """Limits of MACs, params and latency."""
        return self.feasible.limits

    @property
    def settings(self) -> Settings:
        """How a score is computed; scores with other settings do not count."""
        return Settings.of(self.evaluate)

    @property
    def score_store(self) -> ScoreStore:
        """The scores of this search."""
        return ScoreStore(self.run, self.supernet, self.settings)

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
    """Read an experiment YAML and check it, with the supernet that it searches.

    Args:
        path: of the YAML, or of a run of trials.supernet, whose search.yml it then is.
        run: directory of the supernet on this machine, where it is not what the YAML's trialCommand names.
        concurrency, max_trials: in place of what the YAML says.
    Raises:
        InputError: a missing file or key, an unfinished supernet, a mismatch, or a limit out of reach.
    """
    path = path / experiment_file.NAME if path.is_dir() else path
    content = experiment_yaml.read_yaml(path)
    evaluate = experiment_yaml.trial_options(path, content)

    # the supernet, and whether the YAML's search space is its space
    supernet_run = SupernetRun.open(experiment_yaml.run_folder(path, content, evaluate) if run is None else run)
    _ = supernet_run.checkpoint  # a damaged one is refused here
    remedy = check_space(path, content, supernet_run)

    # the tuner, and the limits that it searches within
    class_args = content["tuner"].get("classArgs") or {}
    if not isinstance(class_args, dict):
        raise InputError(
            f"classArgs of '{path}' is {class_args}; give NAME: VALUE lines, as in experiments/quickstart.yml"
        )
    tuner = None
    if "className" in content["tuner"]:
        check_cost_table(path, class_args, supernet_run, remedy)
        tuner = make_tuner(content["tuner"]["className"], class_args)
        feasible = tuner.feasible
    else:
        check_nni_tuner(content["tuner"].get("name"))
        table = supernet_run.table
        latency = LatencyTable.load(CLONE / evaluate.latency_table, table) if evaluate.latency_table else None
        feasible = FeasibleSpace(table, evaluate.limits(), latency)

    # how many trials, and where they run
    wanted: Any = max_trials if max_trials is not None else content.get("maxTrialNumber")
    at_once = concurrency if concurrency is not None else content.get("trialConcurrency", 1)
    experiment_yaml.check_count(path, "maxTrialNumber", wanted)
    experiment_yaml.check_count(path, "trialConcurrency", at_once)
    service = content["trainingService"]
    experiment_yaml.check_service(path, service, content.get("nniManagerIp"), warm=evaluate.warm)
    return Plan(
        yaml=path,
        content=content,
        supernet_run=supernet_run,
        feasible=feasible,
        evaluate=evaluate,
        tuner=tuner,
        nni=experiment_yaml.nni_config(path, at_once, wanted),
        wanted=wanted,
        concurrency=at_once,
    )


def check_space(path: Path, content: dict[str, Any], supernet_run: SupernetRun) -> str:
    """Check that the space is what it was, and that the YAML's search space is that of the supernet.

    Returns:
        The command that writes the files of the space again, for error messages.
    Raises:
        InputError: they differ.
    """
    space = supernet_run.table.space
    if not supernet_run.table.same_costs(measure(supernet_run.chain)):
        raise InputError(
            f"space {space['name']} is not what it was when supernet '{supernet_run.path}' was trained; restore it"
        )
    remedy = f"write both again with: python -m trials.space {space['name']} {preset_arguments(space)} --out FOLDER"
    if space["options"]:
        remedy += f" --space-options {space_options_text(space['options'])}"
    offered = load_json(path.parent / content["searchSpaceFile"], "search space")
    if {label: entry["_value"] for label, entry in offered.items()} != supernet_run.table.choices:
        raise InputError(f"searchSpaceFile of '{path}' is not the space of supernet '{supernet_run.path}'; {remedy}")
    return remedy


def check_cost_table(path: Path, class_args: dict[str, Any], supernet_run: SupernetRun, remedy: str) -> None:
    """Raises InputError: the tuner has no cost table, or that of another space than the supernet's."""
    if not isinstance(class_args.get("cost_table"), str):
        raise InputError(f"classArgs of '{path}' lacks 'cost_table'; compare it with experiments/quickstart.yml")
    costs, space = CostTable.load(CLONE / class_args["cost_table"]), supernet_run.table.space
    if costs.space != space:
        raise InputError(f"cost_table of '{path}' is of {costs.space}, the supernet of {space}; {remedy}")


def check_nni_tuner(name: str | None) -> None:
    """Raises InputError: NNI has no tuner of this name."""
    from nni.tools.package_utils import get_all_algo_meta

    names = [meta.name for meta in get_all_algo_meta() if meta.algo_type == "tuner"]
    if name not in names:
        raise InputError(unknown("tuner of NNI", name, names))


def make_tuner(class_name: str, arguments: dict[str, Any]) -> ArchTuner:
    """Build the tuner in this process once, as NNI will, so that its own errors come before an experiment is started.

    Args:
        class_name: the YAML's className, such as "strategies.evolution.EvolutionTuner".
        arguments: the YAML's classArgs.
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
    parameters = [*inspect.signature(tuner).parameters, *inspect.signature(ArchTuner).parameters]
    known = [key for key in dict.fromkeys(parameters) if key != "limits"]
    known += [field.name for field in dataclasses.fields(Limits)]
    for key in arguments:
        if key not in known:
            raise InputError(unknown(f"argument of {name}", key, known))
    try:
        return tuner(**arguments)
    except InputError:
        raise
    except Exception as error:  # a tuner that a user wrote may raise anything
        raise InputError(f"tuner {class_name} cannot be made: {type(error).__name__}: {error}") from None
