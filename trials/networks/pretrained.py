"""Pretrained weights of timm's models, from a file or from the cache of the Hugging Face hub; nothing is downloaded.

Which weights fit which model, how its checkpoints are renamed, which layer classifies and what images the weights expect is
timm's own knowledge (its pretrained configurations and checkpoint filters).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from spaces.errors import InputError, shown
from spaces.files import require_file, unreadable
from trials.common.checkpoint import load_checkpoint
from trials.networks.baselines import parse_baseline, require_model

if TYPE_CHECKING:
    from torch import nn

HUB = "hub"
IN_HUB = ("model.safetensors", "pytorch_model.bin")  # what a repository of the hub calls its weights
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar")
INNER = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model",
)  # where a checkpoint keeps its weights, as timm looks for them
SHARE = 0.1  # of the tensors that may be missing or superfluous, before they are of another architecture
COUNTERS = "num_batches_tracked"  # of BatchNorm; old files have none, and nothing depends on them


@dataclass(frozen=True)
class Input:
    """What images a model's pretrained weights expect.

    Attributes:
        mean, std: of red, green and blue, as fractions of 255.
        resolution: height and width, pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resolution: int


@dataclass(frozen=True)
class Loaded:
    """What became of the weights of a file.

    Attributes:
        taken: tensors of the network that come from the file, of `tensors` in all.
        anew: layers of the classifier that keep fresh weights, because they have another number of classes.
        missing: further tensors of the network that the file lacks.
        unexpected: tensors of the file that the network lacks.
    """

    taken: int
    tensors: int
    anew: list[str]
    missing: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        """Such as `243 of 245 tensors; classifier made anew; missing: none; unexpected: none`."""
        anew = f"{', '.join(self.anew)} made anew" if self.anew else "the classifier too, it has as many classes"
        return (
            f"{self.taken} of {self.tensors} tensors; {anew}; missing: {listed(self.missing)}; "
            f"unexpected: {listed(self.unexpected)}"
        )


def listed(names: list[str]) -> str:
    """Names in one line: the first few, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more if names else "none"


def configuration(baseline: str) -> Any:
    """timm's pretrained configuration of a model, by its name and tag.

    Raises:
        InputError: timm knows no such model or tag.
    """
    import timm
    from timm.models import get_arch_pretrained_cfgs

    name = parse_baseline(baseline)[1]
    require_model(baseline)
    known = get_arch_pretrained_cfgs(name.partition(".")[0])
    if "." in name and name not in known:
        tags = ", ".join(key.partition(".")[2] for key in known if "." in key) or "none"
        raise InputError(f"--baseline {baseline}: timm knows no such weights; after the dot it knows {shown(tags)}")
    return timm.get_pretrained_cfg(name, allow_unregistered=True)


def input_of(baseline: str) -> Input:
    """What images the pretrained weights of a baseline expect.

    Raises:
        InputError: timm does not know it, or they are not of three colours.
    """
    found = configuration(baseline)
    if found is None or not found.input_size:
        raise InputError(f"--baseline {baseline}: timm does not say what images pretrained weights of it expect")
    channels, height, _ = found.input_size
    if channels != 3:
        raise InputError(f"--baseline {baseline}: its weights are for images of {channels} channels, ours have 3")
    return Input(tuple(found.mean), tuple(found.std), int(height))


def find_weights(given: str, baseline: str) -> Path:
    """The file of the weights.

    Args:
        given: a file, or HUB.
    Raises:
        InputError: there is no such file; says what has to be where.
    """
    if given == HUB and not Path(given).exists():
        return _in_hub(baseline)
    path = Path(given)
    if path.is_dir():
        raise InputError(f"--pretrained '{path}' is a folder; name the file of the weights in it")
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"--pretrained '{path}' is no .safetensors, .pth or .pt; give a state dict of {baseline}, or hub for what the cache of "
            "the Hugging Face hub has"
        )
    return require_file(path, "pretrained weights")


def _in_hub(baseline: str) -> Path:
    """The weights of a model in the cache of the hub. Raises InputError: they are not there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    found = configuration(baseline)
    repository = found.hf_hub_id if found else None
    if not repository:
        raise InputError(f"--pretrained hub: timm names no weights of {baseline} on the hub; give --pretrained FILE")
    for name in IN_HUB:
        path = try_to_load_from_cache(repository, name)
        if isinstance(path, str):
            return Path(path)
    raise InputError(
        f"--pretrained hub: '{HF_HUB_CACHE}' has no {IN_HUB[0]} of {repository}, and nothing is downloaded; put it there with "
        f"hf download {repository} {IN_HUB[0]}, or give --pretrained FILE"
    )


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a file, by name, without what wrappers put before the names; nothing in it is executed.

    Raises:
        InputError: it is missing, damaged, or holds no weights.
        Stopped: the machine could not read it.
    """
    from timm.models import clean_state_dict

    content: Mapping[str, Any]
    if path.suffix == ".safetensors":
        try:
            content = load_file(require_file(path, "pretrained weights"))
        except OSError as error:
            raise unreadable("pretrained weights", path, error) from None
        except SafetensorError as error:
            raise InputError(
                f"pretrained weights '{path}' are truncated or no safetensors ({shown(str(error))}); fetch them again"
            ) from None
    else:
        content = load_checkpoint(path, "pretrained weights", fix="fetch them again")
        inner = next((key for key in INNER if isinstance(content.get(key), dict)), None)
        content = content[inner] if inner else content
    weights = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not weights:
        raise InputError(f"pretrained weights '{path}' hold no tensors by name ({shown(', '.join(map(str, content)))})")
    bad = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise InputError(f"pretrained weights '{path}' are not finite in {shown(listed(bad))}; take another file")
    cleaned: dict[str, torch.Tensor] = clean_state_dict(weights)
    return cleaned


def load_weights(network: nn.Module, baseline: str, path: Path) -> Loaded:
    """Put pretrained weights into a model of timm, in place; a classifier of another size keeps its fresh weights.

    Raises:
        InputError: the file cannot be read, or is of another architecture.
    """
    weights = read_weights(path)
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if adapt is not None:
        try:
            weights = adapt(weights, network)
        except Exception as error:  # whatever a filter makes of weights that are not its model's
            raise InputError(_other(path, baseline, f"{type(error).__name__}: {shown(str(error))}")) from None
    own = network.state_dict()
    classifier = _classifier(network)
    anew = [
        name
        for name in own
        if name.startswith(classifier) and (name not in weights or weights[name].shape != own[name].shape)
    ]
    body = [name for name in own if name not in anew and not name.endswith(COUNTERS)]
    missing = [name for name in body if name not in weights]
    unexpected = [name for name in weights if name not in own and not name.startswith(classifier)]
    misshapen = [name for name in body if name in weights and weights[name].shape != own[name].shape]
    if len(missing) > SHARE * len(body) or len(unexpected) > SHARE * len(weights):
        why = f"of {len(body)} tensors it lacks {len(missing)} ({listed(missing)}), and has {len(unexpected)} others"
        raise InputError(_other(path, baseline, f"{why} ({listed(unexpected)})"))
    if misshapen:
        first = misshapen[0]
        has, wants = tuple(weights[first].shape), tuple(own[first].shape)
        raise InputError(_other(path, baseline, f"{first} is {has}, not {wants}, and {len(misshapen) - 1} more differ"))
    network.load_state_dict({name: weights[name] for name in own if name in weights and name not in anew}, strict=False)
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in anew))
    return Loaded(len(body) - len(missing), len([*body, *anew]), layers, missing, unexpected)


def _classifier(network: nn.Module) -> tuple[str, ...]:
    """What the names of the classifier's tensors begin with."""
    found = (getattr(network, "pretrained_cfg", None) or {}).get("classifier") or ()
    return tuple(f"{name}." for name in ((found,) if isinstance(found, str) else found))


def _other(path: Path, baseline: str, why: str) -> str:
    return f"pretrained weights '{path}' are of another architecture than {baseline}: {why}; name the model they are of"
