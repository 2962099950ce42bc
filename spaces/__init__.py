"""WHAT can be built: the search spaces, one file per paper, and what all of them share.

`import spaces` alone loads neither torch nor NNI, because NNI's tuners import `spaces.arch` and `spaces.cost` and must
start within 10 s. The functions in `__all__` are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spaces.names import DEFAULT, SPACES

if TYPE_CHECKING:
    from spaces.catalog import choices, describe, macro_table, presets, same_preset
    from spaces.model_space import build

__all__ = ["DEFAULT", "SPACES", "build", "choices", "describe", "macro_table", "presets", "same_preset"]


def __getattr__(name: str) -> Any:
    """Load a name of `__all__` on first use. `build` needs NNI's NAS, which takes 4 s more than the others."""
    if name == "build":
        from spaces.model_space import build

        return build
    if name in __all__:
        from spaces import catalog

        return getattr(catalog, name)
    raise AttributeError(f"module 'spaces' has no attribute '{name}'")
