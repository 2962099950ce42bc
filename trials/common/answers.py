"""--json: what a command found as one JSON object on its output, and all that it prints beside on its errors.

`ANSWERS` names the keys of every command; docs/json.md is written from it, and `answer` refuses others.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import MutableSequence
from typing import Any

FLAG = "--json"
HELP = {"-h", "--help", "--help-all"}
NEXT = "the command that comes next; null where none does"
WARNINGS = "what makes the result doubtful, as in warnings.json: from, gate, text, command, run"
ESTIMATE = "with --dry-run the rows of its table, name -> text; null without it"
ERROR = {
    "command": "the command",
    "error": "what is wrong, in one line, as on stderr",
    "exit_code": "that of [exit_codes.md](exit_codes.md)",
}
ANSWERS: dict[str, dict[str, str]] = {
    "agree": {
        "run": "run of the supernet",
        "supernets": "how many it has",
        "band": "costs that the architectures are drawn from: cost (macs, latency_ms), low, high",
        "architectures": "random architectures that each has scored",
        "agreement": "top1 and loss -> Kendall's tau of one supernet's scores with another's, the mean over pairs: tau, low, high, n, needed",
        "most": "the largest tau of the mean score with the accuracy after retraining that the upper end of the interval of top1 allows",
        "verdict": "in a sentence",
        "next": NEXT,
    },
    "certify": {
        "run": "run of the supernet",
        "certificate": "certificate.json, all of it: verdict, winner, cheapest, cheaper, random, ranking, noise; null with --dry-run",
        "estimate": ESTIMATE,
        "report": "the HTML file; null with --dry-run",
        "next": NEXT,
    },
    "data": {
        "folder": "the folder",
        "layout": "what holds the images: a folder for each class, train/ and val/, ImageNet's",
        "files": "files that were looked at",
        "parts": "part (train, score, test) -> images",
        "classes": "class -> images of all parts",
        "formats": "format of files -> images",
        "transparent": "images with pixels that are not opaque",
        "background": "what these are laid on; drop: their transparency is dropped",
        "fit": "how an image that is not square becomes square: crop, squash, pad",
        "cut": "images that lose more than a fifth of their area in a central crop",
        "blank": "class -> images that are one single colour; classes without any are left out",
        "near_copies": "test images nearly equal to a training image: near, other_class (of these, to one of another class), test and "
        "training (compared), of_test and of_training (all), example (two paths, or null), group_by (a --group-by that was found to keep "
        "them in one part, or null); null with shrink",
        "groups": "groups of --group-by, pictures by themselves among them; null without it, and with shrink",
        "unusual": "images that are used and odd: [path, why]",
        "left_out": "files that cannot be used: [path, why]; the exit code is 1 where there are some",
        "left_out_as_asked": "files that --blank leave-out leaves out: [path, why]; null with shrink",
        "not_read": "files that are no images: [path, why]",
        "picture": "the picture sheet; null where none was drawn, and with shrink",
        "resolution": "height and width in pixels at which it shows images, those of the command that comes next; null with shrink",
        "shrink": "the command that makes a copy with smaller images; null where it is not worth it, and with shrink",
        "copy": "with shrink, the folder with the smaller images; null with check",
        "shrunk": "with shrink, images that are smaller now; null with check",
        "equal_copies": "with shrink, copies that are equal to others although their originals differ; null with check",
        "next": NEXT,
    },
    "evaluate": {
        "arch": "the architecture; null with --self-check",
        "default": "the score that a search would maximise; null with --self-check",
        "top1": "in percent, of the scoring images",
        "top5": "in percent; null for five classes and fewer",
        "loss": "cross-entropy; null where it was not measured",
        "top1_before_recalibration": "in percent, of the first batch; null for an architecture beyond a limit",
        "scoring_images": "number of images that gave the score; null where they are not known",
        "macs": "multiply-adds for an image",
        "params": "weights",
        "self_check": "with --self-check the rows of its table, name -> text; null without it",
    },
    "export": {
        "folder": "where the files are",
        "files": "the files that agree with the network",
        "layout": "the folder that timm loads; null without --layout",
        "card": "the model card",
        "checks": "export.json, all of it: how each format was checked",
        "next": NEXT,
    },
    "latency": {
        "table": "the table that was written or compared; null with --template and --kit",
        "template": "the form that was written; null without --template",
        "kit": "the folder that was written; null without --kit",
        "fastest_ms": "milliseconds of the fastest architecture by the table; null with --template and --table",
        "slowest_ms": "milliseconds of the slowest; null likewise",
        "check": "how the table stands beside whole networks, as in its file; null where it was not checked",
        "verdict": "whether the table can rank; null where it was not checked",
        "compared": "with --table the rows of its table, name -> text; null without it",
        "next": NEXT,
    },
    "report": {
        "run": "the run",
        "report": "the HTML file",
        "summary": "the rows of the table, name -> text; rows named `or` are in `more`",
        "more": "further commands that the report advises",
    },
    "retrain": {
        "run": "the run; null with --dry-run",
        "result": "result.json, all of it: architecture, test_top1 of each seed, mean, interval; null with --dry-run",
        "tradeoff": "with --frontier tradeoff.json, all of it, in place of result; null without it",
        "floor": "what a random forest on small pixels gets, as in floor.json; null with --dry-run",
        "warnings": WARNINGS,
        "estimate": ESTIMATE,
        "next": NEXT,
    },
    "run": {
        "run": "the run",
        "steps": "the commands of the road, each with `command` and `did`: ran, was complete, or left out; would run with --dry-run",
        "verdict": "of the certificate: code, first, sentence, cheaper, next, why; null with --dry-run, and where --minutes went into a longer "
        "training of the winner",
        "report": "the HTML file; null with --dry-run",
        "next": NEXT,
    },
    "search": {
        "run": "run of the supernet",
        "wanted": "architectures that shall get a score",
        "share_of_space": "part of the space within the limits, 0 to 1",
        "arc": "the file of the winner, for --fixed-arc; null with --check, as is all below",
        "id": "id of the winner",
        "arch": "the winner",
        "macs": "its multiply-adds for an image",
        "params": "its weights",
        "latency_ms": "its milliseconds by the latency table; null without one",
        "score": "its score",
        "trials": "status -> trials",
        "frontier": "the files of the best architecture of each cost",
        "warnings": WARNINGS,
        "report": "the HTML file",
        "next": NEXT,
    },
    "space": {
        "space": "with a space: name, preset, options, resolution, classes, blocks, choices, architectures; null without",
        "counted": "what `bounds` counts",
        "bounds": "min_macs, max_macs, min_params, max_params of the space; null without a space",
        "within": "with limits: share (0 to 1), min_macs and max_macs that are left; null without",
        "published": "published networks: name, space, preset, options, macs, params, top1, source",
        "spaces": "with --list: name, preset, options, resolution, blocks, architectures and bounds of all; null without",
        "reach": "with --for: space, preset, options, min_macs, max_macs, share, nearest, best; null without",
        "rivals": "with --rivals: baseline, macs and params of networks of timm; null without",
        "files": "files that were written with --out",
    },
    "status": {
        "run": "the run",
        "images": "the folder of images, or the data set; null where trials.run did not begin it",
        "running": "whether a process works on it",
        "steps": "each step of the road: step, state (complete, going on, begun, to come, left out), what (is done, in words), seconds (that it "
        "took, or null) and planned (seconds, or null)",
        "minutes": "of --minutes; null without them",
        "gone": "minutes of these that are gone; null likewise",
        "next": "the command that comes next; null while a process works on the run, and where none does",
    },
    "supernet": {
        "run": "the run; null with --dry-run",
        "supernet": "the weights; null where none were trained to the end (--stop-after, --dry-run, --epochs 0)",
        "learned": "learned_arc.json of a differentiable strategy; null for others",
        "warnings": WARNINGS,
        "estimate": ESTIMATE,
        "next": NEXT,
    },
}


class Answered(SystemExit):
    """Ends a command that has an answer with another exit code than 0."""

    def __init__(self, code: int, answer: dict[str, Any]) -> None:
        super().__init__(code)
        self.answer = answer


def answer(command: str, **values: Any) -> dict[str, Any]:
    """What a command found, with all keys of ANSWERS; those that are not given are None, which is null in JSON."""
    keys = ANSWERS[command]
    assert set(values) <= set(keys), set(values) - set(keys)
    return {"command": command, **dict.fromkeys(keys), **values}


class Output:
    """The output of a command. With --json it is kept for the one object, and all that is printed goes to the errors.

    Args:
        words: of the command line; --json is taken out.
    """

    def __init__(self, words: MutableSequence[str]) -> None:
        self.kept: int | None = None
        self.command = words[0].rpartition("/")[2].removesuffix(".py").rpartition(" ")[2]
        if FLAG not in words or HELP & set(words):
            return
        while FLAG in words:
            words.remove(FLAG)
        try:
            sys.stdout.flush()
            self.kept = os.dup(1)
            os.dup2(2, 1)  # what this process starts, and what libraries print, goes to the errors too
        except OSError:  # the output or the errors are closed (>&-)
            self.kept = self.kept or os.open(os.devnull, os.O_WRONLY)

    def write(self, answer: dict[str, Any] | None, error: str, code: int) -> None:
        """Write the object: the answer, or the error where there is none.

        Raises:
            OSError: it cannot be written.
        """
        if self.kept is None or int(os.environ.get("RANK", 0)):
            return
        if answer is None:
            answer = {"command": self.command, "error": error or f"ended with exit code {code}", "exit_code": code}
        with open(self.kept, "w", encoding="utf-8") as file:
            file.write(as_json(answer) + "\n")
        self.kept = None


def as_json(answer: dict[str, Any]) -> str:
    """JSON that every reader takes: numbers that are none (NaN, infinite) are null."""
    plain = json.loads(json.dumps(answer, default=str), parse_constant=lambda _: None)
    return json.dumps(plain, ensure_ascii=True, allow_nan=False)
