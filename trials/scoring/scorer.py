"""Score architectures with a supernet's weights: recalibrate BatchNorm on fixed images, then measure accuracy on fixed images.

The score by several supernets is the mean of theirs (measured.py). Many candidates are scored together, as a tree of prefixes
(prefix_tree.py), with results that equal those of scoring them one by one, bit for bit. The images are decoded once per run
(fixed_images.py). The weights of a path are copied, so no statistics leak from one candidate to the next, and NNI's NAS package is not
imported.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from spaces.arch import Arch, arch_id, validate
from trials.common.supernet_run import SupernetRun
from trials.common.threads import use_free_cores
from trials.images.dataset import normalise
from trials.networks.accuracy import Graded, grade, topk_hits
from trials.networks.batchnorm import fold_batchnorm, recalibrate_batchnorm
from trials.scoring.batches import Batches, fit_scoring_batch
from trials.scoring.evaluate_config import Settings
from trials.scoring.finetune import finetune
from trials.scoring.fixed_images import images_of_run
from trials.scoring.measured import Measured, mean_values
from trials.scoring.precision import PRECISIONS
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.recorded_blocks import Graphs, RecordedBlocks, scoring_device
from trials.scoring.score_store import ScoreStore
from trials.scoring.score_value import has_value
from trials.scoring.shared_blocks import Pass, SharedBlocks

GROUP_SECONDS = 60.0  # time that a group of candidates should take; a kill loses the group that is being scored
MIN_GROUP = 5  # candidates in a group, however long they take
GROUP_BYTES = 1 << 30  # memory for the folded weights of a group
# What `auto` means on each kind of device: the fastest precision that keeps the ranking. bf16 does not (docs/evaluation.md).
AUTO_PRECISION = {"cpu": "32", "cuda": "32"}

T = TypeVar("T")
OnShare = Callable[[float], None]  # (share of the work that is done)
Progress = Callable[[int, float], None]  # (candidates in the group that is being scored, share of it that is done)


def no_progress(group: int, share: float) -> None:
    """A `Progress` that shows nothing."""


class Scorer:
    """Scores architectures of one run.

    Args:
        run: directory of `trials.supernet`, with supernet.pt.
        settings: what a score depends on besides the supernet.
        device: auto, cpu or cuda.
        reference: score candidates one by one, each as a fixed network: the same results, slower.
        scoring_batch, cuda_graphs: options of trials.evaluate.
    Raises:
        InputError: no such run, an unfinished one, or a damaged checkpoint; no GPU for CUDA graphs.
    """

    def __init__(
        self,
        run: str | Path,
        settings: Settings,
        device: str = "auto",
        *,
        reference: bool = False,
        scoring_batch: int = 0,
        cuda_graphs: str = "off",
    ) -> None:
        self.run, self.settings, self.reference = Path(run), settings, reference
        supernet_run = SupernetRun.open(run)
        self.config, self.table, self.chain = supernet_run.config, supernet_run.table, supernet_run.chain
        use_free_cores(self.run)
        self.store = ScoreStore(self.run, supernet_run.hash, settings)
        self.device = scoring_device(device, cuda_graphs)
        self.graphs = Graphs(cuda_graphs, self.device)
        self.precision_name = AUTO_PRECISION[self.device.type] if settings.precision == "auto" else settings.precision
        self.precision = PRECISIONS[self.precision_name]
        every = supernet_run.all_weights
        self.supernets = [SharedBlocks(self.chain, weights, self.precision, self.device) for weights in every]
        self.blocks = self.supernets[0]
        self.seconds: float | None = None  # per candidate of the last group
        self.images = images_of_run(supernet_run, settings, self.device)
        size = fit_scoring_batch(scoring_batch, settings.batch_size, self.chain.resolution, self.device)
        to_floats = partial(normalise, name=self.config["data"], spos=self.config["spos_preprocessing"])
        self.batches = Batches(self.images, settings.batch_size, size, to_floats, self.precision, self.device)
        self.calibration_batches, self.scoring_batches = self.batches.calibration, self.batches.scoring
        self.computed_with: dict[str, Any] = {"precision": self.precision_name, "device": self.device.type}
        if size != settings.batch_size:
            self.computed_with["scoring_batch"] = size
        if self.precision.rounds_otherwise(self.device):
            self.computed_with["convolutions"] = "fused, whole"
            self.store.say_older_arithmetic(self.computed_with)

    def result(self, arch: Arch) -> dict[str, Any]:
        """The stored score of one architecture, or else a new one.

        Returns:
            The record of the score, see `ScoreStore.record`.
        Raises:
            ArchError: `arch` does not fit the space.
            Exception: whatever went wrong, such as too little memory.
        """
        [(_, result)] = self.results([arch])
        if isinstance(result, Exception):
            raise result
        return result

    def results(
        self, archs: Sequence[Arch], on_progress: Progress = no_progress
    ) -> Iterator[tuple[Arch, dict[str, Any] | Exception]]:
        """Stored scores of architectures, or else new ones, in any order.

        Candidates are scored in groups of neighbours in the tree; how they are grouped changes no bit of a score. Of
        processes that want the same score, one computes it and the others wait for it.

        Args:
            on_progress: called after each batch of images.
        Yields:
            An architecture and the record of its score, or the error (RuntimeError, MemoryError, OSError) that
            prevented it.
        Raises:
            ArchError: an architecture does not fit the space.
        """
        for arch in archs:
            validate(arch, self.chain.choices)
        waiting = []
        for arch in {arch_id(arch): arch for arch in archs}.values():
            stored = self._stored(arch)
            if stored:
                yield arch, stored
            else:
                waiting.append(arch)
        # Architectures with a long common prefix become neighbours.
        waiting.sort(key=self.table.combinations)
        while waiting:
            size = self._group_size(waiting[0])
            group, waiting = waiting[:size], waiting[size:]
            with self.store.claimed(group):
                # Another process may have stored some of the scores while this one waited for the claim.
                stored_now = {arch_id(arch): self._stored(arch) for arch in group}
                new = [arch for arch in group if stored_now[arch_id(arch)] is None]
                results = self._score_or_halve(new, on_progress) if new else []
                computed = dict(zip(map(arch_id, new), results, strict=True))
            yield from ((arch, stored_now[name] or computed[name]) for arch in group if (name := arch_id(arch)))

    def score(self, archs: Sequence[Arch], on_progress: Progress = no_progress) -> list[dict[str, Any]]:
        """Score architectures as one group, and store the results.

        Returns:
            The records of the scores, see `ScoreStore.record`.
        Raises:
            ArchError: an architecture does not fit the space.
        """
        began, measured = time.perf_counter(), list[list[Measured]]()

        def progress(share: float) -> None:
            on_progress(len(archs), (len(measured) + share) / len(self.supernets))

        for blocks in self.supernets:
            measured.append(self._measure(archs, blocks, progress))
        self.seconds = (time.perf_counter() - began) / len(archs)
        alike = {"scoring_images": len(self.images.scoring), "seconds": self.seconds, "seed": self.config["seed"]}
        alike["computed_with"] = self.computed_with
        records = [
            self.store.record(arch, self.table, **mean_values(own), **alike)
            for arch, *own in zip(archs, *measured, strict=True)
        ]
        for record in records:
            self.store.write(record)
        return records

    def _measure(self, archs: Sequence[Arch], blocks: SharedBlocks, on_share: OnShare) -> list[Measured]:
        """What one supernet says of candidates.

        Args:
            blocks: of the supernet.
            on_share: called with the share of the work that is done.
        """
        if not (self.reference or self.settings.finetune_steps):
            return self._score_tree(archs, blocks, on_share)
        measured = []
        for done, arch in enumerate(archs, 1):
            measured.append(self._score_reference(arch, blocks))
            on_share(done / len(archs))
        return measured

    def _stored(self, arch: Arch) -> dict[str, Any] | None:
        """The stored score; None where there is none, or an older version's, without the loss, which is measured anew."""
        record = self.store.read(arch)
        return record if record and has_value(record, "loss") else None

    def _score_or_halve(self, group: list[Arch], on_progress: Progress) -> list[dict[str, Any] | Exception]:
        """Score a group. Where that fails, score its halves, so that one bad candidate takes no other with it."""
        try:
            return [*self.score(group, on_progress)]
        except OSError as error:  # the disk, which halves would not help
            return [error] * len(group)
        except (RuntimeError, MemoryError) as error:
            recorded = self.graphs.turn_off()  # they need memory of their own
            if len(group) == 1 and not recorded:
                return [error]
        for blocks in self.supernets:
            blocks.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if recorded:
            return self._score_or_halve(group, on_progress)
        half = len(group) // 2
        return self._score_or_halve(group[:half], on_progress) + self._score_or_halve(group[half:], on_progress)

    def _group_size(self, arch: Arch) -> int:
        """How many candidates like this one to score together."""
        if self.seconds is None:
            return MIN_GROUP
        by_time, by_memory = GROUP_SECONDS / self.seconds, GROUP_BYTES / (4 * self.table.params(arch))
        return max(1, int(min(max(by_time, MIN_GROUP), by_memory)))

    def recordings(self, tree: PrefixTree, purpose: Pass) -> RecordedBlocks | None:
        """What repeats a pass of a tree from recordings, if that is wanted; None: it is launched."""
        size, batches = self.batches.sizes()[purpose is Pass.SCORE]
        pixels = size * self.chain.resolution**2
        return self.graphs.recorded_for(pixels, batches, tree.node_count, tree.block_count)

    def _score_tree(self, archs: Sequence[Arch], blocks: SharedBlocks, on_share: OnShare) -> list[Measured]:
        """Score candidates together, as a prefix tree.

        Args:
            blocks: of the supernet.
            on_share: called after each batch with the share of all batches that is done.
        """
        batches_in_all, done = sum(batches for _, batches in self.batches.sizes()), 0

        def counted(batches: Iterator[T]) -> Iterator[T]:
            nonlocal done
            for batch in batches:
                yield batch
                done += 1
                on_share(min(1.0, done / batches_in_all))

        with self.precision.cudnn_flags():
            tree = PrefixTree(blocks, archs)
            first_batch = self.batches.first()
            before = tree.hits([first_batch], before=True)
            used = tree.calibrate(counted(self.calibration_batches()), self.recordings(tree, Pass.CALIBRATE))
            scored = counted(self.scoring_batches())
            answers = map(Graded, *tree.answers(scored, recorded=self.recordings(tree, Pass.SCORE)))
        size = len(first_batch[1])
        return [Measured(float(b[0]) * 100 / size, own, used) for b, own in zip(before, answers, strict=True)]

    @torch.no_grad()
    def _score_reference(self, arch: Arch, blocks: SharedBlocks) -> Measured:
        """Score one architecture the plain way, as a fixed network. `_score_tree` must give the same."""
        with self.precision.cudnn_flags():
            before, network, used = self.fixed_network(arch, blocks)
            return Measured(before, self.answers_of_network(network), used)

    @torch.no_grad()
    def fixed_network(self, arch: Arch, blocks: SharedBlocks | None = None) -> tuple[float, nn.Module, int]:
        """One architecture as a network with recalibrated BatchNorm, whose input is `self.precision.cast_images(x)`.

        Args:
            blocks: of the supernet whose weights it gets; None: of the first.
        Returns:
            Top-1 in percent on the first scoring batch before recalibration; the network; number of calibration images.
        """
        cast_images = self.precision.cast_images
        network = self.precision.prepare(
            self.chain.network(arch, (self.blocks if blocks is None else blocks).weights), self.device
        )
        cast = self.precision.finish(copy.deepcopy(network))
        x, labels = self.batches.first()
        before = topk_hits(cast(cast_images(x)).float(), labels)
        if self.settings.finetune_steps:
            finetune(network, self.batches.finetune, self.settings.finetune_steps, self.config["seed"])
            cast = self.precision.finish(copy.deepcopy(network))
        used = recalibrate_batchnorm(cast, (cast_images(x) for x in self.calibration_batches()))
        if self.precision.fold:
            # The weights are folded in 32 bits and cast afterwards, as in the tree.
            statistics = {key: value for key, value in cast.state_dict().items() if "running_" in key}
            network.load_state_dict(statistics, strict=False)
            cast = self.precision.finish(fold_batchnorm(network))
        return float(before[0]) * 100 / len(labels), cast, used

    @torch.no_grad()
    def answers_of_network(self, network: nn.Module) -> Graded:
        """What a `fixed_network` says of each of the n scoring images, on the CPU: bool (n, 2), and float32 (n,)."""
        batches = self.scoring_batches()
        graded = [grade(network(self.precision.cast_images(x)).float(), y) for x, y in batches]
        return Graded(*(torch.cat(parts).cpu() for parts in zip(*graded, strict=True)))
