"""Work on a GPU that is recorded once, as a CUDA graph, and repeated from the recording.

Of small networks on small images a GPU finishes a kernel before the processor has launched the next one. A CUDA graph launches
many kernels at once. Training records its passes (trials/training/recorded_pass.py), and so does scoring
(trials/scoring/recorded_blocks.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from spaces.errors import Stopped

Work = Callable[[], object]
RECORDED_PIXELS = 128 * 128 * 128  # the most pixels of a batch whose kernels are short


class Recorder:
    """Records what is launched on a GPU.

    Args:
        device: where the work is done; on a CPU a recording is the work itself.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.cuda = device, device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if self.cuda else None

    def new_pool(self) -> Any:
        """Memory of recordings of which no two are in use at the same time."""
        return torch.cuda.graph_pool_handle() if self.cuda else None

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Run what is launched in the stream of the recordings, after all that was launched before."""
        if self.stream is None:
            yield
            return
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:  # also where memory was too little, and work goes on with less
            current.wait_stream(self.stream)

    def record(self, work: Work, pool: Any) -> Work:
        """Record a piece of work that was done at least once before.

        Args:
            work: reads and writes tensors that stay where they are; nothing of it may wait for the GPU.
            pool: memory for what the work allocates.
        Returns:
            What does it, as often as it is called, in the stream that is current then.
        Raises:
            Stopped: the work does what cannot be recorded.
        """
        if not self.cuda:
            return work
        graph = torch.cuda.CUDAGraph()
        try:
            with self.aside():
                # other threads, such as those of DALI, may allocate meanwhile
                graph.capture_begin(pool, capture_error_mode="thread_local")
                try:
                    work()
                except BaseException:
                    with contextlib.suppress(RuntimeError):  # which says less than that of the work
                        graph.capture_end()
                    raise
                graph.capture_end()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).splitlines()[0][:160]
            raise Stopped(f"this network cannot be recorded ({reason}); give --cuda-graphs off") from None
        return graph.replay
