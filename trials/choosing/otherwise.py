"""How a better architecture may be found than by the scores of a supernet that do not rank, by what docs/results.md has measured."""

from __future__ import annotations

from dataclasses import fields

from trials.choosing.searched import read_limits
from trials.common import cli, run_files, typed
from trials.common.supernet_run import SupernetRun
from trials.scoring import noise
from trials.training.strategy_options import DIFFERENTIABLE, StrategyOptions

# options that gumbel does not have, or not with the value that suits a sampling strategy
OF_SAMPLING = (*(cli.flag(field.name) for field in fields(StrategyOptions)), "--supernets", "--min-macs")


def find_otherwise(run: SupernetRun, max_macs: int | None = None) -> tuple[str, str]:
    """Learn an architecture under the limit; where that was done, or there is no limit, choose by short trainings.

    Longer supernets are not shown to rank better, and those of differentiable strategies rank no architectures that are alike.

    Args:
        max_macs: the limit to learn under where neither the search nor the supernet had one; None: then nothing is learned.
    Returns:
        The command; what it does, a sentence without its full stop.
    """
    limits = read_limits(run)
    limit = limits.max_macs or max_macs
    if (
        limit
        and not limits.max_latency_ms
        and run.config.get("strategy") not in DIFFERENTIABLE
        and not run.config.get("import_official")
    ):
        learn = dict.fromkeys(OF_SAMPLING) | {"--strategy": "gumbel", "--max-macs": limit}
        command = typed.again(run.path, learn)
        return command, "learn an architecture under the limit, which beat chance where searches did not"
    summary = run_files.read_if_there(run.path / "search.json", "search summary")
    if summary:
        command = noise.top_command(run.path, len(summary["history"]))
        return command, "choose by short trainings among the best of it and random ones"
    if (run.path / "most_probable.json").exists():
        return noise.top_command(run.path, 1), "choose by short trainings among it and random ones"
    if not (run.path / "arc.json").exists():
        return cli.command("search", run.path, "--in-process"), "search first"
    command = cli.command("retrain", "--supernet", run.path, "--top-random", 2 * noise.TOP)
    return command, "choose by short trainings among random ones"
