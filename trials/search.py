"""Search a supernet with an NNI experiment: guarded, watched, in the foreground.

    python -m trials.search experiments/quickstart.yml
    python -m trials.search experiments/spos_evo.yml --port 8090 --concurrency 8

The same YAML works with `nnictl create --config`. This command adds: everything is checked before NNI starts; NNI's
known faults are mended (trials/nni_guard.js); a dead tuner or a stalled experiment stops it with the reason; at the
end the best architecture is written to arc.json in the run directory that the YAML's trialCommand names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import logging
import os
import shlex
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import spaces
from spaces.arch import arch_id, save_arch
from spaces.cost import CostTable, measure
from spaces.errors import InputError, unknown
from spaces.files import load_json, save_json
from strategies.limits import Feasible, Limits, amount
from trials import cli, run_dir
from trials.cli import option

CLONE = Path(__file__).resolve().parent.parent
GUARD = CLONE / "trials" / "nni_guard.js"
TUNERS = (
    "strategies.evolution.EvolutionTuner",
    "strategies.model_guided.ModelGuidedTuner",
    "strategies.pareto.ParetoTuner",
    "strategies.random_search.RandomTuner",
)
POLL_SECONDS = 1.0
DEAD_SECONDS = 5.0  # a tuner gone for this long is dead


@dataclasses.dataclass(frozen=True)
class Config:
    experiment: str = option(help="experiment YAML")
    port: int | None = option(None, "of NNI's web portal (default: 8080, or the next free one)")
    concurrency: int | None = option(None, "trials at a time (default: trialConcurrency of the YAML)")
    max_trials: int | None = option(None, "trials in all (default: maxTrialNumber of the YAML)")
    stall_minutes: float = option(60, "stop when no trial has ended for so long")


@dataclasses.dataclass(frozen=True)
class Plan:
    """An experiment that has passed all checks."""

    yaml: Path
    content: dict[str, Any]
    run: Path  # of the supernet
    table: CostTable
    limits: Limits
    arguments: list[str]  # of trials.evaluate


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__, positional="experiment")
    plan = check(Path(config.experiment))
    port = choose_port(config.port)
    prepare_images(plan)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with experiment(plan, config, port) as (rest, workdir):
        jobs = watch(plan, config, rest, workdir)
    finish(plan, jobs, workdir)


def check(path: Path) -> Plan:
    """Find what is wrong with an experiment before anything is started.

    Raises:
        InputError: a missing file or key, an unfinished supernet, a mismatch, or a limit out of reach.
    """
    import yaml

    if not path.is_file():
        raise InputError(f"experiment '{path}' does not exist; choose one: {', '.join(known_experiments())}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"experiment '{path}' is not valid YAML: {' '.join(str(error).split())}") from None
    needed = ("searchSpaceFile", "trialCommand", "trialCodeDirectory", "experimentWorkingDirectory", "tuner")
    for key in needed:
        if not isinstance(content, dict) or key not in content:
            raise InputError(f"experiment '{path}' lacks '{key}'; compare it with experiments/quickstart.yml")

    words = shlex.split(content["trialCommand"])
    if "trials.evaluate" not in words or "--run" not in words[:-1]:
        raise InputError(f"trialCommand of '{path}' must be: python -m trials.evaluate --run RUN ...")
    arguments = words[words.index("trials.evaluate") + 1 :]
    code = (path.parent / content["trialCodeDirectory"]).resolve()
    run = code / words[words.index("--run") + 1]
    run = Path(os.path.relpath(run)) if run.is_relative_to(Path.cwd()) else run
    run_dir.load_run(run, "supernet")
    if not (run / "supernet.pt").exists():
        raise InputError(f"'{run}' is not trained to the end; run trials.supernet with --resume first")
    run_dir.load_checkpoint(run / "supernet.pt", "supernet", mmap=True)
    table = CostTable.load(run / "cost_table.json")

    about = table.space
    numbers = {"classes": about["classes"], "resolution": about["resolution"]}
    chain = spaces.describe(about["name"], about["preset"], **numbers, **about["options"])
    if not table.same_costs(measure(chain)):
        raise InputError(f"space {about['name']} is not what it was when supernet '{run}' was trained; restore it")
    remedy = (
        f"write both again with: python -m trials.space {about['name']} --preset {about['preset']} "
        f"--classes {about['classes']} --resolution {about['resolution']} --out FOLDER"
    )
    if about["options"]:
        remedy += f" --space-options {cli.space_options_text(about['options'])}"
    offered = load_json(path.parent / content["searchSpaceFile"], "search space")
    if {label: entry["_value"] for label, entry in offered.items()} != table.choices:
        raise InputError(f"searchSpaceFile of '{path}' is not the space of supernet '{run}'; {remedy}")

    tuner = content["tuner"]
    given = dict(tuner.get("classArgs") or {})
    if "className" in tuner:
        if tuner["className"] not in TUNERS:
            raise InputError(unknown("tuner", tuner["className"], TUNERS))
        costs = CostTable.load(CLONE / str(given.get("cost_table", "")))
        if costs.space != about:
            raise InputError(f"cost_table of '{path}' is of {costs.space}, the supernet of {about}; {remedy}")
        make_tuner(tuner["className"], given)  # its constructor refuses bad numbers and limits out of reach
        names = [field.name for field in dataclasses.fields(Limits)]
        limits = Limits.of({name: given[name] for name in names if name in given})
    else:
        most = arguments[arguments.index("--max-macs") + 1] if "--max-macs" in arguments else None
        limits = Limits(max_macs=amount(most, "--max-macs") if most else None)
        Feasible(table, limits)
    return Plan(path, content, run, table, limits, arguments)


def make_tuner(class_name: str, arguments: dict[str, Any]) -> Any:
    """Build the tuner here once, as NNI will; its own errors come before an experiment is started."""
    import importlib

    module, _, name = class_name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)(**arguments)
    except TypeError as error:
        raise InputError(f"classArgs of {name}: {str(error).split('() ')[-1]}") from None


def known_experiments() -> list[str]:
    return sorted(f"experiments/{path.name}" for path in (CLONE / "experiments").glob("*.yml"))


def choose_port(wanted: int | None) -> int:
    """The port asked for, or the first free one from 8080 on.

    Raises:
        InputError: the port asked for is in use.
    """

    def free(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0 and reserve(port)

    if wanted is not None:
        if not 1 <= wanted <= 65535:
            raise InputError(f"--port {wanted} is not a port; give 1 to 65535")
        if not free(wanted):
            raise InputError(f"--port {wanted} is in use; give another, or leave --port out for a free one")
        return wanted
    for port in range(8080, 8180):
        if free(port):
            return port
    raise InputError("ports 8080 to 8179 are all in use; give a free one with --port")


def reserve(port: int) -> bool:
    """Keep a port from other searches on this machine until this process ends: NNI takes seconds to open it."""
    try:
        handle = os.open(Path(tempfile.gettempdir()) / f"onepath-port-{port}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the handle stays open on purpose
    except OSError:
        return False
    return True


def prepare_images(plan: Plan) -> None:
    """Decode the fixed images once, so that no trial has to."""
    from trials.evaluate import Config as EvaluateConfig
    from trials.scoring import Scorer, Settings

    config = cli.parse(EvaluateConfig, plan.arguments, None)
    settings = Settings(config.calibration_images, config.scoring_images, config.batch_size)
    Scorer(plan.run, settings, "cpu")


@contextlib.contextmanager
def experiment(plan: Plan, config: Config, port: int) -> Iterator[tuple[Any, Path]]:
    """Run an NNI manager while the body runs, and stop it afterwards, whatever happens."""
    os.environ["NODE_OPTIONS"] = f"--require {GUARD}"
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `python` of the trials
    import warnings

    warnings.filterwarnings("ignore", category=UserWarning)  # pkg_resources, imported by NNI
    from nni.experiment import Experiment, RunMode, rest
    from nni.experiment.config import ExperimentConfig

    logging.getLogger("nni").setLevel(logging.CRITICAL)
    try:
        settings = ExperimentConfig.load(plan.yaml)
        settings.trial_concurrency = config.concurrency or settings.trial_concurrency
        settings.max_trial_number = config.max_trials or settings.max_trial_number
        settings.validate()
    except Exception as error:  # NNI raises all kinds here
        raise InputError(f"experiment '{plan.yaml}': {' '.join(str(error).split())}") from None
    manager = Experiment(settings)
    workdir = Path(settings.canonical_copy().experiment_working_directory) / manager.id
    try:
        try:
            manager.start(port, run_mode=RunMode.Detach)
        except Exception as error:
            raise InputError(f"NNI did not start: {error}; see {workdir / 'log'}") from None
        logging.getLogger("nni").setLevel(logging.CRITICAL)
        print(f"experiment {manager.id}: portal http://127.0.0.1:{port}, log {workdir / 'log'}")
        yield lambda api: rest.get(port, api), workdir
    finally:
        if manager._proc is not None:
            stop(manager)


def stop(manager: Any) -> None:
    """Ask the manager to end; kill its processes when it does not, and never leave one behind."""
    import psutil

    process = manager._proc
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        with contextlib.redirect_stderr(None):
            manager.stop()
        _, alive = psutil.wait_procs(children, timeout=5)
        for child in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def watch(plan: Plan, config: Config, rest: Any, workdir: Path) -> list[dict[str, Any]]:
    """Show progress until the experiment is done.

    Returns:
        NNI's trial jobs.
    Raises:
        InputError: the tuner or the experiment failed, or nothing moves; with the reason from NNI's logs.
    """
    total = config.max_trials or int(plan.content.get("maxTrialNumber") or 0)
    best: dict[str, Any] | None = None
    ended: set[str] = set()
    moved = tuner_seen = time.monotonic()
    bar = cli.progress(total, desc="search", unit="arch")
    try:
        while True:
            try:
                status = rest("/check-status")
                jobs = rest("/trial-jobs")
            except Exception as error:
                raise InputError(
                    f"NNI's manager stopped answering ({type(error).__name__}); see {workdir / 'log'}"
                ) from None
            for job in jobs:
                if job["trialJobId"] in ended or job["status"] in ("WAITING", "RUNNING", "UNKNOWN"):
                    continue
                ended.add(job["trialJobId"])
                moved = time.monotonic()
                result = score_of(plan, job)
                if result and (best is None or result["top1"] > best["top1"]):
                    best = result
                if best:
                    bar.set_postfix_str(f"best {best['top1']:.2f}% at {best['macs'] / 1e6:.2f}M MACs", refresh=False)
                bar.update()
            if status["status"] in ("DONE", "STOPPED"):
                return jobs
            if status["status"] == "ERROR":
                reason = "; ".join(status.get("errors") or []) or last_error(workdir)
                raise InputError(f"the experiment failed: {reason}; see {workdir / 'log'}")
            failed = [job for job in jobs if job["status"] == "FAILED"]
            if len(failed) >= 3 and len(failed) == len(ended):
                raise InputError(
                    f"the first {len(failed)} trials failed: {trial_error(workdir, failed[0]['trialJobId'])}"
                )
            now = time.monotonic()
            if dispatcher_alive(workdir):
                tuner_seen = now
            elif now - tuner_seen > DEAD_SECONDS:
                raise InputError(f"the tuner died: {last_error(workdir)}; see {workdir / 'log' / 'dispatcher.log'}")
            if now - moved > config.stall_minutes * 60:
                raise InputError(
                    f"no trial ended for {config.stall_minutes:g} minutes: {last_error(workdir)}; see {workdir / 'log'}"
                )
            time.sleep(POLL_SECONDS)
    finally:
        bar.close()


def dispatcher_alive(workdir: Path) -> bool:
    """True while the process that runs the tuner of this experiment lives."""
    import psutil

    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        if "--exp_params" in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            with contextlib.suppress(psutil.Error):
                if process.environ().get("NNI_LOG_DIRECTORY", "").startswith(str(workdir)):
                    return True
    return False


def last_error(workdir: Path) -> str:
    """The last line of the last traceback in dispatcher.log."""
    path = workdir / "log" / "dispatcher.log"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback")]
    if not starts:
        return "no error in dispatcher.log"
    for line in lines[starts[-1] + 1 :]:
        if line and not line[0].isspace():
            return line
    return lines[-1]


def trial_error(workdir: Path, trial: str) -> str:
    """The last line that a trial printed."""
    folder = workdir / "environments" / "local-env" / "trials" / trial
    for name in ("trial.stderr", "trial.log", "stderr", "trial.stdout"):
        path = folder / name
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        if lines:
            return lines[-1].removeprefix("error: ")
    return f"it printed nothing; see {folder}"


def score_of(plan: Plan, job: dict[str, Any]) -> dict[str, Any] | None:
    """The stored score of a trial, looked up by its architecture; None when it has none or breaks the limits."""
    import json

    if job["status"] != "SUCCEEDED" or not job.get("hyperParameters"):
        return None
    arch = json.loads(job["hyperParameters"][0])["parameters"]
    path = plan.run / "search" / f"{arch_id(arch)}.json"
    if not path.exists():
        return None
    result = load_json(path, "score")
    return result if plan.limits.met_by(result["macs"], result["params"]) else None


def finish(plan: Plan, jobs: list[dict[str, Any]], workdir: Path) -> None:
    """Write arc.json and search.json, and print a table."""
    results = [result for job in jobs if (result := score_of(plan, job))]
    if not results:
        errors = [trial_error(workdir, job["trialJobId"]) for job in jobs if job["status"] == "FAILED"]
        reason = f" ({errors[-1]})" if errors else ""
        raise InputError(f"no architecture within the limits got a score{reason}; see {workdir / 'log'}")
    results.sort(key=lambda result: result["finished"])
    state_path = workdir / "checkpoint" / "tuner.json"
    asked = load_json(state_path, "tuner state")["asked"] if state_path.exists() else {}
    history = [
        {"id": arch_id(result["arch"]), "generation": asked.get(arch_id(result["arch"]), {}).get("generation")}
        for result in results
    ]
    tuner = plan.content["tuner"]
    summary = {
        "experiment": workdir.name,
        "yaml": plan.yaml.name,
        "tuner": tuner.get("className", tuner.get("name")),
        "limits": dataclasses.asdict(plan.limits),
        "share_of_space": Feasible(plan.table, plan.limits).share(),
        "trials": {status: sum(job["status"] == status for job in jobs) for status in {job["status"] for job in jobs}},
        "history": history,
    }
    save_json(plan.run / "search.json", summary)
    best = max(results, key=lambda result: result["top1"])
    save_arch(plan.run / "arc.json", best["arch"])

    top = sorted(results, key=lambda result: -result["top1"])[:5]
    rows = [(arch_id(r["arch"]), r["top1"], r["top1_before_recalibration"], r["macs"], r["params"]) for r in top]
    print(cli.table(rows, ("architecture", "top-1 %", "before BN recal.", "MACs", "params")))
    failed = len(jobs) - len(results)
    print(f"{len(results)} architectures scored" + (f", {failed} trials without a score" if failed else ""))
    print(f"limits ({plan.limits}) leave {100 * summary['share_of_space']:.1f}% of the space")
    print(f"best architecture: {plan.run / 'arc.json'}")


if __name__ == "__main__":
    cli.run(main)
