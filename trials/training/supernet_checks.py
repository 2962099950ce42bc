"""Which options of trials.supernet contradict each other, or have no effect."""

from __future__ import annotations

from typing import Any

from spaces.errors import InputError
from trials.common import cli
from trials.common.cli import flag
from trials.training.strategy_options import DIFFERENTIABLE, LEARNING, ONE_PATH

Config = Any  # that of supernet_config, which imports this
LIMITS = ("max_macs", "min_macs", "max_latency_ms")
MOST_SUPERNETS = 32


def check_limits(config: Config) -> None:
    """Refuse limits that the strategy would ignore in silence."""
    learns = config.strategy in DIFFERENTIABLE
    limited = [name for name in LIMITS if getattr(config, name)]
    if config.max_latency_ms and not config.latency_table:
        raise InputError(
            "--max-latency-ms needs --latency-table; measure one with: python -m trials.latency --space SPACE --out FILE"
        )
    if config.latency_table and not config.max_latency_ms and config.cost_loss == "none":
        raise InputError(
            "--latency-table has no effect without --max-latency-ms or --cost-loss; give one, or leave it out"
        )
    if limited and config.strategy in ("uniform", "strict-fair") and not config.trains_none:
        raise InputError(
            f"{flag(limited[0])} has no effect with --strategy {config.strategy}; use --strategy window, or set "
            "the limit in the search's YAML"
        )
    if config.strategy in ("window", "binned") and not limited:
        raise InputError(
            f"--strategy {config.strategy} needs --max-macs, --min-macs or --max-latency-ms, such as --max-macs 330M"
        )
    if config.strategy == "binned" and config.max_latency_ms:
        raise InputError("--strategy binned draws by MACs; leave --max-latency-ms out, or use --strategy window")
    if learns and config.max_macs and config.max_latency_ms:
        raise InputError(
            f"--strategy {config.strategy} exports under one limit; give --max-macs or --max-latency-ms, or search the supernet "
            "under both"
        )
    if learns and config.min_macs:
        raise InputError("--min-macs has no effect with a differentiable strategy; leave it out")


def check_warm_ups(config: Config) -> None:
    """Refuse an op warm-up where a step runs all candidates anyway, or where it leaves no steps for paths alone."""
    if not config.op_warmup:
        return
    one_path = config.strategy in ONE_PATH or (config.strategy == "gumbel" and config.hard)
    if not one_path or config.use_all_blocks:
        what = "--use-all-blocks" if config.use_all_blocks else f"--strategy {config.strategy}"
        raise InputError(f"--op-warmup has no effect with {what}; leave it out; it is for: {', '.join(ONE_PATH)}")
    if config.op_warmup + (config.warm_start or 0.0) >= 1:
        raise InputError(
            f"--op-warmup {config.op_warmup:g} and --warm-start {config.warm_start or 0.0:g} leave no steps for paths alone; give 0.3, "
            "and one of both"
        )


def check_supernets(config: Config) -> None:
    """Refuse several supernets where there is nothing to average."""
    number = config.supernets
    if not 1 <= number <= MOST_SUPERNETS:
        raise InputError(f"--supernets {number} is out of range; give 1 to {MOST_SUPERNETS}")
    if number == 1:
        return
    if config.strategy in DIFFERENTIABLE:
        raise InputError(
            f"--supernets {number}: --strategy {config.strategy} learns an architecture, and there is no mean of these; leave "
            "--supernets out, or use a sampling strategy such as window"
        )
    if config.import_official or config.trains_none:
        what = "--import-official makes the run of one supernet" if config.import_official else "--epochs 0 trains none"
        raise InputError(f"--supernets {number}: {what}; leave --supernets out")


def check_learning(config: Config, recipe: dict[str, Any]) -> None:
    """Refuse options of strategies and cost losses that are not used.

    Args:
        recipe: the defaults of the preset; these values are not the user's.
    """
    learns = config.strategy in DIFFERENTIABLE
    for name in ("width_warmup", "use_all_blocks", "use_all_channels"):
        if learns and getattr(config, name):
            raise InputError(f"{flag(name)} is for sampling strategies, not {config.strategy}; leave it out")
    meant_for = dict.fromkeys(LEARNING, learns)
    meant_for |= dict.fromkeys(("temperature", "temperature_decay", "hard"), config.strategy == "gumbel")
    if learns:
        meant_for |= dict.fromkeys(("cost_alpha", "cost_beta"), config.cost_loss == "power")
        meant_for |= {"cost_weight": config.cost_loss in ("linear", "target")}
        meant_for |= {"cost_target": config.cost_loss == "target"}
    elif config.cost_loss == "none":  # as it is where nothing was given
        meant_for["cost_loss"] = True
    for name, used in meant_for.items():
        value = getattr(config, name)
        if not used and value not in (
            type(config).__dataclass_fields__[name].default,
            recipe.get(name) if learns else None,
        ):
            what = (
                f"--cost-loss {config.cost_loss}"
                if learns and name.startswith("cost")
                else f"--strategy {config.strategy}"
            )
            raise InputError(f"{flag(name)} has no effect with {what}; leave it out, or see --help for what it is of")
    if config.cost_loss == "limit" and not (config.max_latency_ms if config.latency_table else config.max_macs):
        limit = "--max-latency-ms, in the milliseconds of --latency-table" if config.latency_table else "--max-macs"
        raise InputError(f"--cost-loss limit needs {limit}; give it, or another cost loss")
    if config.cost_loss in ("linear", "target") and not config.cost_weight:
        raise InputError(f"--cost-loss {config.cost_loss} needs --cost-weight, such as 0.1")
    if config.cost_loss == "target" and config.latency_table and not (config.cost_target or config.max_latency_ms):
        raise InputError(
            "--cost-loss target with a --latency-table needs --cost-target or --max-latency-ms, such as 12.5"
        )
    if config.cost_loss == "target" and not (config.cost_target or config.max_macs or config.max_latency_ms):
        raise InputError("--cost-loss target needs --cost-target or --max-macs, such as 300M")


def check_batches(config: Config) -> None:
    """Refuse batches that cannot be shared among processes, and a dry run of an import."""
    if config.import_official and config.dry_run:
        raise InputError("--import-official trains nothing; leave --dry-run out")
    _, world = cli.rank_and_world()
    pieces = world * config.accumulate
    if config.batch_size is not None and config.batch_size % pieces:
        raise InputError(
            f"--batch-size {config.batch_size} is not divisible into {world} processes x {config.accumulate} parts; give a "
            f"multiple of {pieces}"
        )
