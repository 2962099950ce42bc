"""Score architectures with a supernet's weights: BN recalibration on fixed images, accuracy on fixed images.

The images are decoded once per run (trials/fixed_images.py). The weights of a path are copied
into a fixed network, so no statistics leak from one candidate to the next, and NNI's NAS package is not imported.
"""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import Any

import torch

import spaces
from spaces.arch import Arch, arch_id
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import load_json, save_json
from trials import run_dir
from trials.bn import recalibrate_bn
from trials.data import normalise
from trials.device import use_cuda
from trials.evaluate import Settings
from trials.fixed_images import FixedImages, fixed_images


class Scorer:
    """Scores architectures of one run.

    Args:
        run: directory of `trials.supernet`, with supernet.pt.
        device: auto, cpu or cuda.
    Raises:
        InputError: no such run, an unfinished one, or a damaged checkpoint.
    """

    def __init__(self, run: str | Path, settings: Settings, device: str = "auto") -> None:
        self.run, self.settings = Path(run), settings
        self.config = run_dir.load_run(run, "supernet")
        self.table = CostTable.load(self.run / "cost_table.json")
        path = self.run / "supernet.pt"
        if not path.exists() and (self.run / "checkpoints").exists():
            raise InputError(f"'{run}' is not trained to the end; run trials.supernet with --resume first")
        checkpoint = run_dir.load_checkpoint(path, "supernet", mmap=True)
        self.weights = checkpoint["model"]
        about = checkpoint["space"]
        self.chain = spaces.describe(about["name"], about["preset"], **about["options"])
        self.hash = run_dir.file_hash(path)
        self.device = torch.device("cuda" if use_cuda(device) else "cpu")
        self.fixed = self._fixed_images(checkpoint.get("preprocessing"))

    def result_path(self, arch: Arch) -> Path:
        """Where the score of an architecture is kept."""
        return self.run / "search" / f"{arch_id(arch)}.json"

    def known(self, arch: Arch) -> dict[str, Any] | None:
        """The stored score, if it is of this supernet and these settings."""
        path = self.result_path(arch)
        if not path.exists():
            return None
        result = load_json(path, "score")
        same = result["supernet"] == self.hash and result["settings"] == vars(self.settings)
        return result if same else None

    def result(self, arch: Arch) -> dict[str, Any]:
        """The stored score, or else a new one. Of processes that want the same one, one computes it.

        Raises:
            ArchError: `arch` does not fit the space.
        """
        path = self.run / "search" / ".lock"
        path.parent.mkdir(exist_ok=True)
        with open(path, "a") as lock:  # each architecture is a byte of it
            fcntl.lockf(lock, fcntl.LOCK_EX, 1, int(arch_id(arch)[:8], 16))
            return self.known(arch) or self.score(arch)

    @torch.no_grad()
    def score(self, arch: Arch) -> dict[str, Any]:
        """Score one architecture and store the result.

        Returns:
            arch, top1 and top5 and top1_before_recalibration (percent), macs, params, seconds, and what they depend on.
        Raises:
            ArchError: it does not fit the space.
        """
        began = time.perf_counter()
        network = self.chain.network(arch, self.weights)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network = network.to(self.device).eval()
        before, _ = self._accuracy(network)
        used = recalibrate_bn(network, self._batches(self.fixed.calibration, whole=True))
        top1, top5 = self._accuracy(network)
        result = {
            "arch": arch,
            "top1": top1,
            "top5": top5,
            "top1_before_recalibration": before,
            "macs": self.table.macs(arch),
            "params": self.table.params(arch),
            "seconds": time.perf_counter() - began,
            "calibration_images": used,
            "seed": self.config["seed"],
            "supernet": self.hash,
            "settings": vars(self.settings),
            "finished": time.time(),
        }
        save_json(self.result_path(arch), result)
        return result

    def _batches(self, images: torch.Tensor, *, whole: bool) -> Any:
        """Normalised batches; with `whole`, only full ones, because each counts the same in a BN average."""
        size = min(self.settings.batch_size, len(images))
        last = len(images) - size + 1 if whole else len(images)
        for first in range(0, last, size):
            batch = images[first : first + size].to(self.device)
            yield normalise(batch, self.config["data"], spos=self.config["spos_preprocessing"])

    def _accuracy(self, network: torch.nn.Module) -> tuple[float, float]:
        """Top-1 and top-5 in percent on the scoring images."""
        hits, first = torch.zeros(2, dtype=torch.int64), 0
        for batch in self._batches(self.fixed.images, whole=False):
            labels = self.fixed.labels[first : first + len(batch)].to(self.device)
            hits += correct(network(batch), labels).cpu()
            first += len(batch)
        return float(hits[0]) * 100 / first, float(hits[1]) * 100 / first

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


def correct(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Numbers of right answers in the first 1 and the first 5 guesses, int64 (2,)."""
    guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = guesses == labels[:, None]
    return torch.stack((hits[:, 0].sum(), hits.sum()))
