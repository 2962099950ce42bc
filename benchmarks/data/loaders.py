"""Images/s of whole epochs: torchvision's ImageFolder with PIL, and our loaders."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torchvision import datasets, transforms

from benchmarks.data.start import BATCH, RESOLUTION
from trials.common import cli
from trials.images.dataset import STATISTICS
from trials.images.load import load_data
from trials.images.options import DataOptions


def read_by_torchvision(root: Path, split: str, jitter: float, workers: int, device: torch.device) -> int:
    """One epoch of ImageFolder, PIL transforms and DataLoader: the usual training script. Returns: images read."""
    mean, std = STATISTICS["folder"]
    change: list[torch.nn.Module]
    if split == "train":
        change = [transforms.RandomResizedCrop(RESOLUTION), transforms.RandomHorizontalFlip()]
        change += [transforms.ColorJitter(jitter, jitter, jitter)] if jitter else []
    else:
        change = [transforms.Resize(256), transforms.CenterCrop(RESOLUTION)]
    finish = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    data = datasets.ImageFolder(str(root / split), transforms.Compose([*change, *finish]))
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=split == "train", num_workers=workers)
    return sum(len(images.to(device)) for images, _ in loader)


def read_by_ours(
    loader: str, root: Path, split: str, jitter: float, workers: int, device: torch.device, epoch: int
) -> int:
    """One epoch of our data set. Returns: images read."""
    options = DataOptions(data="folder", data_root=str(root), loader=loader, workers=workers, color_jitter=jitter)
    data = load_data(options, RESOLUTION, score_fraction=0.01)
    data.to(device)
    if split == "train":
        return sum(len(images) for images, _ in data.train_batches("all", BATCH, seed=0, epoch=epoch))
    return sum(len(data.normalise(images.to(device))) for images, _ in data.eval_batches("test", BATCH))


def speed(read: Callable[[], int], device: torch.device) -> float:
    """Images per second."""
    began = time.perf_counter()
    count = read()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - began)


def compare_loaders(root: Path, rounds: int, workers: int, device: torch.device) -> None:
    """Print images/s of all loaders, and the ratios to torchvision's ImageFolder."""
    rows = []
    for split, jitter in (("train", 0.0), ("train", 0.4), ("val", 0.0)):
        reference: list[float] = []
        ours: dict[str, list[float]] = {"torchvision": [], "dali": []}
        for epoch in range(rounds):
            reference.append(speed(partial(read_by_torchvision, root, split, jitter, workers, device), device))
            for loader, speeds in ours.items():
                read = partial(read_by_ours, loader, root, split, jitter, workers, device, epoch)
                speeds.append(speed(read, device))
        of_loaders = {"torchvision ImageFolder": reference, **{f"ours, {name}": ours[name] for name in ours}}
        for name, speeds in of_loaders.items():
            ratios = [own / theirs for own, theirs in zip(speeds, reference, strict=True)]
            images = split + (", jitter" if jitter else "")
            span = f"{min(ratios):.2f} to {max(ratios):.2f}"
            rows.append((images, name, f"{statistics.median(speeds):.0f}", f"{statistics.median(ratios):.2f}", span))
    header = ("part", "loader", "images/s", "ratio", f"single rounds (n = {rounds})")
    print(cli.table(rows, header, as_is=True))
