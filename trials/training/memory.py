"""How much memory a training needs, estimated without allocating it, and the refusal of one that this machine cannot hold.

The passes run on PyTorch's meta device, which knows shapes only. What is counted: weights, gradients, the optimiser's state, and
what a forward pass keeps for its backward pass. Measured (spos imagenet, batches of 16 and 32 at 224x224, CPU): a process takes 1.07
times as much, and 0.8 GiB for itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spaces.chain import Chain
from spaces.errors import InputError
from trials.common.cli import rank_and_world
from trials.common.distributed import use_cuda
from trials.networks.build import build_network
from trials.training import retrain_config, supernet_config
from trials.training.strategy_options import MIXING

GIB = 2**30
MOST_PER_PIXEL = 20_000  # bytes per pixel of a batch; the softmax mixture of ProxylessNAS' space takes 10,700
SHARED = Path("/dev/shm")
CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 2**60  # cgroups say so, or larger, where there is no limit


class Saved:
    """The tensors that forward passes keep for their backward passes; those of one memory count once.

    Args:
        weights: what is kept anyway.
    """

    def __init__(self, weights: Iterable[torch.Tensor] = ()) -> None:
        self._weights = {_memory(tensor) for tensor in weights}
        self._alive: list[torch.Tensor] = []  # else a memory's number could come again

    def run(
        self, model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor
    ) -> tuple[torch.Tensor, dict[int, int]]:
        """Run a forward pass.

        Returns:
            Its output, and the bytes of each memory that it keeps.
        """
        kept: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            kept[_memory(tensor)] = tensor.untyped_storage().nbytes()
            self._alive.append(tensor.detach())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = model(x)
        return output, {memory: size for memory, size in kept.items() if memory not in self._weights}


def _memory(tensor: torch.Tensor) -> int:
    """A number for the memory of a tensor; those of the meta device have no address."""
    return tensor.untyped_storage()._cdata


def saved_bytes(model: Callable[[torch.Tensor], torch.Tensor], network: nn.Module, images: torch.Tensor) -> int:
    """Bytes that a forward pass keeps for its backward pass, without the weights.

    Args:
        model: what is run; `network` is the same one without a wrapper.
        images: a batch (N, 3, R, R).
    """
    return sum(Saved(network.parameters()).run(model, images)[1].values())


def weight_bytes(parameters: int, optimizer: str, momentum: float) -> int:
    """Bytes of so many weights in 32 bits, with their gradients and what the optimiser keeps for each."""
    states = {"sgd": 1 if momentum else 0}.get(optimizer, 2)
    return parameters * 4 * (2 + states)


def supernet_bytes(config: supernet_config.Config, chain: Chain) -> int:
    """Estimate the memory of a process that trains a supernet: its largest path, or all candidates of a mixture, as of an op warm-up.

    Args:
        config: the options, complete.
        chain: the space, with the classes and the resolution of the images.
    """
    images = config.batch_size // rank_and_world()[1] // config.accumulate
    mixes = (config.strategy in MIXING and not config.hard) or config.use_all_blocks or config.op_warmup
    parameters, kept = 0, dict[int, int]()
    with torch.device("meta"):
        x, saved = torch.empty(images, 3, chain.resolution, chain.resolution), Saved()
        # the builders of the modules among which a position of the chain chooses; of elastic values the largest
        sections: list[list[Callable[[], nn.Module]]] = [[chain.stem], [chain.head]]
        for block in chain.blocks:
            largest = block.largest.values()
            sections.insert(-1, [partial(build, *largest) for build in block.candidates.values()])
        for builders in sections:
            modules = [build() for build in builders]
            sizes = [sum(p.numel() for p in module.parameters()) for module in modules]
            parameters += sum(sizes)
            passes = [saved.run(module, x) for module in modules]
            x = passes[0][0]
            of_passes = [memories for _, memories in passes]
            for memories in of_passes if mixes else [max(of_passes, key=lambda memories: sum(memories.values()))]:
                kept |= memories
    activations = max(0, sum(kept.values()) - 4 * parameters)  # the weights are among what is kept
    average = 4 * parameters * bool(config.ema)
    return (
        average + weight_bytes(parameters, config.optimizer, config.momentum) + round(activations * _bits(config) / 32)
    )


def network_bytes(config: retrain_config.Config, description: Mapping[str, Any], resolution: int) -> int:
    """Estimate the memory of a process that trains a fixed network.

    Args:
        config: the options, complete.
        description: a network description, see trials.networks.build.
        resolution: height and width of the images, pixels.
    """
    if description.get("baseline"):
        network = build_network(description).to("meta")
    else:
        with torch.device("meta"):
            network = build_network(description)
    images = torch.empty(config.batch_size // rank_and_world()[1], 3, resolution, resolution, device="meta")
    activations = saved_bytes(network.train(), network, images)
    parameters = sum(p.numel() for p in network.parameters())
    return weight_bytes(parameters, config.optimizer, config.momentum) + round(activations * _bits(config) / 32)


def _bits(config: supernet_config.Config | retrain_config.Config) -> int:
    """Bits of a number that is kept for the backward pass."""
    return (
        16
        if config.precision.startswith(("16", "bf16")) or (config.precision == "auto" and use_cuda(config.device))
        else 32
    )


def require_memory(
    config: supernet_config.Config | retrain_config.Config,
    estimate: Callable[[], int],
    resolution: int,
    *,
    processes: int = 1,
) -> None:
    """Refuse a training that does not fit into the memory that there is.

    Args:
        estimate: gives the bytes that one process needs; only asked where they could be too many, as it takes a second.
        resolution: height and width of the images, pixels.
        processes: that share the GPU or this machine's memory.
    Raises:
        InputError: with what would fit.
    """
    require_shared_memory(config, resolution, processes=processes)
    if use_cuda(config.device):
        has, where = torch.cuda.get_device_properties(0).total_memory, "the GPU"
    else:
        has, where = machine_memory(), "this machine"
        processes *= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if config.batch_size * resolution**2 * MOST_PER_PIXEL * processes <= has:
        return
    needed = estimate()
    if needed * processes <= has:
        return
    pieces = 2
    while needed * processes > has * pieces and 2 * pieces <= config.batch_size:
        pieces *= 2
    remedies = [f"--batch-size {max(1, config.batch_size // pieces)}"]
    if isinstance(config, supernet_config.Config):
        remedies.insert(0, f"--accumulate {config.accumulate * pieces}")
    elif config.jobs > 1:
        remedies.insert(0, "fewer --jobs")
    each = f" in each of {processes} processes" if processes > 1 else ""
    raise InputError(
        f"batches of {config.batch_size:,} images of {resolution}x{resolution} need about {needed / GIB:.1f} GiB{each}, and "
        f"{where} has {has / GIB:.1f}; give {' or '.join(remedies)}, or a smaller --resolution or --preset"
    )


def require_shared_memory(
    config: supernet_config.Config | retrain_config.Config,
    resolution: int,
    *,
    processes: int = 1,
    has: int | None = None,
) -> None:
    """Refuse decoding processes whose batches do not fit into /dev/shm, through which they pass them on.

    torch lets each have two batches ready, and one is in use. Containers have 64 MB where nothing else was asked for.

    Args:
        resolution: height and width of the images, pixels.
        processes: trainings at the same time, each with decoding processes of its own.
        has: bytes that are free in /dev/shm; None looks.
    Raises:
        InputError: with what would fit.
    """
    if config.data != "folder" or config.loader != "torchvision" or not config.workers:
        return
    if has is None:
        if not SHARED.exists():
            return
        has = shutil.disk_usage(SHARED).free
    processes *= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    batch = config.batch_size // rank_and_world()[1] * 3 * resolution**2
    needed = (2 * config.workers + 1) * batch * processes
    if needed > has:
        raise InputError(
            f"/dev/shm has {has / 1e6:,.0f} MB free, and batches of {batch / 1e6:,.1f} MB from {config.workers} decoding processes "
            f"need {needed / 1e6:,.0f}; give a container more with --shm-size, or give --workers 0, or a smaller --batch-size"
        )


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or less where a cgroup (a container, a batch job) limits it."""
    return min(
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _cgroup_limit(Path("/proc/self/cgroup"), CGROUPS)
    )


def _cgroup_limit(membership: Path, root: Path) -> int:
    """The least memory limit of the cgroups that a process is in, of version 2 or 1; UNLIMITED where there is none.

    Args:
        membership: /proc/self/cgroup.
        root: /sys/fs/cgroup.
    """
    limits = [UNLIMITED]
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return UNLIMITED
    for line in lines:  # such as 0::/user.slice, or 9:memory:/docker/123
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base, name = (root, "memory.max") if not controllers else (root / "memory", "memory.limit_in_bytes")
        below = Path(path.lstrip("/"))
        for folder in (
            base,
            *(base / part for part in (below, *below.parents)),
        ):  # in a container, `path` may not exist
            text = (folder / name).read_text().strip() if (folder / name).is_file() else "max"
            if text.isdigit():
                limits.append(int(text))
    return min(limits)
