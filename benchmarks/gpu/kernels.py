"""Which kernels take the time of a piece of work, by torch.profiler."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.measure import now
from benchmarks.gpu.results import Results

TOP = 12  # kernels in a table


def add_kernel_table(results: Results, title: str, work: Callable[[], object], device: torch.device) -> None:
    """Run some work once without and once with the profiler, and keep the most expensive kernels.

    Args:
        work: what is profiled, after a warm-up.
        device: on a CPU, operators take the place of kernels.
    """
    cuda = device.type == "cuda"
    began = now(device)
    work()
    submitted = time.perf_counter() - began
    wall = now(device) - began
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as profiled:
        work()
        now(device)
    events = [event for event in profiled.key_averages() if not cuda or event.device_type == DeviceType.CUDA]
    spent = {
        event.key: (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1000 for event in events
    }
    calls = {event.key: event.count for event in events}
    total = sum(spent.values()) or 1.0
    top = sorted(spent, key=lambda key: -spent[key])[:TOP]
    summary = (
        f"{sum(calls.values()):,} {'kernels' if cuda else 'operators'} take {total:.1f} ms; without the profiler all of it took "
        f"{1000 * wall:.1f} ms, and the CPU was done after {1000 * submitted:.1f} ms"
    )
    results.add_kernels(title, summary, [(key[:90], calls[key], spent[key], spent[key] / total) for key in top])
