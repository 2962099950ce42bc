"""Measure what every candidate of a search space takes on this machine, and check it against whole networks.

    python -m trials.latency --space spos --out runs/latency/spos.json                   on the CPU, or the GPU where there is one
    python -m trials.latency --supernet runs/digits --runtime onnxruntime --threads 1 --out runs/digits/latency.json
    python -m trials.latency --table runs/latency/spos.json --fixed-arc arc.json         one network: the table's word, and the clock's
    python -m trials.latency --space spos --template phone.csv                           a form, to be filled in on another device
    python -m trials.latency --space spos --csv phone.csv --out runs/latency/phone.json  what was filled in, checked

The table goes to tuners (classArgs latency_table, max_latency_ms) and to trials.supernet (--latency-table, --max-latency-ms).
Every candidate is timed at its real shapes while a network runs; then random networks are timed as a whole, and how far
the table is from them is printed and kept in it. Milliseconds are of a batch of --batch images.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from spaces.errors import InputError
from spaces.latency import FIT_NETWORKS, MIN_CHECK_NETWORKS, LatencyTable
from spaces.spec import SpaceSpec
from trials.common import cli
from trials.timing.latency_config import Config


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__, "trials.latency")
    if config.table:
        compare(config)
        return

    from spaces.cost import CostTable, measure
    from trials.common import run_dir
    from trials.timing import latency_csv
    from trials.timing.measure import MeasureSettings, measure_table, random_archs

    if config.supernet:
        run_dir.load_run(config.supernet, "supernet")
        about = CostTable.load(Path(config.supernet) / "cost_table.json").space
    else:
        about = {key: getattr(config, key) for key in ("preset", "classes", "resolution")}
        about |= {"name": config.space, "options": cli.space_options(config.space_options)}
    chain = SpaceSpec.read(about).describe()
    costs = measure(chain)  # refuses a space that does not fit together
    place = Path(config.template or config.out)
    if config.template and place.exists():
        raise InputError(f"'{place}' already exists; it may be filled in; choose another name")
    try:  # before minutes of measuring
        place.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place.parent).close()
    except OSError as error:
        raise InputError(f"cannot write to '{place}' ({error.strerror}); choose another place") from None
    if config.template:
        latency_csv.write_template(
            config.template, costs, random_archs(chain, FIT_NETWORKS + config.networks, config.seed)
        )
        print(f"wrote {config.template}: fill in the milliseconds, then: --csv {config.template} --out FILE.json")
        print(
            f"rows of networks are optional; with {FIT_NETWORKS + MIN_CHECK_NETWORKS} or more the table is corrected and its error known"
        )
        return
    if config.csv:
        table = latency_csv.read(config.csv, costs)
    else:
        names = [field.name for field in dataclasses.fields(MeasureSettings)]
        settings = MeasureSettings(**{name: getattr(config, name) for name in names})
        table = measure_table(settings, chain, costs.space)
    table.save(config.out)
    show(table, config.out)


def show(table: LatencyTable, out: str) -> None:
    """Print what was found; draw the check."""
    import numpy as np

    fastest, slowest = table.bounds_ms()
    sizes = [len(candidates) for candidates in table.costs.choices.values()]
    genes = np.random.default_rng(0).integers(sizes, size=(20_000, len(sizes)))
    low, middle, high = np.percentile(table.costs.macs_many(genes), (25, 50, 75)) / 1e6
    rows = [
        ("measured on", str(table)),
        ("the space reaches", f"{fastest:.3g} to {slowest:.3g} ms"),
        ("a quarter, half, three quarters of it are below", f"{low:.3g}, {middle:.3g} and {high:.3g} ms"),
    ]
    if table.check:
        check = table.check
        rows += [
            ("whole networks compared", str(check["networks"])),
            ("mean absolute error", f"{check['mean_absolute_error_percent']:.1f}%"),
            ("largest error, bias", f"{check['largest_error_percent']:.1f}%, {check['bias_percent']:+.1f}%"),
            (
                "Kendall's tau of table and clock",
                "-" if check["kendall_tau"] is None else f"{check['kendall_tau']:.2f}",
            ),
        ]
        picture(table, Path(out).with_suffix(".svg"))
    else:
        rows.append(("error", "not known: there are no times of whole networks"))
    print(cli.table(rows, ("latency", ""), as_is=True))
    print(f"table: {out}")


def picture(table: LatencyTable, path: Path) -> None:
    """The table's word over the clock's, for the networks of the check."""
    from matplotlib.figure import Figure

    from spaces.files import atomic

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    assert table.check is not None
    sums, clock = table.check["table_ms"], table.check["measured_ms"]
    ends = (min(sums + clock), max(sums + clock))
    axes.plot(ends, ends, color="#94a3b8", linewidth=1)
    axes.plot(clock, sums, "o", color="#2563eb", markersize=5)
    axes.set(xlabel="measured, whole network, ms", ylabel="sum of the table, ms", title=str(table))
    axes.title.set_fontsize(8)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def compare(config: Config) -> None:
    """Measure one architecture as a whole, and print it beside the table's word.

    A few networks of the table's own check are measured again in turns with it: they tell how fast the machine is now, compared
    with when the table was measured.
    """
    import numpy as np

    from spaces.arch import arch_id
    from spaces.published import read_arch
    from trials.timing.measure import calibrated_network, random_archs
    from trials.timing.runtimes import make_runtime
    from trials.timing.stopwatch import MIN_FOR_PACE, time_networks

    table = LatencyTable.load(config.table)
    arch = read_arch(config.fixed_arc, table.costs.choices)
    about, check = table.measured, table.check
    if not {"runtime", "seed"} <= about.keys() or check is None:
        raise InputError(f"table '{config.table}' was not measured by this command; compare it on its own device")
    device, threads = "cuda" if about["threads"] is None else "cpu", about["threads"] or 0
    here = make_runtime(about["runtime"], device, threads).name
    if here != about["device"]:
        raise InputError(f"table '{config.table}' is of {about['device']}, this is {here}; compare it there")
    chain = SpaceSpec.read(table.costs.space).describe()
    known = random_archs(chain, FIT_NETWORKS + check["networks"], about["seed"])[FIT_NETWORKS:][:MIN_FOR_PACE]
    bar = cli.progress(config.rounds, desc="measuring", unit="round")
    timing, *others = time_networks(
        [calibrated_network(chain, each) for each in (arch, *known)],
        chain.resolution,
        device=device,
        runtime=about["runtime"],
        threads=threads,
        batch=about["batch"],
        rounds=config.rounds,
        progress=bar.update,
    )
    bar.close()
    before = check["measured_ms"][: len(known)]
    pace = float(np.median([other.median_ms / then for other, then in zip(others, before, strict=True)]))
    word, clock = table.ms(arch), timing.median_ms / pace
    rows = [
        ("architecture", arch_id(arch)),
        ("by the table", f"{word:.3g} ms {table.error()} ({table})"),
        ("by the clock", f"{timing.median_ms:.3g} ms (interquartile range {timing.spread_ms:.2g})"),
        ("pace of the machine now", f"{pace:.2f} times as long as when the table was measured ({len(known)} networks)"),
        ("by the clock, at the table's pace", f"{clock:.3g} ms"),
        ("difference", f"{100 * (word / clock - 1):+.1f}%"),
    ]
    print(cli.table(rows, ("latency", ""), as_is=True))


if __name__ == "__main__":
    cli.run(main, resumes=False)
