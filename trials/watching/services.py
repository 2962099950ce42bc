"""Weights & Biases, MLflow and CSV, by way of Lightning's loggers.

A service cannot take back what it was told. So the last step that it was told is noted in the run beside its name for the run,
and points until then are not sent again by a run that goes on from an earlier checkpoint. A service that fails while a run is
trained is left alone from then on: the run's own files hold everything.
"""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spaces.errors import InputError, shown
from spaces.files import save_json
from trials.common import locks, run_files
from trials.watching.subject import Subject
from trials.watching.tags import PROBABILITY

PROJECT = "onepath"  # of W&B, and MLflow's experiment, where WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME names no other
NOTES = (
    "loggers.json"  # in the folder of a training, or below csv/ and tensorboard/ the name of what is watched beside it
)


class Service:
    """A run of a service that is told points and pictures.

    Args:
        first: the step that is gone on from; 0 begins a new run of the service.
    """

    kind = ""
    wants_earlier = True

    def __init__(self, subject: Subject, first: int) -> None:
        self.notes = subject.folder / (f"{subject.sub}_{NOTES}" if subject.sub else NOTES)
        stored = run_files.read_if_there(self.notes, "notes of loggers", {}) if first else {}
        self.known: dict[str, Any] = stored.get(self.kind, {})
        self.sent = self.last = int(self.known.get("step", 0))
        self.logger: Any = None
        try:
            self.logger = self.open(subject, self.known.get("id"))
        except InputError:
            raise
        except Exception as error:  # each of them raises what it likes
            reason = shown((str(error).strip() or type(error).__name__).splitlines()[0])
            raise InputError(
                f"--logger {self.kind} cannot begin ({reason}); mend that, or give another --logger"
            ) from None

    def open(self, subject: Subject, known: str | None) -> Any:
        """Open the service's run. Returns Lightning's logger, with a run that is begun; `known` is the id of a run to continue."""
        raise NotImplementedError

    def note(self, step: int, id: str) -> None:
        """Note that all points until a step were sent; before they are, so that none is sent twice."""
        everything = run_files.read_if_there(self.notes, "notes of loggers", {})
        save_json(self.notes, {**everything, self.kind: {"id": id, "step": step}})
        self.last = step

    @property
    def id(self) -> str:
        """The service's name for its run."""
        return str(self.logger.version)

    def tell(self, send: Callable[[], object]) -> None:
        """Send something; where that fails, say so once, and send nothing more."""
        if self.logger is None:
            return
        try:
            send()
        except Exception as error:
            reason = shown((str(error).strip() or type(error).__name__).splitlines()[0])
            print(f"note: {self.kind} is told nothing more ({reason}); log.jsonl holds everything")
            self.logger = None

    def scalars(self, step: int, values: Mapping[str, float], at: float | None = None) -> None:
        """Send points, unless they were sent before."""
        if self.logger is None or step <= self.sent:
            return
        if step > self.last:
            self.note(step, self.id)
        self.tell(lambda: self.logger.log_metrics(dict(values), step=step))

    def result(self, step: int, values: Mapping[str, float]) -> None:
        """Send points of the last step."""
        self.tell(lambda: self.logger.log_metrics(dict(values), step=step))

    def image(self, tag: str, step: int, pixels: np.ndarray) -> None:
        """Send a picture, unless it was sent before."""
        if step > self.sent or not self.sent:
            self.tell(lambda: self.send_image(tag, step, pixels))

    def curve(self, tag: str, points: Mapping[int, float]) -> None:
        """A service has one axis of steps for all, and cannot take a curve back when a search goes on; pictures show it."""

    def send_image(self, tag: str, step: int, pixels: np.ndarray) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        """The service has threads of its own for that."""

    def close(self, succeeded: bool) -> None:
        """End the service's run."""
        self.tell(lambda: self.end(succeeded))
        self.logger = None

    def end(self, succeeded: bool) -> None:
        raise NotImplementedError


class WandbRun(Service):
    """A run of Weights & Biases: its files are in wandb/, also where WANDB_MODE=offline."""

    kind = "wandb"

    def open(self, subject: Subject, known: str | None) -> Any:
        import wandb
        from pytorch_lightning.loggers import WandbLogger

        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=subject.name,
            id=known or uuid.uuid4().hex[:8],
            resume="allow",
            dir=str(subject.folder),
            job_type=str(subject.facts.get("command", "")),
            mode=os.environ.get("WANDB_MODE"),
            # no code, no terminal: what is sent is the run's options, its points and pictures, and W&B's own look at the machine
            settings=wandb.Settings(console="off", save_code=False, disable_code=True, disable_git=True, quiet=True),
        )
        run.define_metric("trainer/global_step")  # as Lightning does for a run that it makes itself
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        logger = WandbLogger(experiment=run)
        logger.log_hyperparams(dict(subject.facts))
        return logger

    def send_image(self, tag: str, step: int, pixels: np.ndarray) -> None:
        self.logger.log_image(tag, [pixels], step=step)

    def end(self, succeeded: bool) -> None:
        self.logger.experiment.finish(exit_code=0 if succeeded else 1)


class MlflowRun(Service):
    """A run of MLflow: on the server of MLFLOW_TRACKING_URI, else in mlflow.db of the run."""

    kind = "mlflow"

    def open(self, subject: Subject, known: str | None) -> Any:
        from pytorch_lightning.loggers import MLFlowLogger

        uri, artifacts, store = os.environ.get("MLFLOW_TRACKING_URI"), None, subject.store.resolve()
        if not uri:
            store.mkdir(parents=True, exist_ok=True)
            uri, artifacts = f"sqlite:///{store / 'mlflow.db'}", (store / "mlartifacts").as_uri()
        with locks.waiting(store / ".mlflow.lock"):  # one makes the tables, and the experiment
            logger = MLFlowLogger(
                experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
                run_name=subject.name,
                tracking_uri=uri,
                artifact_location=artifacts,
                run_id=known,
            )
            _ = logger.run_id
        if known is None:
            logger.log_hyperparams(dict(subject.facts))
        return logger

    def send_image(self, tag: str, step: int, pixels: np.ndarray) -> None:
        self.logger.experiment.log_image(self.logger.run_id, pixels, artifact_file=f"{tag}-{step:06d}.png")

    def end(self, succeeded: bool) -> None:
        self.logger.finalize("success" if succeeded else "failed")


class CsvFile:
    """metrics.csv with a row for each step; the probabilities of candidates are not in it, probabilities.jsonl has them.

    Args:
        folder: where the file is; it is written anew by a run that goes on.
    """

    wants_earlier = True

    def __init__(self, folder: Path) -> None:
        from lightning_fabric.loggers import CSVLogger

        (folder / "metrics.csv").unlink(missing_ok=True)
        self.logger = CSVLogger(folder.parent, name=None, version=folder.name, flush_logs_every_n_steps=1)
        self.step, self.row = 0, dict[str, float]()
        with warnings.catch_warnings(action="ignore"):  # a folder of another subject may be in this one
            _ = self.logger.experiment

    def scalars(self, step: int, values: Mapping[str, float], at: float | None = None) -> None:
        """Add to the row of a step; it is written when the next begins."""
        if step != self.step:
            self.flush()
        self.step = step
        self.row |= {tag: value for tag, value in values.items() if PROBABILITY not in tag}

    def result(self, step: int, values: Mapping[str, float]) -> None:
        """Add to the row of the last step."""
        self.scalars(step, values)

    def image(self, tag: str, step: int, pixels: np.ndarray) -> None:
        """A table holds no pictures."""

    def curve(self, tag: str, points: Mapping[int, float]) -> None:
        """Each row has its cost."""

    def flush(self) -> None:
        """Bring to disk what is held back."""
        if self.row:
            self.logger.log_metrics(self.row, self.step)
            self.row = {}

    def close(self, succeeded: bool) -> None:
        """Write the last row."""
        self.flush()
