"""Which search space, in plain values: what a run, a checkpoint and an exported network say about theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import spaces
from spaces.errors import InputError, shown
from spaces.files import RESTORE

if TYPE_CHECKING:
    from spaces.chain import Chain
    from spaces.model_space import ChainSpace


@dataclass(frozen=True)
class SpaceSpec:
    """Enough to describe a space again, in another process or years later.

    Args:
        name: a key of `spaces.SPACES`, or module:function.
        preset: of the space.
        options: the space's own options, with `classes` and `resolution` (pixels) where they are not the preset's.
    """

    name: str
    preset: str = "imagenet"
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> SpaceSpec:
        """The spec in a file: checkpoints hold all options together, cost tables keep classes and resolution apart.

        Raises:
            InputError: these are no such values.
        """
        try:
            sizes = {key: stored[key] for key in ("classes", "resolution") if key in stored}
            name, preset, options = stored["name"], stored["preset"], {**stored["options"], **sizes}
            if not (isinstance(name, str) and isinstance(preset, str) and all(isinstance(key, str) for key in options)):
                raise TypeError
        except (KeyError, TypeError):
            raise InputError(
                f"a file says of its space: {shown(stored)}; name, preset and options are needed; {RESTORE}"
            ) from None
        return cls(name, preset, options)

    def plain(self) -> dict[str, Any]:
        """For a checkpoint or a JSON file; the reverse of `read`."""
        return {"name": self.name, "preset": self.preset, "options": dict(self.options)}

    def describe(self) -> Chain:
        """The chain of this space. Raises InputError: it cannot be described (any more)."""
        return spaces.describe(self.name, self.preset, **self.options)

    def build(self) -> ChainSpace:
        """The NNI ModelSpace of this space. Raises InputError: as `describe`."""
        return spaces.build(self.name, self.preset, **self.options)


def space_options_text(options: Mapping[str, Any]) -> str:
    """A space's own options as --space-options takes them: NAME=VALUE, comma-separated."""
    return ",".join(f"{name}={value}" for name, value in options.items())


def preset_arguments(space: Mapping[str, Any]) -> str:
    """The command-line arguments that choose the preset and the sizes of a space, for messages that name a command.

    Args:
        space: metadata of a cost table: name, preset, options, classes, resolution.
    """
    return f"--preset {space['preset']} --classes {space['classes']} --resolution {space['resolution']}"
