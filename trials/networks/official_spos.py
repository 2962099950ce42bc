"""Checkpoints of the official SPOS code (megvii-model/SinglePathOneShot), read into our names.

Two layouts, each with or without `module.` before every name, bare or inside {"state_dict": ...}:

    supernet   first_conv, features.{block}.{candidate}.branch_main / branch_proj.{layer}, conv_last, classifier.0
    network    first_conv, features.{block}.branch_main / branch_proj.{layer}, conv_last, classifier.0

The official networks see BGR images in 0..255 without normalisation. Nothing in a file is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

import spaces
from spaces.chain import Chain
from spaces.errors import InputError
from spaces.spos import STAGES, WIDTHS
from trials.common.run_dir import load_checkpoint

Weights = dict[str, torch.Tensor]
ORDER = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
SHARED = {"first_conv.": "stem.", "conv_last.": "head.0.", "classifier.0.": "head.4."}
CANDIDATES = ("k3", "k5", "k7", "xception")


@dataclass(frozen=True)
class Imported:
    """An official checkpoint in our names.

    Attributes:
        weights: a supernet's, or a fixed network's, for `spaces.describe("spos", "imagenet", **options)`.
        classes: of its classifier.
        arch, options: of a fixed network; None and {} for a supernet.
    """

    weights: Weights
    classes: int
    arch: dict[str, Any] | None
    options: dict[str, Any]


def read(path: str) -> Imported:
    """Read a checkpoint of either layout.

    Raises:
        InputError: the file is missing, damaged, or something else.
    """
    content = load_checkpoint(path, "official checkpoint", fix="download it again")
    state = content.get("state_dict", content)
    names = [str(name).removeprefix("module.") for name in state] if isinstance(state, dict) else []
    blocks = {name.split(".")[1] for name in names if re.match(r"features\.\d+\.", name)}
    if "classifier.0.weight" not in names or len(blocks) != 20:
        found = ", ".join(names[:3]) or "no tensors"
        raise InputError(
            f"'{path}' is no official SPOS checkpoint (found: {found}); give checkpoint-150000.pth.tar or a network of "
            "that code, with first_conv, 20 features, conv_last and classifier.0"
        )
    try:
        given = _checked(names, list(state.values()))
        classes = len(given["classifier.0.weight"])
        if "features.0.0.branch_main.0.weight" in given:
            chain = spaces.describe("spos", "imagenet", classes=classes)
            return Imported(_supernet(given, chain), classes, None, {})
        arch, options = _infer(given)
        chain = spaces.describe("spos", "imagenet", classes=classes, affine=True, **options)
        return Imported(_network(given, chain, arch), classes, arch, options)
    except (KeyError, ValueError) as error:  # a name or a shape that the official code never writes
        raise InputError(f"'{path}' is no official SPOS checkpoint: {error}; download it again") from None


def _checked(names: list[str], values: list[Any]) -> Weights:
    """Names of layers, each once, and finite dense tensors in 32 bits."""
    given: Weights = {}
    for name, tensor in zip(names, values, strict=True):
        if not re.fullmatch(r"(first_conv|features\.\d+|conv_last|classifier)\S*\.\d+\.\w+", name) or name in given:
            raise ValueError(f"'{name}' is unknown or stands there twice")
        if name.rsplit(".", 1)[1] not in ORDER:
            raise ValueError(f"'{name}' is unknown")
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_meta:
            raise ValueError(f"'{name}' is a {type(tensor).__name__}, not a dense tensor")
        counter = name.endswith("num_batches_tracked")
        if not counter and not (tensor.is_floating_point() and tensor.dim() > 0 and bool(tensor.isfinite().all())):
            raise ValueError(f"'{name}' is not made of finite floating-point numbers")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise ValueError(f"'{name}' has a negative variance")
        given[name] = tensor if counter else tensor.float()
    return given


def read_supernet(path: str, space: str, preset: str, options: str) -> Imported:
    """Read a supernet for `trials.supernet --import-official`.

    Raises:
        InputError: also when the file holds a fixed network, or other flags ask for another space.
    """
    _refuse_other_spaces(space, preset, options)
    found = read(path)
    if found.arch is not None:
        raise InputError(
            f"'{path}' holds one network, no supernet; use: python -m trials.retrain --import-official {path}"
        )
    return found


def read_network(path: str, space: str, preset: str, options: str) -> Imported:
    """Read a fixed network for `trials.retrain --import-official`; raises like `read_supernet`."""
    _refuse_other_spaces(space, preset, options)
    found = read(path)
    if found.arch is None:
        raise InputError(
            f"'{path}' holds a supernet, not one network; use: python -m trials.supernet --import-official {path}"
        )
    return found


def _refuse_other_spaces(space: str, preset: str, options: str) -> None:
    if (space, preset, options) != ("spos", "imagenet", ""):
        raise InputError(
            f"official SPOS checkpoints are of --space spos --preset imagenet, not of {space} {preset} {options}".rstrip()
            + "; leave these options out"
        )


def check_classes(found: Imported, data: Any) -> None:
    """Raises InputError: the classifier and the data set have different numbers of classes."""
    if found.classes != len(data.classes):
        raise InputError(
            f"the official checkpoint has {found.classes} classes, data set {data.name} has {len(data.classes)}; "
            "give the images it was trained on: --data folder --data-root IMAGENET"
        )


def _supernet(given: Weights, chain: Chain) -> Weights:
    places = dict(SHARED)
    for i, block in enumerate(chain.blocks):
        places |= {f"features.{i}.{j}.": f"blocks.{i}.{name}." for j, name in enumerate(block.candidates)}
    ours: Weights = {}
    with torch.device("meta"):  # names and shapes of our supernet, without importing NNI
        parts = {"stem.": chain.stem(), "head.": chain.head()}
        for i, block in enumerate(chain.blocks):
            parts |= {f"blocks.{i}.{name}.": build() for name, build in block.candidates.items()}
    for start, module in parts.items():
        ours |= {start + name: tensor for name, tensor in module.state_dict().items()}
    return _rename(given, ours, places)


def _network(given: Weights, chain: Chain, arch: dict[str, Any]) -> Weights:
    places = SHARED | {f"features.{i}.": f"blocks.{i}." for i in range(len(chain.blocks))}
    with torch.device("meta"):
        ours = chain.network(arch).state_dict()
    return _rename(given, ours, places)


def _rename(given: Weights, ours: Mapping[str, torch.Tensor], places: Mapping[str, str]) -> Weights:
    """Match tensors part by part, in the order of computation, which is the same in both codes."""

    def official_order(name: str) -> tuple[Any, ...]:
        *layers, kind = name.split(".")
        return *((int(part), "") if part.isdigit() else (-1, part) for part in layers), (ORDER.index(kind), "")

    weights: Weights = {}
    used = 0
    for official, own in places.items():
        theirs = sorted((name for name in given if name.startswith(official)), key=official_order)
        used += len(theirs)
        wanted = [name for name in ours if name.startswith(own)]
        if not any(name.endswith("num_batches_tracked") for name in theirs):  # written by an old PyTorch
            for name in wanted:
                if name.endswith("num_batches_tracked"):
                    weights[name] = torch.zeros((), dtype=torch.int64)
            wanted = [name for name in wanted if name not in weights]
        if len(theirs) != len(wanted):
            raise ValueError(f"'{official}*' has {len(theirs)} tensors instead of {len(wanted)}")
        for source, name in zip(theirs, wanted, strict=True):
            if given[source].shape != ours[name].shape:
                have, want = tuple(given[source].shape), tuple(ours[name].shape)
                raise ValueError(f"'{source}' has shape {have} instead of {want}")
            weights[name] = given[source]
    if used != len(given):
        extra = next(name for name in given if not name.startswith(tuple(places)))
        raise ValueError(f"'{extra}' is unknown")
    return {name: weights[name] for name in ours}


def _infer(given: Weights) -> tuple[dict[str, Any], dict[str, Any]]:
    """The architecture of a fixed network, and the options of its space, from the shapes of its weights."""
    couts = [cout for cout, depth, _ in STAGES for _ in range(depth)]
    arch: dict[str, Any] = {}
    for i, cout in enumerate(couts):
        start = f"features.{i}.branch_main."
        main = {name.removeprefix(start): tensor for name, tensor in given.items() if name.startswith(start)}
        layers = sorted(int(name.split(".")[0]) for name, tensor in main.items() if tensor.dim() == 4)
        convs = [main[f"{layer}.weight"].shape for layer in layers]
        if len(convs) not in (3, 6):
            raise ValueError(f"'{start}*' has {len(convs)} convolutions instead of 3 or 6")
        xception = len(convs) == 6
        name = "xception" if xception else f"k{convs[1][-1]}"
        middle = convs[1 if xception else 0][0]
        fits = [width for width in WIDTHS["channel"] if int(cout // 2 * width) == middle]
        if not fits or name not in CANDIDATES:
            raise ValueError(f"'{start}*' is a {name} block with {middle} channels in the middle")
        arch |= {f"block{i:02d}": name, f"width{i:02d}": fits[0]}
    if any(value != 1.0 for label, value in arch.items() if label.startswith("width")):
        return arch, {"variant": "channel"}
    return {label: name for label, name in arch.items() if label.startswith("block")}, {}
