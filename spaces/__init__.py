"""WHAT can be built: one file per paper.

`import spaces` alone loads neither torch nor NNI, because NNI's tuners import `spaces.arch` and `spaces.cost` and have 10 s
to start. The functions below come from `spaces.catalog` when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spaces.catalog import SPACES, choices, describe, presets, same_preset
    from spaces.model_space import build

__all__ = ["SPACES", "build", "choices", "describe", "presets", "same_preset"]


def __getattr__(name: str) -> Any:
    if name == "build":
        from spaces.model_space import build  # with NNI's NAS, 4 s more

        return build
    if name in __all__:
        from spaces import catalog

        return getattr(catalog, name)
    raise AttributeError(f"module 'spaces' has no attribute '{name}'")
