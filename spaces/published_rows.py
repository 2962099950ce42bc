"""Published networks as rows of a table, and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import spaces
from spaces.cost import CostTable
from spaces.published import PUBLISHED, Published
from spaces.spec import space_options_text


def listed(published: Mapping[str, Mapping[str, Published]]) -> list[dict[str, Any]]:
    """Published networks for --json."""
    keys = ("preset", "options", "macs", "params", "top1", "source")
    return [
        {"name": name, "space": space, **{key: getattr(entry, key) for key in keys}}
        for space, networks in published.items()
        for name, entry in networks.items()
    ]


def top1_text(entry: Published) -> str:
    """The published accuracy, marked where the function that had it is not ours."""
    return f"{entry.top1:.2f}" + "*" * bool(entry.counts_only)


def published_rows(space: str, preset: str, table: CostTable | None) -> list[tuple[Any, ...]]:
    """List the published networks of a preset, or of a preset with the same macro table under another name.

    Args:
        table: a table that counts in another way; then only the networks of its variant are listed, with its counts.
    """
    rows = []
    for key, entry in PUBLISHED.get(space, {}).items():
        if spaces.same_preset(space, entry.preset, preset) and (
            table is None or entry.options == table.space["options"]
        ):
            count = table.macs(entry.arch) if table else entry.macs
            rows.append((key, space_options_text(entry.options), count, entry.params, top1_text(entry), entry.source))
    return rows
