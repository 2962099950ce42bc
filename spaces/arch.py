"""Architectures: how they are checked, named and written, and made the active path of a supernet.

An Arch is a plain dict {label: candidate}. It is the only thing that passes between spaces, strategies and trials.
K candidates of a choice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from spaces.errors import InputError, unknown
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
