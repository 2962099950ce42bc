"""Reading checkpoints: nothing in them is executed, and what keeps one from being read is told apart.

No right to read it, an error of the disk, too little memory, contents that are not allowed, and damage are different things:
only damage is called damage, and no whole file is.
"""

from __future__ import annotations

import codecs
import contextlib
import re
import zipfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from spaces.errors import InputError, Stopped, shown
from spaces.files import require_file, unreadable

NO_MEMORY = re.compile(r"allocate memory|not enough memory|out of memory", re.IGNORECASE)
AGAIN = "restore it from a copy, or train again into another --out"


def load_checkpoint(
    path: str | Path, what: str, *, needs: Iterable[str] = (), mmap: bool = False, fix: str = AGAIN
) -> dict[str, Any]:
    """Read a checkpoint to the CPU; nothing in it is ever executed.

    Args:
        what: how to call the file in an error, for example "supernet".
        needs: keys that it must have; "model" must be weights by name.
        mmap: map the file instead of reading it, when only a part of the tensors is needed.
        fix: the end of the message about a damaged file.
    Raises:
        InputError: it is missing, not ours to read, damaged, or holds something else.
        Stopped: the machine could not read it.
    """
    import torch

    require_file(path, what)
    try:
        with open(path, "rb"):  # torch does not say why it cannot open a file
            pass
        with torch.serialization.safe_globals(_numpy_numbers()):
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as error:
        raise unreadable(what, path, error) from None
    except Exception as error:  # torch.load raises whatever a damaged file leads it to
        raise _diagnosis(Path(path), what, error, fix) from None
    if not isinstance(state, dict):
        raise InputError(f"{what} '{path}' holds a {type(state).__name__}, not a checkpoint; name another file")
    for key in needs:
        if key not in state:
            raise InputError(
                f"{what} '{path}' lacks '{key}' (it has {shown(', '.join(map(str, state)))}); name another file"
            )
    if "model" in needs and not _are_weights(state["model"]):
        raise InputError(
            f"{what} '{path}': 'model' is {type(state['model']).__name__} and no weights by name; name another file"
        )
    return state


@contextlib.contextmanager
def fitting(what: str, path: str | Path) -> Iterator[None]:
    """Turn what a network or an optimizer says of weights that are not its own into one line.

    Args:
        what, path: of the checkpoint that the body loads into a network.
    Raises:
        InputError: in place of the exceptions of such weights.
    """
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        if NO_MEMORY.search(str(error)):
            raise
        reason = f"{type(error).__name__}: {shown(str(error))}"
        raise InputError(
            f"{what} '{path}' does not fit this network ({reason}); name the file that belongs to it"
        ) from error


def _are_weights(value: object) -> bool:
    import torch

    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items()
    )


@cache
def _numpy_numbers() -> list[Any]:
    """What stands in a checkpoint in which someone stored a numpy number, such as the best accuracy; it is plain data."""
    scalar: Any = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"}
    old_and_new = [(scalar, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")]
    return [*old_and_new, np.dtype, *kinds, codecs.encode]


def _diagnosis(path: Path, what: str, error: Exception, fix: str) -> InputError:
    """Why torch could not read a file that can be opened."""
    import torch

    size = path.stat().st_size
    damaged = InputError(f"{what} '{path}' ({size:,} bytes) is truncated or not a checkpoint; {fix}")
    memory = Stopped(
        f"{what} '{path}' ({size:,} bytes) does not fit into memory; the file is as it was: free memory and run the same command again"
    )
    forbidden = re.findall(r"GLOBAL ([\w.]+)", str(error))
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    return damaged
            with torch.serialization.safe_globals(_numpy_numbers()):
                forbidden = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path)) or forbidden
        elif not forbidden and not (isinstance(error, MemoryError) or NO_MEMORY.search(str(error))):
            return damaged
    except OSError as unread:
        return unreadable(what, path, unread)
    except MemoryError:
        return memory
    except Exception:  # whatever a damaged archive leads zipfile and torch to
        return damaged
    if forbidden:
        return InputError(
            f"{what} '{path}' is whole but holds {shown(', '.join(forbidden))}, which is not read because loading it could run code; "
            "where it was made, save its weights alone: torch.save(checkpoint['state_dict'], FILE)"
        )
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        return memory
    reason = shown(str(error).strip().partition("\n")[0])
    return InputError(
        f"{what} '{path}' is whole, but PyTorch {torch.__version__} does not read it ({reason}); name another file"
    )


def weights_in(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """The state dicts of all supernets in a supernet.pt, in the order of their seeds."""
    return [checkpoint["model"], *checkpoint.get("more", ())]
