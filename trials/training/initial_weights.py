"""The weights that a network starts from: fresh ones, those of its supernet, or pretrained ones; what is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from spaces.errors import InputError
from spaces.files import save_json
from spaces.spec import SpaceSpec
from trials.common import run_dir, run_files
from trials.common.supernet_run import SupernetRun
from trials.networks.build import build_network
from trials.networks.pretrained import Input, find_weights, input_of, load_weights
from trials.training.retrain_config import Config
from trials.training.start_options import FILE


class Start(NamedTuple):
    """What a network starts from.

    Attributes:
        about: what start.json, network.pt and result.json say: `kind`, `file`, `hash`, `loaded`; {} for fresh weights.
        notes: what may surprise, a line each.
    """

    about: dict[str, Any]
    notes: list[str]


def make_network(config: Config, description: Mapping[str, Any]) -> nn.Module:
    """Make the network of a training, with the weights that it starts from.

    Args:
        config: the options of trials.retrain.
        description: a network description, see trials.networks.build.
    Raises:
        InputError: the weights cannot be read, or are not of this network.
    """
    if config.start == "supernet":
        chain = SpaceSpec.read(description["space"]).describe()
        return chain.network(description["arch"], SupernetRun.open(str(config.supernet)).weights, affine=True)
    network = build_network(description)
    if config.start == "pretrained":
        load_weights(network, str(config.baseline), find_weights(str(config.pretrained), str(config.baseline)))
    return network


def expected_input(config: Config) -> Input | None:
    """What images the pretrained weights expect; None where there are none."""
    return input_of(str(config.baseline)) if config.start == "pretrained" else None


def check_start(config: Config, description: Mapping[str, Any], resolution: int) -> Start:
    """Try the initial weights before anything is written.

    Args:
        resolution: height and width of the images, pixels.
    Raises:
        InputError: as for `make_network`.
    """
    if not config.start:
        return Start({}, [])
    if config.start == "supernet":
        make_network(config, description)
        file = SupernetRun.open(str(config.supernet)).supernet_file
        note = f"fine-tuning: starts from the weights of this path in '{file}', not from fresh ones"
        return Start({"kind": "supernet", "file": str(file), "hash": run_dir.file_hash(file)}, [note])
    file = find_weights(str(config.pretrained), str(config.baseline))
    loaded = load_weights(build_network(description), str(config.baseline), file)
    about = {"kind": "pretrained", "file": str(file), "hash": run_dir.file_hash(file), "loaded": str(loaded)}
    expects = input_of(str(config.baseline))
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (expects.mean, expects.std))
    notes = [
        f"fine-tuning: starts from pretrained weights, '{file}': {loaded}",
        f"images are normalised as timm says of these weights: mean {mean}, std {std}",
    ]
    if resolution != expects.resolution:
        notes.append(
            f"note: timm says {expects.resolution}x{expects.resolution} pixels of these weights, and the images are "
            f"{resolution}x{resolution}; as they were made: --resolution {expects.resolution}"
        )
    return Start(about, notes)


def keep_start(run: Path, start: Start) -> None:
    """Write start.json into a run; nothing for fresh weights.

    Raises:
        InputError: the run was begun with other initial weights.
    """
    path = run / FILE
    begun = run_dir.begun(run)
    stored = run_files.read_if_there(path, "initial weights", {})
    was, now = (about.get("hash") for about in (stored, start.about))
    if begun and was != now:
        said = [f"'{about['file']}' ({about['hash']})" if about else "fresh weights" for about in (stored, start.about)]
        raise InputError(f"'{run}' was started from {said[0]}, not from {said[1]}; give the former, or another --out")
    if start.about and not begun:
        save_json(path, start.about)
