"""Find everything that is wrong with an experiment before anything is started."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.cost import CostTable, measure
from spaces.errors import InputError, shown, unknown, user_code
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
from trials.scoring.score_value import metric_name
from trials.search_driver import experiment_file, experiment_yaml

if TYPE_CHECKING:
    from nni.experiment.config import ExperimentConfig

TUNERS = (
    "strategies.evolution.EvolutionTuner",
    "strategies.model_guided.ModelGuidedTuner",
    "strategies.pareto.ParetoTuner",
    "strategies.random_search.RandomTuner",
)

# NNI's own tuners that ran on these spaces. GP, Metis, Batch, PBT, Hyperband, RegularizedEvolutionTuner and NetworkMorphism
# cannot take choices that are names; SMAC, BOHB, DNGO, PPOTuner and Anneal need packages that Onepath does not.
NNI_TUNERS = ("Evolution", "GridSearch", "Random", "TPE")


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
        return experiment_yaml.service_of(self.content)

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
    path = experiment_file.find_yaml(path)
    if run is None and path.match("search*.yml") and path.exists() and (path.parent / "supernet.pt").exists():
        experiment_file.follow_run(path.parent, path.name)
    content = experiment_yaml.read_yaml(path)
    evaluate = experiment_yaml.trial_options(path, content)

    # the supernet, and whether the YAML's search space is its space
    supernet_run = SupernetRun.open(experiment_yaml.run_folder(path, content, evaluate) if run is None else run)
    _ = supernet_run.checkpoint  # a damaged one is refused here
    remedy = check_space(path, content, supernet_run)

    # the tuner, and the limits that it searches within
    class_args = content["tuner"].get("classArgs") or {}
    tuner = None
    if "className" in content["tuner"]:
        check_cost_table(path, class_args, supernet_run, remedy)
        tuner = make_tuner(content["tuner"]["className"], class_args)
        feasible = tuner.feasible
    else:
        check_nni_tuner(content["tuner"]["name"], class_args)
        table = supernet_run.table
        latency = LatencyTable.load(CLONE / evaluate.latency_table, table) if evaluate.latency_table else None
        feasible = FeasibleSpace(table, evaluate.limits(), latency)

    # how many trials, and where they run
    wanted: Any = max_trials if max_trials is not None else content.get("maxTrialNumber")
    at_once = concurrency if concurrency is not None else content.get("trialConcurrency", 1)
    experiment_yaml.check_count(path, "maxTrialNumber", wanted)
    experiment_yaml.check_count(path, "trialConcurrency", at_once)
    service = experiment_yaml.service_of(content)
    experiment_yaml.check_service(path, service, content.get("nniManagerIp"), warm=evaluate.warm)
    named = "--concurrency" if concurrency is not None else f"trialConcurrency of '{path}'"
    experiment_yaml.check_concurrency(named, at_once, service["platform"])
    return Plan(
        yaml=path,
        content=content,
        supernet_run=supernet_run,
        feasible=feasible,
        evaluate=evaluate,
        tuner=tuner,
        nni=experiment_yaml.nni_config(path, at_once, wanted, metric_name(evaluate.score_by)),
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
    where = "searchSpace" if content.get("searchSpace") is not None else "searchSpaceFile"
    offered = content[where]
    if where == "searchSpaceFile":
        offered = load_json(path.parent / offered, "search space")
    entries = list(offered.values()) if isinstance(offered, dict) else [None]
    if not all(isinstance(entry, dict) and entry.get("_type") == "choice" and "_value" in entry for entry in entries):
        raise InputError(f"{where} of '{path}' does not name its choices as NNI asks; {remedy}")
    if {label: entry["_value"] for label, entry in offered.items()} != supernet_run.table.choices:
        raise InputError(f"{where} of '{path}' is not the space of supernet '{supernet_run.path}'; {remedy}")
    return remedy


def check_cost_table(path: Path, class_args: dict[str, Any], supernet_run: SupernetRun, remedy: str) -> None:
    """Raises InputError: the tuner has no cost table, or that of another space than the supernet's."""
    if not isinstance(class_args.get("cost_table"), str):
        given = f", which is '{shown(class_args['cost_table'])}'" if "cost_table" in class_args else ""
        raise InputError(
            f"classArgs of '{path}' lacks 'cost_table'{given}; give the file in the run, for example {supernet_run.path}/cost_table.json"
        )
    costs, space = CostTable.load(CLONE / class_args["cost_table"]), supernet_run.table.space
    if costs.space != space:
        raise InputError(
            f"cost_table of '{path}' is of {costs.space}, the supernet of {space}; give cost_table: {supernet_run.path / 'cost_table.json'}, or {remedy}"
        )


def check_nni_tuner(name: str, arguments: dict[str, Any]) -> None:
    """Check one of NNI's own tuners.

    Raises:
        InputError: NNI has none of this name, it cannot search these spaces, or it refuses its arguments.
    """
    from nni.tools.package_utils import create_builtin_class_instance, get_all_algo_meta

    others = [meta.name for meta in get_all_algo_meta() if meta.algo_type == "tuner" and meta.name not in NNI_TUNERS]
    if name in others:
        raise InputError(
            f"NNI's tuner {name} cannot search these spaces, whose choices are names, or needs packages that are not installed; "
            f"choose from: {', '.join(NNI_TUNERS)}, or take strategies.evolution.EvolutionTuner"
        )
    if name not in NNI_TUNERS:
        raise InputError(unknown("tuner of NNI", name, NNI_TUNERS))
    try:
        create_builtin_class_instance(name, dict(arguments), "tuners")
    except Exception as error:  # each of them raises what it likes
        raise InputError(f"NNI's tuner {name} refuses its classArgs {shown(arguments)}: {shown(str(error))}") from None


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
        with user_code(f"tuner {class_name}"):
            tuner = getattr(importlib.import_module(module), name)
    except InputError as error:
        if isinstance(
            error.__cause__, ImportError | AttributeError | ValueError | TypeError
        ):  # there is none of this name
            raise InputError(unknown("tuner", class_name, TUNERS)) from None
        raise
    if not (isinstance(tuner, type) and issubclass(tuner, ArchTuner)):
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
        raise InputError(f"tuner {class_name} cannot be made: {type(error).__name__}: {shown(str(error))}") from None
