"""The architecture that --fixed-arc names: a file, or a published network."""

from __future__ import annotations

from pathlib import Path

from spaces.arch import Arch, ArchError, Choices, validate
from spaces.arch_file import load_arch
from spaces.errors import unknown
from spaces.published import PUBLISHED, find_published


def require_arch(text: str) -> None:
    """Raises ArchError: there is neither a file nor a published network of this name."""
    if not find_published(text) and not Path(text).exists():
        names = [name for entries in PUBLISHED.values() for name in entries]
        raise ArchError(
            f"fixed-arc file '{text}' does not exist, and it is no published network: "
            f"{unknown('name', text, names, 'python -m trials.space --list')}"
        )


def read_arch(text: str, choices: Choices) -> Arch:
    """Read the architecture that --fixed-arc names.

    Args:
        choices: the choices of the space, label -> candidates.
    Raises:
        ArchError: there is none, or the architecture does not fit the space.
    """
    require_arch(text)
    known = find_published(text)
    if known:
        _, network = known
        validate(network.arch, choices)
        return dict(network.arch)
    return load_arch(text, choices)
