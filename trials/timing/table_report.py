"""What a latency table says: its ranges and its check in the terminal and as a picture, one architecture beside the clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spaces.arch import arch_id
from spaces.errors import InputError
from spaces.files import atomic
from spaces.fixed_arc import read_arch
from spaces.latency import FIT_NETWORKS, LatencyTable
from spaces.spec import SpaceSpec
from trials.common import cli
from trials.timing.measure import calibrated_network, random_archs
from trials.timing.runtimes import make_runtime
from trials.timing.stopwatch import MIN_FOR_PACE, time_networks

LEAST_TAU = 0.5  # of table and clock, at which three of four pairs are in the right order


def print_table(table: LatencyTable, out: str) -> str | None:
    """Print what a measured table says about its space and how well it was checked; draw the check beside `out`.

    Returns:
        Whether the table can rank, in one line; None where there is no check.
    """
    fastest, slowest = table.bounds_ms()
    sizes = [len(candidates) for candidates in table.costs.choices.values()]
    genes = np.random.default_rng(0).integers(sizes, size=(20_000, len(sizes)))
    least, low, middle, high, most = np.percentile(table.costs.macs_many(genes), (5, 25, 50, 75, 95)) / 1e6
    rows = [
        ("measured on", str(table)),
        ("the space reaches", f"{fastest:.3g} to {slowest:.3g} ms"),
        ("a quarter, half, three quarters of it are below", f"{low:.3g}, {middle:.3g} and {high:.3g} ms"),
    ]
    judged = None
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
        spread = 100 * (most - least) / middle
        judged = verdict(check["mean_absolute_error_percent"], spread, check["kendall_tau"])
        rows.append(("verdict", judged))
        draw_check(table, Path(out).with_suffix(".svg"))
    else:
        rows.append(("error", "not known: there are no times of whole networks"))
    print(cli.table(rows, ("latency", ""), as_is=True))
    print(f"table: {out}")
    return judged


def verdict(error: float, spread: float, tau: float | None) -> str:
    """Whether a table can tell the architectures of its space apart.

    Args:
        error: mean absolute error of the table, percent.
        spread: how far nine tenths of the space's architectures lie apart by the table, percent of their median.
        tau: Kendall's tau of table and clock; None where it is not defined.
    """
    beside = f"error {error:.1f}%, nine tenths of the space lie within {spread:.0f}%"
    if tau is not None and tau < LEAST_TAU:
        right = 50 * (1 + tau)
        return f"cannot rank: it puts {right:.0f} of 100 pairs in the right order ({beside}); take MACs as the limit"
    if 2 * error > spread:
        return f"cannot rank: {beside}; take MACs as the limit, or measure again on a quiet machine"
    return f"can rank: {beside}"


def draw_check(table: LatencyTable, path: Path) -> None:
    """Draw, for the networks of the check, the sum of the table over what the clock said, as SVG."""

    from matplotlib.figure import Figure

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


def compare_with_clock(path: str, fixed_arc: str, rounds: int) -> list[tuple[str, str]]:
    """Measure one architecture as a whole network, and print its time beside the sum of the table.

    A few networks of the table's own check are measured again in turns with it: they tell how fast the machine is now,
    compared with when the table was measured.

    Args:
        path: the latency table.
        fixed_arc: a file, or a published network.
        rounds: times that each network is measured.
    Returns:
        The rows that are printed: name and value.
    Raises:
        InputError: the architecture is of another space, or the table of another device.
    """

    table = LatencyTable.load(path)
    arch = read_arch(fixed_arc, table.costs.choices)
    measured, check = table.measured, table.check
    if not {"runtime", "seed"} <= measured.keys() or check is None:
        raise InputError(f"table '{path}' was not measured by this command; compare it on its own device")
    device, threads = "cuda" if measured["threads"] is None else "cpu", measured["threads"] or 0
    here = make_runtime(measured["runtime"], device, threads).name
    if here != measured["device"]:
        raise InputError(f"table '{path}' is of {measured['device']}, this is {here}; compare it there")
    chain = SpaceSpec.read(table.costs.space).describe()
    checked = random_archs(chain, FIT_NETWORKS + check["networks"], measured["seed"])[FIT_NETWORKS:][:MIN_FOR_PACE]
    bar = cli.progress(rounds, desc="measuring", unit="round")
    timing, *others = time_networks(
        [calibrated_network(chain, each) for each in (arch, *checked)],
        chain.resolution,
        device=device,
        runtime=measured["runtime"],
        threads=threads,
        batch=measured["batch"],
        rounds=rounds,
        progress=bar.update,
    )
    bar.close()
    before = check["measured_ms"][: len(checked)]
    pace = float(np.median([other.median_ms / then for other, then in zip(others, before, strict=True)]))
    by_table, by_clock = table.ms(arch), timing.median_ms / pace
    rows = [
        ("architecture", arch_id(arch)),
        ("by the table", f"{by_table:.3g} ms {table.error()} ({table})"),
        ("by the clock", f"{timing.median_ms:.3g} ms (interquartile range {timing.spread_ms:.2g})"),
        (
            "pace of the machine now",
            f"{pace:.2f} times as long as when the table was measured ({len(checked)} networks)",
        ),
        ("by the clock, at the table's pace", f"{by_clock:.3g} ms"),
        ("difference", f"{100 * (by_table / by_clock - 1):+.1f}%"),
    ]
    print(cli.table(rows, ("latency", ""), as_is=True))
    return rows
