"""Architectures: how they are checked, named, read and written, and made the active path of a supernet.

An Arch is a plain dict {label: candidate}. It is the only thing that passes between spaces, strategies and trials.
K candidates of a choice.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from spaces.errors import InputError, is_whole_number, unknown
from spaces.files import save_json

if TYPE_CHECKING:
    import torch
    from nni.nas.nn.pytorch import ModelSpace
    from torch import nn

Arch = dict[str, Any]
Choices = Mapping[str, Sequence[Any]]  # label -> candidates, in order


class Weights(NamedTuple):
    """The weights with which a supernet mixes the candidates of a choice; it takes the place of a candidate in an Arch."""

    values: Sequence[float] | torch.Tensor  # (K,) one per candidate, in order; a tensor may carry a gradient
    active: Sequence[int] | None = None  # indices of the candidates that are run; None: all
    # (K,) used instead, on elastic values with parameters, when all weight lies on a skip, so that a gradient still exists
    fallback: torch.Tensor | None = None


Mixture = dict[str, Any]  # like an Arch, but a label may have Weights in place of a candidate


class ArchError(InputError):
    """An architecture that does not fit its space."""


def validate(arch: Mapping[str, Any], choices: Choices) -> None:
    """Check that `arch` names exactly the labels of the space, each with one of its candidates.

    NNI itself would silently choose a random candidate for a label that is missing or misspelt.

    Raises:
        ArchError: the first label that is wrong, and what is allowed there.
    """
    for label in arch:
        if label not in choices:
            raise ArchError(unknown("label", label, choices))
    missing = [label for label in choices if label not in arch]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        allowed = ", ".join(map(str, choices[missing[0]]))
        raise ArchError(f"the architecture lacks '{missing[0]}'{more}; give it one of: {allowed}")
    for label, candidate in arch.items():
        if candidate not in choices[label] or isinstance(candidate, bool):
            raise ArchError(unknown(f"candidate for '{label}':", candidate, choices[label]))


def arch_id(arch: Mapping[str, Any]) -> str:
    """The id of an architecture: the first 12 hex digits of the SHA-256 of its JSON with sorted keys.

    A float that is a whole number counts as the integer, because NNI's manager writes a width of 1.0 as 1.
    """
    plain = {key: int(v) if isinstance(v, float) and v.is_integer() else v for key, v in arch.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def save_arch(path: str | Path, arch: Mapping[str, Any]) -> None:
    """Write an architecture as a fixed-arc file (the dict as JSON), atomically."""
    save_json(path, dict(arch))


def load_arch(path: str | Path, choices: Choices) -> Arch:
    """Read a fixed-arc file and check it against a space.

    Three formats are understood: our JSON dict; NNI 1.x masks, `{"LayerChoice1": [false, true, ...], ...}`; and the
    official SPOS tuple of candidate numbers, `(2, 1, 0, ...)`. Nothing is ever unpickled or executed.

    Args:
        choices: label -> candidates in order, from `spaces.choices(space)`.
    Returns:
        The architecture, with the labels in the order of the space.
    Raises:
        ArchError: the file is missing, unreadable, or does not fit the space.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArchError(f"fixed-arc file '{path}' does not exist; check the path") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise ArchError(f"fixed-arc file '{path}' is not a text file; give JSON such as {{\"block00\": ...}}") from None
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        try:
            content = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ArchError(
                f"fixed-arc file '{path}' is neither JSON nor a tuple of candidate numbers; write it again"
            ) from None
    try:
        if isinstance(content, list | tuple):
            arch = _from_indices(content, choices)
        elif isinstance(content, dict) and content and all(re.fullmatch(r"LayerChoice\d+", str(k)) for k in content):
            arch = _from_indices(_mask_indices(content), choices)
        elif isinstance(content, dict):
            arch = content
        else:
            raise ArchError(f"it holds a {type(content).__name__}; give a dict {{label: candidate}}")
        validate(arch, choices)
    except ArchError as error:
        raise ArchError(f"fixed-arc file '{path}': {error}") from None
    return {label: candidates[list(candidates).index(arch[label])] for label, candidates in choices.items()}


def _mask_indices(masks: Mapping[str, Any]) -> list[int]:
    """Convert the masks of an NNI 1.x fixed-arc file to candidate indices, in the order of the number in their keys."""
    indices = []
    for key in sorted(masks, key=lambda k: int(k.removeprefix("LayerChoice"))):
        mask = masks[key]
        if not isinstance(mask, list) or sum(value is True for value in mask) != 1:
            raise ArchError(f"'{key}' is {json.dumps(mask)}; a mask needs exactly one true")
        indices.append(mask.index(True))
    return indices


def _from_indices(indices: Sequence[Any], choices: Choices) -> Arch:
    """The architecture that has these candidate indices, one per label in the order of the space."""
    if len(indices) != len(choices):
        raise ArchError(f"it holds {len(indices)} choices; this space has {len(choices)}")
    arch = {}
    for (label, candidates), index in zip(choices.items(), indices, strict=True):
        if not is_whole_number(index, 0) or index >= len(candidates):
            raise ArchError(f"{index!r} for '{label}' is not a candidate number; give 0 to {len(candidates) - 1}")
        arch[label] = candidates[index]
    return arch


def activate(supernet: nn.Module, arch: Mapping[str, Any]) -> None:
    """Make an architecture the active path of a supernet.

    Args:
        supernet: made by `spaces.model_space.make_supernet`.
    Raises:
        ArchError: a label is missing or unknown, or has a candidate that the supernet does not hold.
    """
    layers, choices = _choice_layers(supernet)
    validate(arch, choices)
    for layer in layers:
        layer.resample(dict(arch))


def activate_mixture(supernet: nn.Module, mixture: Mapping[str, Any]) -> None:
    """Make a mixture the active path of a supernet: a block with `Weights` gives the weighted sum of its candidates.

    Elastic values are mixed in the weights that they share: a kernel or channel counts with the sum of the weights of
    all values that contain it. With weight 1 for one value and 0 for the others, the output is that of the value's
    path, up to rounding.

    Args:
        supernet: made by `spaces.model_space.make_supernet`.
        mixture: label -> candidate or Weights; all labels of the space.
    Raises:
        ArchError: as for `activate`, or the number of weights is not that of the candidates.
    """
    layers, choices = _choice_layers(supernet)
    plain = {label: choices[label][0] for label, c in mixture.items() if isinstance(c, Weights) and label in choices}
    validate({**mixture, **plain}, choices)
    for label, weights in mixture.items():
        if isinstance(weights, Weights) and len(weights.values) != len(choices[label]):
            raise ArchError(f"{len(weights.values)} weights for '{label}', which has {len(choices[label])} candidates")
    for layer in layers:
        layer.resample(dict(mixture))


def _choice_layers(supernet: nn.Module) -> tuple[list[Any], Choices]:
    """The choice layers of a supernet, and the candidates of its labels."""
    layers = supernet.__dict__.get("_choice_layers")
    if layers is None:
        # Collected once: walking over all modules of SPOS takes 6.6 ms, and would be done at every step.
        layers = [module for module in supernet.modules() if hasattr(module, "resample")]
        if not layers:
            raise ArchError("this model has no choice blocks; make it a supernet first")
        supernet.__dict__["_choice_layers"] = layers
        supernet.__dict__["_choices"] = {
            label: mutable.values for layer in layers for label, mutable in layer.simplify().items()
        }
    return layers, supernet.__dict__["_choices"]


def freeze(space: ModelSpace, arch: Mapping[str, Any]) -> nn.Module:
    """Build the fixed network of an architecture, with a copy of the weights of `space`.

    NNI's own `freeze` shares storage with the supernet, so training or recalibrating one network would change all.
    BatchNorm layers without affine parameters get weight 1 and bias 0: the same function, and one that can be trained.

    Args:
        space: a space from `spaces.build`, or a supernet made of one.
    Returns:
        A `spaces.chain.Network` of plain torch modules, in the mode (train or eval) of `space`.
    Raises:
        ArchError: `arch` does not fit the space.
    """
    return space.chain.network(dict(arch), space.state_dict(), affine=True).train(space.training)
