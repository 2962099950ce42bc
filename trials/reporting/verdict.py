"""The four answers on top of a report, in plain words: what was found, is it better than chance, can it be trusted, what next.

They are read by somebody who knows PyTorch and not architecture search. The terminal and the page say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spaces.arch import arch_id
from trials.common import typed
from trials.evidence.comparison import as_sentence, verdict_text
from trials.evidence.floor import balanced_text, floor_text
from trials.evidence.learned import is_below, not_above
from trials.reporting.baselines_table import latency_note
from trials.reporting.collect import RunContents
from trials.reporting.next_steps import Step, certify_step, next_steps

CHANCE = (
    "A search always finds something. Whether its choice was worth anything shows beside networks of the same cost that were "
    "drawn at random and trained in the same way."
)
FLOOR = (
    "The floor is what the same test images give without deep learning. A network near or below it has learned little."
)


@dataclass(frozen=True)
class Answer:
    """One of the four answers.

    Attributes:
        question: its heading.
        short: its name in the table of the terminal.
        headline: the answer in one sentence.
        state: good, bad, unclear or open, which decides its colour.
        facts: names and values.
        notes: sentences that explain it.
        steps: commands that belong to it.
    """

    question: str
    short: str
    headline: str
    state: str = "open"
    facts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


def answer_all(contents: RunContents) -> list[Answer]:
    """The four answers, in their order."""
    return [what_was_found(contents), better_than_chance(contents), can_be_trusted(contents), what_next(contents)]


def what_was_found(contents: RunContents) -> Answer:
    """The winner with its costs and its accuracy, as far as they are known."""
    question, short, state = "What was found?", "found", "open"
    if not contents.winner:
        text = f"Nothing yet: the supernet is trained and holds {count(contents.table.architectures())} architectures, but was not searched."
        return Answer(question, short, text)
    table, winner, retrained = contents.table, contents.winner, contents.retrained
    macs, params = table.macs(winner), table.params(winner)
    facts = [("Architecture", arch_id(winner)), ("MACs for one image", f"{macs:,}"), ("Parameters", f"{params:,}")]
    latency = latency_of(contents)
    if latency:
        facts.append(("Latency", latency))
    notes = ["MACs, multiply-adds, are the usual measure of what a network costs to run."]
    if retrained:
        facts.append(("Test accuracy", retrained.accuracy))
        correct = f"{retrained.interval}".split(" ")[0] if retrained.interval else f"{retrained.top1[0]:.2f}"
        text = f"A network that classifies {correct}% of the test images rightly, with {count(macs)} MACs and {count(params)} parameters."
        notes.append(
            "The brackets are a 95 % interval: the accuracy on endlessly many such images, over many seeds, probably lies in them."
        )
        if contents.floor and retrained.interval and is_below(retrained.interval, contents.floor):
            text, state = f"{text} That is below the floor: it is not trained enough.", "bad"
        elif contents.floor and retrained.interval and not_above(retrained.interval, contents.floor):
            text = f"{text} That is not above the floor of {contents.floor['top1']:.2f}%, which needs no deep learning."
            state = "unclear"
        if len(retrained.top1) == 1:
            notes.append("It was trained once: how much another seed would differ is not known.")
    else:
        by = "The search found" if contents.results else "Training learned" if contents.learned else "arc.json holds"
        facts.append(("Test accuracy", "not known yet, it is not retrained"))
        text = f"{by} an architecture with {count(macs)} MACs and {count(params)} parameters. It is not trained from scratch yet."
    if contents.floor:
        facts.append(("Floor beside it", floor_text(contents.floor).removeprefix("floor ")))
        notes.append(FLOOR)
        if balanced := balanced_text(contents.floor):
            notes.append(as_sentence(balanced))
    return Answer(question, short, text, state, facts=facts, notes=notes)


def better_than_chance(contents: RunContents) -> Answer:
    """What the certificate says, in its own sentence."""
    question, short = "Did the search beat a random choice?", "better than chance?"
    certificate, step = contents.certificate, certify_step(contents)
    if not contents.winner:
        return Answer(question, short, "Not known yet: nothing was searched.", notes=[CHANCE])
    if not certificate:
        return Answer(question, short, "Not known yet.", notes=[CHANCE], steps=[step])
    if not contents.certified:
        text = f"Not known yet: the certificate is of an earlier winner, {certificate['winner']['id']}."
        return Answer(question, short, text, notes=[CHANCE], steps=[step])
    verdict, comparison = certificate["verdict"], certificate["comparison"]
    state = {"better": "good", "worse": "bad"}.get(verdict["code"], "unclear")
    facts = [
        ("Difference of test accuracy", f"{with_interval(comparison, 'difference')} points"),
        ("Random architectures that it beats", f"{comparison['beaten']} of {comparison['of']}"),
    ]
    if comparison.get("blind") is not None:
        facts.append(("A network drawn blindly beats as many", f"in {100 * comparison['blind']:.0f} of 100 cases"))
    return Answer(
        question, short, as_sentence(verdict_text(verdict)), "bad" if verdict.get("first") else state, facts, [CHANCE]
    )


def can_be_trusted(contents: RunContents) -> Answer:
    """The warnings of the gates; `steps` holds each with what mends it."""
    question, short = "Can this be trusted?", "can this be trusted?"
    warnings = contents.warnings
    if not warnings and "typed" not in contents.stored:
        text = "Not known: the run was begun by an older version, which did not look for mistakes."
        return Answer(question, short, text)
    if not warnings:
        looked = "Looked at were what is done so far of: steps, batch, rate, loss, fixed paths, noise of scores, test part, floor."
        return Answer(question, short, "No warning.", "good", notes=[looked])
    text = f"With care: {len(warnings)} warning{'s' * (len(warnings) != 1)}."
    steps = [mending(entry) for entry in warnings]
    return Answer(question, short, text, "bad", steps=steps)


def mending(entry: Mapping[str, str]) -> Step:
    """A warning and the command that mends it; without the command while that would move a folder that is being trained."""
    why, command = f"{place(entry)}{entry['text']}", entry.get("command", "")
    if typed.moves_what_is_trained(command):
        return Step(f"{why}; it is being trained now, and what mends it is said when that has ended", "")
    return Step(why, command)


def what_next(contents: RunContents) -> Answer:
    """The commands that carry on from here; the headline speaks for the first of them."""
    question, short, steps = "What next?", "next", next_steps(contents)
    if not steps:
        return Answer(question, short, "Nothing is left to do: the network is trained, certified and exported.")
    return Answer(question, short, f"{steps[0].why}.", steps=[Step("", steps[0].command), *steps[1:]])


def place(entry: Mapping[str, Any]) -> str:
    """Which step of a run a warning is of, as the beginning of a sentence."""
    where = entry.get("run") or entry.get("from", "")
    return f"{where}: " if where else ""


def with_interval(figure: Mapping[str, Any], key: str) -> str:
    """A figure of the certificate with its interval, with signs: `+0.45 [-0.31, +1.20]`."""
    low, high = figure["interval"]
    return f"{figure[key]:+.2f} [{low:+.2f}, {high:+.2f}]"


def latency_of(contents: RunContents) -> str:
    """The winner's milliseconds: by the clock where they were measured beside a baseline, else by the latency table."""
    retrained = contents.retrained
    if retrained and retrained.latency:
        how = latency_note(contents.path).removeprefix("Latency: ").rstrip(".")
        return f"{retrained.latency} ms, measured ({how})"
    latency = contents.summary.get("latency") or (not contents.results and (contents.learned or {}).get("latency"))
    if latency and "latency_ms" in contents.score:
        return f"{contents.score['latency_ms']:.3g} ms {latency['error']} ({latency['on']}; by the table)"
    return f"{latency['best_ms']:.3g} ms {latency['error']} ({latency['on']}; by the table)" if latency else ""


def count(number: float) -> str:
    """A large number in words: 2,936,448 is "2.94 million"."""
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if size <= number < 1000 * size:
            return f"{number / size:.3g} {name}"
    return f"{number:,.0f}" if number < 1e6 else f"{number:.2e}"
