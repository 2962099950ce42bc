"""Do scores that need no training rank the random architectures of benchmarks/quality? Beside MACs and parameters.

    python -m benchmarks.zero_cost --pairs fbnet-fashion,spos-fashion     minutes; RUN of benchmarks.quality is not needed
    python -m benchmarks.zero_cost --smoke                                seconds, on digits; the figures say nothing

The scores are of networks with fresh weights, means over --seeds: naswot (arXiv:2006.04647), the norm of the gradient (arXiv:2101.08134),
synflow (arXiv:2006.05467) and ZiCo (arXiv:2301.11300). The truth is the mean test accuracy in benchmarks/results/quality. Prints Kendall's
tau within the band of cost, with intervals of 95 %.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from benchmarks.common import parse
from benchmarks.quality.pairs import DEFAULT, PAIRS, SMOKE_PAIR, Pair, cut_fashion_mnist
from benchmarks.ranking import truth
from benchmarks.roads.folders import FASHION_MNIST
from spaces.arch import arch_id
from spaces.errors import InputError, unknown
from trials.common import cli
from trials.evidence.ranking import kendall
from trials.images.load import load_data
from trials.images.options import DataOptions

BATCH = 128  # images
BATCHES = 4  # that ZiCo compares
Batches = Sequence[tuple[torch.Tensor, torch.Tensor]]


def naswot(network: nn.Module, batches: Batches) -> float:
    """How differently a network's ReLUs treat different images: log determinant of the kernel of their codes."""
    codes: list[torch.Tensor] = []
    relus = [module for module in network.modules() if isinstance(module, nn.ReLU | nn.ReLU6)]
    hooks = [
        relu.register_forward_hook(lambda module, images, out: codes.append((out > 0).flatten(1).double()))
        for relu in relus
    ]
    network.train()
    with torch.no_grad():
        network(batches[0][0])
    for hook in hooks:
        hook.remove()
    kernel = sum((code @ code.T + (1 - code) @ (1 - code).T for code in codes), torch.zeros(()))
    return float(torch.linalg.slogdet(kernel).logabsdet)


def _gradients(network: nn.Module, batches: Batches) -> list[list[torch.Tensor]]:
    """The gradients of the weights of convolutions and linear layers, by batch and layer."""
    network.train()
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    found = []
    for images, labels in batches:
        loss = nn.functional.cross_entropy(network(images), labels)
        found.append([gradient.flatten() for gradient in torch.autograd.grad(loss, weights)])
    return found


def gradient_norm(network: nn.Module, batches: Batches) -> float:
    """The norm of the gradient of the loss, with one batch."""
    return float(torch.cat(_gradients(network, batches[:1])[0]).norm())


def zico(network: nn.Module, batches: Batches) -> float:
    """How large gradients are beside how much they vary from batch to batch: logarithm by layer, summed."""
    total = 0.0
    for layer in zip(*_gradients(network, batches), strict=True):
        sizes = torch.stack(layer).abs()
        deviation = sizes.std(dim=0, correction=0)
        varies = deviation > 0
        total += float((sizes.mean(dim=0)[varies] / deviation[varies]).sum().clamp_min(1e-30).log())
    return total


def synflow(network: nn.Module, batches: Batches) -> float:
    """How much all weights together let through: logarithm of the sum of weight times gradient, of absolute weights on an image of ones."""
    network.eval().double()
    weights = list(network.parameters())
    with torch.no_grad():
        for weight in weights:
            weight.abs_()
    out = network(torch.ones_like(batches[0][0][:1], dtype=torch.double)).sum()
    gradients = torch.autograd.grad(out, weights)
    flows = [(weight * gradient).abs().sum() for weight, gradient in zip(weights, gradients, strict=True)]
    return float(torch.stack(flows).sum().log().detach())


# synflow changes the weights, so it comes last
SCORES: dict[str, Callable[[nn.Module, Batches], float]] = {
    "naswot": naswot,
    "gradient norm": gradient_norm,
    "ZiCo": zico,
    "synflow": synflow,
}


def scores(pair: Pair, batches: Batches, number: int, seeds: int) -> dict[str, dict[str, float]]:
    """The scores of the first random architectures of a pair.

    Returns:
        id of an architecture -> name of a score -> mean over seeds; MACs and parameters stand among them.
    """
    table, archs = pair.table(), pair.random_archs(number)
    found: dict[str, dict[str, float]] = {}
    with cli.progress(len(archs), desc=pair.name, unit="arch") as bar:
        for arch in archs:
            values: dict[str, list[float]] = {name: [] for name in SCORES}
            for seed in range(seeds):
                torch.manual_seed(seed)
                network = pair.chain().network(arch)
                for name, score in SCORES.items():
                    values[name].append(score(network, batches))
            means = {name: statistics.mean(of_seeds) for name, of_seeds in values.items()}
            found[arch_id(arch)] = means | {"MACs": float(table.macs(arch)), "parameters": float(table.params(arch))}
            bar.update(1)
    return found


def images_of(pair: Pair, work: Path) -> Batches:
    """Batches of training images, as networks of the pair see them."""
    options = DataOptions(data=pair.data)
    if pair.data == "fashion-mnist":
        cut_fashion_mnist(Path(FASHION_MNIST), pair.root(work))
        options = DataOptions(data=pair.data, data_root=str(pair.root(work)))
    data = load_data(options, pair.resolution, score_fraction=0.1)
    return [batch for batch, _ in zip(data.train_batches("all", BATCH, seed=0, epoch=0), range(BATCHES), strict=False)]


def main(argv: Sequence[str] | None = None) -> None:
    """Score the architectures, and print how they are ranked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default=DEFAULT[0], help=f"of benchmarks.quality, with commas: {', '.join(PAIRS)}")
    parser.add_argument("--seeds", type=int, default=3, help="initialisations of each network")
    parser.add_argument("--pool", type=int, default=30, help="random architectures")
    args = parse(parser, argv, {"seeds": 1, "pool": 5})
    names = args.pairs.split(",")
    for name in names:
        if name not in PAIRS:
            raise InputError(unknown("pair", name, PAIRS))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for pair in [SMOKE_PAIR] if args.smoke else [PAIRS[name] for name in names]:
            found = scores(pair, images_of(pair, Path(folder)), args.pool, args.seeds)
            true = {name: of["parameters"] for name, of in found.items()} if args.smoke else truth(pair.name)
            known = [name for name in found if name in true]
            for score in next(iter(found.values())):
                tau = kendall([found[name][score] for name in known], [true[name] for name in known])
                rows.append((pair.name, score, len(known), str(tau)))
    print(cli.table(rows, ("pair", "score", "networks", "tau"), as_is=True))


if __name__ == "__main__":
    cli.run(main)
