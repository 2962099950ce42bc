"""Check remote workers before a search: can NNI log in, are the versions the same, is the right supernet there?

NNI copies the code (trialCodeDirectory without the files that .nniignore names) to each worker at every start. Two things
have to be there already: Python with the same versions of packages, and the run of the supernet under the path that
trialCommand names. docs/clusters.md says how to bring them there.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.errors import InputError
from trials.common import cli
from trials.scoring.fixed_images import cache_names
from trials.search_driver.plan import Plan

if TYPE_CHECKING:
    from nni.experiment.config import RemoteMachineConfig

PACKAGES = ("nni", "torch", "torchvision")  # must have the same versions on a worker as here
NEEDED = ("config.json", "cost_table.json", "supernet.pt")  # files of a run that a trial reads
# This program runs on the worker, with the standard library alone. Its arguments: the run directory, then the names of
# the files with decoded images. It prints a JSON object.
PROBE = """
import hashlib, json, os, platform, sys
from importlib import metadata
run, names = sys.argv[1], sys.argv[2:]
state = {"python": platform.python_version(), "folder": os.path.isdir(run)}
for package in %s:
    try:
        state[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
        state[package] = "absent"
files = %s
state["missing"] = [name for name in files if not os.path.exists(os.path.join(run, name))]
state["images"] = all(os.path.exists(os.path.join(run, "cache", name)) for name in names)
if "supernet.pt" not in state["missing"]:
    with open(os.path.join(run, "supernet.pt"), "rb") as file:
        state["supernet"] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
print(json.dumps(state))
""" % (PACKAGES, NEEDED)  # noqa: UP031 (braces)


def check_workers(plan: Plan) -> None:
    """Log in to each worker, compare it with this machine, and print a table; does nothing where trials run here.

    Raises:
        InputError: naming the first worker that is not ready, and what it lacks.
    """
    if plan.service["platform"] != "remote":
        return
    run = plan.evaluate.run
    if not Path(run).is_absolute():
        raise InputError(
            f"--run {run} of trialCommand is a relative path, and a worker would look for it in NNI's copy of the code; give the "
            "absolute path on the workers"
        )
    settings = plan.settings
    finetune = settings.finetune_steps > 0
    cached = cache_names(settings.calibration_images, settings.scoring_images, finetune=finetune)
    rows = []
    for machine in plan.nni.training_service.machine_list:
        state = probe_worker(machine, [run, *cached])
        require_ready(plan, machine, state)
        images = "decoded" if state["images"] else "embedded"
        rows.append((worker_name(machine), state["python"], state["torch"], state["nni"], state["supernet"], images))
    print(cli.table(rows, ("worker", "Python", "torch", "nni", "supernet", "images"), as_is=True))


def worker_name(machine: RemoteMachineConfig) -> str:
    """A worker as error messages and tables name it: USER@HOST:PORT."""
    return f"{machine.user}@{machine.host}:{machine.port}"


def probe_worker(machine: RemoteMachineConfig, arguments: list[str]) -> dict[str, Any]:
    """Run PROBE on a worker.

    Args:
        machine: how NNI logs in there.
        arguments: for PROBE: the run directory on the worker, then the names of the files with decoded images.
    Returns:
        Versions by package; "folder" and "images": whether they are there; "missing": names of files; "supernet": its hash.
    Raises:
        InputError: no login, or Python does not run there.
    """
    import paramiko

    name = worker_name(machine)
    python = f"{machine.python_path}/python" if machine.python_path else "python3"
    client = paramiko.SSHClient()
    client.load_system_host_keys()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # as NNI itself does: it checks no host key
    try:
        client.connect(
            machine.host,
            port=machine.port,
            username=machine.user,
            password=machine.password,
            key_filename=str(machine.ssh_key_file) if machine.ssh_key_file else None,
            passphrase=machine.ssh_passphrase,
            allow_agent=False,
            look_for_keys=False,
            timeout=20,
        )
        stdin, stdout, stderr = client.exec_command(shlex.join([python, "-", *arguments]), timeout=120)
        with contextlib.suppress(OSError):  # the channel is closed where Python did not start, which the errors say
            stdin.write(PROBE)
            stdin.channel.shutdown_write()
        output, errors = stdout.read().decode(errors="replace"), stderr.read().decode(errors="replace")
    except (OSError, paramiko.SSHException) as error:
        raise InputError(
            f"cannot log in to worker {name}: {error or type(error).__name__}; check host, port, user and key"
        ) from None
    finally:
        client.close()
    try:
        return json.loads(output)
    except json.JSONDecodeError:
        reason = (errors.strip().splitlines() or ["it printed nothing"])[-1]
        raise InputError(f"'{python}' does not run on worker {name}: {reason}; check pythonPath") from None


def require_ready(plan: Plan, machine: RemoteMachineConfig, state: dict[str, Any]) -> None:
    """Compare a worker with this machine.

    Args:
        state: what `probe_worker` returned.
    Raises:
        InputError: the worker lacks something, or has another version of it.
    """
    name, run = worker_name(machine), plan.evaluate.run
    for package in PACKAGES:
        here = version(package)
        if state[package] != here:
            raise InputError(
                f"worker {name} has {package} {state[package]}, this machine {here}; install the same there (make setup in a clone), and "
                "name its .venv/bin as pythonPath"
            )
    copy = f"copy it there: rsync -a {plan.run}/ {machine.user}@{machine.host}:{run}/"
    if not state["folder"] or state["missing"]:
        lacks = f"'{run}'" if not state["folder"] else f"{', '.join(state['missing'])} in '{run}'"
        raise InputError(f"worker {name} lacks {lacks}; {copy}")
    if state["supernet"] != plan.supernet:
        raise InputError(
            f"worker {name} has another supernet in '{run}' ({state['supernet']}, here {plan.supernet}); {copy}"
        )
    data = plan.supernet_run.config["data"]
    if not state["images"] and data != "digits":
        raise InputError(f"worker {name} lacks the decoded images in '{run}/cache'; {copy}")
