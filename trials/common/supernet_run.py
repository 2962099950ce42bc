"""The run directory of a trained supernet, opened in one way by everything that scores, searches, times or reports it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.spec import SpaceSpec
from trials.common.checkpoint import load_checkpoint, weights_in
from trials.common.run_dir import file_hash, load_run, require_supernet

if TYPE_CHECKING:
    import torch

    from spaces.chain import Chain


class SupernetRun:
    """A run of trials.supernet. Its files are read when they are first needed, so that opening one is cheap.

    Attributes:
        path: the run directory.
        config: the options that the supernet was trained with, as config.json holds them.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config

    @classmethod
    def open(cls, path: str | Path, *, trained: bool = True) -> SupernetRun:
        """Open a run.

        Args:
            trained: refuse one that is not trained to the end.
        Raises:
            InputError: there is no run, it is one of another command, or its supernet is not there yet.
        """
        config = load_run(path, "supernet")
        if trained:
            require_supernet(path)
        return cls(Path(path), config)

    @property
    def supernet_file(self) -> Path:
        """The checkpoint with the trained weights."""
        return self.path / "supernet.pt"

    @property
    def trained(self) -> bool:
        """Whether there are weights; random candidates (`trials.retrain --top-random`) need none."""
        return self.supernet_file.exists()

    @cached_property
    def table(self) -> CostTable:
        """MACs and params of every architecture of the space. Raises InputError: the file is missing or damaged."""
        return CostTable.load(self.path / "cost_table.json")

    @cached_property
    def space(self) -> SpaceSpec:
        """The space that the supernet was made of."""
        return SpaceSpec.read(self.table.space)

    @cached_property
    def chain(self) -> Chain:
        """The space, described anew. Raises InputError: it cannot be described any more."""
        return self.space.describe()

    @cached_property
    def checkpoint(self) -> dict[str, Any]:
        """supernet.pt: `model` (weights), `more` (those of further seeds), `space`, `seed`, `preprocessing`; tensors are mapped from the file.

        Raises:
            InputError: the file is damaged, or is that of another space.
        """
        stored = load_checkpoint(self.supernet_file, "supernet", needs=("model",), mmap=True)
        ours = self.space
        of = SpaceSpec.read(stored["space"]) if "space" in stored else ours
        if (of.name, of.preset) != (ours.name, ours.preset):
            raise InputError(
                f"'{self.supernet_file}' is of space {of.name} {of.preset}, the run of {ours.name} {ours.preset}; restore the file"
            )
        return stored

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """State dict of the supernet; of several, that of the first."""
        return self.checkpoint["model"]

    @property
    def all_weights(self) -> list[dict[str, torch.Tensor]]:
        """State dicts of all supernets of the run, see --supernets."""
        return weights_in(self.checkpoint)

    @cached_property
    def hash(self) -> str:
        """16 hex digits that name the trained weights; scores of other weights are not mixed with theirs."""
        return file_hash(self.supernet_file)
