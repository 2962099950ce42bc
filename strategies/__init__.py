"""HOW a supernet is trained (sampling, differentiable search) and searched (tuners).

Importing this package does not import torch, because NNI kills a tuner that has not started after 10 s. NNI appends the
clone to `sys.path`, so an installed package called `spaces` would silently be used instead of ours. The check below
turns that into an error.
"""

from pathlib import Path

import spaces

_CLONE = Path(__file__).resolve().parent.parent
if Path(spaces.__file__).resolve().parent.parent != _CLONE:
    raise ImportError(
        f"'spaces' was imported from {Path(spaces.__file__).parent}, not from {_CLONE}; "
        "uninstall the package of that name, or run from the root of the Onepath clone"
    )
