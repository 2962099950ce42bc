"""The options that say which weights a network starts from: fresh ones, those of its supernet, or pretrained ones."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any, ClassVar

from spaces.errors import InputError
from trials.common import places, run_files
from trials.common.cli import flag, option
from trials.networks.baselines import parse_baseline

FINETUNE = "finetune"  # of networks that do not start from fresh weights
FILE = "start.json"  # in a run whose networks do not
SUFFIX = {"pretrained": "-pretrained", "supernet": "-from-supernet"}  # of the folder of a run


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartOptions:
    """Which weights a network starts from; fresh ones where neither is given."""

    group: ClassVar[str] = "initial weights (fine-tuning)"

    pretrained: str | None = option(
        None,
        "Weights that --baseline timm:NAME starts from: a file (.pth, .pt, .safetensors), or hub for those in the cache of the "
        "Hugging Face hub; nothing is downloaded",
    )
    from_supernet: bool = option(
        False, "Start from the weights that --supernet has for the architecture, not from fresh ones"
    )

    @property
    def start(self) -> str:
        """What the network starts from: "pretrained", "supernet", or "" for fresh weights."""
        return "pretrained" if self.pretrained is not None else "supernet" if self.from_supernet else ""


def check_start(config: Any) -> None:
    """Refuse initial weights that the other options leave no place for.

    Args:
        config: the options of trials.retrain, before `out` is known.
    """
    library, name, _ = parse_baseline(config.baseline) if config.baseline else ("", "", {})
    if config.pretrained is not None:
        given = f"--pretrained '{config.pretrained}'"
        if config.from_supernet:
            raise InputError(f"{given} and --from-supernet: a network starts from one of them; leave the other out")
        if library != "timm":
            what = f"--baseline {config.baseline}" if config.baseline else "no --baseline"
            raise InputError(
                f"{given} with {what}: it is of --baseline timm:NAME; give that, or leave --pretrained out"
            )
        if not config.pretrained:
            raise InputError("--pretrained '' names no weights; give a file, or hub")
    elif library == "timm" and "." in name:
        raise InputError(
            f"--baseline {config.baseline}: '.{name.partition('.')[2]}' names pretrained weights, and this baseline is trained "
            "from scratch; give --pretrained FILE or --pretrained hub, or leave it out"
        )
    if not config.from_supernet:
        return
    for other in ("baseline", "import_official"):
        if getattr(config, other) is not None:
            raise InputError(
                f"--from-supernet with {flag(other)}: that network is in no supernet; leave one of them out"
            )
    if config.chooses:
        raise InputError(
            "--from-supernet with --top or --top-random: these train from scratch; choose first, then give --fixed-arc RUN/arc.json "
            "--from-supernet"
        )
    if config.supernet is None:
        raise InputError("--from-supernet needs --supernet RUN, whose weights the network starts from")


def check_start_folder(config: Any) -> None:
    """Refuse to put what does not start from fresh weights where trials.certify looks for what does."""
    own = config.supernet and Path(config.supernet) / "retrain"
    if config.start and own and os.path.realpath(config.out) == os.path.realpath(own):
        raise InputError(
            f"--out '{config.out}' is of networks that start from fresh weights, which trials.certify compares; choose another, or "
            "leave --out out"
        )


def retrain_folder(file: Path, suffix: str) -> Path:
    """Where the architecture of a file is trained: retrain/ beside it, unless that is of the winner of an earlier search.

    Args:
        suffix: of the folder's name, by what the network starts from.
    """
    winner = None
    with contextlib.suppress(InputError):  # what is wrong with the file is said where it is needed
        winner = run_files.read_if_there(file, "fixed arc")
    return places.winners_folder(file.parent, winner, suffix)
