"""The tuners: limits, seeds, restarts, no network twice, and whether they find what they are made for. No NNI manager."""

import itertools
import random
from collections import Counter, deque
from functools import cache

import nni
import numpy as np
import pytest
import yaml

import spaces
from spaces.arch import arch_id
from spaces.arch_file import load_arch
from spaces.cost import BlockCosts, CostTable, measure, search_space
from spaces.errors import InputError
from spaces.files import read_jsonl
from strategies.evolution import EvolutionTuner
from strategies.model_guided import ModelGuidedTuner
from strategies.mutation import crossover, mutate
from strategies.pareto import ParetoTuner, pareto_front
from strategies.random_search import RandomTuner
from strategies.search_state import has_unscored
from tests.commands import ROOT

COSTS = "experiments/spaces/spos-tiny.costs.json"
TABLE = CostTable.load(ROOT / COSTS)
BOUNDS = TABLE.bounds()
SPACE = search_space(TABLE.choices)
ALL = {  # small generations, so that a short search has many
    "evolution": (EvolutionTuner, {"population": 10, "top_k": 3, "mutation": 4, "crossover": 3}),
    "guided": (ModelGuidedTuner, {"population": 5, "initial": 10, "candidates": 400}),
    "pareto": (ParetoTuner, {"population": 10}),
    "random": (RandomTuner, {"population": 10}),
}
every_tuner = pytest.mark.parametrize("name", ALL)


def make(name: str, costs: str = COSTS, **arguments):
    """A tuner with NNI's search space."""
    tuner_class, small = ALL[name]
    tuner = tuner_class(costs, **(small | arguments))
    tuner.update_search_space(search_space(CostTable.load(ROOT / costs).choices))
    return tuner


def search(tuner, trials: int) -> list[dict]:
    """What NNI does at concurrency 1; an architecture's score is its number of k5."""
    tuner.update_search_space(SPACE)
    archs = []
    for number in range(trials):
        arch = tuner.generate_parameters(number)
        score = {"default": float(list(arch.values()).count("k5")), "macs": tuner.table.macs(arch)}
        tuner.receive_trial_result(number, arch, score)
        tuner.trial_end(number, True)
        archs.append(arch)
    return archs


@cache
def weights(sizes: tuple[int, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of each candidate, and of each pair of candidates of neighbouring labels."""
    draw = np.random.default_rng(7)
    return [draw.normal(size=size) for size in sizes], [draw.normal(size=pair) for pair in itertools.pairwise(sizes)]


def score(table: CostTable, arch: dict) -> float:
    """A sum over single choices and neighbouring pairs; it knows nothing of the costs."""
    genes = [candidates.index(arch[label]) for label, candidates in table.choices.items()]
    single, pairs = weights(tuple(len(candidates) for candidates in table.choices.values()))
    alone = sum(weight[gene] for weight, gene in zip(single, genes, strict=True))
    together = sum(weight[two] for weight, two in zip(pairs, itertools.pairwise(genes), strict=True))
    return float(alone + together)


def play(begin, trials: int, ahead: int = 1, kill: bool = False) -> list[dict]:
    """What NNI does with `ahead` workers; the oldest trial ends first.

    Args:
        begin: makes the tuner.
        kill: after each result the tuner is killed and started again from its journal, as is NNI, which counts anew.
    """
    tuner, archs, running = begin(), [], deque()
    number = 0
    while len(archs) < trials or running:
        while len(archs) < trials and len(running) < ahead:
            archs.append(tuner.generate_parameters(number))
            running.append((number, archs[-1]))
            number += 1
        first, arch = running.popleft()
        tuner.receive_trial_result(first, arch, {"default": score(tuner.table, arch)})
        tuner.trial_end(first, True)
        if kill:
            tuner = begin()
            tuner.load_checkpoint()
            again = [tuner.generate_parameters(number) for number in range(len(running))]
            assert again == [arch for _, arch in running]
            running, number = deque(enumerate(again)), len(again)
    return archs


SPACES = [
    (COSTS, {"max_macs": "3.1M", "min_macs": "2.9M", "max_params": "160k"}),
    ("experiments/spaces/single-path-nas-tiny.costs.json", {"max_macs": "4M"}),
    ("experiments/spaces/spos-tiny-channel.costs.json", {"max_macs": "3M", "min_macs": "2M"}),
]


@every_tuner
@pytest.mark.parametrize(("costs", "limits"), SPACES)
@pytest.mark.parametrize("ahead", [1, 7])
def test_limits_hold_and_nothing_comes_twice(name, costs, limits, ahead):
    archs = play(lambda: make(name, costs, seed=1, **limits), 60, ahead)
    table, feasible = CostTable.load(ROOT / costs), make(name, costs, **limits).feasible
    assert len({arch_id(table.canonical(arch)) for arch in archs}) == 60
    assert all(feasible.allows(arch) for arch in archs)


@pytest.mark.parametrize("tuner_class", [EvolutionTuner, ParetoTuner, RandomTuner])
def test_limits_hold_over_many_generations(tuner_class):
    limits = {"max_macs": 3_100_000, "min_macs": 2_900_000, "max_params": 160_000}
    archs = search(tuner_class(COSTS, seed=1, **limits), 200)
    assert len({arch_id(arch) for arch in archs}) == 200
    assert all(2_900_000 <= TABLE.macs(arch) <= 3_100_000 and TABLE.params(arch) <= 160_000 for arch in archs)


@every_tuner
def test_same_seed_same_search(name):
    first = search(make(name, seed=5, max_macs="3.2M"), 60)
    random.seed(1)  # what others draw does not matter
    np.random.seed(1)
    assert first == search(make(name, seed=5, max_macs=3_200_000), 60)
    assert first != search(make(name, seed=6, max_macs="3.2M"), 60)


@every_tuner
@pytest.mark.parametrize("ahead", [1, 4])
def test_restart_goes_on_as_if_nothing_happened(name, ahead, tmp_path, monkeypatch):
    begin = lambda: make(name, seed=2, max_macs="3.2M")  # noqa: E731
    whole = play(begin, 35, ahead)
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path))
    assert play(begin, 35, ahead, kill=True) == whole


@every_tuner
def test_results_that_nni_replays_after_a_restart_change_nothing(name, tmp_path, monkeypatch):
    whole = search(make(name, seed=2), 40)
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path))
    first = search(make(name, seed=2), 25)
    resumed = make(name, seed=2)
    resumed.load_checkpoint()
    # NNI replays what was finished, with ids that start at 1 again
    resumed.import_data([{"parameter": arch, "value": {"default": 0.0}} for arch in first])
    assert first + search(resumed, 15) == whole


def test_a_score_that_nni_missed_is_handed_out_again(tmp_path, monkeypatch):
    """NNI was killed after the tuner had taken a score and before NNI had noted it: it would ask for one architecture more."""
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path))
    archs = search(make("evolution"), 4)
    monkeypatch.setenv("NNI_MODE", "resume")
    monkeypatch.setattr("strategies.tuner.guard_loaded", lambda: True)
    resumed = make("evolution")
    resumed.load_checkpoint()
    counted = [{"parameter": arch, "value": 1.0} for arch in (archs[0], archs[3])]
    resumed.import_data(counted)
    assert [resumed.generate_parameters(number) for number in range(2)] == archs[1:3]
    assert resumed.generate_parameters(2) not in archs
    assert len(resumed.state.entries) == 5

    all_counted = make("evolution")
    all_counted.load_checkpoint()
    all_counted.import_data([{"parameter": arch, "value": 1.0} for arch in archs])
    assert all_counted.generate_parameters(0) not in archs


@every_tuner
def test_asking_ahead_of_results_never_waits(name):
    tuner = make(name, seed=0, max_macs="3.2M")
    archs = [tuner.generate_parameters(number) for number in range(60)]  # without a single result
    assert len({arch_id(arch) for arch in archs}) == 60
    for number in range(59, -1, -1):  # the last comes first; equal scores
        tuner.receive_trial_result(number, archs[number], 0.5)
    archs += [tuner.generate_parameters(number) for number in range(60, 80)]
    assert len({arch_id(arch) for arch in archs}) == 80


@every_tuner
def test_scores_of_any_size(name):
    """Huge, negative and equal scores, and one result alone."""
    tuner = make(name, seed=0, **({"initial": 2} if name == "guided" else {}))
    for number in range(30):
        arch = tuner.generate_parameters(number)
        tuner.receive_trial_result(number, arch, (-1e300, 1e300, 0.0, 0.0, -1e-300)[number % 5])


@every_tuner
def test_an_exhausted_space_ends_the_search(name, tmp_path):
    table = CostTable.additive({"b": {"x": (1, 1), "y": (2, 1), "z": (3, 1)}})
    table.save(tmp_path / "costs.json")
    small = {"initial": 2} if name == "guided" else {}
    for limits, names in (({"max_macs": 2}, ["x", "y"]), ({}, ["x", "y", "z"])):
        tuner, seen = make(name, str(tmp_path / "costs.json"), **small, **limits), []
        with pytest.raises(nni.NoMoreTrialError):
            for number in range(5):
                seen.append(tuner.generate_parameters(number)["b"])
                tuner.receive_trial_result(number, {"b": seen[-1]}, 1.0)
        assert sorted(seen) == names


def twins(blocks: int = 3) -> CostTable:
    """Blocks alike, of a skip and two operations; the kernel means nothing where a block is skipped."""
    macs = np.array([0, 5, 9, 0, 6, 11])
    return CostTable(
        {},
        (100, 10),
        [
            BlockCosts({f"kernel{n}": [3, 5], f"op{n}": ["skip", "a", "b"]}, macs, macs, (0, 3), n > 0)
            for n in range(blocks)
        ],
    )


@every_tuner
def test_every_network_comes_once_and_under_one_name(name, tmp_path):
    """Of two blocks: skips move, so that none, one and both make 1 + 4 + 16 networks of 36 architectures."""
    twins(2).save(tmp_path / "costs.json")
    table = CostTable.load(tmp_path / "costs.json")
    tuner, seen = make(name, str(tmp_path / "costs.json")), []
    with pytest.raises(nni.NoMoreTrialError):
        for number in range(40):
            seen.append(tuner.generate_parameters(number))
            tuner.receive_trial_result(number, seen[-1], float(number % 7))
    assert len(seen) == len({arch_id(table.canonical(arch)) for arch in seen}) == 21


@every_tuner
def test_equal_networks_never_come_twice(name, tmp_path):
    table = measure(spaces.describe("single-path-nas", "tiny"))
    table.save(tmp_path / "costs.json")
    feasible = {"max_macs": "2.2M"}  # most blocks are skipped
    archs = play(lambda: make(name, str(tmp_path / "costs.json"), seed=3, **feasible), 80)
    assert len({arch_id(table.canonical(arch)) for arch in archs}) == 80


@pytest.mark.parametrize("space", ["fbnet", "proxylessnas", "single-path-nas", "spos"])
def test_canonical_architectures_are_the_same_network(space):
    """In order, every tensor of both networks has the same shape: only skips have moved."""
    chain = spaces.describe(space, "tiny")
    table = CostTable.load(ROOT / f"experiments/spaces/{space}-tiny.costs.json")
    measured = measure(chain)
    assert [(b.identities, b.interchangeable_with_previous) for b in table.blocks] == [
        (b.identities, b.interchangeable_with_previous) for b in measured.blocks
    ]
    draw = np.random.default_rng(0)
    sizes = [len(block.macs) for block in table.blocks]
    options = draw.integers(sizes, size=(12, len(sizes)))
    for number, block in enumerate(table.blocks):  # many skips
        if block.identities:
            skip = draw.random(len(options)) < 0.5
            options[skip, number] = draw.choice(block.identities, size=skip.sum())
    moved = 0
    for row in options:
        arch = table.arch(row)
        canonical = table.canonical(arch)
        moved += canonical != arch
        assert (table.macs(arch), table.params(arch)) == (table.macs(canonical), table.params(canonical))
        shapes = [
            [tuple(tensor.shape) for tensor in chain.network(which).state_dict().values()]
            for which in (arch, canonical)
        ]
        assert shapes[0] == shapes[1]
        assert table.canonical(canonical) == canonical
    assert moved == (0 if space == "spos" else 12)


def test_canonical_names_are_as_many_as_networks():
    """Of three twins: skips and their kernels do not count, the order of operations does: 1 + 4 + 16 + 64."""
    table = twins(3)
    options = np.array(list(itertools.product(range(6), repeat=3)))
    many = table.canonical_many(options)
    assert [table.arch(row) for row in many] == [table.canonical(table.arch(row)) for row in options]
    assert len(np.unique(many, axis=0)) == 85

    def network(row):
        return [int(option) for option in row if option not in (0, 3)]

    assert [network(row) for row in many] == [network(row) for row in options]


def test_a_skip_moves_between_twins_alone():
    moved = {"kernel0": 5, "op0": "skip", "kernel1": 5, "op1": "a"}
    assert twins(2).canonical(moved) == {"kernel0": 5, "op0": "a", "kernel1": 3, "op1": "skip"}
    blocks = twins(2).blocks
    apart = CostTable({}, (0, 0), [blocks[0], BlockCosts(blocks[1].choices, blocks[1].macs, blocks[1].params, (0, 3))])
    assert apart.canonical(moved) == moved | {"kernel0": 3}


@pytest.mark.slow
@pytest.mark.parametrize("costs", ["spos-tiny", "spos-tiny-channel", "single-path-nas-tiny"])
def test_the_model_beats_random_search_and_evolution(costs):
    """4^20 to 40^20 architectures, 100 evaluations; the score is of singles and pairs."""
    path = f"experiments/spaces/{costs}.costs.json"
    table = CostTable.load(ROOT / path)
    best = {}
    for name in ("guided", "evolution", "random"):
        found = [play(lambda name=name, seed=seed: make(name, path, seed=seed), 100) for seed in (0, 1)]
        best[name] = [max(score(table, arch) for arch in archs) for archs in found]
    assert min(best["guided"]) > max(best["random"])
    assert np.mean(best["guided"]) > np.mean(best["evolution"])


def test_a_long_search_does_not_forget_what_is_bad():
    """Past 500 and 1,000 noisy results, what is proposed is truly as good as before: all results are fitted, bad ones too."""
    tuner, noise, true = make("guided", seed=0), np.random.default_rng(1), []
    for number in range(1200):
        arch = tuner.generate_parameters(number)
        true.append(score(TABLE, arch))
        tuner.receive_trial_result(number, arch, true[-1] + 4 * noise.normal())
    means = np.mean(np.reshape(true, (12, 100)), axis=1)
    assert all(mean > 0.9 * means[:place].max() for place, mean in enumerate(means) if place >= 2)
    assert means[2] > means[0] + 5  # the space's deviation is 6


@pytest.mark.parametrize("objective", ["macs", "params"])
def test_pareto_frontier_is_larger_than_that_of_random_search(objective):
    from pymoo.indicators.hv import HV

    cost = getattr(TABLE, objective)
    most = getattr(BOUNDS, f"max_{objective}")
    for seed in (0, 1):
        volume = []
        for tuner in (make("pareto", objective=objective, seed=seed, population=20), make("random", seed=seed)):
            archs = play(lambda tuner=tuner: tuner, 200)
            points = pareto_front([(score(TABLE, arch), cost(arch)) for arch in archs])
            volume.append(HV(ref_point=[0.0, 1.0])(np.array([(-gain, paid / most) for gain, paid in points])))
        assert volume[0] > 1.2 * volume[1]


def test_frontier():
    assert pareto_front([]) == []
    entries = [(0.9, 300, "a"), (0.8, 200, "b"), (0.7, 250, "beaten"), (0.9, 300, "again"), (0.8, 210, "dearer")]
    assert pareto_front(entries) == [(0.8, 200, "b"), (0.9, 300, "a")]
    draw = random.Random(0)
    many = [(draw.randrange(30), draw.randrange(30)) for _ in range(200)]
    beats = lambda a, b: a[0] >= b[0] and a[1] <= b[1] and a != b  # noqa: E731
    expected = sorted({b for b in many if not any(beats(a, b) for a in many)}, key=lambda entry: entry[1])
    assert pareto_front(many) == expected


@pytest.mark.parametrize(
    ("tuner_class", "arguments", "says"),
    [
        (ParetoTuner, {"objective": "mac"}, "unknown objective 'mac'; did you mean 'macs'"),
        (ParetoTuner, {"objective": "flops"}, "unknown objective 'flops'; choose from: macs, params, latency"),
        (ParetoTuner, {"mutation": 0}, "mutation 0 is out of range; give a number above 0, at most 1"),
        (ParetoTuner, {"crossover": 1.5}, "crossover 1.5 is out of range; give a number above 0, at most 1"),
        (ParetoTuner, {"population": 0}, "population 0 is not a whole number of at least 1"),
        (ModelGuidedTuner, {"initial": 1}, "initial 1 is not a whole number of at least 2; give a larger one"),
        (ModelGuidedTuner, {"candidates": 3}, "candidates 3 is not a whole number of at least 5; give a larger one"),
        (ModelGuidedTuner, {"population": 2.5}, "population 2.5 is not a whole number of at least 1"),
    ],
)
def test_arguments_are_checked(tuner_class, arguments, says):
    with pytest.raises(InputError, match=says):
        tuner_class(COSTS, **arguments)


def test_evolution_improves_on_random_search():
    evolved = search(EvolutionTuner(COSTS, seed=0), 300)
    drawn = search(RandomTuner(COSTS, seed=0), 300)
    best = [max(list(arch.values()).count("k5") for arch in archs) for archs in (evolved, drawn)]
    assert best[0] >= best[1] + 3


def test_a_generation_is_made_of_mutations_crossovers_and_random_ones(monkeypatch):
    tuner = EvolutionTuner(COSTS, population=10, top_k=3, mutation=4, crossover=3, seed=0)
    first = search(tuner, 10)
    assert (tuner.state.generation, list(tuner.state.queue)) == (0, [])
    parents = sorted(first, key=lambda arch: -list(arch.values()).count("k5"))[:3]
    assert [entry["arch"] for entry in tuner.ranked()[:3]] == parents
    second = [tuner.generate_parameters(number) for number in range(10, 20)]
    assert tuner.state.generation == 1

    def distance(a, b):
        return sum(a[label] != b[label] for label in a)

    assert all(min(distance(child, parent) for parent in parents) <= 6 for child in second[:4])
    for child in second[4:7]:  # every gene comes from a parent
        assert all(child[label] in {parent[label] for parent in parents} for label in child)


def test_the_population_alone_may_be_given():
    for given, made in (({}, (20, 10, 10)), ({"population": 50}, (50, 25, 25)), ({"population": 7}, (7, 3, 3))):
        tuner = EvolutionTuner(COSTS, **given)
        assert (tuner.population, tuner.mutation, tuner.crossover, tuner.top_k) == (*made, 10)
    with pytest.raises(InputError, match="population 5.5, top_k 10"):
        EvolutionTuner(COSTS, population=5.5)
    paper = yaml.safe_load((ROOT / "experiments" / "spos_evo.yml").read_text())["tuner"]["classArgs"]
    assert [paper[name] for name in ("population", "top_k", "mutation", "crossover")] == [50, 10, 25, 25]


def test_mutation_rate():
    """A drawn gene keeps its value in one case of four: 0.1 * 20 * 3/4 = 1.5 changes on average."""
    rng = random.Random(0)
    parent = dict.fromkeys(TABLE.choices, "k3")
    changes = [sum(v != "k3" for v in mutate(parent, TABLE.choices, 0.1, rng).values()) for _ in range(4000)]
    assert np.mean(changes) == pytest.approx(1.5, abs=0.1)


def test_crossover_takes_each_gene_from_either_parent():
    rng = random.Random(0)
    mother, father = dict.fromkeys(TABLE.choices, "k3"), dict.fromkeys(TABLE.choices, "k7")
    counts = Counter(value for _ in range(500) for value in crossover(mother, father, rng).values())
    assert set(counts) == {"k3", "k7"}
    assert counts["k3"] / 10_000 == pytest.approx(0.5, abs=0.03)


def test_limits_out_of_reach_name_the_range():
    reach = f"the space reaches {BOUNDS.min_macs:,} to {BOUNDS.max_macs:,} MACs"
    with pytest.raises(InputError, match=f"max_macs 1,000 is out of reach: {reach}"):
        EvolutionTuner(COSTS, max_macs=1000)
    with pytest.raises(InputError, match=f"min_macs 9,000,000 is out of reach: {reach}"):
        RandomTuner(COSTS, min_macs="9M")
    with pytest.raises(InputError, match="max_params 5 is out of reach: the space reaches .* params"):
        RandomTuner(COSTS, max_params=5)
    with pytest.raises(InputError, match="min_macs 3,000,000 is above max_macs 2,900,000"):
        RandomTuner(COSTS, min_macs=3_000_000, max_macs=2_900_000)
    with pytest.raises(InputError, match="unknown limit 'max_mac'; did you mean 'max_macs'"):
        RandomTuner(COSTS, max_mac=1)
    with pytest.raises(InputError, match="population 5, top_k 10, mutation 25"):
        EvolutionTuner(COSTS, population=5, mutation=25)


def test_every_generation_exports_its_best(tmp_path, monkeypatch):
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path))
    tuner = EvolutionTuner(COSTS, population=5, top_k=2, mutation=2, crossover=2, seed=0)
    archs = search(tuner, 15)
    for generation in range(3):
        best = load_arch(tmp_path / f"generation-{generation:03d}.json", TABLE.choices)
        scores = [list(arch.values()).count("k5") for arch in archs[: 5 * (generation + 1)]]
        assert list(best.values()).count("k5") == max(scores)
    assert sum("asked" in event for event in read_jsonl(tmp_path / "tuner.jsonl")) == 15


GARBAGE = [
    b"\x00" * 40,
    b"\xff\xfe{",
    b"[1, 2]",
    b"7",
    b'{"asked": ["a"]}',
    b'{"scored": "a", "score": 1e999}',
    b'{"queue": {}}',
]


@pytest.mark.parametrize("number", range(12))
def test_a_damaged_line_of_the_journal_costs_itself_alone(tmp_path, monkeypatch, caplog, number):
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path))
    tuner = EvolutionTuner(COSTS, population=5, top_k=2, mutation=2, crossover=2, seed=0)
    search(tuner, 12)
    journal = tmp_path / "tuner.jsonl"
    lines = journal.read_bytes().splitlines()
    lost = lines[number]
    lines[number] = GARBAGE[number % len(GARBAGE)]
    journal.write_bytes(b"\n".join(lines) + b'\n{"scored": "cut o')
    again = EvolutionTuner(COSTS, population=5, top_k=2, mutation=2, crossover=2, seed=0)
    again.load_checkpoint()
    known = {key: entry["score"] for key, entry in again.state.entries.items() if entry["score"] is not None}
    assert known.items() <= {key: entry["score"] for key, entry in tuner.state.entries.items()}.items()
    if b"queue" not in lost:  # the whole generation that it bred is bred again
        assert len(known) == 11
    assert "left out" in caplog.text
    assert journal.read_bytes() == b"\n".join(lines) + b"\n"  # nothing but the line that a kill cut off is gone
    assert len(search(again, 12)) == 12


def test_failed_and_odd_trials():
    tuner = EvolutionTuner(COSTS, population=4, top_k=2, mutation=2, crossover=1, seed=0, tries=2)
    tuner.update_search_space(SPACE)
    archs = [tuner.generate_parameters(number) for number in range(4)]
    tuner.trial_end(0, False)  # failed: tried once more
    tuner.receive_trial_result(1, archs[1], {"default": float("nan")})
    tuner.receive_trial_result(2, archs[2], 3.0)
    assert tuner.generate_parameters(4) == archs[0]
    tuner.trial_end(4, False)  # failed again: given up
    later = [tuner.generate_parameters(number) for number in range(5, 13)]
    assert archs[0] not in later
    assert [entry["arch"] for entry in tuner.ranked()] == [archs[2]]


def test_a_search_whose_trials_all_fail_ends():
    tuner = RandomTuner(COSTS, tries=2)
    tuner.update_search_space(SPACE)
    with pytest.raises(InputError, match="the last 5 architectures failed 2 times each"):
        for number in range(50):
            tuner.generate_parameters(number)
            tuner.trial_end(number, False)
    assert number == 10


def test_a_restart_gives_what_failed_a_new_chance(tmp_path, monkeypatch):
    """What made all trials fail may be mended; what failed as often as it may stays out."""
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path))
    tuner = RandomTuner(COSTS, tries=1)
    failed = []
    for number in range(5):
        failed.append(tuner.generate_parameters(number))
        tuner.trial_end(number, False)
    with pytest.raises(InputError, match="failed 1 times each"):
        tuner.generate_parameters(5)
    again = RandomTuner(COSTS, tries=1)
    again.load_checkpoint()
    assert again.generate_parameters(0) not in failed
    assert [entry["arch"] for entry in again.state.failed()] == failed


@pytest.mark.slow
def test_a_space_is_searched_to_its_last_architecture(tmp_path):
    table = CostTable.additive({f"b{n}": {"x": (1, 1), "y": (2, 1)} for n in range(9)})
    table.save(tmp_path / "costs.json")
    tuner = RandomTuner(str(tmp_path / "costs.json"))
    seen = set()
    with pytest.raises(nni.NoMoreTrialError):
        for number in range(600):
            seen.add(arch_id(tuner.generate_parameters(number)))
    assert len(seen) == 512
    generation = tuner.state.generation
    with pytest.raises(nni.NoMoreTrialError):
        tuner.generate_parameters(601)
    assert tuner.state.generation == generation


def test_what_waits_for_a_score():
    journal: list[dict] = [
        {"generation": 0, "queue": []},
        {"asked": "a"},
        {"asked": "b"},
        {"failed": "a"},
        {"scored": "b", "score": 1},
    ]
    assert has_unscored(journal, tries=2)
    assert not has_unscored([*journal, {"failed": "a"}], tries=2)
    assert not has_unscored([*journal, {"scored": "a", "score": 2}], tries=2)


def test_another_search_space_is_refused():
    with pytest.raises(InputError, match="the search space and the cost table differ"):
        RandomTuner(COSTS).update_search_space({"block00": {"_type": "choice", "_value": ["k3"]}})
