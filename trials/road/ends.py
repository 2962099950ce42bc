"""Where a road ends before its end: a gate says that the steps to come would be meaningless."""

from __future__ import annotations

import shlex
import statistics
from pathlib import Path
from typing import Any

from spaces.errors import Stopped
from spaces.files import read_jsonl
from trials.common import run_dir, run_files, typed
from trials.evidence import gates
from trials.road.steps import learns

# what a step warns of that makes those after it meaningless, and why
ENDS = {
    "supernet": (gates.NOTHING, "a search of this supernet would choose by luck"),
    "search": (gates.EQUAL_SCORES, "nothing was chosen, and training it would prove nothing"),
}
LEARNED = "the architecture that it learned was found by luck"  # in the place of a search


def stop_at_gate(step: str, config: Any) -> None:
    """End where a gate says that the steps to come would be meaningless.

    Raises:
        Stopped: with the command that does better.
    """
    gate, why = ENDS.get(step, ("", ""))
    why = LEARNED if step == "supernet" and learns(config) else why
    run = Path(config.out)
    found = [entry for entry in gates.warnings_from(run, step) if entry["gate"] == gate] if gate else []
    if not found:
        return
    # the step alone with what the gate changes: as options of trials.run these would be those of the networks, too
    first = found[0]["command"]
    words = shlex.split(first)
    out = words[words.index("--out") + 1] if "--out" in words else typed.free_name(run)
    again = typed.changed(str(typed.line("trials.run")), {"--out": out})
    raise Stopped(
        f"{step} of '{run}': {found[0]['text']}; {why}; train for longer{road_time(run, words)}: {first} && {again}"
    )


def road_time(run: Path, words: list[str]) -> str:
    """About how many hours a supernet takes with the --epochs of a command, by those of this run; "" where that is not known."""
    log = run / "log.jsonl"
    lines = [line for line in read_jsonl(log) if line.get("images_per_second")] if log.exists() else []
    if not lines or "--epochs" not in words:
        return ""
    config = run_files.read(run / "config.json", "run configuration")["config"]
    speed = statistics.median(line["images_per_second"] for line in lines)
    images = lines[-1]["step"] / lines[-1]["epoch"] * config["batch_size"]  # of an epoch
    epochs = int(words[words.index("--epochs") + 1]) * run_dir.supernets_of(config)
    return f" (about {epochs * images / speed / 3600:.2f} hours)"
