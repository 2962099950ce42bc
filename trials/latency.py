"""Measure what every candidate of a search space takes on this machine, and check it against whole networks.

    python -m trials.latency --space spos --out runs/latency/spos.json            on the CPU, or the GPU
    python -m trials.latency --supernet runs/digits --runtime onnxruntime --threads 1 --out runs/digits/latency.json
    python -m trials.latency --table runs/latency/spos.json --fixed-arc arc.json  the table's word, and the clock's
    python -m trials.latency --space spos --kit runs/pi-kit                       for a Raspberry Pi
    python -m trials.latency --space spos --template phone.csv                    a form to be filled in
    python -m trials.latency --space spos --csv phone.csv --out runs/latency/phone.json  what was filled in, checked

The table goes to tuners (classArgs latency_table, max_latency_ms) and to trials.supernet (--latency-table, --max-latency-ms).
Every candidate is timed at its real shapes while a network runs; then random networks are timed as a whole, and how far
the table is from them is printed and kept in it. Milliseconds are of a batch of --batch images.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

from spaces.cost import measure
from spaces.errors import InputError, require_library
from spaces.files import require_file
from spaces.fixed_arc import require_arch
from spaces.latency import FIT_NETWORKS, MIN_CHECK_NETWORKS, NANOSECONDS_PER_MS, LatencyTable
from spaces.spec import SpaceSpec, space_options_text
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from trials.common import cli
from trials.common.answers import answer
from trials.common.options import check_space
from trials.common.supernet_run import SupernetRun
from trials.search_driver.experiment_file import quantile_of_macs, write_experiment
from trials.timing import latency_csv
from trials.timing.latency_config import Config


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.latency")

    # Torch and the runtimes are imported when the options are known to be right.
    if config.table:
        require_file(config.table, "latency table")
        require_arch(config.fixed_arc)
    elif config.supernet:
        SupernetRun.open(config.supernet, trained=False)
    else:
        check_space(config)
    if config.csv:
        latency_csv.require_form(config.csv)
    for library in ("onnxruntime", *["onnx"] * bool(config.kit)):
        require_library(library, "python -m trials.latency")
    from trials.timing import table_report
    from trials.timing.measure import MeasureSettings, measure_table, random_archs

    if config.table:
        rows = table_report.compare_with_clock(config.table, config.fixed_arc, config.rounds)
        return answer("latency", table=config.table, compared=dict(rows))
    chain = space_of(config).describe()
    costs = measure(chain)  # refuses a space that does not fit together
    check_writable(config)

    # A folder, or a form, for times that are measured elsewhere.
    names = [field.name for field in dataclasses.fields(MeasureSettings)]
    settings = MeasureSettings(**{name: getattr(config, name) for name in names})
    if config.kit:
        from trials.timing.kit import write_kit

        path = Path(config.kit)
        write_kit(path, settings, chain, costs, random_archs(chain, FIT_NETWORKS + config.networks, config.seed))
        size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
        print(f"wrote {path}/ ({size:,.0f} MB): copy it to the machine, and run there: python measure.py")
        return answer("latency", kit=config.kit)
    if config.template:
        networks = random_archs(chain, FIT_NETWORKS + config.networks, config.seed)
        latency_csv.write_template(config.template, costs, networks)
        print(f"wrote {config.template}: fill in the milliseconds, then: --csv {config.template} --out FILE.json")
        print(
            f"rows of networks are optional; with {FIT_NETWORKS + MIN_CHECK_NETWORKS} or more the table is corrected and its error known"
        )
        return answer("latency", template=config.template)

    # A table, of a form that was filled in or measured here.
    table = latency_csv.read(config.csv, costs) if config.csv else measure_table(settings, chain, costs.space)
    table.save(config.out)
    verdict = table_report.print_table(table, config.out)
    fastest, slowest = table.bounds_ms()
    following = next_command(config, table, can_rank=not str(verdict).startswith("cannot rank"))
    command, _, why = following.partition("    # ")
    cli.say_next(command, why)
    found = {"fastest_ms": fastest, "slowest_ms": slowest, "check": table.check or None, "verdict": verdict}
    return answer("latency", table=config.out, **found, next=command)


def next_command(config: Config, table: LatencyTable, *, can_rank: bool) -> str:
    """The command that comes next: a search below the milliseconds that a quarter of the space needs, by MACs where the table cannot rank.

    Of a supernet that is trained, the experiment is written beside its own; of a space, a supernet is trained first.
    """
    limit = float(f"{quantile_of_macs(FeasibleSpace(table.costs, Limits())) / NANOSECONDS_PER_MS:.3g}")
    limit = max(limit, math.ceil(1e6 * table.bounds_ms()[0]) / 1e6)
    if config.supernet:
        run = SupernetRun.open(config.supernet, trained=False)
        if not can_rank:
            return cli.command("search", run.path, "--in-process")
        feasible = FeasibleSpace(run.table, Limits(max_latency_ms=limit), table)
        name = f"search-{Path(config.out).stem}.yml"
        return cli.command("search", write_experiment(run.path, feasible, config.out, name=name), "--in-process")
    space = table.costs.space
    words: list[object] = ["--space", space["name"], "--preset", space["preset"], "--resolution", space["resolution"]]
    words += ["--space-options", options] if (options := space_options_text(space["options"])) else []
    words += ["--strategy", "window", "--latency-table", config.out, "--max-latency-ms", limit] if can_rank else []
    return f"{cli.command('supernet', *words)}    # with images of {space['classes']} classes: --data or --data-root"


def space_of(config: Config) -> SpaceSpec:
    """The space to measure: that of a supernet's run, or the one that the options name."""
    if config.supernet:
        return SupernetRun.open(config.supernet, trained=False).space
    sizes = {"classes": config.classes, "resolution": config.resolution}
    return SpaceSpec(config.space, config.preset, cli.space_options(config.space_options) | sizes)


def check_writable(config: Config) -> None:
    """Refuse, before minutes of measuring, an output that cannot be written or that may be a form already filled in."""
    path = Path(config.kit or config.template or config.out)
    if config.kit and (path.is_file() or (path.is_dir() and any(path.iterdir()))):
        raise InputError(f"--kit '{path}' is there already; choose the name of a new folder")
    if config.template and path.exists():
        raise InputError(f"'{path}' already exists; it may be filled in; choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(f"cannot write to '{path}' ({error.strerror}); choose another place") from None


if __name__ == "__main__":
    cli.run(main)
