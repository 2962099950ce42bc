"""What each kind of file of a run must hold.

Keys that an older version did not write are optional; keys that are not named here may hold anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import schema

LARGEST = 1e18  # no count or figure of a run is larger


def _number(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST and math.isfinite(value)
    )


def _percent(value: object) -> bool:
    return _number(value) and 0 <= value <= 100.001  # type: ignore[operator]


def _count(value: object) -> bool:
    return _number(value) and isinstance(value, int) and value >= 0


def _some(value: object) -> bool:
    return _count(value) and value != 0


def _arch(value: object) -> bool:
    """An architecture: label -> a name or a number; whether it fits a space is checked where that is known."""
    return isinstance(value, dict) and bool(value) and all(isinstance(c, str) or _number(c) for c in value.values())


@cache
def schemas() -> Mapping[str, schema.Schema]:
    """Kind of file -> what it must hold."""
    And, Or = cast(Any, schema.And), cast(Any, schema.Or)  # they take more than their types say
    Optional = schema.Optional
    interval: Any = And([_number], lambda bounds: len(bounds) == 2)
    maybe = Or(None, _number)
    seconds = {Optional(str): _number}
    history = {"id": str, Optional("generation"): Or(None, int)}
    history |= {Optional("failures"): _count, Optional("latency_ms"): _number}
    limits = {Optional(str): Or(None, _number, str)}
    options: dict[Any, Any] = {
        Optional("data"): Or(None, str),
        Optional("space"): Or(None, str),
        Optional("data_root"): Or(None, str),
        Optional("space_options"): Or(None, str),
        Optional("preset"): Or(None, str),
        Optional("baseline"): Or(None, str),
        Optional("latency_table"): Or(None, str),
        Optional("score_fraction"): maybe,
        Optional("test_fraction"): maybe,
        Optional("seed"): Or(None, int),
        Optional("seeds"): Or(None, _some),
        Optional("epochs"): Or(None, _count),
        Optional("batch_size"): Or(None, _some),
    }
    node = {
        "id": str,
        "arch": _arch,
        "macs": _count,
        "params": _count,
        "run": str,
        "test_top1": [_percent],
        "correct": [_count],
        "mean": _percent,
        "interval": interval,
        Optional("score"): maybe,
        Optional("latency_ms"): maybe,
    }
    figure: Any = Or(None, {"tau": _number, "interval": interval, Optional("needed"): Or(None, _count)})
    ranking: dict[Any, Any] = {"n": _count, **{Optional(name): figure for name in ("score", "macs", "params", "seeds")}}
    ranking |= {
        Optional("score_minus_macs"): Or(None, {"difference": _number, "interval": interval}),
        Optional("given_up"): maybe,
    }
    noise: dict[Any, Any] = {Optional(name): maybe for name in ("seeds_sd", "score_sd", "test_sd")}
    noise |= {Optional(name): Or(None, {Optional(str): Or(None, _count)}) for name in ("seeds_needed", "images_needed")}
    accuracy = {"top1": _percent, "interval": interval}
    three: Any = And([_number], lambda values: len(values) == 3)  # one for each colour
    preprocessing = {
        "resolution": _some,
        "classes": [str],
        "mean": three,
        "std": three,
        Optional("channels"): Or("RGB", "BGR"),
    }
    start = {"kind": Or("pretrained", "supernet"), "file": str, "hash": str, Optional("loaded"): str}
    preprocessing |= {Optional("range"): _number, Optional("resize"): str, Optional("short_side"): Or(None, _some)}
    preprocessing |= {Optional("fit"): Or("crop", "squash", "pad"), Optional("border"): three}
    longer = {"epochs": _some, "random": _count, "instead_of": _some, "found": str}
    kinds: dict[str, Any] = {
        "run configuration": {
            "command": str,
            "config": _part(options),
            Optional("typed"): Or(None, str),
            Optional("versions"): {Optional(str): str},
            Optional("gpus"): [str],
            Optional("threads"): Or(None, _some),
            Optional("commit"): str,
        },
        "score": {
            "arch": _arch,
            "top1": _percent,
            "top5": _percent,
            "top1_before_recalibration": _percent,
            "macs": _count,
            "params": _count,
            Optional("supernet"): str,
            Optional("settings"): {Optional(str): object},
            Optional("calibration_images"): _count,
            Optional("loss"): maybe,
            Optional("scoring_images"): Or(None, _count),
            Optional("right"): Or(None, str),
            Optional("supernets"): [{"top1": _percent, "loss": _number}],
            Optional("seconds"): _number,
            Optional("finished"): _number,
        },
        "search summary": {
            "history": [_part(history)],
            "limits": limits,
            Optional("experiment"): str,
            Optional("score_by"): Or("top1", "loss"),
            "share_of_space": _number,
            Optional("trials"): {Optional(str): _count},
            Optional("failed"): [str],
            Optional("frontier"): [str],
        },
        "record of the search": {
            "id": str,
            "folder": str,
            "in_process": bool,
            "tuner": _part({Optional("classArgs"): Or(None, dict)}),
            "trialCommand": str,
        },
        "options of --top": {"config": dict},
        "choice of retrain --top": {
            "chosen": str,
            "search_best": Or(None, str),
            "seeds": _some,
            Optional("epochs"): _some,
            Optional("top"): _count,
            Optional("top_random"): _count,
            "candidates": [
                _part(
                    {
                        **{"id": str, "arch": _arch, "run": str, "score": maybe, Optional("source"): str},
                        **{"mean": _percent, "interval": interval, "correct": [_count], "images": _some},
                    }
                )
            ],
        },
        "result": {
            "test_top1": [_percent],
            "mean": _percent,
            "std": maybe,
            "macs": Or(None, _count),
            "params": Or(None, _count),
            Optional("arch"): Or(None, _arch),
            Optional("baseline"): Or(None, str),
            Optional("test_images"): _some,
            Optional("test_correct"): [_count],
            Optional("seconds"): [_number],
            Optional("start"): _part(start),
            Optional("balanced"): _part({"accuracy": _percent, "interval": interval}),
            Optional("classes"): [_part({"name": str, "images": _some, "accuracy": _percent, "interval": interval})],
        },
        "result of a seed": Or(
            _part({"val_correct": _count, "val_images": _some, "seconds": _number}),
            _part(
                {
                    "test_top1": _percent,
                    Optional("test_images"): _some,
                    Optional("test_correct"): _count,
                    Optional("seconds"): _number,
                }
            ),
        ),
        "learned architecture": {"arch": _arch, Optional("max_macs"): Or(None, _number), Optional("entropy"): maybe},
        "floor": {**accuracy, "name": str, "fingerprint": int, Optional("test_images"): _some},
        "record of a road": _part(
            {
                **{"images": str, "max_macs": str, "steps": {Optional(str): dict}, Optional("taken"): seconds},
                **{Optional("typed"): str, Optional("out"): str},
                Optional("began"): {"step": str, "at": _number},
                Optional("minutes"): _part(
                    {
                        **{"given": _number, "timing": _number, "seconds": seconds, "options": {Optional(str): dict}},
                        Optional("longer"): Or({}, longer),
                        Optional("work"): {str: _count},
                        Optional("usual"): {str: _count},
                        **{Optional("start"): _number, Optional("jobs"): _some},
                    }
                ),
            }
        ),
        "warnings": [_part({"from": str, "gate": str, "text": str, "command": str})],
        "export": {
            "formats": [
                _part(
                    {
                        "format": str,
                        "files": [str],
                        "bytes": _count,
                        "largest_difference": maybe,
                        "same_percent": maybe,
                        "correct": Or(None, _count),
                        "images": _some,
                        "problem": str,
                        Optional("network"): str,
                        Optional("told"): str,
                    }
                )
            ],
            "network": _part({"correct": _count, "images": _some}),
            "rounding": _number,
            "int8_drop": _number,
            Optional("seconds"): _number,
            Optional("preprocessing"): dict,
        },
        "trade-off": {
            "networks": [
                _part(
                    {
                        **{"id": str, "run": str, "arch": _arch, "macs": _count, "params": _count, "mean": _percent},
                        **{
                            "interval": interval,
                            "test_top1": [_percent],
                            "test_correct": [_count],
                            "test_images": _some,
                        },
                        **{"latency_ms": _number, "spread_ms": _number, "files": str},
                        **dict.fromkeys(("like_the_best", "best", "winner"), bool),
                        **{Optional("point"): str, Optional("search"): str, Optional("among"): _count},
                        **{Optional("searched"): bool, Optional("score"): maybe, Optional("below_floor"): bool},
                    }
                )
            ],
            "latency": str,
            "exported_seed": _count,
            Optional("latency_limit"): Or(None, str),
            Optional("search"): str,
            Optional("floor"): _part({**accuracy, "name": str}),
            Optional("reach"): str,
        },
        "comparison": {
            "rows": [_part({Optional("latency_ms"): maybe, Optional("spread_ms"): maybe})],
            Optional("latency"): Or(None, str),
            Optional("runtime"): str,
        },
        "certificate": {
            "verdict": _part(
                {"code": str, "sentence": str, "next": str, "why": str, Optional(Or("first", "cheaper")): str}
            ),
            "winner": _part(node),
            "cheapest": Or(None, _part(node)),
            Optional("cheaper"): Or(None, _part({"id": str, "run": str, "sentence": str})),
            "random": [_part(node)],
            "comparison": _part(
                {"difference": _number, "interval": interval, "beaten": _count, "of": _count, Optional("blind"): maybe}
            ),
            "ranking": _part(ranking),
            "noise": _part(noise),
            "seeds": _some,
            "test_images": _some,
            Optional("choice"): _part({"by": str, "sentence": str, Optional("candidate_epochs"): _count}),
            Optional("latency"): Or(None, str),
            Optional("images"): [str],
            Optional("rivals"): [_part({"network": str, "start": str, "accuracy": str, "run": str})],
        },
        "fixed arc": _arch,
        "initial weights": start,
        "notes of loggers": {Optional(str): {"id": str, "step": _count}},
        "network": {  # network.pt of a retraining, beside its weights
            "model": object,
            **{
                Optional("arch"): Or(None, _arch),
                Optional("space"): Or(None, dict),
                Optional("baseline"): Or(None, str),
            },
            **{Optional("classes"): _some, Optional("seed"): int, Optional("preprocessing"): _part(preprocessing)},
            Optional("start"): _part(start),
        },
    }
    return {kind: _part(form) if isinstance(form, dict) else schema.Schema(form) for kind, form in kinds.items()}


def _part(form: Any) -> schema.Schema:
    """A mapping with more keys than these."""
    return schema.Schema(form, ignore_extra_keys=True)
