"""The architecture that a differentiable strategy has learned: written, and compared with what the training ran.

The discretisation gap is the accuracy of what the strategy runs, all its candidates by their probabilities, minus that of the
one path that is exported, both on the trained supernet. BatchNorm is recalibrated for each, on the same training images, and
accuracy is measured on the same scoring images; no test image is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from spaces.arch import Arch, Mixture, activate_mixture, arch_id, save_arch
from spaces.files import save_json
from spaces.latency import NANOSECONDS_PER_MS
from spaces.model_space import make_supernet
from strategies.arch_learner import Course, mean_entropy
from strategies.feasible import FeasibleSpace
from strategies.most_probable import most_probable
from trials.common import cli
from trials.networks.batchnorm import recalibrate_batchnorm
from trials.training.fixed_paths import SCORING_IMAGES, calibration_batches

if TYPE_CHECKING:
    from trials.training.supernet_trainer import SupernetTrainer

DRAWS = 4  # of a strategy that draws what a step runs; the mixture's accuracy is their mean


@dataclass(frozen=True)
class Gap:
    """Accuracies on held-out images with the weights of the supernet, percent.

    Attributes:
        mixture_top1: of what the strategy runs.
        path_top1: of the exported path.
        images: held-out images that both answered.
    """

    mixture_top1: float
    path_top1: float
    images: int


@torch.no_grad()
def measure_gap(trainer: SupernetTrainer, arch: Arch) -> Gap:
    """Compare what a strategy runs at the end with the path that is exported.

    The supernet that was trained is not touched: another one gets its weights.
    """
    assert trainer.search is not None
    device, data = trainer.fabric.device, trainer.data
    supernet = make_supernet(trainer.space.build())
    supernet.load_state_dict(trainer.supernet.state_dict())
    supernet.to(device, memory_format=torch.channels_last)
    calibration = calibration_batches(data, trainer.config.batch_size)
    scoring = list(data.eval_batches("score", len(calibration[0]), count=SCORING_IMAGES))
    images = sum(len(y) for _, y in scoring)

    def top1(mixture: Mixture) -> float:
        activate_mixture(supernet, mixture)
        with trainer.fabric.autocast():
            recalibrate_batchnorm(supernet, (data.normalise(x.to(device)) for x in calibration))
            hits = [(supernet(data.normalise(x.to(device))).argmax(1) == y.to(device)).sum() for x, y in scoring]
        return 100 * int(torch.stack(hits).sum()) / images

    epoch = trainer.config.epochs - 1
    runs = [trainer.search.draw(torch.Generator().manual_seed(draw), epoch, learn=False) for draw in range(DRAWS)]
    if trainer.config.strategy in ("softmax", "threshold"):  # nothing of theirs is random
        runs = runs[:1]
    return Gap(sum(map(top1, runs)) / len(runs), top1(arch), images)


def overturned(arch: Arch, mode: Arch) -> list[str]:
    """The labels for which the export did not take the most probable candidate."""
    return [label for label in arch if arch[label] != mode[label]]


def write_learned_arch(trainer: SupernetTrainer, run: Path, feasible: FeasibleSpace, course: Course | None) -> None:
    """Write the most probable architecture within the limit to arc.json, and how it was found to most_probable.json.

    Args:
        course: where the architecture parameters stand; None where they took no step.
    Raises:
        InputError: no architecture meets the limit.
    """
    limits, table, latency = feasible.limits, feasible.table, feasible.latency
    scores = trainer.export_scores()
    if limits.max_latency_ms is not None and latency is not None:
        limit = math.floor(limits.max_latency_ms * NANOSECONDS_PER_MS)
        arch, _ = most_probable(latency.costs, scores, limit)
    else:
        arch, _ = most_probable(table, scores, limits.max_macs)
    mode, _ = most_probable(table, scores)
    probabilities = trainer.probabilities()
    chosen = [row[table.choices[label].index(arch[label])] for label, row in probabilities.items()]
    log_probability = sum(math.log(p) if p else -math.inf for p in chosen)
    against_mode, gap = overturned(arch, mode), measure_gap(trainer, arch)
    entropy = mean_entropy({label: torch.tensor(row) for label, row in probabilities.items()})
    result = {
        "arch": arch,
        "strategy": trainer.config.strategy,
        "max_macs": limits.max_macs,
        "max_latency_ms": limits.max_latency_ms,
        "latency": latency and {"on": str(latency), "error": latency.error(), "best_ms": latency.ms(arch)},
        "log_probability": log_probability if math.isfinite(log_probability) else None,
        "macs": table.macs(arch),
        "params": table.params(arch),
        "mode": mode,
        "macs_without_limit": table.macs(mode),
        "ms_without_limit": latency and latency.ms(mode),
        "overturned": against_mode,
        "entropy": entropy,
        "course": course and course._asdict(),
        "discretisation": asdict(gap),
    }
    save_json(run / "most_probable.json", result)
    save_arch(run / "arc.json", arch)
    save_arch(run / "learned_arc.json", arch)  # a search of this supernet writes its own arc.json
    rows = [
        ("most probable architecture", arch_id(arch)),
        ("within", str(limits)),
        ("its MACs, params", f"{result['macs']:,}, {result['params']:,}"),
        ("MACs of the most probable without a limit", f"{result['macs_without_limit']:,}"),
    ]
    if latency:
        rows.append(("its latency by the table", f"{latency.ms(arch):.3g} ms {latency.error()} ({latency})"))
    print(cli.table(rows, ("", ""), as_is=True))
    print(summary(against_mode, len(arch), entropy, gap))
    print(f"architecture: {run / 'arc.json'}")


def summary(against_mode: Sequence[str], choices: int, entropy: float, gap: Gap) -> str:
    """How far the export is from what was learned, in one line.

    Args:
        against_mode: labels whose most probable candidate was not exported.
        choices: number of all labels.
        entropy: mean over choices, as a part of the largest.
    """
    return (
        f"the limit overturned {len(against_mode)} of {choices} choices; entropy {entropy:.2f} of 1; on {gap.images:,} held-out "
        f"images what was trained has {gap.mixture_top1:.1f}%, the exported path {gap.path_top1:.1f}% (discretisation gap "
        f"{gap.mixture_top1 - gap.path_top1:+.1f} points)"
    )
