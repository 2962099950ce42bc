"""Look at remote workers before a search: can NNI log in, are the versions the same, is the right supernet there?

NNI copies the code (trialCodeDirectory, without what .nniignore names) to each worker at every start. Python with the same
versions, and the run of the supernet under the path that trialCommand names, have to be there: docs/clusters.md.
"""

from __future__ import annotations

import json
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from trials.common import cli, run_dir
from trials.scoring.fixed_images import cache_names
from trials.search_driver.plan import Plan

PACKAGES = ("nni", "torch", "torchvision")
NEEDED = ("config.json", "cost_table.json", "supernet.pt")
# Runs on the worker: run directory, then names of the cached images. Standard library only.
PROBE = """
import hashlib, json, os, platform, sys
from importlib import metadata
run, names = sys.argv[1], sys.argv[2:]
found = {"python": platform.python_version(), "folder": os.path.isdir(run)}
for package in %s:
    try:
        found[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
        found[package] = "absent"
files = %s
found["missing"] = [name for name in files if not os.path.exists(os.path.join(run, name))]
found["images"] = all(os.path.exists(os.path.join(run, "cache", name)) for name in names)
if "supernet.pt" not in found["missing"]:
    with open(os.path.join(run, "supernet.pt"), "rb") as file:
        found["supernet"] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
print(json.dumps(found))
""" % (PACKAGES, NEEDED)  # noqa: UP031 (braces)


def check(plan: Plan) -> None:
    """Log in to each worker and compare; prints a table. Nothing happens where trials run on this machine.

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
    rows = []
    for machine in plan.nni.training_service.machine_list:
        found = probe(machine, [run, *cache_names(plan.settings.calibration_images, plan.settings.scoring_images)])
        compare(plan, machine, found)
        images = "decoded" if found["images"] else "embedded"
        rows.append((name_of(machine), found["python"], found["torch"], found["nni"], found["supernet"], images))
    print(cli.table(rows, ("worker", "Python", "torch", "nni", "supernet", "images"), as_is=True))


def name_of(machine: Any) -> str:
    return f"{machine.user}@{machine.host}:{machine.port}"


def probe(machine: Any, arguments: list[str]) -> dict[str, Any]:
    """What a worker (NNI's RemoteMachineConfig) has. Raises InputError: no login, or no Python there."""
    import paramiko

    name = name_of(machine)
    python = f"{machine.python_path}/python" if machine.python_path else "python3"
    client = paramiko.SSHClient()
    client.load_system_host_keys()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # NNI itself asks for no host key
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


def compare(plan: Plan, machine: Any, found: dict[str, Any]) -> None:
    """Raises InputError: a worker lacks something, or has another version of it."""
    name, run = name_of(machine), plan.evaluate.run
    for package in PACKAGES:
        here = version(package)
        if found[package] != here:
            raise InputError(
                f"worker {name} has {package} {found[package]}, this machine {here}; install the same there (make setup in a clone), and "
                "name its .venv/bin as pythonPath"
            )
    copy = f"copy it there: rsync -a {plan.run}/ {machine.user}@{machine.host}:{run}/"
    if not found["folder"] or found["missing"]:
        lacks = f"'{run}'" if not found["folder"] else f"{', '.join(found['missing'])} in '{run}'"
        raise InputError(f"worker {name} lacks {lacks}; {copy}")
    if found["supernet"] != plan.supernet:
        raise InputError(
            f"worker {name} has another supernet in '{run}' ({found['supernet']}, here {plan.supernet}); {copy}"
        )
    data = run_dir.load_run(plan.run, "supernet")["data"]
    if not found["images"] and data != "digits":
        raise InputError(f"worker {name} lacks the decoded images in '{run}/cache'; {copy}")
