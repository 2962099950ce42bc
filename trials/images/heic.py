"""HEIC, the photographs of many telephones, where the optional package pillow-heif is installed: the extra `heic`."""

from __future__ import annotations

import importlib.util

SUFFIXES = (".heic", ".heif", ".hif")
READS_HEIC = importlib.util.find_spec("pillow_heif") is not None


def teach_pillow() -> None:
    """Let Pillow open HEIC files, if pillow-heif is there. They come turned as their container says, with no orientation left."""
    if READS_HEIC:
        import pillow_heif

        pillow_heif.register_heif_opener()
