"""The machine that a command runs on: processor, cores, GPU, and what it fails at; light, torch is never imported for it."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from spaces.errors import InputError, shown

# of processes or threads at a time: more than help anywhere, so that what is refused is a slip of the hand
LEAST_BOUND, EACH_CORE = 64, 8
QUOTA = Path("/sys/fs/cgroup/cpu.max")
# of NVIDIA, WSL, AMD and Jetson
GPU_FILES = ("nvidia*", "dxg", "kfd", "nvmap", "nvhost*", "nvgpu*")
TRAINING = "a process"  # that trains a network beside others


def processor_name() -> str:
    """Name of the processor, as the operating system gives it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Number of cores that this process may use; a container may give the time of fewer than it shows."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *_quota()])


def _quota() -> list[int]:
    """The cores whose time a container gives, rounded up; [] where it gives that of all."""
    try:
        given, period = QUOTA.read_text().split()
        return [max(1, math.ceil(int(given) / int(period)))]
    except (OSError, ValueError):  # no such file, or "max"
        return []


def threads() -> int | None:
    """Number of threads that torch computes with on a CPU; None where torch was not imported."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else None


def rank_and_world() -> tuple[int, int]:
    """Number of this process, from 0, and of all processes; torchrun sets both."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def require_few(name: str, number: int, what: str) -> None:
    """Refuse a number of processes or threads that no machine of this size could run.

    Args:
        name: of the option, such as "--jobs".
        what: is started so often, such as "a training".
    Raises:
        InputError: it is above LEAST_BOUND, and above EACH_CORE for each core.
    """
    cores = usable_cores()
    most = max(LEAST_BOUND, EACH_CORE * cores)
    if number > most:
        raise InputError(
            f"{name} {shown(str(number))} is too many: each is {what} of its own, and this machine has {cores} "
            f"core{'s' * (cores > 1)}; give at most {most}"
        )


def may_have_gpu() -> bool:
    """Whether torch may find a GPU here: a Linux without any of the files that drivers talk through has none."""
    return sys.platform != "linux" or any(next(Path("/dev").glob(name), None) for name in GPU_FILES)


def refuse_without_gpu(cuda: bool, device: str | None, precision: str = "auto", cuda_graphs: str = "auto") -> None:
    """Refuse options that need a GPU where none is used.

    Args:
        cuda: whether a GPU is used, or perhaps is.
        device: auto, cpu or cuda; None for auto.
        precision: auto, 32, 16-mixed or bf16-mixed; fp16 needs a GPU.
        cuda_graphs: auto, on or off; on needs a GPU, one process and no scaled loss.
    Raises:
        InputError: a GPU is asked for, or needed.
    """
    if device == "cuda" and not cuda:
        raise InputError("--device cuda: no GPU is visible; use --device cpu or auto")
    if precision == "16-mixed" and not cuda:
        raise InputError("--precision 16-mixed needs a GPU; use --precision 32 or bf16-mixed")
    _, world = rank_and_world()
    if cuda_graphs == "on" and not (cuda and world == 1 and precision != "16-mixed"):
        raise InputError(
            f"--cuda-graphs on needs a GPU, one process and --precision 32 or bf16-mixed, not {'cuda' if cuda else 'cpu'}, "
            f"{world} processes and {precision}; leave it out"
        )


def gpu_names() -> list[str]:
    """Names of the GPUs that this process sees; [] where torch was not imported, or sees none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


SHARED = "/dev/shm is full; give it more (docker: --shm-size)", ("--workers",)
DECODING = "a process that decodes images died, perhaps for want of memory; end what else runs here", ("--workers",)
GPU = "the memory of the GPU is used up; end what else runs there", ("--batch-size", "--jobs", "--concurrency")
MEMORY = (
    "the memory of this machine is used up; end what else runs here",
    ("--batch-size", "--jobs", "--concurrency", "--resolution"),
)
# What torch says in place of an OSError or a MemoryError -> what is meant and how to mend it, and the options that may be lowered.
# First what is more exact.
FAILURES = {
    "unable to allocate shared memory": SHARED,
    "insufficient shared memory": SHARED,
    "is killed by signal": DECODING,
    "exited unexpectedly": DECODING,
    "CUDA out of memory": GPU,
    "CUDA error: out of memory": GPU,
    "DefaultCPUAllocator": MEMORY,
}

OWN = ("benchmarks", "spaces", "strategies", "tests", "trials")  # modules of Onepath, whose absence is a fault of it


def failure(error: BaseException, options: Collection[str] = ()) -> str | None:
    """What an exception says about the machine: a disk that is full, a file that may not be written, memory that is used up.

    Args:
        options: those of the command that failed, such as "--workers"; no other is advised.
    Returns:
        What is wrong, as one line; None where the exception is of another kind, and is perhaps a fault of Onepath.
    """
    if isinstance(error, OSError) and error.errno is not None:
        where = f" at '{error.filename}'" if error.filename else ""
        return f"{error.strerror or error}{where}; mend that"
    if isinstance(error, ImportError) and error.name and error.name.partition(".")[0] not in OWN:
        return f"library {error.name} does not import here ({shown(str(error))}); install it anew (make setup)"
    if isinstance(error, MemoryError):
        return _mended(*MEMORY, options)
    if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one
        return next((_mended(*meant, options) for text, meant in FAILURES.items() if text in str(error)), None)
    return None


def _mended(meant: str, lower: Sequence[str], options: Collection[str]) -> str:
    """What is meant, with those of the options that may be lowered which a command has."""
    known = [option for option in lower if option in options]
    return f"{meant}, or lower {' or '.join(known)}" if known else meant
