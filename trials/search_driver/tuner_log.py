"""The log of NNI's tuner process, which is the only place where NNI says that a tuner has raised."""

from __future__ import annotations

from pathlib import Path


class TunerLog:
    """dispatcher.log of an experiment, searched for tracebacks from the start of this process on."""

    def __init__(self, path: Path, start: int) -> None:
        """Read `path` from byte `start` on; what stands before is of an earlier start of the experiment."""
        self.path, self.start = path, start

    def error(self) -> str:
        """The last line of the first traceback since the start; empty: there is none.

        A connection that NNI tries again has a traceback too, after a line with "Retry in": that is no failure.
        """
        if not self.path.exists():
            return ""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            text = file.read()
        complete = text[: text.rfind(b"\n") + 1]
        lines = complete.decode(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if not line.startswith("Traceback") or (number and "Retry in" in lines[number - 1]):
                continue
            for last in lines[number + 1 :]:
                if last and not last[0].isspace():
                    return last.removeprefix("spaces.errors.InputError: ")
            return ""  # the rest of the traceback is still to come
        self.start += len(complete)
        return ""
