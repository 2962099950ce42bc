"""trials.evaluate as a trial of a test: it sleeps, crashes and keeps a record where the test says so.

    python -m tests.watched_trial '{"sleep": 2, "before": [1], "after": [2]}' trials.evaluate --run RUN ...

sleep: at most so many seconds, after the score. before, after: numbers of the trials that die before or after they
have asked for their architecture. Each score that is computed, and each architecture that a trial got, becomes a line.
"""

import json
import os
import random
import runpy
import sys
import time

if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    number = int(os.environ["NNI_TRIAL_SEQ_ID"])
    if number in plan.get("before", []):
        sys.exit("error: died before it asked")

    import nni

    given = nni.get_next_parameter()
    if number in plan.get("after", []):
        sys.exit("error: died after it asked")
    nni.get_next_parameter = lambda: given

    from spaces.arch import arch_id
    from spaces.files import append_json
    from trials.scoring.scorer import Scorer

    run = sys.argv[sys.argv.index("--run") + 1]
    append_json(f"{run}/record.jsonl", {"trial": os.environ["NNI_TRIAL_JOB_ID"], "arch": given})
    score = Scorer.score

    def counted(self, archs, *more):
        results = score(self, archs, *more)
        for arch in archs:
            append_json(f"{run}/computed.jsonl", arch_id(arch))
        return results

    Scorer.score = counted
    time.sleep(random.random() * plan.get("sleep", 0))
    sys.argv = [*sys.argv[2:], *([] if plan.get("warm") else ["--no-warm"])]  # what is counted here is computed here
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
