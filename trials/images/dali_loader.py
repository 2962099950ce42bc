"""Read images with NVIDIA DALI: its threads decode, crop, resize and mirror them, or a GPU does.

DALI is given a plan of each batch (trials/images/crops.py) and the bytes of the files. A file that it cannot decode breaks a
whole pipeline (DALI 2.4): that batch is then decoded by the torchvision loader, which names the file, and a new pipeline goes
on with the next batch.
"""

from __future__ import annotations

import io
import itertools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from spaces.errors import InputError, Stopped
from trials.images.background import Colour
from trials.images.crops import CropPlan
from trials.images.fit import border_of
from trials.images.torch_loader import Decoded, TorchLoader, check_bytes, decode

if TYPE_CHECKING:
    from nvidia.dali import Pipeline

PREFETCH_DEPTH = 2  # batches that are inside a pipeline at a time
READ_AHEAD = 2  # batches whose files are read before they enter it
MAX_FAILURES = 5  # failures on images that PIL can decode, after which DALI is to blame, not the images
PIPELINE_ERRORS = (RuntimeError, IndexError, ValueError)  # what DALI raises when a pipeline breaks
Encoded = list[np.ndarray]  # bytes of the files of a batch, uint8


class DaliLoader:
    """Decodes the images of crop plans with DALI.

    Args:
        files: paths of the images, by image number.
        sizes, nbytes: heights and widths in pixels, (n, 2), and sizes of the files in bytes, (n,), when the run's list was made;
            a file that has another number of bytes now is not read.
        plain: which files DALI decodes to the very pixels that PIL gives, bool (n,); the others are decoded by PIL first.
        resolution: height and width of the decoded images, pixels.
        workers: number of threads that decode; twice as many read files.
        device: where the images are wanted; on a GPU they are decoded there.
        turn: apply EXIF's orientation to the files that are not plain; the sizes are those of turned images then.
        background: what transparent pixels of the files that are not plain are laid on, and the colour of borders; None: their
            transparency is dropped, and borders are black.
    Raises:
        InputError: DALI does not import here.
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
        *,
        turn: bool = False,
        background: Colour | None = None,
    ) -> None:
        # errors alone: its decoder on a GPU warns once per thread that pixels at the edge of a crop may be off by rounding
        os.environ.setdefault("DALI_NVIMGCODEC_LOG_LEVEL", "1")
        try:
            import nvidia.dali  # noqa: F401
        except Exception as error:  # whatever keeps it from loading
            reason = str(error).splitlines()[0]
            raise InputError(f"--loader dali does not import here ({reason}); use --loader torchvision") from None
        self.files, self.sizes, self.nbytes, self.plain = files, sizes, nbytes, plain
        self.resolution, self.workers, self.device = resolution, max(1, workers), device
        self.turn, self.background = turn, background
        self.fallback = TorchLoader(files, sizes, nbytes, resolution, workers=0, turn=turn, background=background)
        self._readers = ThreadPoolExecutor(2 * self.workers, thread_name_prefix="read")
        self._failures = 0  # batches of good images that DALI failed on

    def read(self, plans: Iterable[CropPlan]) -> Iterator[Decoded]:
        """Decode one batch for each plan, in order, on the device; none may be larger than the first.

        Raises:
            InputError: DALI cannot work here.
            Stopped: DALI fails again and again on images that PIL decodes.
        """
        plans = iter(plans)
        first_plan = next(plans, None)
        if first_plan is None:
            return
        plans = itertools.chain([first_plan], plans)
        if first_plan.exact:
            for decoded, reasons in self.fallback.read_in_threads(plans, self._readers):
                yield decoded.to(self.device), reasons
            return
        source = self._with_bytes(plans)
        first = next(source)
        waiting = deque([first])  # enter a pipeline before what is left of the source
        inside: deque[tuple[CropPlan, Encoded | None]] = (
            deque()
        )  # in the pipeline, or (None) kept from it: a file cannot be read
        errors: list[Exception] = []  # raised by the source, which must not be lost inside DALI

        def feed() -> tuple[Any, ...]:
            """Give DALI the next batch that it can decode; StopIteration ends the pipeline."""
            while True:
                try:
                    inside.append(waiting.popleft() if waiting else next(source))
                except Exception as error:
                    if not isinstance(error, StopIteration):
                        errors.append(error)
                    raise StopIteration from None
                if inside[-1][1] is not None:
                    return self._pipeline_inputs(*inside[-1])

        pipeline: Pipeline | None = None
        while True:
            # take the oldest batch out of the pipeline, unless DALI was not given it
            images, reason = None, ""
            try:
                if pipeline is None:
                    pipeline = self._build_pipeline(first[0], feed)
                    pipeline.schedule_run()
                if not inside:
                    break
                if inside[0][1] is not None:
                    images = self._copy_output(pipeline)
            except StopIteration:
                break
            except PIPELINE_ERRORS as error:
                pipeline, reason = None, str(error)
                if not inside:
                    raise InputError(
                        f"DALI does not work here ({_first_line(reason)}); use --loader torchvision"
                    ) from None
            plan, _ = inside.popleft()

            # let the pipeline begin the next batch
            if pipeline is not None and images is not None:
                try:
                    pipeline.schedule_run()
                except PIPELINE_ERRORS:
                    pipeline = None

            # a broken pipeline loses what else was in it: a new one is given that again
            if pipeline is None:
                waiting.extendleft(reversed(inside))
                inside.clear()
            yield self._decode_without(plan, reason) if images is None else (images, [""] * len(plan.indices))
        if errors:
            raise errors[0]

    def decode_batch(self, plan: CropPlan) -> Decoded:
        """Decode one batch in this process without DALI, on the CPU."""
        return self.fallback.decode_batch(plan)

    def _decode_without(self, plan: CropPlan, reason: str) -> Decoded:
        """Decode a batch that DALI failed on, for this reason, or that it was not given, where the reason is empty."""
        images, reasons = self.decode_batch(plan)
        if reason and not any(reasons):
            self._failures += 1
            if self._failures == 1:
                print(
                    f"DALI failed on images that PIL can decode ({_first_line(reason)}); PIL does them", file=sys.stderr
                )
            if self._failures == MAX_FAILURES:
                raise Stopped(f"DALI failed {MAX_FAILURES} times ({_first_line(reason)}); use --loader torchvision")
        return images.to(self.device), reasons

    def _with_bytes(self, plans: Iterable[CropPlan]) -> Iterator[tuple[CropPlan, Encoded | None]]:
        """Plans with the bytes of their files, which are read ahead; None: one of the files cannot be read."""
        plans = iter(plans)
        reading: deque[tuple[CropPlan, list[Future[Encoded]]]] = deque()
        while True:
            while len(reading) <= READ_AHEAD and (plan := next(plans, None)) is not None:
                reading.append((plan, self._start_reading(plan.indices)))
            if not reading:
                return
            plan, futures = reading.popleft()
            try:
                yield plan, [content for future in futures for content in future.result()]
            except Exception:  # a file is gone, or is no image any more; the fallback says which
                yield plan, None

    def _start_reading(self, indices: np.ndarray) -> list[Future[Encoded]]:
        """Let the threads read files, a share of the batch each."""
        shares = np.array_split(indices, min(len(indices), 2 * self.workers))
        return [self._readers.submit(lambda share: [self._read(index) for index in share], share) for share in shares]

    def _read(self, index: int) -> np.ndarray:
        """The bytes of an image, in a format that DALI decodes to the very pixels that PIL gives."""
        path = self.files[index]
        check_bytes(os.path.getsize(path), self.nbytes[index])
        if self.plain[index]:
            return np.fromfile(path, np.uint8)
        buffer = io.BytesIO()
        pixels = decode(path, turn=self.turn, background=self.background)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "BMP")
        return np.frombuffer(buffer.getvalue(), np.uint8)

    def _build_pipeline(self, first: CropPlan, feed: Callable[[], tuple[Any, ...]]) -> Pipeline:
        """A pipeline that decodes what `feed` gives it; a batch has at most as many images as the first."""
        from nvidia.dali import Pipeline, fn, types

        gpu = self.device.type == "cuda"
        pipeline = Pipeline(
            batch_size=len(first.indices),
            num_threads=self.workers,
            device_id=self.device.index or 0 if gpu else None,
            prefetch_queue_depth=PREFETCH_DEPTH,
        )
        with pipeline:
            encoded, start, shape, begin, end, mirror, *window = fn.external_source(
                source=feed,
                num_outputs=6 + 2 * first.pads,
                dtype=[
                    types.UINT8,
                    types.INT32,
                    types.INT32,
                    types.FLOAT,
                    types.FLOAT,
                    *[types.INT32] * (1 + 2 * first.pads),
                ],
                ndim=[1, 1, 1, 1, 1, 0, *[1, 1] * first.pads],
            )
            images = fn.decoders.image_slice(
                encoded,
                start=start,
                shape=shape,
                axes=[0, 1],
                device="mixed" if gpu else "cpu",
                output_type=types.RGB,
                adjust_orientation=False,  # those that are to be turned are decoded by PIL
                jpeg_fancy_upsampling=True,  # decode as libjpeg does, on a GPU too
            )
            if first.pads:
                images = fn.slice(
                    images,
                    start=window[0],
                    shape=window[1],
                    axes=[0, 1],
                    out_of_bounds_policy="pad",
                    fill_values=list(border_of(self.background)),
                )
            images = fn.resize(
                images,
                size=[self.resolution] * 2,
                roi_start=begin,
                roi_end=end,
                interp_type=types.INTERP_LINEAR,
                antialias=first.antialias,
            )
            pipeline.set_outputs(fn.flip(images, horizontal=mirror))
        pipeline.build()
        return pipeline

    def _pipeline_inputs(self, plan: CropPlan, encoded: Encoded | None) -> tuple[Any, ...]:
        """What a pipeline is given for a batch.

        It resizes just the region of the crop that becomes the RxR pixels: the same as to resize the whole crop and cut them out. Of
        a crop that reaches beyond its image, what lies in the image is decoded, and laid into the crop.
        """
        scale = plan.crop[:, 2:] / plan.size
        first, last = plan.offset * scale, (plan.offset + self.resolution) * scale
        top_left, lengths = (np.ascontiguousarray(part) for part in np.split(plan.crop, 2, 1))
        start = np.maximum(top_left, 0)
        shape = np.minimum(top_left + lengths, self.sizes[plan.indices]).astype(np.int32) - start
        inputs = (
            encoded,
            start,
            shape,
            first.astype(np.float32),
            last.astype(np.float32),
            plan.mirror.astype(np.int32),
        )
        return (*inputs, top_left - start, lengths) if plan.pads else inputs

    def _copy_output(self, pipeline: Pipeline) -> torch.Tensor:
        """A copy of the oldest batch in a pipeline, which uses its own memory again; (N, 3, R, R), channels last in memory."""
        (batch,) = pipeline.share_outputs()
        images = torch.from_dlpack(batch.as_tensor()).clone()
        if self.device.type == "cuda":
            # the copy must be done before DALI writes there again; it runs in the stream of Data.on_side_stream
            torch.cuda.current_stream(self.device).synchronize()
        pipeline.release_outputs()
        return images.permute(0, 3, 1, 2)


def _first_line(reason: str) -> str:
    """The line of DALI's message that says what is wrong."""
    lines = reason.split("encountered:")[-1].strip().splitlines()
    return lines[0].strip() if lines else "no reason given"
