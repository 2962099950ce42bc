"""Is scoring candidates together exact on this machine, and what do layout and precision change? `trials.evaluate --self-check`."""

from __future__ import annotations

import random
import time

import torch

from spaces.arch import Arch
from spaces.errors import Stopped
from trials.common import cli
from trials.networks.accuracy import topk_hits
from trials.scoring.evaluate_config import Config, Settings
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.scorer import Scorer

CHANGED = 0.1  # part of the choices that a child draws anew


def relatives(choices: dict[str, list], number: int) -> list[Arch]:
    """A random architecture and its descendants: candidates as a late generation of a search has them."""
    generator = random.Random(0)
    archs: list[Arch] = [{label: generator.choice(values) for label, values in choices.items()}]
    while len(archs) < number:
        parent = generator.choice(archs)
        archs.append(
            {
                label: generator.choice(values) if generator.random() < CHANGED else parent[label]
                for label, values in choices.items()
            }
        )
    return archs


@torch.no_grad()
def run(config: Config) -> None:
    """Print scores and times of the ways to score, and how they differ. Stores no score.

    Raises:
        Stopped: scored together, a candidate is not what it is alone.
    """
    settings = vars(Settings.of(config))
    scorer = Scorer(config.run, Settings(**settings), config.device)
    exact = Scorer(config.run, Settings(**settings | {"precision": "exact"}), config.device)
    archs = relatives(scorer.chain.choices, config.self_check)
    x, _ = next(scorer.scoring())
    bar = cli.progress(2 * len(archs) + 1, desc="self-check", unit="step")
    with bar, scorer.arithmetic_flags():
        began = time.perf_counter()
        tree = PrefixTree(scorer.parts, archs)
        tree.calibrate(scorer.calibration())
        hits = tree.hits(scorer.scoring())
        together = time.perf_counter() - began
        logits = dict(tree.logits(x))
        bar.update()
        differ, largest, alone = [], 0.0, 0.0
        for number, arch in enumerate(archs):
            began = time.perf_counter()
            _, network, _ = scorer.fixed_network(arch)
            right = torch.zeros(2, dtype=torch.int64, device=scorer.device)
            for images, labels in scorer.scoring():
                right += topk_hits(network(scorer.arithmetic.images(images)).float(), labels)
            same = torch.equal(right.cpu(), hits[number])  # waits for the device
            alone += time.perf_counter() - began
            y = network(scorer.arithmetic.images(x)).float()
            if not (same and torch.equal(y, logits[number])):
                differ.append(number)
            bar.update()
        changed, answers = 0, 0
        for number, arch in enumerate(archs):
            with exact.arithmetic_flags():
                _, network, _ = exact.fixed_network(arch)
                y = network(exact.arithmetic.images(x)).float()
            largest = max(largest, float((y - logits[number]).abs().max() / y.std()))
            changed += int((y.argmax(1) != logits[number].argmax(1)).sum())
            answers += len(y)
            bar.update()
    rows = [
        (
            "candidates, nodes of their tree",
            f"{len(archs)}, {tree.nodes} instead of {len(archs) * (len(scorer.chain.blocks) + 2)}",
        ),
        ("precision, device", f"{scorer.precision}, {scorer.device.type}"),
        ("seconds a candidate, together", f"{together / len(archs):.2f}"),
        ("seconds a candidate, one by one", f"{alone / len(archs):.2f} (ratio {alone / together:.2f})"),
        ("together equals one by one", "bit for bit" if not differ else f"no, in {len(differ)} candidates"),
        ("largest logit difference to 'exact'", f"{largest:.2g} of the logits' standard deviation"),
        ("other answers than 'exact'", f"{changed} of {answers:,}"),
        (
            "top-1",
            f"{int(hits[:, 0].min()) * 100 / len(scorer.fixed.images):.2f} to {int(hits[:, 0].max()) * 100 / len(scorer.fixed.images):.2f}%",
        ),
    ]
    print(cli.table(rows, ("self-check", ""), as_is=True))
    if differ:
        raise Stopped(
            f"{len(differ)} of {len(archs)} candidates score otherwise together than alone; use --reference, and please report it"
        )
