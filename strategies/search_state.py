"""The state of a search: which architectures were handed out, with which scores, and what comes next.

The state is changed only by events, which are written to a journal first. Applying the journal's events one after
another gives the same state again, however the process ended.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spaces.arch import Arch
from spaces.errors import InputError, is_whole_number
from spaces.files import append_json, read_jsonl

_logger = logging.getLogger(__name__)
JOURNAL = "tuner.jsonl"  # file in the folder that NNI names in NNI_CHECKPOINT_DIRECTORY
Entry = dict[str, Any]  # an architecture that was handed out: "arch", "generation", "score" (or None), "failures"


class SearchState:
    """The state of a search, and its journal.

    Args:
        key: architecture -> its key, equal for architectures that are the same network.
        tries: how often an architecture whose trials fail is handed out before it is given up.
        folder: folder of the journal; None: no journal is written.
    Attributes:
        generation: number of the present generation, from 0; -1 before the first.
        queue: architectures of the generation that are not yet handed out.
        retry_queue: keys of architectures to hand out once more.
        entries: key -> its Entry, in the order of handing out.
        best: the first of `ranked`, which takes longer the more scores there are; None: no score yet.
        failed_in_a_row: number of architectures given up since the last score.
    """

    def __init__(self, key: Callable[[Arch], str], tries: int, folder: Path | None) -> None:
        self.key, self.tries, self.folder = key, tries, folder
        self.generation = -1
        self.queue: deque[Arch] = deque()
        self.retry_queue: deque[str] = deque()
        self.entries: dict[str, Entry] = {}
        self.best: Entry | None = None
        self.failed_in_a_row = 0

    def ranked(self) -> list[Entry]:
        """The scored entries, best first; equal scores in the order of handing out."""
        scored = [entry for entry in self.entries.values() if entry["score"] is not None]
        return sorted(scored, key=lambda entry: -entry["score"])

    def failed(self) -> list[Entry]:
        """The entries whose trials failed as often as `tries` allows."""
        return [entry for entry in self.entries.values() if entry["score"] is None and entry["failures"] >= self.tries]

    def unscored(self) -> list[str]:
        """Keys of the architectures that were handed out, have no score, and have not failed as often as they may."""
        return [key for key in self.entries if self.needs_score(key)]

    def needs_score(self, key: str) -> bool:
        """Whether an architecture has no score, and has not failed as often as it may."""
        return self.entries[key]["score"] is None and self.entries[key]["failures"] < self.tries

    def load(self) -> bool:
        """Apply the events of the journal; those that damage has made senseless are left out, and told of.

        What an architecture of a lost event was worth is not lost: it is handed out once more, and its stored score is
        found.

        Returns:
            Whether there is a journal.
        """
        if self.folder is None or not (self.folder / JOURNAL).exists():
            return False
        senseless = 0
        for event in read_jsonl(self.folder / JOURNAL, repair=True):
            if self._makes_sense(event):
                self._apply(event)
            else:
                senseless += 1
        if senseless:
            _logger.warning(
                "'%s': %d events speak of what damaged lines held, or are no events, and were left out; their "
                "architectures are handed out once more, and scores that the run keeps are found again",
                *(self.folder / JOURNAL, senseless),
            )
        return True

    def _makes_sense(self, event: Mapping[str, Any]) -> bool:
        """Whether an event of the journal can be applied."""

        def fits(arch: object) -> bool:
            try:
                return isinstance(arch, dict) and bool(self.key(arch))
            except (InputError, TypeError):  # an architecture of another space; one that holds a list
                return False

        if "queue" in event:
            queue = event["queue"]
            return is_whole_number(event.get("generation"), 0) and isinstance(queue, list) and all(map(fits, queue))
        if "asked" in event:
            return isinstance(event["asked"], str) and any(self.key(arch) == event["asked"] for arch in self.queue)
        if "scored" in event:
            name, score = event["scored"], event.get("score")
            known = isinstance(name, str) and (name in self.entries or fits(event.get("arch")))
            return known and isinstance(score, int | float) and math.isfinite(score)
        return isinstance(event.get("failed"), str) and event["failed"] in self.entries

    def record(self, event: dict[str, Any]) -> None:
        """Write an event to the journal and apply it.

        Args:
            event: one of
                {"generation": number, "queue": architectures}: a generation was bred.
                {"asked": key}: the architecture was handed out.
                {"scored": key, "score": number}: it has a score; with "arch" if it was not handed out.
                {"failed": key}: a trial of it failed.
        """
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
            entry = self.entries.get(event["scored"]) or self._enter(event["scored"], event["arch"])
            entry["score"] = event["score"]
            if self.best is None or entry["score"] > self.best["score"]:
                self.best = entry
            elif entry["score"] == self.best["score"]:
                self.best = self.ranked()[0]  # the one of them that was handed out first
            self.failed_in_a_row = 0
        elif "failed" in event:
            entry = self.entries[event["failed"]]
            entry["failures"] += 1
            if entry["failures"] < self.tries:
                self.retry_queue.append(event["failed"])
            else:
                self.failed_in_a_row += 1

    def _enter(self, key: str, arch: Arch) -> Entry:
        """Make the entry of an architecture that is handed out."""
        self.entries[key] = {"arch": arch, "generation": max(self.generation, 0), "score": None, "failures": 0}
        return self.entries[key]


def has_unscored(journal: list[dict[str, Any]], tries: int) -> bool:
    """Whether an architecture was handed out that has no score yet, and has not failed as often as it may.

    Args:
        journal: the events of a journal.
        tries: as for SearchState.
    """
    names = {
        kind: [event[kind] for event in journal if isinstance(event.get(kind), str)]
        for kind in ("asked", "scored", "failed")
    }
    failures = Counter(names["failed"])
    return any(failures[key] < tries for key in set(names["asked"]) - set(names["scored"]))
