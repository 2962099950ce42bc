"""HEIC, the photographs of many telephones, where the optional package pillow-heif is installed: the extra `heic`.

And what else Pillow is told once for a whole process: not to warn.
"""

from __future__ import annotations

import importlib.util
import warnings

SUFFIXES = (".heic", ".heif", ".hif")
READS_HEIC = importlib.util.find_spec("pillow_heif") is not None


def teach_pillow() -> None:
    """Let Pillow open HEIC files, if pillow-heif is there. They come turned as their container says, with no orientation left.

    And silence its warnings of large images and odd metadata: the look at the files says what matters. For the whole process,
    because warnings.catch_warnings is not safe in threads: their warnings would be printed, or those of others lost.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if READS_HEIC:
        import pillow_heif

        pillow_heif.register_heif_opener()
