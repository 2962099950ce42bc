"""Which network trials.retrain trains: an architecture of a space, or a baseline of timm or torchvision.

It is described by plain values, `about`, which travel to other processes and into network.pt:

    {"arch": {...}, "space": {"name", "preset", "options"}}          a network of ours
    {"arch": None, "space": None, "baseline": "timm:mobilenetv2_100", "classes": 10}
"""

from __future__ import annotations

import copy
import difflib
import re
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

from spaces.errors import InputError

LIBRARIES = ("timm", "torchvision")
# keywords of a model that are decided elsewhere, or would load weights
REFUSED = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "weights", "weights_backbone"),
    *("num_classes", "features_only", "cache_dir"),
)


def build(about: Mapping[str, Any]) -> Any:
    """The network with fresh weights: a plain torch module, (N, 3, R, R) to (N, classes), BatchNorm affine.

    Raises:
        InputError: the baseline cannot be made.
    """
    from spaces.chain import make_affine

    if about.get("baseline"):
        return build_baseline(about["baseline"], about["classes"])
    import spaces

    space = about["space"]
    chain = spaces.describe(space["name"], space["preset"], **space["options"])
    return make_affine(chain.network(about["arch"]))


def parse_baseline(text: str) -> tuple[str, str, dict[str, Any]]:
    """Library, model and keywords of `timm:mobilenetv2_100,output_stride=8`.

    Raises:
        InputError: it is not of this form, or asks for pretrained weights.
    """
    library, given, rest = text.partition(":")
    if library not in LIBRARIES or not given:
        raise InputError(f"--baseline '{text}' is not timm:NAME or torchvision:NAME; write timm:mobilenetv2_100")
    name, *parts = rest.split(",")
    keywords: dict[str, Any] = {}
    for part in parts:
        key, given, value = part.strip().partition("=")
        if not given or not key.isidentifier() or not value:
            raise InputError(f"--baseline '{text}': '{part}' is not NAME=VALUE; write for example output_stride=8")
        if key in REFUSED:
            reason = "the images decide it" if key == "num_classes" else "a baseline is trained from scratch"
            raise InputError(f"--baseline '{text}': {key} has no place here, {reason}; leave it out")
        keywords[key] = _value(value)
    return library, name, keywords


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def baseline_folder(text: str) -> str:
    """A folder's name for a baseline: `timm-mobilenetv2_100-output_stride=8`."""
    return re.sub(r"[^\w.=-]+", "-", text)


def build_baseline(text: str, classes: int) -> Any:
    """A model of timm or torchvision with fresh weights; nothing is downloaded.

    Raises:
        InputError: unknown model, or keywords that it does not take.
    """
    library, name, keywords = parse_baseline(text)
    if library == "timm":
        import timm

        known = timm.list_models()
        make = partial(timm.create_model, name, pretrained=False)
    else:
        import torchvision

        known = torchvision.models.list_models(module=torchvision.models)
        make = partial(torchvision.models.get_model, name, weights=None)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"{library}'s list_models() names all {len(known):,}"
        raise InputError(f"--baseline '{text}': {library} has no model '{name}'; {hint}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torchvision: what its weights will be one day
            return make(num_classes=classes, **keywords)
    except Exception as error:  # whatever a model makes of its keywords
        raise InputError(f"--baseline '{text}' cannot be made: {_line(error)}; see the keywords of {library}") from None


def check_baseline(text: str, classes: int, resolution: int) -> tuple[int, int]:
    """Make a baseline and try it on images.

    Returns:
        MACs of an image, params.
    Raises:
        InputError: it cannot be made, or cannot take or train on images of this size.
    """
    import torch

    from spaces.counting import count

    network = build_baseline(text, classes)
    what = f"--baseline '{text}' with images of {resolution}x{resolution} pixels"
    fix = "take another model or --resolution, or a keyword such as output_stride=8 or img_size"
    try:
        with torch.no_grad():  # in the mode of training, two images: BatchNorm needs more than one number
            output = copy.deepcopy(network).train()(torch.rand(2, 3, resolution, resolution))
        counted = count(network.to("meta"), torch.empty(1, 3, resolution, resolution, device="meta"))
    except Exception as error:  # whatever a model makes of an image
        raise InputError(f"{what} fails: {_line(error)}; {fix}") from None
    if not isinstance(output, torch.Tensor) or output.shape != (2, classes):
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise InputError(f"{what} gives {shape} instead of one number per class; take another model")
    return counted.macs, counted.params


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def folded(network: Any, resolution: int) -> Any:
    """A copy of a network in eval mode, with each BatchNorm folded into the convolution before it, whatever its modules are.

    `trials.bn.fold_bn` knows neighbours in a Sequential, which the models of timm and torchvision are often not: without
    this, a comparison of latencies would be unfair to them. Where folding would change the function, nothing is folded.
    """
    import torch
    from torch import nn

    from trials.bn import fused

    original = copy.deepcopy(network).float().cpu().eval()
    changed = copy.deepcopy(original)
    made: dict[int, nn.Conv2d] = {}  # id of a convolution's output -> the convolution
    kept: list[Any] = []  # outputs, so that no id is used twice
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after_conv(layer: nn.Module, inputs: Any, output: Any) -> None:
        made[id(output)] = layer  # type: ignore[assignment]
        kept.append(output)

    def before_norm(layer: nn.Module, inputs: Any) -> None:
        if id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])], layer))  # type: ignore[arg-type]

    handles: list[Any] = []
    for layer in changed.modules():
        if type(layer) is nn.Conv2d:
            handles.append(layer.register_forward_hook(after_conv))
        elif isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            handles.append(layer.register_forward_pre_hook(before_norm))
    images = torch.rand(2, 3, resolution, resolution, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = original(images)
        changed(images)
        for handle in handles:
            handle.remove()
        places = {id(layer): name for name, layer in changed.named_modules()}
        for conv, norm in pairs:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            weight, bias = fused(conv, norm, norm.running_mean, norm.running_var)
            conv.weight, conv.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
            rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]  # of timm's BatchNormAct2d
            changed.set_submodule(places[id(norm)], nn.Sequential(*rest) if rest else nn.Identity())
        same = torch.allclose(changed(images), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    return changed if same else original
