"""Part `compiled`: the training step of SPOS, eager, with compiled BatchNorm, and with its compiled passes recorded as CUDA graphs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from benchmarks.gpu.kernels import add_kernel_table
from benchmarks.gpu.limits import training_bound
from benchmarks.gpu.measure import steady_speed
from benchmarks.gpu.results import Results, Row
from benchmarks.gpu.scale import Scale
from benchmarks.gpu.supernet_step import memory
from benchmarks.training import Batch, Ours, Setting, prepare_batches
from trials.training import batchnorm_kernels

PART = "compiled"
TARGETS = {1024: 10_000, 256: 9_000}  # images/s at 224 px on an H100, by batch size
FORMS = ("eager", "compiled", "compiled and recorded")
ONE_BY_ONE = "compiled, kernels for each size"


def measure(results: Results, scale: Scale, device: torch.device) -> None:
    """All forms at both batch sizes; at last kernels of one size each, which take longest to compile."""
    usual = batchnorm_kernels.BACKEND, batchnorm_kernels.DYNAMIC
    batchnorm_kernels.BACKEND = scale.compiler
    try:
        for batch in scale.batches:
            for form in FORMS:
                attempt(results, scale, device, batch, form)
        batchnorm_kernels.DYNAMIC = False
        attempt(results, scale, device, scale.batches[0], ONE_BY_ONE)
    finally:
        batchnorm_kernels.BACKEND, batchnorm_kernels.DYNAMIC = usual


def attempt(results: Results, scale: Scale, device: torch.device, batch: int, form: str) -> None:
    """One row, if the time is enough."""
    with results.attempt(PART, f"supernet step, batch {batch}, {form}", 10 if form == "eager" else 20) as begins:
        if begins:
            setting = Setting(scale.resolution, batch, scale.steps, scale.rounds, 0, device=device.type)
            measure_form(results, scale, device, prepare_batches(setting, 2), form)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def measure_form(results: Results, scale: Scale, device: torch.device, batches: list[Batch], form: str) -> None:
    """One row, with its kernels."""
    batch = len(batches[0][1])
    what = f"supernet step, batch {batch}, {form}"
    with time_limit(min(scale.compile_seconds, int(max(1, min(results.left, 1e6))))):
        ours = Ours(batches, compile="off" if form == "eager" else "on")
        if form.endswith("recorded"):
            ours.trainer.record()
        ours.train(scale.warmup)

    def step() -> None:
        ours.train(1)

    speed = steady_speed(step, batch, device, warmup=0, steps=scale.steps, rounds=scale.rounds)
    target = TARGETS.get(batch) if scale.resolution == 224 else None
    reached = f"; {speed.median / target:.0%} of the target, {target:,}" if target else ""
    eager = results.value(PART, f"supernet step, batch {batch}, eager") if form != "eager" else None
    ratio, peer = (speed.median / eager, "eager") if eager else (None, "")
    bound = speed.median / training_bound(device, scale.resolution)
    note = f"{speed}{reached}{memory(device)}"
    results.add(Row(PART, what, speed.median, bound=bound, ratio=ratio, peer=peer, note=note))
    add_kernel_table(results, what, step, device)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Within this context, which is in the main thread, work is stopped after so many seconds.

    Raises:
        TimeoutError: it was.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"compilation and warm-up did not end within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
