"""What NNI needs before its manager starts: folders that can be written to, and the environment that it reads."""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import tempfile
import warnings
from pathlib import Path

from spaces.errors import InputError
from spaces.files import CLONE
from trials.search_driver.plan import Plan
from trials.search_driver.ports import listen_host

GUARD = CLONE / "trials" / "nni_guard.js"


def check_folders(plan: Plan) -> None:
    """Make the folders that NNI writes to, and write to them.

    NNI itself fails somewhere later without one of them: in the manager, or in the tuner, which then dies without a word.

    Raises:
        InputError: one of them cannot be made or written to, and what decides where it is.
    """
    from nni.runtime.config import get_config_directory

    home = Path.home() / "nni-experiments"  # NNI's list of all experiments
    work = Path(plan.nni.experiment_working_directory)
    folders = [(work, f"experimentWorkingDirectory of '{plan.yaml}'"), (home, f"HOME, which is '{Path.home()}'")]
    for folder, decides in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise InputError(
                f"NNI cannot write to folder '{folder}' ({error.strerror}); give another by {decides}"
            ) from None
    try:
        get_config_directory()
    except OSError as error:
        raise InputError(
            f"NNI cannot make its folder '{error.filename}' ({error.strerror}); set NNI_CONFIG_DIR to a folder of yours"
        ) from None


def silence_nni() -> None:
    """Switch off NNI's own messages: they are in another style, and everything appears twice."""
    warnings.filterwarnings("ignore", category=UserWarning)  # pkg_resources, imported by NNI
    logging.getLogger("nni").setLevel(logging.CRITICAL)


def prepare_environment(plan: Plan) -> None:
    """Set what NNI's manager reads from its environment: the guard, who owns the manager, where it listens."""
    node_options = os.environ.get("NODE_OPTIONS", "")
    if str(GUARD) not in node_options:
        os.environ["NODE_OPTIONS"] = f'{node_options} --require "{GUARD}"'.strip()
    os.environ["ONEPATH_OWNER"] = str(os.getpid())  # the guard ends the manager when this process is gone
    # On resume, NNI would go on with the configuration that it was created with; the guard gives it this one
    os.environ["ONEPATH_CONFIG"] = json.dumps(plan.nni.json())
    # Requests to this machine itself need no proxy, whatever http_proxy says
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*hosts, "localhost", "127.0.0.1"]))
    # The trials' `python` must be the one of this environment
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    address = plan.content.get("nniManagerIp")
    if plan.remote and address:  # the workers call back to this address
        os.environ.setdefault("NNI_LISTEN_HOST", address)
    os.environ["NNI_LISTEN_HOST"] = listen_host()
    # A port that other machines reach asks for a token; trials on services other than these two would not know it
    if plan.service["platform"] in ("local", "remote") and not listen_host().startswith("127."):
        os.environ.setdefault("NNI_TOKEN", secrets.token_urlsafe(16))
