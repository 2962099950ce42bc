"""trials.evaluate as a trial of a test: it sleeps, crashes and keeps a record where the test says so.

    python -m tests.watched_trial '{"sleep": 2, "before": [1], "after": [2]}' trials.evaluate --run RUN ...

What it computes, a child of the fork server computes for it, which has imported the libraries; the child dies with it.

sleep: at most so many seconds, after the score. before, after: numbers of the trials that die before or after they
have asked for their architecture. Each score that is computed, and each architecture that a trial got, becomes a line.
"""

import json
import os
import random
import signal
import sys
import threading
import time

from tests import fork_server
from tests.commands import Command


def fork() -> int:
    """Run `trial` in a child of the fork server, which dies with this process. Returns its exit code."""
    watched, held = os.pipe()
    main = "from tests import watched_trial; watched_trial.trial()"
    child = Command("-c", main, *sys.argv[1:], files=(watched, 1, 2), forget=["nni"])
    os.close(watched)
    code = child.wait(1e6)
    os.close(held)
    return code if code >= 0 else 1


def die_with_parent() -> None:
    """Standard input ends when the process that asked for this one has ended."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def trial() -> None:
    threading.Thread(target=die_with_parent, daemon=True).start()
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
            append_json(f"{run}/computed.jsonl", {"id": arch_id(arch)})
        return results

    Scorer.score = counted  # type: ignore[method-assign]
    time.sleep(random.random() * plan.get("sleep", 0))
    warm = [] if plan.get("warm") else ["--no-warm"]  # what is counted here is computed here
    fork_server.run(sys.argv[2], [*sys.argv[3:], *warm])


if __name__ == "__main__":
    sys.exit(fork())
