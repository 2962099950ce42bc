"""How much is measured: on a GPU, and with --smoke on a CPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes of all measurements."""

    # supernet steps and networks of timm
    resolution: int = 224
    batches: tuple[int, ...] = (1024, 256)  # of training
    warmup: int = 32  # steps of ours, after which a candidate has been trained with probability 0.9999
    warmup_theirs: int = 8
    steps: int = 6  # of a round
    rounds: int = 3
    networks: tuple[str, ...] = ("mnasnet_100", "spnasnet_100")
    inference_batch: int = 256
    compiler: str = "inductor"
    compile_seconds: int = 60  # the most that the kernels of a supernet step may take to compile
    # scoring
    archs: int = 20
    generation: int = 5
    one_by_one: int = 2
    scoring_batch: int = 256
    calibration: int = 2560
    scoring: int = 2048
    precisions: tuple[str, ...] = ("32", "bf16", "16")
    # small images
    small: tuple[tuple[str, int], ...] = (("tiny", 32), ("cifar", 64))  # preset, resolution
    small_steps: int = 40
    small_warmup: int = 60
    small_images: int = 2048
    # loaders
    files: int = 10_240
    test_files: int = 2_048
    workers: int = 16
    loader_batch: int = 256
    loader_warmup: int = 14
    loader_steps: int = 24


FULL = Scale()
SMOKE = Scale(
    resolution=32,
    batches=(4,),
    warmup=1,
    warmup_theirs=1,
    steps=1,
    rounds=2,
    networks=("spnasnet_100",),
    inference_batch=4,
    compiler="eager",
    archs=3,
    generation=1,
    one_by_one=1,
    scoring_batch=8,
    calibration=16,
    scoring=8,
    precisions=("32", "bf16"),
    small=(("tiny", 32),),
    small_steps=2,
    small_warmup=1,
    small_images=64,
    files=120,
    test_files=16,
    workers=1,
    loader_batch=4,
    loader_warmup=1,
    loader_steps=2,
)
