"""What all of Onepath's NNI tuners share: limits, no architecture twice, a seed, a state that survives a restart.

Everything is keyed by architecture, never by NNI's parameter id, which may restart at 1 when an experiment resumes.
"""

from __future__ import annotations

import logging
import math
import os
import random
from pathlib import Path
from typing import Any

import nni
from nni.tuner import Tuner

from spaces.arch import Arch, arch_id, validate
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import load_json, save_json
from strategies.limits import Feasible, Limits

_CLONE = Path(__file__).resolve().parent.parent
_logger = logging.getLogger(__name__)
STATE = "tuner.json"  # in NNI_CHECKPOINT_DIRECTORY


class ArchTuner(Tuner):
    """Base of the tuners. A subclass says how to `propose` an architecture.

    Args:
        cost_table: JSON written by `python -m trials.space`; relative to the root of the clone.
        seed: of every random decision.
        limits: `max_macs`, `min_macs`, `max_params`; hard, no trial ever breaks them.
    Raises:
        InputError: a limit that no architecture can meet, naming the reachable range.
    """

    def __init__(self, cost_table: str, seed: int = 0, **limits: Any) -> None:
        super().__init__()
        table = CostTable.load(_CLONE / cost_table)
        self.feasible = Feasible(table, Limits.of(limits))
        self.generator = random.Random(seed)
        self.asked: dict[str, dict[str, Any]] = {}  # arch id -> {"arch", "generation", "score"}, in order
        self.running: dict[int, Arch] = {}  # NNI's parameter id -> arch

    def propose(self) -> Arch:
        """The next architecture, within the limits and not in `asked`. Raises nni.NoMoreTrialError: none is left."""
        raise NotImplementedError

    def scored(self, arch: Arch, score: float) -> None:
        """An architecture got its score."""

    def generation_now(self) -> int:
        """Number of the generation that `propose` works on."""
        return 0

    # NNI's side

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        offered = {label: entry["_value"] for label, entry in search_space.items()}
        if offered != self.feasible.choices:
            raise InputError(
                "the search space and the cost table differ; write both again with: python -m trials.space"
            )

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> Arch:
        arch = self.propose()
        self.asked[arch_id(arch)] = {"arch": arch, "generation": self.generation_now(), "score": None}
        self.running[parameter_id] = arch
        return dict(arch)

    def receive_trial_result(self, parameter_id: int, parameters: Arch, value: Any, **kwargs: Any) -> None:
        self.running.pop(parameter_id, None)
        self._take(parameters, value)

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        if self.running.pop(parameter_id, None) is not None:
            self._save()  # it failed without a result: it stays in `asked` without a score, and is not tried again

    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Results from before a restart; those that the checkpoint already holds are left alone."""
        for entry in data:
            known = self.asked.get(arch_id(entry["parameter"]))
            if known is None or known["score"] is None:
                self._take(entry["parameter"], entry["value"])

    def _take(self, arch: Arch, value: Any) -> None:
        score = float(value["default"] if isinstance(value, dict) else value)
        validate(arch, self.feasible.choices)
        if not math.isfinite(score):
            _logger.warning("score %s of %s is not finite and is left out", score, arch_id(arch))
            return
        entry = self.asked.setdefault(
            arch_id(arch), {"arch": dict(arch), "generation": self.generation_now(), "score": None}
        )
        entry["score"] = score
        self.scored(entry["arch"], score)
        self._save()

    def ranked(self) -> list[dict[str, Any]]:
        """Scored entries, best first; ties in the order of asking."""
        scored = [entry for entry in self.asked.values() if entry["score"] is not None]
        return sorted(scored, key=lambda entry: -entry["score"])

    def fresh(self) -> Arch:
        """A random architecture that was not asked for yet.

        Raises:
            nni.NoMoreTrialError: 1,000 draws in a row gave known ones; what meets the limits is exhausted.
        """
        for _ in range(1000):
            arch = self.feasible.sample(self.generator)
            if arch_id(arch) not in self.asked:
                return arch
        raise nni.NoMoreTrialError("every architecture within the limits has been evaluated")

    # state

    def state(self) -> dict[str, Any]:
        """JSON-able state, written after every result: NNI 3.0 never calls save_checkpoint."""
        version, internal, gauss = self.generator.getstate()
        return {"random": [version, list(internal), gauss], "asked": self.asked}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        version, internal, gauss = state["random"]
        self.generator.setstate((version, tuple(internal), gauss))
        self.asked = state["asked"]

    def folder(self) -> Path | None:
        """NNI's checkpoint folder of this experiment; None outside of NNI."""
        directory = os.environ.get("NNI_CHECKPOINT_DIRECTORY")
        return Path(directory) if directory else None

    def _save(self) -> None:
        folder = self.folder()
        if folder:
            save_json(folder / STATE, self.state(), indent=None)

    def load_checkpoint(self) -> None:
        folder = self.folder()
        if folder and (folder / STATE).exists():
            self.restore(load_json(folder / STATE, "tuner state"))
