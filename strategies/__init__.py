"""HOW a supernet is trained (sampling) and searched (tuners). Light at import: no torch, NNI allows a tuner 10 s.

NNI appends the clone to `sys.path`, so an installed package called `spaces` would win in silence; this says so instead.
"""

from pathlib import Path

import spaces

_CLONE = Path(__file__).resolve().parent.parent
if Path(spaces.__file__).resolve().parent.parent != _CLONE:
    raise ImportError(
        f"'spaces' was imported from {Path(spaces.__file__).parent}, not from {_CLONE}; "
        "uninstall the package of that name, or run from the root of the Onepath clone"
    )
