"""Read checkpoints of the official SPOS code (megvii-model/SinglePathOneShot) and rename their tensors to our names.

A file has one of two layouts, each with or without `module.` before every name, bare or inside {"state_dict": ...};
supernets of NNI 1.3 to 1.5, with features.{block}.choices.{candidate}, are read too:

    supernet   first_conv, features.{block}.{candidate}.branch_main / branch_proj.{layer}, conv_last, classifier.0
    network    first_conv, features.{block}.branch_main / branch_proj.{layer}, conv_last, classifier.0

The official networks see BGR images in 0..255 without normalisation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

import spaces
from spaces.chain import Chain
from spaces.errors import InputError, shown
from spaces.spos import STAGES, WIDTHS
from trials.common.checkpoint import load_checkpoint
from trials.images.dataset import Data

Weights = dict[str, torch.Tensor]
TENSORS_OF_A_LAYER = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")  # in the order of torch
# the official start of a name -> ours, for the layers outside of the choice blocks
SHARED = {"first_conv.": "stem.", "conv_last.": "head.0.", "classifier.0.": "head.4."}
CANDIDATES = ("k3", "k5", "k7", "xception")


@dataclass(frozen=True)
class OfficialCheckpoint:
    """An official checkpoint in our names.

    Attributes:
        weights: state dict for a supernet, or a fixed network, of `spaces.describe("spos", "imagenet", **options)`.
        classes: number of classes of its classifier.
        arch: architecture of a fixed network; None for a supernet.
        options: options of the space that a fixed network belongs to; {} for a supernet.
    """

    weights: Weights
    classes: int
    arch: dict[str, Any] | None
    options: dict[str, Any]


def read_checkpoint(path: str) -> OfficialCheckpoint:
    """Read a checkpoint of either layout. Nothing in the file is executed.

    Raises:
        InputError: the file is missing, damaged, or something else.
    """
    content = load_checkpoint(
        path, "official checkpoint", fix="if it was downloaded, compare its size with that of the original"
    )
    state = content.get("state_dict", content)
    names = [_plain_name(str(name)) for name in state] if isinstance(state, dict) else []
    blocks = {name.split(".")[1] for name in names if re.match(r"features\.\d+\.", name)}
    if "classifier.0.weight" not in names or len(blocks) != 20:
        sample = ", ".join(names[:3]) or "no tensors"
        raise InputError(
            f"'{path}' is no official SPOS checkpoint (found: {sample}); give checkpoint-150000.pth.tar or a network of "
            "that code, with first_conv, 20 features, conv_last and classifier.0"
        )
    try:
        given = _check_tensors(names, list(state.values()))
        classes = len(given["classifier.0.weight"])
        if "features.0.0.branch_main.0.weight" in given:
            chain = spaces.describe("spos", "imagenet", classes=classes)
            return OfficialCheckpoint(_rename_supernet(given, chain), classes, None, {})
        arch, options = _infer_arch(given)
        chain = spaces.describe("spos", "imagenet", classes=classes, affine=True, **options)
        return OfficialCheckpoint(_rename_network(given, chain, arch), classes, arch, options)
    except (KeyError, ValueError) as error:  # a name or a shape that the official code never writes
        raise InputError(
            f"'{path}' is no official SPOS checkpoint: {shown(str(error))}; name the file of that code"
        ) from None


def _plain_name(name: str) -> str:
    """A tensor's name without what wrappers put into it: DataParallel before it, NNI 1.3 to 1.5 before the candidates."""
    return re.sub(r"^(features\.\d+)\.choices\.(?=\d+\.)", r"\1.", name.removeprefix("module."))


def _check_tensors(names: list[str], values: list[Any]) -> Weights:
    """Refuse names that are no layer's or stand twice, and values that are no finite dense tensors.

    Returns:
        The tensors by name, in 32 bits.
    """
    given: Weights = {}
    for name, tensor in zip(names, values, strict=True):
        if not re.fullmatch(r"(first_conv|features\.\d+|conv_last|classifier)\S*\.\d+\.\w+", name) or name in given:
            raise ValueError(f"'{name}' is unknown or stands there twice")
        if name.rsplit(".", 1)[1] not in TENSORS_OF_A_LAYER:
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


def read_supernet(path: str, space: str, preset: str, options: str) -> OfficialCheckpoint:
    """Read a supernet for `trials.supernet --import-official`.

    Args:
        space, preset, options: what the command line says about the space; official weights fit one space alone.
    Raises:
        InputError: as for `read_checkpoint`; the file holds a fixed network; the command line asks for another space.
    """
    _refuse_other_spaces(space, preset, options)
    imported = read_checkpoint(path)
    if imported.arch is not None:
        raise InputError(
            f"'{path}' holds one network, no supernet; use: python -m trials.retrain --import-official {path}"
        )
    return imported


def read_network(path: str, space: str, preset: str, options: str) -> OfficialCheckpoint:
    """Read a fixed network for `trials.retrain --import-official`.

    Args:
        space, preset, options: what the command line says about the space; official weights fit one space alone.
    Raises:
        InputError: as for `read_checkpoint`; the file holds a supernet; the command line asks for another space.
    """
    _refuse_other_spaces(space, preset, options)
    imported = read_checkpoint(path)
    if imported.arch is None:
        raise InputError(
            f"'{path}' holds a supernet, not one network; use: python -m trials.supernet --import-official {path}"
        )
    return imported


def _refuse_other_spaces(space: str, preset: str, options: str) -> None:
    if (space, preset, options) != ("spos", "imagenet", ""):
        raise InputError(
            f"official SPOS checkpoints are of --space spos --preset imagenet, not of {space} {preset} {options}".rstrip()
            + "; leave these options out"
        )


def check_classes(imported: OfficialCheckpoint, data: Data) -> None:
    """Refuse a checkpoint whose classifier does not have as many classes as the data set.

    Raises:
        InputError: their numbers of classes differ.
    """
    if imported.classes != len(data.classes):
        raise InputError(
            f"the official checkpoint has {imported.classes} classes, data set {data.name} has {len(data.classes)}; "
            "give the images it was trained on: --data folder --data-root IMAGENET"
        )


def _rename_supernet(given: Weights, chain: Chain) -> Weights:
    """The state dict of our supernet from that of the official one."""
    prefixes = dict(SHARED)
    for i, block in enumerate(chain.blocks):
        prefixes |= {f"features.{i}.{j}.": f"blocks.{i}.{name}." for j, name in enumerate(block.candidates)}
    ours: Weights = {}
    with torch.device("meta"):  # names and shapes of our supernet, without importing NNI
        modules = {"stem.": chain.stem(), "head.": chain.head()}
        for i, block in enumerate(chain.blocks):
            modules |= {f"blocks.{i}.{name}.": build() for name, build in block.candidates.items()}
    for prefix, module in modules.items():
        ours |= {prefix + name: tensor for name, tensor in module.state_dict().items()}
    return _rename(given, ours, prefixes)


def _rename_network(given: Weights, chain: Chain, arch: dict[str, Any]) -> Weights:
    """The state dict of our fixed network from that of an official one."""
    prefixes = SHARED | {f"features.{i}.": f"blocks.{i}." for i in range(len(chain.blocks))}
    with torch.device("meta"):
        ours = chain.network(arch).state_dict()
    return _rename(given, ours, prefixes)


def _rename(given: Weights, ours: Mapping[str, torch.Tensor], prefixes: Mapping[str, str]) -> Weights:
    """Match tensors block by block, in the order of computation, which is the same in both codes.

    Args:
        given: the official tensors, by name.
        ours: our tensors, by name, whose shapes are compared with those of the official ones.
        prefixes: how the names of a block's tensors begin, in the official code -> in ours.
    Returns:
        The official tensors, by our names.
    Raises:
        ValueError: a tensor is missing, unknown, or of another shape.
    """

    def official_order(name: str) -> tuple[Any, ...]:
        *layers, kind = name.split(".")
        numbers = ((int(layer), "") if layer.isdigit() else (-1, layer) for layer in layers)
        return *numbers, (TENSORS_OF_A_LAYER.index(kind), "")

    weights: Weights = {}
    used = 0
    for official, own in prefixes.items():
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
        extra = next(name for name in given if not name.startswith(tuple(prefixes)))
        raise ValueError(f"'{extra}' is unknown")
    return {name: weights[name] for name in ours}


def _infer_arch(given: Weights) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell the architecture of a fixed network, and the options of its space, from the shapes of its weights.

    Raises:
        ValueError: a block has another shape than any candidate.
    """
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
