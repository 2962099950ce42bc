"""Score architectures with a supernet's weights: BN recalibration on fixed images, accuracy on fixed images.

Many candidates are scored together, as a tree of prefixes (trials/prefix_tree.py), bit for bit as one by one. The images are
decoded once per run (trials/fixed_images.py). The weights of a path are copied, so no statistics leak from one candidate
to the next, and NNI's NAS package is not imported.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from spaces.arch import Arch, arch_id, validate
from spaces.errors import InputError
from spaces.files import save_json
from trials.common.distributed import use_cuda
from trials.common.supernet_run import SupernetRun
from trials.images.dataset import normalise
from trials.networks.accuracy import topk_hits
from trials.networks.batchnorm import fold_batchnorm, recalibrate_batchnorm
from trials.scoring import score_store
from trials.scoring.evaluate_config import Settings
from trials.scoring.fixed_images import FixedImages, fixed_images
from trials.scoring.prefix_tree import ARITHMETIC, Arithmetic, Parts, PrefixTree

GROUP_SECONDS = 60.0  # candidates that are scored together take about so long: a kill loses them
LEAST = 5  # of them, however long they take
GROUP_BYTES = 1 << 30  # of their folded weights
DEFAULT = {"cpu": "32", "cuda": "32"}  # the fastest that keeps the ranking: bf16 does not (docs/evaluation.md)
Found = tuple[float, torch.Tensor, int]  # top-1 before recalibration in percent; hits in 1 and in 5; calibration images


class Scorer:
    """Scores architectures of one run.

    Args:
        run: directory of `trials.supernet`, with supernet.pt.
        device: auto, cpu or cuda.
        reference: score candidates one by one, each as a fixed network: the same results, slower.
    Raises:
        InputError: no such run, an unfinished one, or a damaged checkpoint.
    """

    def __init__(self, run: str | Path, settings: Settings, device: str = "auto", *, reference: bool = False) -> None:
        self.run, self.settings, self.reference = Path(run), settings, reference
        supernet_run = SupernetRun.open(run)
        self.config, self.table, self.chain = supernet_run.config, supernet_run.table, supernet_run.chain
        self.weights, self.hash = supernet_run.weights, supernet_run.hash
        self.device = torch.device("cuda" if use_cuda(device) else "cpu")
        self.precision = DEFAULT[self.device.type] if settings.precision == "auto" else settings.precision
        self.arithmetic: Arithmetic = ARITHMETIC[self.precision]
        self.parts = Parts(self.chain, self.weights, self.arithmetic, self.device)
        self.seconds: float | None = None  # that the last candidates took, each
        self.fixed = self._fixed_images(supernet_run.checkpoint.get("preprocessing"))

    def result_path(self, arch: Arch) -> Path:
        """Where the score of an architecture is kept."""
        return self.run / "search" / f"{arch_id(arch)}.json"

    def known(self, arch: Arch) -> dict[str, Any] | None:
        """The stored score, if it is of this supernet and these settings."""
        return score_store.stored_score(self.run, arch, self.hash, vars(self.settings))

    def result(self, arch: Arch) -> dict[str, Any]:
        """The stored score, or else a new one.

        Raises:
            ArchError: `arch` does not fit the space.
            Exception: whatever went wrong, such as too little memory.
        """
        for _, result in self.results([arch]):
            if isinstance(result, Exception):
                raise result
            return result
        raise AssertionError

    def results(
        self, archs: Sequence[Arch], tick: Callable[[int, float], None] = lambda group, share: None
    ) -> Iterator[tuple[Arch, dict[str, Any] | Exception]]:
        """Stored scores, or else new ones, in any order. Of processes that want the same one, one computes it.

        Candidates are scored in groups of neighbours in the tree; how they are grouped changes no bit of a score.

        Args:
            tick: is told after each batch the size of the group that is being scored, and what part of it is done.
        Yields:
            The architecture and its score, or the error (RuntimeError, MemoryError, OSError) that stood in the way.
        Raises:
            ArchError: an architecture does not fit the space.
        """
        for arch in archs:
            validate(arch, self.chain.choices)
        waiting = []
        for arch in {arch_id(arch): arch for arch in archs}.values():
            known = self.known(arch)
            if known:
                yield arch, known
            else:
                waiting.append(arch)
        waiting.sort(key=self.table.combinations)  # neighbours
        while waiting:
            size = self._group_size(waiting[0])
            group, waiting = waiting[:size], waiting[size:]
            with self._claimed(group):
                found = {arch_id(arch): self.known(arch) for arch in group}  # another process may have been faster
                new = [arch for arch in group if found[arch_id(arch)] is None]
                results = dict(zip(map(arch_id, new), self._try(new, tick) if new else [], strict=True))
            yield from ((arch, found[name] or results[name]) for arch in group if (name := arch_id(arch)))

    @contextlib.contextmanager
    def _claimed(self, archs: Sequence[Arch]) -> Iterator[None]:
        """No other process computes these meanwhile."""
        path = self.run / "search" / ".lock"
        path.parent.mkdir(exist_ok=True)
        with open(path, "a") as lock:
            # each architecture is a byte of it; in order, so that two processes never wait for each other
            for byte in sorted({int(arch_id(arch)[:8], 16) for arch in archs}):
                fcntl.lockf(lock, fcntl.LOCK_EX, 1, byte)
            yield

    def _try(self, group: list[Arch], tick: Callable[[int, float], None]) -> list[dict[str, Any] | Exception]:
        """Scores of a group; where it fails, of its halves, so that one candidate takes no other with it."""
        try:
            return [*self.score(group, tick)]
        except OSError as error:  # the disk
            return [error] * len(group)
        except (RuntimeError, MemoryError) as error:
            if len(group) == 1:
                return [error]
        self.parts.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(group) // 2
        return self._try(group[:half], tick) + self._try(group[half:], tick)

    def _group_size(self, arch: Arch) -> int:
        """How many candidates like this one to score together."""
        if self.seconds is None:
            return LEAST
        by_time, by_memory = GROUP_SECONDS / self.seconds, GROUP_BYTES / (4 * self.table.params(arch))
        return max(1, int(min(max(by_time, LEAST), by_memory)))

    def score(
        self, archs: Sequence[Arch], tick: Callable[[int, float], None] = lambda group, share: None
    ) -> list[dict[str, Any]]:
        """Score architectures together, and store the results.

        Returns:
            arch, top1 and top5 and top1_before_recalibration (percent), macs, params, seconds (its part of the time), and
            what they depend on. The accuracy before recalibration is that on the first batch of scoring images alone.
        Raises:
            ArchError: one does not fit the space.
        """
        began = time.perf_counter()
        if self.reference:
            found = [self._one_by_one(arch) for arch in archs]
        else:
            found = self._together(archs, lambda share: tick(len(archs), share))
        self.seconds = (time.perf_counter() - began) / len(archs)
        results = []
        for arch, (before, hits, used) in zip(archs, found, strict=True):
            images = len(self.fixed.images)
            result = {
                "arch": arch,
                "top1": float(hits[0]) * 100 / images,
                "top5": float(hits[1]) * 100 / images,
                "top1_before_recalibration": before,
                "macs": self.table.macs(arch),
                "params": self.table.params(arch),
                "seconds": self.seconds,
                "calibration_images": used,
                "precision": self.precision,
                "device": self.device.type,
                "seed": self.config["seed"],
                "supernet": self.hash,
                "settings": vars(self.settings),
                "finished": time.time(),
            }
            save_json(self.result_path(arch), result)
            results.append(result)
        return results

    def _together(self, archs: Sequence[Arch], tick: Callable[[float], None]) -> list[Found]:
        steps, done = self._steps(), 0

        def counted(batches: Iterator[Any]) -> Iterator[Any]:
            nonlocal done
            for batch in batches:
                yield batch
                done += 1
                tick(min(1.0, done / steps))

        with self.arithmetic_flags():
            tree = PrefixTree(self.parts, archs)
            first = next(self.scoring())
            before = tree.hits([first], before=True)
            used = tree.calibrate(counted(self.calibration()))
            hits = tree.hits(counted(self.scoring()))
        return [(float(b[0]) * 100 / len(first[1]), h, used) for b, h in zip(before, hits, strict=True)]

    @torch.no_grad()
    def _one_by_one(self, arch: Arch) -> Found:
        """The score of one architecture the plain way, a fixed network: what `_together` must equal."""
        with self.arithmetic_flags():
            before, network, used = self.fixed_network(arch)
            hits = torch.zeros(2, dtype=torch.int64, device=self.device)
            for x, labels in self.scoring():
                hits += topk_hits(network(self.arithmetic.images(x)).float(), labels)
        return before, hits.cpu(), used

    @torch.no_grad()
    def fixed_network(self, arch: Arch) -> tuple[float, torch.nn.Module, int]:
        """One architecture as a network with recalibrated BatchNorm, which takes `self.arithmetic.images`.

        Returns:
            Top-1 in percent on the first scoring batch before recalibration; the network; images used.
        """
        images = self.arithmetic.images
        network = self.arithmetic.place(self.chain.network(arch, self.weights), self.device)
        cast = self.arithmetic.cast(copy.deepcopy(network))
        x, labels = next(self.scoring())
        before = topk_hits(cast(images(x)).float(), labels)
        used = recalibrate_batchnorm(cast, (images(x) for x in self.calibration()))
        if self.arithmetic.fold:
            statistics = {key: value for key, value in cast.state_dict().items() if "running_" in key}
            network.load_state_dict(statistics, strict=False)
            cast = self.arithmetic.cast(fold_batchnorm(network))
        return float(before[0]) * 100 / len(labels), cast, used

    def arithmetic_flags(self) -> Any:
        """On a GPU, `exact` means 32 bits in the products too, and the same algorithm each time."""
        exact = self.precision == "exact"
        now = torch.backends.cudnn
        return now.flags(enabled=now.enabled, benchmark=False, deterministic=exact, allow_tf32=not exact)

    def _steps(self) -> int:
        """Batches of one score."""
        size = self.settings.batch_size
        return max(1, len(self.fixed.calibration) // size) + -(-len(self.fixed.images) // size)

    def calibration(self) -> Iterator[torch.Tensor]:
        """Normalised calibration images, in full batches alone, because each counts the same in a BN average."""
        size = min(self.settings.batch_size, len(self.fixed.calibration))
        for first in range(0, len(self.fixed.calibration) - size + 1, size):
            yield self._normalised(self.fixed.calibration[first : first + size])

    def scoring(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Normalised scoring images with their labels."""
        batches = (tensor.split(self.settings.batch_size) for tensor in (self.fixed.images, self.fixed.labels))
        for images, labels in zip(*batches, strict=True):
            yield self._normalised(images), labels.to(self.device)

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        return normalise(images.to(self.device), self.config["data"], spos=self.config["spos_preprocessing"])

    def _fixed_images(self, preprocessing: dict[str, Any] | None) -> FixedImages:
        """The images of all scores of this run, on the device.

        Raises:
            InputError: the run's configuration contradicts what its supernet was trained on.
        """
        spos = self.config["spos_preprocessing"]
        if preprocessing is not None and (preprocessing["channels"] == "BGR") != bool(spos):
            raise InputError(
                f"supernet '{self.run / 'supernet.pt'}' was trained on {preprocessing['channels']} images, and config.json of "
                f"its run says spos_preprocessing {spos}; restore the one that was changed"
            )
        return fixed_images(
            self.run,
            self.config,
            self.chain.resolution,
            self.chain.classes,
            calibration=self.settings.calibration_images,
            scoring=self.settings.scoring_images,
            device=self.device,
        )
