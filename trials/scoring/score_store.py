"""The scores that a run keeps: one JSON file per architecture, RUN/search/<arch id>.json.

A score depends on the architecture, on the supernet and on the settings of the scoring. All three stand in its file, and
a file of another supernet or of other settings counts as no score; a new score replaces it.
"""

from __future__ import annotations

import contextlib
import fcntl
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.arch import arch_id
from spaces.files import save_json
from trials.common import run_files
from trials.common.locks import same_file
from trials.scoring.evaluate_config import Settings

if TYPE_CHECKING:
    from spaces.cost import CostTable

TOP_FILE = (
    "top.json"  # in the run: which of the best scored architectures trials.retrain --top chose, and by what figures
)


class ScoreStore:
    """Reads and writes the scores of one run, for one supernet and one set of settings.

    Args:
        run: directory of trials.supernet.
        supernet_hash: `run_dir.file_hash` of its supernet.pt.
        settings: what a score depends on besides the supernet.
    """

    def __init__(self, run: Path, supernet_hash: str, settings: Settings) -> None:
        self.run, self.supernet_hash, self.settings = run, supernet_hash, settings

    def path(self, arch: Mapping[str, Any]) -> Path:
        """The file that holds the score of an architecture, whether or not it exists."""
        return score_path(self.run, arch_id(arch))

    def read(self, arch: Mapping[str, Any]) -> dict[str, Any] | None:
        """The stored record of an architecture, see `record`.

        Returns:
            None where there is no score of this supernet with these settings, or its file is damaged.
        """
        path = self.path(arch)
        record = run_files.read_score(path) if path.exists() else None
        own = (self.supernet_hash, self.settings.stored())
        return record if record and (record.get("supernet"), record.get("settings")) == own else None

    def say_older_arithmetic(self, computed_with: Mapping[str, str]) -> None:
        """Say that stored scores were computed with convolutions that round otherwise; they are kept and used.

        Args:
            computed_with: what new scores are computed with, see `record`.
        """
        records = [run_files.read_score(path) for path in (self.run / "search").glob("*.json")]
        own = {"supernet": self.supernet_hash, "settings": self.settings.stored()}
        own |= {key: computed_with[key] for key in ("precision", "device")}
        alike = [record for record in records if record and {key: record.get(key) for key in own} == own]
        older = sum(record.get("convolutions") != computed_with["convolutions"] for record in alike)
        if older:
            print(
                f"{older:,} of {len(alike):,} scores in '{self.run}' are of a version whose convolutions rounded otherwise "
                "on a GPU; they are used as they are, and new ones may differ from them in the last digits",
                file=sys.stderr,
            )

    def write(self, record: Mapping[str, Any]) -> None:
        """Store a record atomically, in place of an older one of the same architecture."""
        save_json(self.path(record["arch"]), record)

    def record(
        self,
        arch: Mapping[str, Any],
        costs: CostTable,
        *,
        top1: float,
        top5: float,
        loss: float | None,
        top1_before_recalibration: float,
        scoring_images: int | None,
        right: str | None,
        seconds: float,
        calibration_images: int,
        seed: int,
        computed_with: Mapping[str, str],
        supernets: Sequence[Mapping[str, float]] = (),
    ) -> dict[str, Any]:
        """What a score file contains; nothing is written yet.

        Args:
            costs: cost table of the space, which gives MACs and parameters.
            top1, top5, top1_before_recalibration: percent of the scoring images. The accuracy before recalibration is
                measured on the first batch of them alone.
            loss: mean cross-entropy on the scoring images, natural logarithm; None where it did not come back.
            scoring_images: how many there are; None where that is not known.
            right: which of them each supernet has right, see `noise.pack_answers`; None where only their number came back.
            seconds: time that the score took. Candidates that are scored together have equal shares of their time.
            calibration_images: number of images that recalibrated BatchNorm.
            seed: of the training of the supernet; of several, that of the first.
            computed_with: precision, device, and how convolutions were computed, as far as it is known.
            supernets: `top1` and `loss` of each supernet of which the score is the mean; kept where there are several.
        """
        return {
            "arch": arch,
            "top1": top1,
            "top5": top5,
            "loss": loss,
            "top1_before_recalibration": top1_before_recalibration,
            "scoring_images": scoring_images,
            "right": right,
            "macs": costs.macs(arch),
            "params": costs.params(arch),
            "seconds": seconds,
            "calibration_images": calibration_images,
            **computed_with,
            "seed": seed,
            **({"supernets": [*supernets]} if len(supernets) > 1 else {}),
            "supernet": self.supernet_hash,
            "settings": self.settings.stored(),
            "finished": time.time(),
        }

    @contextlib.contextmanager
    def claimed(self, archs: Iterable[Mapping[str, Any]]) -> Iterator[None]:
        """Hold the right to compute the scores of these architectures; other processes that want one of them wait."""
        path = self.run / "search" / ".lock"
        path.parent.mkdir(exist_ok=True)
        lock = open(path, "a")
        # Each architecture locks one byte of the file. The bytes are locked in ascending order, so that two processes
        # never wait for each other.
        numbers = sorted({int(arch_id(arch)[:8], 16) for arch in archs})
        while True:
            for byte in numbers:
                fcntl.lockf(lock, fcntl.LOCK_EX, 1, byte)
            if same_file(lock, path):
                break
            lock.close()
            lock = open(path, "a")
        with lock:
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # another process holds a byte, and will remove the file
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)


def score_path(run: Path, arch_identity: str) -> Path:
    """The file in a run that holds the score of the architecture with this `arch_id`."""
    return run / "search" / f"{arch_identity}.json"
