"""Images through NVIDIA DALI: decoding, crop, resize and mirror in its threads, or on the GPU.

DALI is given what to do with each image (trials/views.py) and the bytes of its file. A file it cannot decode breaks a
pipeline (DALI 2.4): that batch is then decoded by the torchvision loader, which names the file, and a new pipeline goes on
with the next batch.
"""

from __future__ import annotations

import io
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image

from spaces.errors import InputError
from trials.images.crops import Views
from trials.images.torch_loader import Decoded, TorchLoader, check_bytes, decode

DEPTH = 2  # batches in a pipeline
AHEAD = 2  # batches whose files are read before they enter it
Bytes = list[np.ndarray]
FAILURES = 5  # of DALI on images that PIL can decode, after which it is not the images
BROKEN = (RuntimeError, IndexError, ValueError)  # what DALI raises then


class DaliLoader:
    """Decodes views with DALI.

    Args:
        files: paths of the images that views number.
        sizes, nbytes: their heights and widths, (n, 2), and sizes in bytes, (n,), by which a file is known again.
        plain: files whose bytes DALI decodes as PIL does; the others are decoded by PIL first, (n,).
        workers: threads.
        device: where the images are wanted; on a GPU they are decoded there.
    """

    def __init__(
        self,
        files: Sequence[str],
        sizes: np.ndarray,
        nbytes: np.ndarray,
        plain: np.ndarray,
        resolution: int,
        workers: int,
        device: torch.device,
    ) -> None:
        try:
            import nvidia.dali  # noqa: F401
        except Exception as error:  # whatever keeps it from loading
            reason = str(error).splitlines()[0]
            raise InputError(f"--loader dali does not import here ({reason}); use --loader torchvision") from None
        self.files, self.nbytes, self.plain = files, nbytes, plain
        self.resolution, self.workers, self.device = resolution, max(1, workers), device
        self.spare = TorchLoader(files, sizes, nbytes, resolution, workers=0)
        self._readers = ThreadPoolExecutor(2 * self.workers, thread_name_prefix="read")
        self._failures = 0  # of DALI, on images that PIL can decode

    def read(self, plan: Iterable[Views]) -> Iterator[Decoded]:
        """The batches of a plan, in order; none may be larger than the first.

        Raises:
            InputError: DALI cannot work here, or fails again and again on images that PIL decodes.
        """
        source = self._with_bytes(plan)
        first = next(source, None)
        if first is None:
            return
        waiting = deque([first])  # before what is left of the source
        inside: deque[tuple[Views, Bytes | None]] = deque()  # in the pipeline; None: not given to it
        wrong: list[Exception] = []

        def feed() -> tuple[Any, ...]:
            """DALI asks for a batch; StopIteration ends it."""
            while True:
                try:
                    inside.append(waiting.popleft() if waiting else next(source))
                except Exception as error:
                    if not isinstance(error, StopIteration):
                        wrong.append(error)
                    raise StopIteration from None
                if inside[-1][1] is not None:
                    return self._inputs(*inside[-1])

        pipe: Any = None
        while True:
            images, reason = None, ""
            try:
                if pipe is None:
                    pipe = self._build(len(first[0].files), first[0].antialias, feed)
                    pipe.schedule_run()
                if not inside:
                    break
                if inside[0][1] is not None:
                    images = self._take(pipe)
            except StopIteration:
                break
            except BROKEN as error:
                pipe, reason = None, str(error)
                if not inside:
                    raise InputError(f"DALI does not work here ({_gist(reason)}); use --loader torchvision") from None
            views, _ = inside.popleft()
            if pipe is not None and images is not None:
                try:
                    pipe.schedule_run()
                except BROKEN:
                    pipe = None
            if pipe is None:  # what else was in it goes into a new one
                waiting.extendleft(reversed(inside))
                inside.clear()
            yield self._decode_without(views, reason) if images is None else (images, [""] * len(views.files))
        if wrong:
            raise wrong[0]

    def one_by_one(self, views: Views) -> Decoded:
        """One batch, without DALI."""
        return self.spare.one_by_one(views)

    def _decode_without(self, views: Views, reason: str) -> Decoded:
        """A batch that DALI failed on, or was not given."""
        images, reasons = self.one_by_one(views)
        if reason and not any(reasons):
            self._failures += 1
            if self._failures == 1:
                print(f"DALI failed on images that PIL can decode ({_gist(reason)}); PIL does them", file=sys.stderr)
            if self._failures == FAILURES:
                raise InputError(f"DALI failed {FAILURES} times ({_gist(reason)}); use --loader torchvision")
        return images.to(self.device), reasons

    def _with_bytes(self, plan: Iterable[Views]) -> Iterator[tuple[Views, Bytes | None]]:
        """Views and the bytes of their files, which are read ahead; None: one of them cannot be read."""
        plan = iter(plan)
        reading: deque[tuple[Views, list[Future[Bytes]]]] = deque()
        while True:
            while len(reading) <= AHEAD and (views := next(plan, None)) is not None:
                reading.append((views, self._start_reading(views.files)))
            if not reading:
                return
            views, futures = reading.popleft()
            try:
                yield views, [content for future in futures for content in future.result()]
            except Exception:  # a file is gone, or is no image any more; the spare loader says which
                yield views, None

    def _start_reading(self, files: np.ndarray) -> list[Future[Bytes]]:
        parts = np.array_split(files, min(len(files), 2 * self.workers))
        return [self._readers.submit(lambda part: [self._encoded(number) for number in part], part) for part in parts]

    def _encoded(self, number: int) -> np.ndarray:
        """Bytes of a file in a format that DALI decodes as PIL does."""
        path = self.files[number]
        if self.plain[number]:
            content = np.fromfile(path, np.uint8)
            check_bytes(len(content), self.nbytes[number])
            return content
        check_bytes(os.path.getsize(path), self.nbytes[number])
        buffer = io.BytesIO()
        Image.fromarray(decode(path).permute(1, 2, 0).numpy()).save(buffer, "BMP")
        return np.frombuffer(buffer.getvalue(), np.uint8)

    def _build(self, batch: int, antialias: bool, feed: Callable[[], tuple[Any, ...]]) -> Any:
        """A nvidia.dali.Pipeline that decodes what `feed` gives it."""
        from nvidia.dali import Pipeline, fn, types

        gpu = self.device.type == "cuda"
        pipe = Pipeline(
            batch_size=batch,
            num_threads=self.workers,
            device_id=self.device.index or 0 if gpu else None,
            prefetch_queue_depth=DEPTH,
        )
        with pipe:
            encoded, start, shape, first, last, mirror = fn.external_source(
                source=feed,
                num_outputs=6,
                dtype=[types.UINT8, types.INT32, types.INT32, types.FLOAT, types.FLOAT, types.INT32],
                ndim=[1, 1, 1, 1, 1, 0],
            )
            images = fn.decoders.image_slice(
                encoded,
                start=start,
                shape=shape,
                axes=[0, 1],
                device="mixed" if gpu else "cpu",
                output_type=types.RGB,
                adjust_orientation=False,  # as PIL
                jpeg_fancy_upsampling=True,  # as libjpeg, on a GPU too
            )
            images = fn.resize(
                images,
                size=[self.resolution] * 2,
                roi_start=first,
                roi_end=last,
                interp_type=types.INTERP_LINEAR,
                antialias=antialias,
            )
            pipe.set_outputs(fn.flip(images, horizontal=mirror))
        pipe.build()
        return pipe

    def _inputs(self, views: Views, data: Bytes | None) -> tuple[Any, ...]:
        """What a pipeline is given. To resize all of a crop and cut a part out is to resize the part."""
        scale = views.crop[:, 2:] / views.size
        first, last = views.offset * scale, (views.offset + self.resolution) * scale
        start, shape = np.ascontiguousarray(views.crop[:, :2]), np.ascontiguousarray(views.crop[:, 2:])
        return data, start, shape, first.astype(np.float32), last.astype(np.float32), views.mirror.astype(np.int32)

    def _take(self, pipe: Any) -> torch.Tensor:
        """A copy of the oldest batch in a pipeline, which uses its memory again; channels last in memory."""
        (batch,) = pipe.share_outputs()
        images = torch.from_dlpack(batch.as_tensor()).clone()
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()  # of the copy; see Data.aside
        pipe.release_outputs()
        return images.permute(0, 3, 1, 2)


def _gist(reason: str) -> str:
    """The one line that matters of DALI's messages."""
    lines = reason.split("encountered:")[-1].strip().splitlines()
    return lines[0].strip() if lines else "no reason given"
