"""A search without NNI's manager: the same tuner and the same scores, in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from spaces.arch import arch_id
from spaces.errors import InputError, Stopped
from trials.scoring.score_value import score_value
from trials.scoring.scorer import Progress, Scorer, no_progress
from trials.search_driver.experiment_yaml import seconds_of
from trials.search_driver.plan import Plan


def search_in_process(
    plan: Plan,
    on_score: Callable[[dict[str, Any]], None],
    on_progress: Progress = no_progress,
) -> list[dict[str, Any]]:
    """Ask the tuner for whole generations, score them and tell it, until enough architectures have a score.

    The order is NNI's at trialConcurrency 1, so the same seed gives the same architectures and scores. The tuner's journal
    and the stored scores make the search resumable at any point.

    Args:
        on_score: is told each stored score.
        on_progress: called while candidates are scored together, see `scorer.Progress`.
    Returns:
        One {"status": ...} per trial.
    Raises:
        Stopped: architectures fail one after another.
    """
    import nni

    tuner = plan.tuner
    assert tuner is not None  # trials.search refuses the other tuners, which only NNI itself can run
    evaluate = plan.evaluate
    scorer = Scorer(plan.run, plan.settings, evaluate.device, reference=evaluate.reference, **evaluate.means())
    tuner.update_search_space({label: {"_value": values} for label, values in plan.table.choices.items()})
    jobs = [{"status": "SUCCEEDED"} for entry in tuner.state.entries.values() if entry["score"] is not None]
    parameter_id, done, reason = len(tuner.state.entries), len(jobs), ""
    longest = seconds_of(plan.yaml, "maxExperimentDuration", plan.content.get("maxExperimentDuration"))
    end = time.monotonic() + longest if longest else math.inf
    while done < plan.wanted and time.monotonic() < end:
        # ask for as many architectures as do not depend on a score that is still missing
        generation = []
        for _ in range(min(max(tuner.remaining_before_next_result(), 1), plan.wanted - done)):
            try:
                generation.append((parameter_id, tuner.generate_parameters(parameter_id)))
            except nni.NoMoreTrialError:
                break
            except InputError as error:
                raise Stopped(f"{error}: {reason}" if reason else str(error)) from None
            parameter_id += 1
        if not generation:
            break

        # score them together, and tell the tuner
        parameter_ids = {arch_id(arch): number for number, arch in generation}
        for arch, result in scorer.results([arch for _, arch in generation], on_progress):
            number = parameter_ids[arch_id(arch)]
            if isinstance(result, Exception):  # memory or the disk ran out, for example
                reason = f"{type(result).__name__}: {str(result).splitlines()[0] if str(result) else ''}"
                jobs.append({"status": "FAILED"})
                tuner.trial_end(number, False)
                continue
            tuner.receive_trial_result(number, arch, {"default": score_value(result, plan.evaluate.score_by)})
            jobs.append({"status": "SUCCEEDED"})
            done += 1
            on_score(result)
            if time.monotonic() >= end:  # --resume hands out the rest
                break
    return jobs
