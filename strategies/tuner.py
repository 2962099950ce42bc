"""What all of Onepath's NNI tuners share: limits, no network twice, a seed, retries, a journal that survives any kill.

A tuner breeds a generation from the results so far, then hands it out one by one; as soon as the last one is handed out,
the next generation is bred from the results there are, so no worker waits. Generation number g draws from a generator
seeded by (seed, g): with one trial at a time, a search is a function of its seed and of the scores.

Everything is keyed by architecture, never by NNI's parameter id, which may restart at 1 when an experiment resumes.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import random
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nni
import numpy as np
from nni.tuner import Tuner

from spaces.arch import Arch, arch_id, save_arch, validate
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import CLONE, append_json, read_jsonl
from spaces.latency import LatencyTable
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits

_logger = logging.getLogger(__name__)
JOURNAL = "tuner.jsonl"  # in NNI_CHECKPOINT_DIRECTORY
GUARD = CLONE / "trials" / "nni_guard.js"
TRIES = 100  # draws of one child before it is given up
DRAWS = 50_000  # before a space counts as exhausted
MAX_FAILED_IN_A_ROW = 5  # architectures given up one after another before the search ends


class ArchTuner(Tuner):
    """Base of the tuners. A subclass says how to `breed` a generation.

    Args:
        cost_table: JSON written by `python -m trials.space`; relative to the root of the clone.
        population: architectures per generation.
        seed: of every random decision.
        tries: how often an architecture is given out whose trials fail, before it is marked as failed.
        latency_table: JSON written by `python -m trials.latency`, for `max_latency_ms`; relative to the root of the clone.
        limits: `max_macs`, `min_macs`, `max_params`, `max_latency_ms`; hard, no trial ever breaks them.
    Raises:
        InputError: a limit that no architecture can meet, naming the reachable range; or several trials at a time
            under an NNI manager that pairs them with the wrong architectures, because the guard is not loaded.
    """

    def __init__(
        self,
        cost_table: str,
        population: int = 50,
        seed: int = 0,
        tries: int = 3,
        latency_table: str | None = None,
        **limits: Any,
    ) -> None:
        super().__init__()
        for name, value, least in (("population", population, 1), ("tries", tries, 1), ("seed", seed, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} {value} is not a whole number of at least {least}; give another")
        refuse_without_guard()
        self.table = CostTable.load(CLONE / cost_table)
        latency = LatencyTable.load(CLONE / latency_table, self.table) if latency_table is not None else None
        self.feasible = FeasibleSpace(self.table, Limits.of(limits), latency)
        self.population, self.seed, self.tries = population, seed, tries
        directory = os.environ.get("NNI_CHECKPOINT_DIRECTORY")
        self.folder = Path(directory) if directory else None  # of the journal; None: none is written
        self.generation = -1
        self.queue: deque[Arch] = deque()  # of this generation, not yet handed out
        self.retry_queue: deque[str] = deque()  # keys to hand out once more
        # key -> {"arch", "generation", "score", "failures"}, in the order of handing out
        self.asked: dict[str, dict[str, Any]] = {}
        self.best: dict[str, Any] | None = None  # the first of `ranked`, which takes longer the more scores there are
        self.running: dict[int, str] = {}  # NNI's parameter id -> key
        self.failed_in_a_row = 0  # architectures given up since the last score
        self.lock = threading.RLock()  # NNI calls trial_end in another thread

    def breed(self, generator: random.Random) -> list[Arch]:
        """The next generation, at most `population`, all of it `new`. Empty: nothing is left within the limits."""
        raise NotImplementedError

    def failed(self) -> list[dict[str, Any]]:
        """Entries whose trials failed as often as `tries` allows."""
        return [entry for entry in self.asked.values() if entry["score"] is None and entry["failures"] >= self.tries]

    # for breeding

    def key(self, arch: Arch) -> str:
        """Equal for architectures that are the same network."""
        return arch_id(self.table.canonical(arch))

    def ranked(self) -> list[dict[str, Any]]:
        """Scored entries, best first; ties in the order of asking."""
        scored = [entry for entry in self.asked.values() if entry["score"] is not None]
        return sorted(scored, key=lambda entry: -entry["score"])

    def add(self, members: dict[str, Arch], make: Callable[[], Arch], tries: int = TRIES) -> bool:
        """Put what `make` draws among the members of a generation, if it is new and meets the limits within `tries`."""
        for _ in range(tries):
            arch = make()
            key = self.key(arch)
            if key not in members and key not in self.asked and self.feasible.allows(arch):
                members[key] = arch
                return True
        return False

    def fill(self, members: dict[str, Arch], generator: random.Random) -> list[Arch]:
        """Random architectures, all within the limits equally likely, until a generation is full or none is new."""
        while len(members) < self.population and self.add(members, lambda: self.feasible.sample(generator), 1000):
            pass
        if len(members) < self.population:  # hardly anything new is left
            draws = self.feasible.sample_many(DRAWS, np.random.default_rng(generator.getrandbits(64)))
            for options in np.unique(draws, axis=0):
                if len(members) < self.population:
                    self.add(members, partial(self.table.arch, options), 1)
        return list(members.values())

    # NNI's side

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        offered = {label: entry["_value"] for label, entry in search_space.items()}
        if offered != self.feasible.choices:
            raise InputError(
                "the search space and the cost table differ; write both again with: python -m trials.space"
            )

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> Arch:
        """The next architecture.

        Raises:
            nni.NoMoreTrialError: nothing new is left within the limits.
            InputError: trials fail one after another.
        """
        with self.lock:
            key = self._next()
            self.running[parameter_id] = key
            return dict(self.asked[key]["arch"])

    def receive_trial_result(self, parameter_id: int, parameters: Arch, value: Any, **kwargs: Any) -> None:
        with self.lock:
            self.running.pop(parameter_id, None)
            self._take(parameters, value)

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        with self.lock:
            key = self.running.pop(parameter_id, None)
            if key is None or success or self.asked[key]["score"] is not None:
                return  # (with success, its result is still on the way)
            self._record({"failed": key})

    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Results from before a restart; those that the journal already holds are left alone."""
        with self.lock:
            for entry in data:
                self._take(entry["parameter"], entry["value"])

    def load_checkpoint(self) -> None:
        """Continue from the journal. What was handed out and has no score is handed out first."""
        with self.lock:
            if self.folder is None or not (self.folder / JOURNAL).exists():
                return
            for event in read_jsonl(self.folder / JOURNAL, repair=True):
                self._apply(event)
            # without the guard, NNI runs those again by itself that were running
            if os.environ.get("ONEPATH_GUARD") or not os.environ.get("NNI_MODE"):
                self.retry_queue = deque(key for key, entry in self.asked.items() if self._waits(entry))
            self.failed_in_a_row = 0  # what made them fail may be mended

    def remaining_before_next_result(self) -> int:
        """How many architectures can be handed out before another result changes which."""
        with self.lock:
            if not self.retry_queue and not self.queue:
                self._breed()
            return len(self.retry_queue) + len(self.queue)

    def _next(self) -> str:
        while self.retry_queue:
            key = self.retry_queue.popleft()
            if self._waits(self.asked[key]):
                return key
        if self.failed_in_a_row >= MAX_FAILED_IN_A_ROW:
            raise InputError(f"the last {self.failed_in_a_row} architectures failed {self.tries} times each")
        while True:
            if not self.queue:
                self._breed()
            if not self.queue:
                raise nni.NoMoreTrialError(f"{DRAWS:,} draws gave nothing new within the limits")
            key = self.key(self.queue[0])
            if key in self.asked:  # it arrived by import_data meanwhile
                self.queue.popleft()
                continue
            self._record({"asked": key})
            return key

    def _breed(self) -> None:
        members = self.breed(random.Random(f"{self.seed} {self.generation + 1}"))
        if members:
            self._record({"generation": self.generation + 1, "queue": members})

    def _waits(self, entry: dict[str, Any]) -> bool:
        return entry["score"] is None and entry["failures"] < self.tries

    def _take(self, arch: Arch, value: Any) -> None:
        score = float(value["default"] if isinstance(value, dict) else value)
        validate(arch, self.feasible.choices)
        key = self.key(arch)
        known = self.asked.get(key)
        if known is not None and known["score"] is not None:
            return
        if not math.isfinite(score):
            _logger.warning("score %s of %s is not finite", score, key)
            if known is not None:
                self._record({"failed": key})
            return
        self._record({"scored": key, "score": score} | ({} if known else {"arch": dict(arch)}))
        if self.folder:  # the best so far, one file per generation, for --fixed-arc
            assert self.best is not None
            save_arch(self.folder / f"generation-{max(self.generation, 0):03d}.json", self.best["arch"])

    # state: a journal of events

    def _record(self, event: dict[str, Any]) -> None:
        if self.folder:
            append_json(self.folder / JOURNAL, event)
        self._apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        if "queue" in event:
            self.generation, self.queue = event["generation"], deque(event["queue"])
        elif "asked" in event:
            while self.queue:
                arch = self.queue.popleft()
                if self.key(arch) == event["asked"]:
                    self._enter(event["asked"], arch)
                    break
        elif "scored" in event:
            entry = self.asked.get(event["scored"]) or self._enter(event["scored"], event["arch"])
            entry["score"] = event["score"]
            if self.best is None or entry["score"] > self.best["score"]:
                self.best = entry
            elif entry["score"] == self.best["score"]:
                self.best = self.ranked()[0]  # which of them was asked first
            self.failed_in_a_row = 0
        elif "failed" in event:
            entry = self.asked[event["failed"]]
            entry["failures"] += 1
            if entry["failures"] < self.tries:
                self.retry_queue.append(event["failed"])
            else:
                self.failed_in_a_row += 1

    def _enter(self, key: str, arch: Arch) -> dict[str, Any]:
        self.asked[key] = {"arch": arch, "generation": max(self.generation, 0), "score": None, "failures": 0}
        return self.asked[key]


def has_unscored(journal: list[dict[str, Any]], tries: int) -> bool:
    """Whether an architecture was handed out that has no score yet, and did not fail as often as it may."""
    failures = Counter(event["failed"] for event in journal if "failed" in event)
    scored = {event["scored"] for event in journal if "scored" in event}
    asked = {event["asked"] for event in journal if "asked" in event}
    return any(failures[key] < tries for key in asked - scored)


def refuse_without_guard() -> None:
    """NNI 3.0 gives trials the wrong architectures above concurrency 1, unless trials/nni_guard.js mends it.

    Raises:
        InputError: this is the tuner process of such an experiment.
    """
    if "--exp_params" not in sys.argv or os.environ.get("ONEPATH_GUARD"):
        return
    experiment = json.loads(base64.b64decode(sys.argv[sys.argv.index("--exp_params") + 1]))
    if experiment.get("trialConcurrency", 1) > 1:
        raise InputError(
            f"trialConcurrency {experiment['trialConcurrency']}: NNI 3.0 alone gives trials the wrong architectures above 1; set it "
            f"to 1, use python -m trials.search, or first: export NODE_OPTIONS='--require \"{GUARD}\"'"
        )
