"""How long it takes to score the candidates of a search: as a tree of prefixes, against the official way, one by one.

    python -m benchmarks.evaluation                        # processor time of a generation, about 5 minutes
    python -m benchmarks.evaluation --rounds 1 --resolution 32 --batch-size 16             # a first look, 1 minute
    python -m benchmarks.evaluation --count                # a whole search, counted and not timed, half a minute
    python -m benchmarks.evaluation --growth runs/digits   # time per candidate in searches of 100, 300 and 1,000
    python -m benchmarks.evaluation --growth runs/digits --sizes 100,300,1000,3000,10000   # about 30 minutes
    python -m benchmarks.evaluation --growth runs/digits --sizes 1000,3000,10000 --unscored   # all but the scoring

The candidates are those that `EvolutionTuner` breeds with the paper's numbers (population 50, 10 parents, 25 mutations, 25
crossovers, at most 330M MACs) in the SPOS space. There is no supernet trained on ImageNet here, so the scores that the tuner
is told are a stand-in: `--scores additive` gives every candidate of every block a number, normal and drawn from --seed, and
an architecture the sum of its 20; `pairs` adds such a number for each pair of neighbours; `random` gives every architecture
a number that says nothing about its relatives. `--run RUN` scores with a real supernet whose blocks have the same labels,
such as one of trials.supernet --preset tiny.

Processor time: one thread, generation 5 (bred from generations 0 to 4; --generation G: another, which shares less), random weights (speed does not depend on them), crops
of scikit-learn's two photographs, normalised beforehand, the same batches for all. Per round and in turn
    A  the official way: each candidate as a network of its own, memory order NCHW, channel shuffle by reshape and
       transpose, BatchNorm in train mode on the calibration batches, then in eval mode on the scoring batches
    B  PrefixTree, precision "exact"
    C  PrefixTree, precision "32", the default
Building networks and trees counts. Also whether B is bit for bit what candidates one by one give, and how far C is from A.
With 3 calibration batches and 1 scoring batch, calibration has 75% of the images; the official search has 25,600 of 33,600.
How much a generation shares differs between seeds and stand-ins, by more than the clock does between rounds, and generation 5
shares more than most (see --count): give several seeds before quoting a ratio.

Count: all generations of a search of 1,050 candidates. Multiply-adds, and bytes of what convolutions put out (32 bits), of the
nodes of the trees against candidates one by one: what sharing alone saves. "Written" are the bytes of all tensors that
operators write in a forward pass of either side (convolution, BatchNorm, activation, concatenation, and the copy of an input
that a convolution finds with gaps), 25,600 images in the calibration pass and 8,000 in the scoring pass.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import itertools
import logging
import platform
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from sklearn.datasets import load_sample_images
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import spaces
from spaces.arch import Arch, arch_id
from spaces.blocks import ShuffleBlock
from spaces.chain import Chain
from spaces.cost import CostTable, search_space
from spaces.counting import count
from spaces.errors import InputError, unknown
from spaces.files import save_json
from strategies.evolution import EvolutionTuner
from trials.common import cli
from trials.images.dataset import normalise
from trials.networks.batchnorm import recalibrate_batchnorm
from trials.scoring.evaluate_config import Settings
from trials.scoring.prefix_tree import ARITHMETIC, Node, Part, Parts, Pass, PrefixTree

COSTS = "experiments/spaces/spos-imagenet.costs.json"  # as in experiments/spos_evo.yml
MAX_MACS = 330_000_000
CALIBRATION, SCORING = 25_600, 8_000  # images of the official search, for each candidate
CLONE = Path(__file__).resolve().parent.parent
LAST = 100  # candidates at the end of a search that are timed apart; two generations
SCORES = ("additive", "pairs", "random")

Judge = Callable[[list[Arch]], list[float]]


# The candidates


def stand_in(kind: str, seed: int, choices: dict[str, list[Any]]) -> Judge:
    """Scores that are a function of the architecture and the seed; `kind` is one of SCORES."""
    if kind not in SCORES:
        raise InputError(unknown("--scores", kind, SCORES))
    draw = np.random.default_rng(seed)
    single = {label: dict(zip(values, draw.normal(size=len(values)), strict=True)) for label, values in choices.items()}
    labels = list(choices)
    neighbours = {
        (one, other): {(a, b): draw.normal() for a in choices[one] for b in choices[other]}
        for one, other in itertools.pairwise(labels)
    }

    def score(arch: Arch) -> float:
        if kind == "random":
            return float(np.random.default_rng([seed, int(arch_id(arch), 16)]).normal())
        total = sum(values[arch[label]] for label, values in single.items())
        if kind == "pairs":
            total += sum(values[arch[one], arch[other]] for (one, other), values in neighbours.items())
        return float(total)

    return lambda archs: [score(arch) for arch in archs]


def supernet_scores(run: str, choices: dict[str, list[Any]]) -> Judge:
    """Top-1 on a run of trials.supernet, with 512 calibration images and all scoring images; nothing is stored."""
    from trials.scoring.scorer import Scorer

    scorer = Scorer(run, Settings(512, 0, 128))
    if scorer.chain.choices != choices:
        raise InputError(f"--run '{run}' is of a space with other labels than spos; make one with --space spos")

    def judge(archs: list[Arch]) -> list[float]:
        tree = PrefixTree(scorer.parts, archs)
        tree.calibrate(scorer.calibration())
        return [100 * int(right) / len(scorer.fixed.images) for right in tree.hits(scorer.scoring())[:, 0]]

    return judge


def make_judge(given: argparse.Namespace) -> Judge:
    choices = CostTable.load(CLONE / COSTS).choices
    return supernet_scores(given.run, choices) if given.run else stand_in(given.scores, given.seed, choices)


def generations(number: int, judge: Judge, seed: int) -> list[list[Arch]]:
    """The first generations of a search with the paper's numbers; each as the scorer orders it, neighbours together."""
    tuner = EvolutionTuner(COSTS, seed=seed, max_macs=MAX_MACS)
    bred, asked = [], 0
    for generation in range(number):
        numbers = range(asked, asked + tuner.remaining_before_next_result())
        archs = [tuner.generate_parameters(identity) for identity in numbers]
        asked += len(archs)
        bred.append(sorted(archs, key=tuner.table.combinations))
        if generation < number - 1:
            for identity, arch, score in zip(numbers, archs, judge(archs), strict=True):
                tuner.receive_trial_result(identity, arch, {"default": score})
    return bred


def random_weights(chain: Chain, seed: int) -> dict[str, torch.Tensor]:
    """State dict of a supernet that was never trained."""
    torch.manual_seed(seed)
    options = {"resolution": chain.resolution, "classes": chain.classes, **chain.options}
    return spaces.build(chain.name, chain.preset, **options).state_dict()


def photographs(number: int, resolution: int, seed: int) -> torch.Tensor:
    """Random crops of scikit-learn's two photographs, uint8 (number, 3, R, R)."""
    draw = np.random.default_rng(seed)
    photos = load_sample_images().images  # (427, 640, 3) each
    crops = []
    for _ in range(number):
        photo = photos[draw.integers(len(photos))]
        top, left = (draw.integers(0, side - resolution + 1) for side in photo.shape[:2])
        crops.append(photo[top : top + resolution, left : left + resolution])
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


# The official way


def official_forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    """ShuffleBlock.forward as in megvii-model/SinglePathOneShot, blocks.py: the shuffle by reshape and transpose."""
    if self.proj is None:
        n, channels, height, width = x.shape
        pairs = x.reshape(n * channels // 2, 2, height * width).permute(1, 0, 2)
        through, main = pairs.reshape(2, -1, channels // 2, height, width)
    else:
        through, main = self.proj(x), x
    return torch.cat((through, self.main(main)), 1)


@contextlib.contextmanager
def official_shuffle() -> Iterator[None]:
    ours = ShuffleBlock.forward
    ShuffleBlock.forward = official_forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        ShuffleBlock.forward = ours  # type: ignore[method-assign]


@torch.no_grad()
def one_by_one(
    chain: Chain,
    weights: dict[str, torch.Tensor],
    archs: Sequence[Arch],
    calibration: Iterable[torch.Tensor],
    scoring: Iterable[torch.Tensor],
) -> torch.Tensor:
    """Logits (K, N, classes) of each candidate as a network of its own, where the weights are."""
    logits = []
    for arch in archs:
        network = chain.network(arch, weights)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.num_batches_tracked is not None:
                layer.num_batches_tracked = layer.num_batches_tracked.cpu()  # a GPU is not asked for it at every call
        recalibrate_batchnorm(network, calibration)
        logits.append(torch.cat([network(x) for x in scoring]))
    return torch.stack(logits)


@torch.no_grad()
def together(
    chain: Chain,
    weights: dict[str, torch.Tensor],
    archs: Sequence[Arch],
    calibration: Sequence[torch.Tensor],
    scoring: Sequence[torch.Tensor],
    precision: str,
    group: int = 0,
) -> torch.Tensor:
    """Logits (K, N, classes) of the candidates in trees of `group` each; 0: of all."""
    parts = Parts(chain, weights, ARITHMETIC[precision], torch.device("cpu"))
    logits: list[list[torch.Tensor]] = []
    for first in range(0, len(archs), group or len(archs)):
        tree = PrefixTree(parts, archs[first : first + (group or len(archs))])
        tree.calibrate(calibration)
        found: list[list[torch.Tensor]] = [[] for _ in range(tree.size)]
        for x in scoring:
            for number, y in tree.logits(x):
                found[number].append(y)
        logits += found
    return torch.stack([torch.cat(batches) for batches in logits])


# Processor time


def processor_time(given: argparse.Namespace) -> None:
    chain = spaces.describe("spos", "imagenet", resolution=given.resolution, classes=10)
    archs = generations(given.generation + 1, make_judge(given), given.seed)[-1][: given.archs]
    weights = random_weights(chain, given.seed)
    images = normalise(
        photographs((given.calibration + given.scoring) * given.batch_size, given.resolution, given.seed),
        "folder",
        spos=False,
    )
    batches = [batch.contiguous() for batch in images.split(given.batch_size)]
    calibration, scoring = batches[: given.calibration], batches[given.calibration :]
    data = (chain, weights, archs, calibration, scoring)

    def official() -> torch.Tensor:
        with official_shuffle():
            return one_by_one(*data)

    sides: dict[str, Callable[[], torch.Tensor]] = {
        "A official, one by one": official,
        "B tree, exact": lambda: together(*data, "exact", given.group),
        "C tree, 32": lambda: together(*data, "32", given.group),
    }
    few = (chain, weights, archs[:2], calibration[:1], scoring[:1])
    one_by_one(*few)  # libraries choose their kernels
    together(*few, "32")
    seconds: dict[str, list[float]] = {title: [] for title in sides}
    logits = {}
    bar = cli.progress(given.rounds * len(sides), desc="rounds", unit="side")
    for _ in range(given.rounds):
        for title, run in sides.items():
            began = time.process_time()
            logits[title] = run()
            seconds[title].append(time.process_time() - began)
            bar.update()
    bar.close()
    a, b, c = sides
    rows = []
    for title, spent in seconds.items():
        ratios = [first / own for first, own in zip(seconds[a], spent, strict=True)]
        spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
        rows.append((title, f"{statistics.median(spent):.1f}", spread if title != a else "1"))
    print(cli.table(rows, ("", "seconds", "A / this, by rounds"), as_is=True))
    plain = one_by_one(*data)
    difference = (logits[c] - logits[a]).abs().max() / logits[a].std()
    same = logits[c].argmax(2) == logits[a].argmax(2)
    print(
        f"\nlogits of B equal those of candidates one by one bit for bit: {bool(torch.equal(logits[b], plain))}; A, with the "
        f"official shuffle, too: {bool(torch.equal(logits[a], plain))}"
    )
    print(
        f"C against A: largest logit difference / standard deviation of the logits {difference:.2g}; same answer in "
        f"{int(same.sum()):,} of {same.numel():,}"
    )
    scores = f"run {given.run}" if given.run else f"stand-in '{given.scores}'"
    print(
        f"{len(archs)} candidates of generation {given.generation} ({scores}, seed {given.seed}), trees of {given.group or len(archs)}; spos "
        f"imagenet at {given.resolution} px, {given.calibration} calibration and {given.scoring} scoring batches of "
        f"{given.batch_size}; n = {given.rounds} rounds, processor seconds of one thread; {os.cpu_count()} cores, "
        f"{platform.machine()}, python {platform.python_version()}, torch {torch.__version__}"
    )


# Count


class Writes(TorchDispatchMode):
    """Adds up the bytes that operators write; views write none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and not _dense(args[0]):
            self.bytes += args[0].nbytes  # its kernels take no input with gaps: it is copied first
        values = result if isinstance(result, tuple) else (result,)
        for about, value in zip(func._schema.returns, values, strict=True):
            view = about.alias_info is not None and not about.alias_info.is_write
            if isinstance(value, torch.Tensor) and not view and func is not torch.ops.aten._unsafe_view.default:
                self.bytes += value.nbytes
        return result


def _dense(x: torch.Tensor) -> bool:
    """Whether the numbers of a tensor fill a piece of memory, in any order."""
    return sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) + 1 == x.numel()


@torch.no_grad()
def part_costs(make: Callable[[], nn.Module], x: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
    """What a block costs for one image, on the meta device.

    Returns:
        MACs; bytes that convolutions put out; bytes written by the official forward in calibration and in scoring; by
        ours in calibration and in scoring. And the output.
    """
    put_out = 0

    def hook(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal put_out
        put_out += output.nbytes

    costs = count(make(), x)
    theirs = make().eval()
    handles = [layer.register_forward_hook(hook) for layer in theirs.modules() if isinstance(layer, nn.Conv2d)]
    theirs(x)
    for handle in handles:
        handle.remove()
    written = []
    with official_shuffle():
        for training in (True, False):
            for layer in theirs.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.train(training)
                    layer.num_batches_tracked = None  # one number
            with Writes() as writes:
                theirs(x)
            written.append(writes.bytes)
    part = Part(make(), ARITHMETIC["32"], torch.device("meta"))
    node = Node(part, [(torch.zeros_like(mean), torch.ones_like(var)) for mean, var in part.own], {})
    last = x.contiguous(memory_format=torch.channels_last)
    for what in (Pass.CALIBRATE, Pass.SCORE):
        part.run(node, last, what, 0)  # finds out whether it writes its input, and folds; once, not per image
        with Writes() as writes:
            part.run(node, last, what, 0)
        written.append(writes.bytes)
    return np.array([costs.macs, put_out, *written], dtype=np.int64), costs.output


def all_costs(chain: Chain) -> dict[tuple[Any, ...], np.ndarray]:
    """(place, candidate) -> what it costs; places "stem", 0, 1, ..., "head"."""
    with torch.device("meta"):
        x = torch.empty(1, 3, chain.resolution, chain.resolution)
        costs = {}
        costs["stem",], x = part_costs(chain.stem, x)
        for place, block in enumerate(chain.blocks):
            for choice in block.combinations():
                costs[place, *choice.values()], output = part_costs(lambda b=block, c=choice: b.build(c), x)  # type: ignore[misc]
            x = output
        costs["head",], _ = part_costs(chain.head, x)
    return costs


def keys(chain: Chain, arch: Arch) -> list[tuple[Any, ...]]:
    """The parts of an architecture."""
    blocks = [(place, *(arch[label] for label in block.choices)) for place, block in enumerate(chain.blocks)]
    return [("stem",), *blocks, ("head",)]


def tally(
    chain: Chain, costs: dict[tuple[Any, ...], np.ndarray], archs: Sequence[Arch], group: int
) -> tuple[np.ndarray, np.ndarray]:
    """(nodes, then the sums of `part_costs` over them), of candidates one by one and of their trees."""
    alone, shared = np.zeros((2, 1 + len(costs["stem",])), dtype=np.int64)
    seen: set[tuple[Any, ...]] = set()
    for number, arch in enumerate(archs):
        if number % group == 0:
            seen.clear()  # another tree
        path = keys(chain, arch)
        for depth, key in enumerate(path):
            entry = np.array([1, *costs[key]])
            alone += entry
            if key == ("head",) or tuple(path[: depth + 1]) not in seen:
                seen.add(tuple(path[: depth + 1]))
                shared += entry
    return alone, shared


def written(sums: np.ndarray, ours: bool) -> float:
    """Bytes written in a search's mix of calibration and scoring images, from the sums of `tally`."""
    calibration, scoring = sums[5:7] if ours else sums[3:5]
    return float(calibration * CALIBRATION + scoring * SCORING)


def count_search(given: argparse.Namespace) -> None:
    table = CostTable.load(CLONE / COSTS)
    chain = spaces.describe("spos", "imagenet")
    costs = all_costs(chain)
    bred = generations(given.generations, make_judge(given), given.seed)
    archs = [arch for archs in bred for arch in archs]
    assert all(sum(int(costs[key][0]) for key in keys(chain, arch)) == table.macs(arch) for arch in archs[:50])

    def row(title: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[str, ...]:
        alone, shared = (sum(column) for column in zip(*pairs, strict=True))
        ratios = (alone[1] / shared[1], alone[2] / shared[2], written(alone, False) / written(shared, True))
        return title, f"{int(shared[0]):,} of {int(alone[0]):,}", *(f"{ratio:.2f}" for ratio in ratios)

    pairs = [tally(chain, costs, archs, len(archs)) for archs in bred]
    rows = [row(f"generation {g}", [pairs[g]]) for g in (0, 1, 5, 20) if g < len(bred)]
    rows.append(row(f"all {len(archs):,}", pairs))
    header = ("one by one / trees", "nodes", "MACs", "bytes of convolutions", "bytes written")
    print(cli.table(rows, header, as_is=True))
    rows = [
        row(f"trees of {group}", [tally(chain, costs, archs, group) for archs in bred]) for group in (50, 25, 10, 5, 1)
    ]
    print("\n" + cli.table(rows, ("whole search", *header[1:]), as_is=True))
    alone, shared = (sum(column) for column in zip(*pairs, strict=True))
    base = written(alone, False)
    print(
        f"\nbytes written, whole search: by sharing alone (the official forward in trees) {base / written(shared, False):.2f}; by "
        f"the forward alone (ours one by one) {base / written(alone, True):.2f}, of which calibration "
        f"{alone[3] / alone[5]:.2f} and scoring {alone[4] / alone[6]:.2f}; both {base / written(shared, True):.2f}"
    )
    images = CALIBRATION + SCORING
    print(
        f"images decoded: one by one {len(archs) * images:,} ({CALIBRATION:,} + {SCORING:,} for each candidate), ours "
        f"{images:,} once; {len(archs):,} times fewer"
    )
    scores = f"run {given.run}" if given.run else f"stand-in '{given.scores}'"
    print(f"spos imagenet at {chain.resolution} px, at most {MAX_MACS:,} MACs; scores: {scores}, seed {given.seed}")


# Growth


def experiment(run: Path, folder: Path, size: int, given: argparse.Namespace) -> Path:
    """Write the YAML of a search with the paper's numbers."""
    table = CostTable.load(run / "cost_table.json")
    save_json(folder / "space.json", search_space(table.choices))
    words = f"--calibration-images {given.images} --scoring-images {given.images} --batch-size {given.images}"
    content = {
        "searchSpaceFile": "space.json",
        "trialCommand": f"python -m trials.evaluate --run {run} {words} --device cpu",
        "trialCodeDirectory": str(CLONE),
        "experimentWorkingDirectory": str(folder),
        "trialConcurrency": 1,
        "maxTrialNumber": size,
        "tuner": {
            "codeDirectory": str(CLONE),
            "className": "strategies.evolution.EvolutionTuner",
            "classArgs": {"cost_table": str(run / "cost_table.json"), "seed": given.seed},
        },
        "trainingService": {"platform": "local"},
    }
    path = folder / "search.yml"
    path.write_text(yaml.safe_dump(content))
    return path


class Clock(NamedTuple):
    """A point in time, or a span of it, in seconds."""

    cpu: float
    wall: float

    @classmethod
    def now(cls) -> Clock:
        return cls(time.process_time(), time.perf_counter())

    def since(self, other: Clock) -> Clock:
        return Clock(self.cpu - other.cpu, self.wall - other.wall)


def one_search(source: Path, folder: Path, size: int, given: argparse.Namespace) -> list[str]:
    """Search with a fresh copy of a run. Returns a row of the table: milliseconds per candidate."""
    from trials.scoring.scorer import Scorer
    from trials.search_driver.in_process import search_in_process
    from trials.search_driver.plan import plan_experiment
    from trials.search_driver.session import restore_tuner

    folder.mkdir()
    run = folder / "run"
    shutil.copytree(source, run, ignore=shutil.ignore_patterns("search", "in_process", "checkpoints", "frontier"))
    plan = plan_experiment(experiment(run, folder, size, given), run=str(run))
    restore_tuner(plan, run / "in_process")
    ends: list[Clock] = []  # of each candidate
    scoring: list[tuple[int, Clock]] = []  # candidates that were done before, and how long the next ones took
    plain = Scorer._together
    judge = stand_in(given.scores, given.seed, plan.table.choices) if given.unscored else None

    def timed(self: Scorer, archs: Sequence[Arch], tick: Callable[[float], None]) -> Any:
        began = Clock.now()
        if judge:
            found = [(0.0, torch.full((2,), score), 0) for score in judge(list(archs))]
        else:
            found = plain(self, archs, tick)
        scoring.append((len(ends), Clock.now().since(began)))
        return found

    Scorer._together = timed  # type: ignore[method-assign]
    bar = cli.progress(size, desc=f"{size:,} candidates", unit="arch")

    def scored(result: dict[str, Any]) -> None:
        ends.append(Clock.now())
        bar.update()

    began = Clock.now()
    try:
        search_in_process(plan, scored)
    finally:
        Scorer._together = plain  # type: ignore[method-assign]
        bar.close()
    shutil.rmtree(folder)
    last = size - LAST
    row = [f"{size:,}"]
    for clock in range(2):
        for first, start in ((0, began), (last, ends[last - 1] if last else began)):
            all_of_it = ends[-1].since(start)[clock]
            scores = sum(spent[clock] for done, spent in scoring if done >= first)
            row += [f"{1000 * seconds / (size - first):.1f}" for seconds in (scores, all_of_it - scores)]
    return row


def growth(given: argparse.Namespace) -> None:
    from trials.common import run_dir

    sizes = [int(size) for size in given.sizes.split(",") if size.isdecimal()]
    if len(sizes) != len(given.sizes.split(",")) or any(size < LAST or size % LAST for size in sizes):
        raise InputError(f"--sizes '{given.sizes}': give multiples of {LAST} with commas, such as 100,300,1000")
    run_dir.load_run(given.growth, "supernet")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "run"
        shutil.copytree(given.growth, source, ignore=shutil.ignore_patterns("search", "in_process", "checkpoints"))
        from trials.scoring.scorer import Scorer

        # decodes the images, and loads what the first search would otherwise load
        Scorer(source, Settings(given.images, given.images, given.images), "cpu").fixed  # noqa: B018
        one_search(source, folder / "first", LAST, given)
        for size in sizes:
            rows.append(one_search(source, folder / str(size), size, given))
    kinds = [
        f"{clock}{span}\n{what}"
        for clock in ("cpu", "wall")
        for span in (", all", f", last {LAST}")
        for what in ("scoring", "rest")
    ]
    print(cli.table(rows, ("candidates", *kinds), as_is=True))
    print(
        f"\nmilliseconds per candidate, of all and of the last {LAST}; the rest is the tuner, its journal and the files of scores. "
        f"In-process search, EvolutionTuner with the paper's numbers and no limit, seed {given.seed}; {given.images} calibration "
        f"and {given.images} scoring images; n = 1 search of each size; one thread of {os.cpu_count()} cores"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--count", action="store_true", help="count a whole search, no timing")
    what.add_argument("--growth", metavar="RUN", help="time per candidate against the number of candidates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scores", choices=SCORES, default="additive", help="stand-in for scores that the tuner is told"
    )
    parser.add_argument("--run", help="scores from this run of trials.supernet instead")
    time_ = parser.add_argument_group("processor time")
    time_.add_argument("--rounds", type=int, default=3)
    time_.add_argument("--generation", type=int, default=5, help="whose candidates; the first one is 0")
    time_.add_argument("--archs", type=int, default=50, help="candidates, at most 50")
    time_.add_argument("--group", type=int, default=0, help="candidates in a tree; 0: all")
    time_.add_argument("--resolution", type=int, default=64)
    time_.add_argument("--batch-size", type=int, default=32)
    time_.add_argument("--calibration", type=int, default=3, help="batches")
    time_.add_argument("--scoring", type=int, default=1, help="batches")
    parser.add_argument("--generations", type=int, default=21, help="of --count, 50 candidates each")
    parser.add_argument("--sizes", default="100,300,1000", help="of the searches of --growth")
    parser.add_argument("--unscored", action="store_true", help="--growth with the stand-in's scores: the rest alone")
    parser.add_argument("--images", type=int, default=64, help="of --growth, for calibration and again for scoring")
    given = parser.parse_args()
    for name in ("rounds", "archs", "resolution", "batch_size", "calibration", "scoring", "generations", "images"):
        if getattr(given, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(given, name)} is not above 0; give at least 1")
    for name in ("group", "seed", "generation"):
        if getattr(given, name) < 0:
            raise InputError(f"--{name} {getattr(given, name)} is below 0; give 0 or more")
    logging.getLogger("nni").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if given.count:
            count_search(given)
        elif given.growth:
            growth(given)
        else:
            processor_time(given)


if __name__ == "__main__":
    cli.run(main)
