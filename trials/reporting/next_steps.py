"""What to do next with a run: commands that work as they are printed."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.arch import arch_id
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from trials.common import cli, places, typed
from trials.common.commands import as_typed, neutral
from trials.networks.timm_rivals import rival
from trials.reporting.collect import RunContents
from trials.search_driver import experiment_file


@dataclass(frozen=True)
class Step:
    """A command, and what it is good for.

    Attributes:
        why: a sentence without its full stop.
        command: one line, for a shell in the root of the clone; "": there is none.
    """

    why: str
    command: str


def next_steps(contents: RunContents) -> list[Step]:
    """What to do next, the most useful first."""
    run, retrained = contents.path, contents.retrained
    if not contents.winner:
        limit = run / experiment_file.NAME
        why = f"Search the supernet for the best architecture under the limit that stands in {limit}"
        return [Step(why, cli.command("search", run, "--in-process"))]
    steps = []
    if retrained is None or not retrained.finished:
        steps += [Step("Train the winner from scratch, and test it", _retrain(contents)), certify_step(contents)]
    elif contents.certified and contents.certificate:
        verdict, cheaper = contents.certificate["verdict"], contents.certificate.get("cheaper")
        command = as_typed(places.follow(verdict["next"], contents.config.get("out"), run))
        ships = run / cheaper["run"] if cheaper and cheaper["run"] in command else retrained.folder
        done = "trials.export" in neutral(command) and any((ships / "export").glob("*"))
        if command and not done and not typed.moves_what_is_trained(command):
            steps.append(Step(verdict["why"][:1].upper() + verdict["why"][1:], command))
    else:
        steps.append(certify_step(contents))
    if retrained is not None and retrained.finished:
        if not any((retrained.folder / "export").glob("*")):
            command = cli.command("export", "--weights", retrained.folder)
            steps.append(Step("Write the network as files that run without Onepath", command))
        if not (run / "baselines").is_dir():
            model = rival(contents.table.macs(contents.winner), contents.table.space["resolution"])
            command = cli.command("retrain", "--baseline", model, "--supernet", run)
            why = "See what a network does that one could have taken without a search"
            steps += [Step(why, command)] if model else []
    return [
        step for number, step in enumerate(steps) if step.command not in [other.command for other in steps[:number]]
    ]


def certify_step(contents: RunContents) -> Step:
    """The command that compares the winner with random architectures."""
    why = "Find out whether the search beat chance: trains random architectures of the same cost in the same way"
    return Step(why, cli.command("certify", contents.path))


def write_experiment(contents: RunContents) -> None:
    """Write the `RUN/search.yml` that the next step reads, where an older version has not done so."""
    if not contents.winner:
        experiment_file.write_experiment(contents.path, FeasibleSpace(contents.table, Limits()))


def _retrain(contents: RunContents) -> str:
    """The command that trains the winner from scratch, or goes on with it."""
    run = contents.path
    words = ("retrain", "--fixed-arc", run / "arc.json", "--supernet", run)
    begun = next((network for network in contents.networks if network.place == "retrain"), None)
    if begun is None:
        return cli.command(*words, "--seeds", 3)
    if begun.arch == contents.winner:
        return cli.command(*words, "--seeds", begun.config.get("seeds", 1), "--resume")
    # retrain/ holds the winner of an earlier search
    return cli.command(*words, "--seeds", 3, "--out", run / f"retrain-{arch_id(contents.winner)}")
