"""Part `timm`: ordinary networks of about 320M multiply-adds, alone on the GPU; a path of a supernet should be as fast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.gpu.measure import steady_speed
from benchmarks.gpu.results import Results, Row
from benchmarks.gpu.scale import Scale

PART = "timm"
COMPILE_SECONDS = {False: 25.0, True: 45.0}  # roughly, of the forward pass alone, and with the backward pass


def measure(results: Results, scale: Scale, device: torch.device) -> None:
    """Training and inference in bf16: everything eager first, then compiled, as far as the time goes."""
    import timm

    for compiled in (False, True):
        for name in scale.networks:
            batch = scale.inference_batch
            measure_one(results, scale, timm.create_model(name), f"{name} inference, batch {batch}", device, compiled)
            for batch in scale.batches if not compiled else scale.batches[:1]:
                measure_one(
                    results, scale, timm.create_model(name), f"{name} training, batch {batch}", device, compiled
                )


def measure_one(
    results: Results, scale: Scale, network: nn.Module, title: str, device: torch.device, compiled: bool
) -> None:
    """One row."""
    trains, batch = "training" in title, int(title.rpartition(" ")[2])
    what = f"{title}, {'compiled' if compiled else 'eager'}"
    with results.attempt(PART, what, COMPILE_SECONDS[trains] if compiled else 5) as begins:
        if not begins:
            return
        dtype = torch.float32 if trains else torch.bfloat16  # training is mixed, as ours
        network.to(device, dtype, memory_format=torch.channels_last).train(trains)  # type: ignore[call-overload]
        images = torch.randn(batch, 3, scale.resolution, scale.resolution, device=device, dtype=dtype)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(1000, (batch,), device=device)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
        torch._dynamo.reset()
        model = torch.compile(network, backend=scale.compiler) if compiled else network

        def train() -> None:
            with torch.autocast(device.type, torch.bfloat16):
                loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        @torch.no_grad()
        def infer() -> None:
            model(images)

        steps, warmup = (scale.steps, 4) if trains else (4 * scale.steps, 8)
        speed = steady_speed(
            train if trains else infer,
            batch,
            device,
            warmup=min(warmup, scale.warmup),
            steps=steps,
            rounds=scale.rounds,
        )
        eager = results.value(PART, f"{title}, eager") if compiled else None
        step = results.value("supernet", f"supernet step, batch {batch}") if trains else None
        ratio, peer = (speed.median / eager, "eager") if eager else (None, "")
        if trains and step and not compiled:
            ratio, peer = speed.median / step, "our supernet step"
        results.add(Row(PART, what, speed.median, ratio=ratio, peer=peer, note=str(speed)))
