"""A search without NNI's manager: the same tuner and scores, in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from spaces.arch import arch_id
from spaces.errors import InputError, Stopped
from trials.scoring.scorer import Scorer
from trials.search_driver.plan import Plan


def search(
    plan: Plan,
    scored: Callable[[dict[str, Any]], None],
    tick: Callable[[int, float], None] = lambda group, share: None,
) -> list[dict[str, Any]]:
    """Ask the tuner for whole generations, score them, tell it; until enough architectures have a score.

    The order is NNI's at trialConcurrency 1, so the same seed gives the same architectures and scores. The tuner's journal
    and the stored scores make it resumable at any point.

    Args:
        scored: is told each score.
        tick: is told, while candidates are scored together, how many they are and what part of it is done.
    Returns:
        One {"status": ...} per trial.
    Raises:
        Stopped: architectures fail one after another.
    """
    import nni
    from nni.experiment.config.utils import parse_time

    tuner = plan.tuner
    scorer = Scorer(plan.run, plan.settings, plan.evaluate.device, reference=plan.evaluate.reference)
    tuner.update_search_space({label: {"_value": values} for label, values in plan.table.choices.items()})
    jobs = [{"status": "SUCCEEDED"} for entry in tuner.asked.values() if entry["score"] is not None]
    number, done, reason = len(tuner.asked), len(jobs), ""
    longest = plan.content.get("maxExperimentDuration")
    end = time.monotonic() + parse_time(longest) if longest else math.inf
    while done < plan.wanted and time.monotonic() < end:
        generation = []
        for _ in range(min(max(tuner.remaining_before_next_result(), 1), plan.wanted - done)):
            try:
                generation.append((number, tuner.generate_parameters(number)))
            except nni.NoMoreTrialError:
                break
            except InputError as error:
                raise Stopped(f"{error}: {reason}" if reason else str(error)) from None
            number += 1
        if not generation:
            break
        identities = {arch_id(arch): identity for identity, arch in generation}
        for arch, result in scorer.results([arch for _, arch in generation], tick):
            identity = identities[arch_id(arch)]
            if isinstance(result, Exception):  # out of memory, or the disk
                reason = f"{type(result).__name__}: {str(result).splitlines()[0] if str(result) else ''}"
                jobs.append({"status": "FAILED"})
                tuner.trial_end(identity, False)
                continue
            tuner.receive_trial_result(identity, arch, {"default": result["top1"]})
            jobs.append({"status": "SUCCEEDED"})
            done += 1
            scored(result)
            if time.monotonic() >= end:  # --resume hands out the rest
                break
    return jobs
