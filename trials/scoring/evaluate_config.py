"""The options of trials.evaluate, and the settings that a score depends on."""

from __future__ import annotations

import dataclasses
from typing import Any

from spaces.errors import InputError
from strategies.limits import Limits
from trials.common import cli
from trials.common.cli import option


@dataclasses.dataclass(frozen=True)
class Config:
    run: str = option(help="run directory of trials.supernet")
    arch: str | None = option(None, "fixed-arc file; not needed under NNI")
    calibration_images: int = option(2560, "training images for BN recalibration (as many as there are)")
    scoring_images: int = option(0, "held-out images that give the score; 0: all of the scoring part")
    batch_size: int = option(128, "images at a time")
    max_macs: str = option("", "score an architecture above this with 0, unseen; for tuners that know no limits")
    max_latency_ms: str = option("", "the same with the latency of --latency-table, milliseconds")
    latency_table: str = option("", "written by trials.latency, for --max-latency-ms")
    precision: str = option(
        "auto",
        "of the arithmetic: exact is the plain network bit for bit, the others fold BatchNorm and are faster; see docs",
        choices=("auto", "exact", "32", "bf16", "16"),
    )
    device: str = option("auto", "where to run", choices=("auto", "cpu", "cuda"))
    warm: bool = option(True, "under NNI: trials of one machine share an evaluator that stays warm")
    self_check: int = option(
        0, "score so many candidates together and one by one, compare, and say what each way takes"
    )
    reference: bool = option(False, "score one by one, each as a fixed network: the same scores, slower")

    def __post_init__(self) -> None:
        cli.not_negative(self, "self_check")
        if self.self_check and self.arch:
            raise InputError("--self-check draws its own candidates; leave --arch out")
        if self.calibration_images < 1 or self.batch_size < 1 or self.scoring_images < 0:
            raise InputError("--calibration-images and --batch-size must be at least 1, --scoring-images at least 0")
        if bool(self.max_latency_ms) != bool(self.latency_table):
            raise InputError("--max-latency-ms and --latency-table go together; give both or none")

    def limits(self) -> Any:
        """What an architecture must meet to be seen. Raises InputError: not a number."""
        return Limits.of({"max_macs": self.max_macs or None, "max_latency_ms": self.max_latency_ms or None})


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a score depends on besides the supernet; scores under other settings are not mixed."""

    calibration_images: int
    scoring_images: int  # 0: the whole scoring part
    batch_size: int
    precision: str = "auto"

    @classmethod
    def of(cls, config: Config) -> Settings:
        return cls(config.calibration_images, config.scoring_images, config.batch_size, config.precision)
