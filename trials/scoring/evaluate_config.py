"""The options of trials.evaluate, and the settings that a score depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from spaces.errors import InputError
from strategies.limits import Limits
from trials.common import cli
from trials.common.cli import option
from trials.common.options import DeviceOptions, LimitOptions
from trials.scoring.score_value import SCORE_BY

BATCH = 128  # images at a time where nothing else is asked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(LimitOptions, DeviceOptions):
    """Options of trials.evaluate, the trial that NNI runs."""

    group_notes: ClassVar[dict[str, str]] = {
        "limits": "An architecture beyond a limit gets the score 0, unseen. For tuners that know no limits."
    }

    run: str = option(help="Run directory of trials.supernet")
    arch: str | None = option(None, "Fixed-arc file; not needed under NNI")
    calibration_images: int = option(2560, "Training images for BN recalibration, or as many as there are")
    scoring_images: int = option(0, "Held-out images that give the score; 0 means all of the scoring part")
    batch_size: int = option(BATCH, "Images at a time")
    scoring_batch: int = option(
        0,
        "Images at a time in the scoring pass, which changes no score but by rounding; 0 is --batch-size, and on a GPU as many "
        "as suit its memory",
        brief="Images at a time in the scoring pass; 0 fits a GPU",
    )
    cuda_graphs: str = option(
        "off",  # until it was measured on a GPU
        "Record the passes as CUDA graphs, which changes no score; auto does so on a GPU for small images in many batches",
        choices=("auto", "on", "off"),
    )
    finetune_steps: int = option(
        0,
        "Steps that each candidate is trained from the supernet's weights before it is scored, alone and slowly",
        brief="Steps that each candidate is trained before it is scored",
    )
    precision: str = option(
        "auto",
        "Arithmetic of the scores: exact is the plain network bit for bit, the others fold BatchNorm and are faster",
        choices=("auto", "exact", "32", "bf16", "16"),
    )
    score_by: str = option(
        "top1",
        "What the search maximises, of the two that are measured and stored: accuracy or cross-entropy",
        choices=SCORE_BY,
    )
    warm: bool = option(
        True,
        "Under NNI, let the trials of one machine share an evaluator that stays warm",
        brief="Under NNI, do not share a warm evaluator among trials",
    )
    self_check: int = option(
        0,
        "Score so many candidates together and one by one, compare, and say what each way takes",
        brief="Score so many together and one by one, and compare",
    )
    reference: bool = option(False, "Score one by one, each as a fixed network: the same scores, slower")

    def __post_init__(self) -> None:
        cli.not_negative(self, "self_check", "finetune_steps", "scoring_batch")
        if self.self_check and self.finetune_steps:
            raise InputError("--self-check compares candidates that are scored together; leave --finetune-steps out")
        if self.self_check and self.arch:
            raise InputError("--self-check draws its own candidates; leave --arch out")
        cli.fill_and_check(self, {}, positive=("calibration_images", "batch_size"), fractions=())
        cli.not_negative(self, "scoring_images")
        if bool(self.max_latency_ms) != bool(self.latency_table):
            raise InputError("--max-latency-ms and --latency-table go together; give both or none")

    def means(self) -> dict[str, Any]:
        """How scores are computed, as arguments of a Scorer; no score depends on it, but for rounding."""
        return {name: getattr(self, name) for name in ("scoring_batch", "cuda_graphs")}

    def limits(self) -> Limits:
        """What an architecture must satisfy to be scored. Raises InputError: a limit is not a number."""
        return Limits.of({"max_macs": self.max_macs or None, "max_latency_ms": self.max_latency_ms or None})


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a score depends on besides the supernet; scores under other settings are not mixed."""

    calibration_images: int
    scoring_images: int  # 0: the whole scoring part
    batch_size: int
    precision: str = "auto"
    finetune_steps: int = 0

    @classmethod
    def of(cls, config: Config) -> Settings:
        """The settings among the options of a command."""
        return cls(**{field.name: getattr(config, field.name) for field in dataclasses.fields(cls)})

    def stored(self) -> dict[str, Any]:
        """As a score keeps them: without the fine-tuning that there is not, as older versions did.

        Older versions read the images of a small training part in order, which is by class in a folder, and recalibrated
        BatchNorm with the first classes alone. `images` tells their scores apart, so that they are computed anew.
        """
        values = dataclasses.asdict(self) | {"images": "drawn"}
        return values if self.finetune_steps else {key: values[key] for key in values if key != "finetune_steps"}

    @classmethod
    def of_stored(cls, values: Mapping[str, Any]) -> Settings:
        """The settings that a score keeps."""
        return cls(**{key: value for key, value in values.items() if key != "images"})
