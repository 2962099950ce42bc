"""The base of Onepath's NNI tuners: limits, no network twice, a seed, retries, a journal that survives any kill.

A tuner breeds a generation from the results so far, then hands it out one architecture at a time. When all are handed
out, the next generation is bred from the results there are by then, so no worker waits. The random generator of
generation g is seeded by (seed, g): with one trial at a time, a search is a function of its seed and of the scores.

Everything is keyed by architecture, never by NNI's parameter id, which may restart at 1 when an experiment resumes.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nni
import numpy as np
from nni.tuner import Tuner

from spaces.arch import Arch, arch_id, save_arch, validate
from spaces.cost import CostTable
from spaces.errors import InputError, is_whole_number, shown
from spaces.files import CLONE
from spaces.latency import LatencyTable
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from strategies.manager_guard import enter_tuner_process, guard_loaded
from strategies.search_state import Entry, SearchState

_logger = logging.getLogger(__name__)
TRIES = 100  # attempts to make one new child before it is given up
DRAWS = 50_000  # samples without a new architecture after which the space counts as exhausted
MAX_FAILED_IN_A_ROW = 5  # so many architectures given up one after another end the search
Score = float | dict[str, Any]  # a number, or NNI's dict with the number as "default"


class ArchTuner(Tuner):
    """Base of the tuners. A subclass says how to `breed` a generation.

    Args:
        cost_table: path of the JSON file written by `python -m trials.space`, relative to the root of the clone.
        population: number of architectures per generation.
        seed: seed of all random decisions.
        tries: how often an architecture whose trials fail is handed out before it is marked as failed.
        latency_table: path of the JSON file written by `python -m trials.latency`, relative to the root of the clone; for
            `max_latency_ms`.
        limits: `max_macs`, `min_macs`, `max_params`, `max_latency_ms`. They are hard: no trial ever breaks them.
    Attributes:
        feasible: the architectures within the limits.
        table: the cost table of the space.
        state: the architectures handed out so far with their scores, and what comes next.
    Raises:
        InputError: a limit that no architecture satisfies, with the reachable range; or several trials at a time under
            an NNI manager without the guard, which would pair them with the wrong architectures; or a cost table that is
            not that of the trials' supernet.
    """

    def __init__(
        self,
        cost_table: str,
        population: int = 50,
        seed: int = 0,
        tries: int = 3,
        latency_table: str | None = None,
        **limits: float | str | None,
    ) -> None:
        super().__init__()
        for name, value, least in (("population", population, 1), ("tries", tries, 1), ("seed", seed, 0)):
            if not is_whole_number(value, least):
                number = isinstance(value, str) and value.strip().isdecimal()
                fix = f"write {name}: {shown(value).strip()}, without quotes" if number else "give another"
                raise InputError(
                    f"{name} {repr(value) if number else shown(value)} is not a whole number of at least {least}; {fix}"
                )
        self.table = CostTable.load(CLONE / cost_table)
        enter_tuner_process(self.table)
        latency = LatencyTable.load(CLONE / latency_table, self.table) if latency_table is not None else None
        self.feasible = FeasibleSpace(self.table, Limits.of(limits), latency)
        self.population, self.seed, self.tries = population, seed, tries
        directory = os.environ.get("NNI_CHECKPOINT_DIRECTORY")
        self.keys: dict[tuple[tuple[str, Any], ...], str] = {}  # what `key` has answered; children are often made again
        self.state = SearchState(self.key, tries, Path(directory) if directory else None)
        self.running: dict[int, str] = {}  # NNI's parameter id -> key
        self.uncounted: set[str] = set()  # keys with a score that a resumed NNI does not know of
        self.rows: dict[str, np.ndarray] = {}  # key -> canonical combination indices, see `results`
        self.lock = threading.RLock()  # NNI calls trial_end in another thread

    def breed(self, generator: random.Random) -> list[Arch]:
        """The next generation: at most `population` new architectures; none if nothing new is left within the limits.

        Args:
            generator: the generation's random generator.
        """
        raise NotImplementedError

    # What subclasses breed with

    def key(self, arch: Arch) -> str:
        """The key of an architecture; equal for architectures that are the same network."""
        given = tuple(arch.items())
        if given not in self.keys:
            self.keys[given] = arch_id(self.table.canonical(arch))
        return self.keys[given]

    def ranked(self) -> list[Entry]:
        """The scored entries, best first; equal scores in the order of handing out."""
        return self.state.ranked()

    def results(self) -> tuple[np.ndarray, np.ndarray]:
        """The scored architectures in the order of handing out.

        Returns:
            Combination indices of the cost table, canonical, (results, blocks); scores (results,).
        """
        scored = {key: entry for key, entry in self.state.entries.items() if entry["score"] is not None}
        new = [key for key in scored if key not in self.rows]
        if new:
            rows = np.array([self.table.combinations(scored[key]["arch"]) for key in new])
            self.rows |= zip(new, self.table.canonical_many(rows), strict=True)
        return np.array([self.rows[key] for key in scored]), np.array([entry["score"] for entry in scored.values()])

    def add(self, members: dict[str, Arch], make: Callable[[], Arch], tries: int = TRIES) -> bool:
        """Add an architecture to a generation that is being bred, if a new one within the limits is made in time.

        Args:
            members: the generation so far, key -> architecture; changed in place.
            make: makes an architecture; it is called up to `tries` times.
        Returns:
            Whether one was added.
        """
        for _ in range(tries):
            arch = make()
            key = self.key(arch)
            if key not in members and key not in self.state.entries and self.feasible.allows(arch):
                members[key] = arch
                return True
        return False

    def fill(self, members: dict[str, Arch], generator: random.Random) -> list[Arch]:
        """Fill a generation with random architectures within the limits, all equally likely, as long as there are new ones.

        Args:
            members: the generation so far, key -> architecture.
        Returns:
            The architectures of the generation.
        """
        while len(members) < self.population and self.add(members, lambda: self.feasible.sample(generator), 1000):
            pass
        if len(members) < self.population:  # hardly any new architecture is left: look at many samples in order
            samples = self.feasible.sample_many(DRAWS, np.random.default_rng(generator.getrandbits(64)))
            for combinations in np.unique(samples, axis=0):
                if len(members) < self.population:
                    self.add(members, partial(self.table.arch, combinations), 1)
        return list(members.values())

    # What NNI calls

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """Check that NNI's search space is that of the cost table.

        Raises:
            InputError: it is not.
        """
        offered = {label: entry["_value"] for label, entry in search_space.items()}
        if offered != self.feasible.choices:
            raise InputError(
                "the search space and the cost table differ; write both again with: python -m trials.space"
            )

    def generate_parameters(self, parameter_id: int, **kwargs: object) -> Arch:
        """The next architecture to evaluate.

        Raises:
            nni.NoMoreTrialError: nothing new is left within the limits.
            InputError: trials fail one after another.
        """
        with self.lock:
            key = self._next()
            self.running[parameter_id] = key
            return dict(self.state.entries[key]["arch"])

    def receive_trial_result(self, parameter_id: int, parameters: Arch, value: Score, **kwargs: object) -> None:
        """Take the score of a trial.

        Raises:
            InputError: the trial counts other MACs than the cost table, which is therefore of another space.
        """
        counted = value.get("macs") if isinstance(value, dict) else None
        if counted is not None and counted != self.table.macs(parameters):
            raise InputError(
                f"the trial counts {counted:,} MACs, the tuner's cost_table {self.table.macs(parameters):,}: limits are judged by "
                "the wrong costs; give the cost_table.json of the supernet's run as cost_table"
            )
        with self.lock:
            self.running.pop(parameter_id, None)
            self._take_score(parameters, value)

    def trial_end(self, parameter_id: int, success: bool, **kwargs: object) -> None:
        """Note that a trial failed. After a success nothing is done, because its score may still be on the way."""
        with self.lock:
            key = self.running.pop(parameter_id, None)
            if key is None or success or self.state.entries[key]["score"] is not None:
                return
            self.state.record({"failed": key})

    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Take scores from before a restart; those that the journal already holds are ignored.

        NNI gives what it counts as finished. A score that the journal alone holds arrived just before NNI was killed: its
        architecture is handed out once more, so that NNI counts it too; the trial finds the stored score.
        """
        with self.lock:
            for entry in data:
                self._take_score(entry["parameter"], entry["value"])
                self.uncounted.discard(self.key(entry["parameter"]))

    def load_checkpoint(self) -> None:
        """Continue from the journal. Architectures that were handed out and have no score are handed out first."""
        with self.lock:
            if not self.state.load():
                return
            # An NNI manager without the guard runs the trials again that were running, by itself.
            if guard_loaded() or not os.environ.get("NNI_MODE"):
                self.state.retry_queue = deque(self.state.unscored())
            if guard_loaded() and os.environ.get("NNI_MODE") == "resume":
                self.uncounted = {key for key, entry in self.state.entries.items() if entry["score"] is not None}
            self.state.failed_in_a_row = 0  # the reason of the failures may be gone

    def remaining_before_next_result(self) -> int:
        """How many architectures can be handed out before the next result has an influence on them."""
        with self.lock:
            if not self.state.retry_queue and not self.state.queue:
                self._breed()
            return len(self.state.retry_queue) + len(self.state.queue)

    # The steps of those calls

    def _next(self) -> str:
        """The key of the architecture that is handed out next: first those to retry, then those of the generation."""
        state = self.state
        if self.uncounted:
            key = next(key for key in state.entries if key in self.uncounted)
            self.uncounted.remove(key)
            return key
        while state.retry_queue:
            key = state.retry_queue.popleft()
            if state.needs_score(key):
                return key
        if state.failed_in_a_row >= MAX_FAILED_IN_A_ROW:
            raise InputError(f"the last {state.failed_in_a_row} architectures failed {self.tries} times each")
        while True:
            if not state.queue:
                self._breed()
            if not state.queue:
                raise nni.NoMoreTrialError(f"{DRAWS:,} draws gave nothing new within the limits")
            key = self.key(state.queue[0])
            if key in state.entries:  # its score arrived by import_data in the meantime
                state.queue.popleft()
                continue
            state.record({"asked": key})
            return key

    def _breed(self) -> None:
        """Put the next generation into the queue."""
        members = self.breed(random.Random(f"{self.seed} {self.state.generation + 1}"))
        if members:
            self.state.record({"generation": self.state.generation + 1, "queue": members})

    def _take_score(self, arch: Arch, value: Score) -> None:
        """Record a score and write the best architecture so far; a score that is not finite counts as a failure."""
        score = float(value["default"] if isinstance(value, dict) else value)
        validate(arch, self.feasible.choices)
        key = self.key(arch)
        known = self.state.entries.get(key)
        if known is not None and known["score"] is not None:
            return
        if not math.isfinite(score):
            _logger.warning("score %s of %s is not finite", score, key)
            if known is not None:
                self.state.record({"failed": key})
            return
        self.state.record({"scored": key, "score": score} | ({} if known else {"arch": dict(arch)}))
        if self.state.folder:  # one file per generation, for --fixed-arc
            assert self.state.best is not None
            generation = max(self.state.generation, 0)
            save_arch(self.state.folder / f"generation-{generation:03d}.json", self.state.best["arch"])
