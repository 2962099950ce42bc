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
from functools import partial
from typing import Any

from spaces.counting import count
from spaces.errors import InputError

LIBRARIES = ("timm", "torchvision")
# keywords of a model that are decided elsewhere, or would load weights
REFUSED = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "weights", "weights_backbone"),
    *("num_classes", "features_only", "cache_dir"),
)


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
