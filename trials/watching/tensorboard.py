"""TensorBoard: event files in a folder, without what a killed run wrote after its last checkpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spaces.files import atomic
from trials.watching.tags import tag_of

# Options that the HPARAMS tab has a column for; all runs name the same ones, since TensorBoard takes the list of one of them.
NUMBERS = (
    *(
        "seed",
        "epochs",
        "batch_size",
        "lr",
        "momentum",
        "weight_decay",
        "warmup",
        "clip_norm",
        "label_smoothing",
        "ema",
    ),
    *(
        "dropout",
        "mixup",
        "cutmix",
        "randaugment",
        "color_jitter",
        "cutout",
        "hold_out",
        "warm_start",
        "op_warmup",
        "resolution",
    ),
)
NAMES = (
    *("command", "network", "space", "preset", "data", "strategy", "recipe", "optimizer", "schedule", "max_macs"),
    *("fit", "mirror"),
)
FIRST = ("command", "network", "seed", "epochs", "lr")  # the tab shows five columns until more are ticked
METRICS = {  # tag -> its column
    "test/top1": "test top-1 %",
    "score/top1": "held-out top-1 %",
    "score/fixed_paths_top1": "fixed paths top-1 %",
    "train/top1": "training top-1 %",
    "train/loss": "training loss",
    "train/images_per_second": "images per second",
}
FLUSH = 20  # seconds


class TensorBoard:
    """Event files of one training or search.

    Args:
        folder: where they are.
        facts: options and what the run is about, by name; NUMBERS and NAMES of them are columns of the HPARAMS tab. {}: none.
        first: the step that is gone on from; later points are dropped. 0: all of them are.
    Attributes:
        wants_earlier: whether earlier points have to be told again, because the folder held none.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        kept = keep_until(folder, first) if first else keep_until(folder, -1)
        self.wants_earlier = not kept
        self.writer = SummaryWriter(str(folder), purge_step=first + 1, flush_secs=FLUSH)
        self.facts = facts
        if facts and not kept:
            self._begin_session()

    def _begin_session(self) -> None:
        """Write the columns of the HPARAMS tab, and the row of this run."""
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        text, number = api_pb2.DATA_TYPE_STRING, api_pb2.DATA_TYPE_FLOAT64
        columns = [
            api_pb2.HParamInfo(name=name, type=text if name in NAMES else number, differs=name in FIRST)
            for name in (*NAMES, *NUMBERS)
        ]
        metrics = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=shown) for tag, shown in METRICS.items()
        ]
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
        for name in (*NAMES, *NUMBERS):
            value = self.facts.get(name)
            if value in (None, ""):
                continue
            if name in NAMES:
                start.hparams[name].string_value = str(value)
            else:
                start.hparams[name].number_value = float(value)
        experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=metrics)
        self._add_session(metadata.EXPERIMENT_TAG, experiment=experiment)
        self._add_session(metadata.SESSION_START_INFO_TAG, session_start_info=start)

    def _add_session(self, tag: str, **content: Any) -> None:
        """Write one of the messages that the HPARAMS tab reads."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2

        about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
        value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
        self.writer._get_file_writer().add_summary(Summary(value=[value]), 0)

    def scalars(self, step: int, values: Mapping[str, float], at: float | None = None) -> None:
        """Add points; `at` is when they were measured, in seconds since 1970, where that is not now."""
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, step, walltime=at)

    def result(self, step: int, values: Mapping[str, float]) -> None:
        """Add points of the last step."""
        self.scalars(step, values)

    def image(self, tag: str, step: int, pixels: np.ndarray) -> None:
        """Add a picture, uint8 (H, W, 3)."""
        self.writer.add_image(tag, pixels, step, dataformats="HWC")

    def curve(self, tag: str, points: Mapping[int, float]) -> None:
        """Add a whole curve: place -> value, places ascending."""
        for place, value in points.items():
            self.writer.add_scalar(tag, value, place)

    def flush(self) -> None:
        """Bring to disk what is held back."""
        self.writer.flush()

    def close(self, succeeded: bool) -> None:
        """Close the files; a session that came to its end is marked so in the HPARAMS tab."""
        if succeeded and self.facts:
            from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

            end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
            self._add_session(metadata.SESSION_END_INFO_TAG, session_end_info=end)
        self.writer.close()


def keep_until(folder: Path, step: int) -> int:
    """Rewrite the event files of a folder as one, without the events after a step; tags of older versions get their names of today.

    The one takes the place of the first before the others go, and an event that stands twice is kept once, so that a kill in
    between does no harm.

    Args:
        step: the last step that is kept; -1: none is.
    Returns:
        Number of events that are kept.
    """
    files = sorted(folder.glob("events.out.tfevents*")) if folder.exists() else []
    if not files:
        return 0
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.metadata import SESSION_END_INFO_TAG
    from tensorboard.summary.writer.record_writer import RecordWriter

    kept: dict[bytes, int] = {}  # event -> its step
    for file in files if step >= 0 else ():
        for record in RawEventFileLoader(str(file)).Load():
            event = Event.FromString(record)
            ends = any(
                value.tag == SESSION_END_INFO_TAG for value in event.summary.value
            )  # --stop-after; it goes on now
            if event.HasField("summary") and event.step <= step and not ends:
                for value in event.summary.value:
                    value.tag = tag_of(value.tag)
                kept[event.SerializeToString()] = event.step
    if kept:
        whole = folder / "kept"  # TensorBoard reads what has tfevents in its name, drafts too
        with atomic(whole) as temporary, open(temporary, "wb") as stream:
            writer = RecordWriter(stream)
            writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
            for record in sorted(kept, key=kept.__getitem__):
                writer.write(record)
            writer.flush()
        os.replace(whole, files[0])
    for file in files[1:] if kept else files:
        file.unlink(missing_ok=True)
    return len(kept)
