"""Baselines: models of timm or torchvision that are trained beside our networks, named as in `timm:mobilenetv2_100`."""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import importlib.util
import re
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.counting import count
from spaces.errors import InputError, shown

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("timm", "torchvision")
# how their files mark the function of a model
MODEL = re.compile(r"^@register_model(?:\(\))?\s*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
# keywords of a model that are decided elsewhere, or would load weights
REFUSED = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "weights", "weights_backbone"),
    *("num_classes", "features_only", "cache_dir"),
)


def parse_baseline(text: str) -> tuple[str, str, dict[str, Any]]:
    """Split `timm:mobilenetv2_100,output_stride=8` into its parts, without importing the library.

    Returns:
        Name of the library; name of the model; keywords of the model, with numbers, true, false and none as values of Python.
    Raises:
        InputError: it is not of this form, or asks for pretrained weights.
    """
    library, colon, rest = text.partition(":")
    if library not in LIBRARIES or not colon:
        raise InputError(f"--baseline '{text}' is not timm:NAME or torchvision:NAME; write timm:mobilenetv2_100")
    name, *pairs = rest.split(",")
    keywords: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.strip().partition("=")
        if not equals or not key.isidentifier() or not value:
            raise InputError(f"--baseline '{text}': '{pair}' is not NAME=VALUE; write for example output_stride=8")
        if key in REFUSED:
            reason = (
                "the images decide it"
                if key == "num_classes"
                else "a baseline is trained from scratch without --pretrained"
            )
            raise InputError(f"--baseline '{text}': {key} has no place here, {reason}; leave it out")
        keywords[key] = _parse_value(value)
    return library, name, keywords


def _parse_value(text: str) -> Any:
    """A number, True, False or None where the text reads like one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def baseline_folder(text: str) -> str:
    """Turn a baseline's text into the name of a folder, such as `timm-mobilenetv2_100-output_stride=8`."""
    return re.sub(r"[^\w.=-]+", "-", text)


def build_baseline(text: str, classes: int) -> nn.Module:
    """Make a model of timm or torchvision with fresh weights; nothing is downloaded.

    Args:
        text: such as `timm:mobilenetv2_100,output_stride=8`.
    Returns:
        A network that maps images (N, 3, R, R) to logits (N, classes).
    Raises:
        InputError: unknown model, or keywords that it does not take.
    """
    library, name, keywords = parse_baseline(text)
    require_model(text)
    if library == "timm":
        import timm

        make = partial(timm.create_model, name, pretrained=False)
    else:
        import torchvision

        make = partial(torchvision.models.get_model, name, weights=None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision warns that its default weights will change
            return make(num_classes=classes, **keywords)
    except Exception as error:  # whatever a model makes of its keywords
        raise InputError(
            f"--baseline '{text}' cannot be made: {_one_line(error)}; see the keywords of {library}"
        ) from None


def model_names(library: str) -> list[str]:
    """The models that a library has by its files, where each is a function with a mark: it imports torch, they do not.

    Returns:
        In alphabetical order; [] where the library is not here, or marks its models in another way.
    """
    spec = importlib.util.find_spec(library)
    if spec is None or spec.origin is None:
        return []
    return _names_in(Path(spec.origin).parent / "models")


@functools.cache  # of what was read: a library that is not here now may be later
def _names_in(folder: Path) -> list[str]:
    texts = (path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    return sorted({name for text in texts for name in MODEL.findall(text)})


def require_model(text: str) -> None:
    """Refuse a model that the library does not have, without importing it.

    What follows a dot in its name, timm's tag of weights, is left aside. Where the files of the library are not as they are known,
    nothing is refused: it is when the model is made.

    Raises:
        InputError: there is no such model.
    """
    library, name, _ = parse_baseline(text)
    name = name.partition(".")[0] if library == "timm" else name
    known = model_names(library)
    if known and name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"{library}'s list_models() names all {len(known):,}"
        raise InputError(f"--baseline '{text}': {library} has no model '{name}'; {hint}")


def check_baseline(text: str, classes: int, resolution: int, *, advise: bool = True) -> tuple[int, int]:
    """Make a baseline and try it on two random images, before a long training begins.

    Args:
        resolution: height and width of the images, pixels.
        advise: name the keywords with which the model does take such images, where there are some.
    Returns:
        MACs for one image; number of parameters.
    Raises:
        InputError: it cannot be made, or cannot take or train on images of this size.
    """
    import torch

    network = build_baseline(text, classes)
    subject = f"--baseline '{text}' with images of {resolution}x{resolution} pixels"
    try:
        with torch.no_grad():  # two images, because BatchNorm in train mode needs more than one number per channel
            output = copy.deepcopy(network).train()(torch.rand(2, 3, resolution, resolution))
        counted = count(network.to("meta"), torch.empty(1, 3, resolution, resolution, device="meta"))
    except Exception as error:  # whatever a model makes of an image
        others = _that_work(text, classes, resolution) if advise else []
        fix = "".join(f", or give '{other}'" for other in others)
        raise InputError(
            f"{subject} fails: {_one_line(error)}; take another model, or images of another size{fix}"
        ) from None
    if not isinstance(output, torch.Tensor) or output.shape != (2, classes):
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise InputError(f"{subject} gives {shape} instead of one number per class; take another model")
    return counted.macs, counted.params


def stronger_baseline(text: str, classes: int, resolution: int, macs: int) -> str:
    """The same baseline with an output stride of 8, where the model takes it and shrinks images of this size less with it.

    Args:
        text, classes, resolution: as for `check_baseline`.
        macs: of the baseline as it is.
    Returns:
        A baseline; "" where the model has no such keyword, or does the same with it.
    """
    if "output_stride" in parse_baseline(text)[2]:
        return ""
    try:
        other = f"{text},output_stride=8"
        return other if check_baseline(other, classes, resolution, advise=False)[0] > macs else ""
    except InputError:
        return ""


def _that_work(text: str, classes: int, resolution: int) -> list[str]:
    """The same baseline with a keyword more, for those keywords with which it takes images of this size."""
    found = []
    for keyword, value in (("output_stride", 8), ("img_size", resolution)):
        if keyword not in parse_baseline(text)[2]:
            with contextlib.suppress(InputError):
                check_baseline(f"{text},{keyword}={value}", classes, resolution, advise=False)
                found.append(f"{text},{keyword}={value}")
    return found


def _one_line(error: Exception) -> str:
    """Type and message of an error, on one line of at most 200 characters."""
    return shown(f"{type(error).__name__}: {error}")
