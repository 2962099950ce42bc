"""Sampling, limits and tuners: counts, limits, seeds, restarts. Pure Python, no NNI manager."""

import random
from collections import Counter

import nni
import numpy as np
import pytest

from spaces.arch import arch_id, load_arch
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import read_jsonl
from strategies.evolution import EvolutionTuner, crossover, mutate
from strategies.limits import Feasible, Limits, amount
from strategies.random_search import RandomTuner
from strategies.sampling import step_generator, uniform
from tests.conftest import ROOT

COSTS = "experiments/spaces/spos-tiny.costs.json"
TABLE = CostTable.load(ROOT / COSTS)
BOUNDS = TABLE.bounds()
SPACE = {label: {"_type": "choice", "_value": values} for label, values in TABLE.choices.items()}


def search(tuner, trials: int) -> list[dict]:
    """What NNI does at concurrency 1; an architecture's score is its number of k5."""
    tuner.update_search_space(SPACE)
    archs = []
    for number in range(trials):
        arch = tuner.generate_parameters(number)
        tuner.receive_trial_result(number, arch, {"default": float(list(arch.values()).count("k5")), "macs": 1})
        tuner.trial_end(number, True)
        archs.append(arch)
    return archs


def test_uniform_is_uniform_and_repeatable():
    paths = [uniform(TABLE.choices, 3, step)[0] for step in range(4000)]
    assert paths[:100] == [uniform(TABLE.choices, 3, step)[0] for step in range(100)]
    assert paths[:100] != [uniform(TABLE.choices, 4, step)[0] for step in range(100)]
    for label in TABLE.choices:
        counts = Counter(path[label] for path in paths)
        # chi-square with 3 degrees of freedom; 27 is exceeded with probability 6e-6
        assert sum((counts[name] - 1000) ** 2 / 1000 for name in TABLE.choices[label]) < 27


@pytest.mark.parametrize("tuner_class", [EvolutionTuner, RandomTuner])
def test_limits_hold_and_nothing_comes_twice(tuner_class):
    limits = {"max_macs": 3_100_000, "min_macs": 2_900_000, "max_params": 160_000}
    archs = search(tuner_class(COSTS, seed=1, **limits), 200)
    assert len({arch_id(arch) for arch in archs}) == 200
    assert all(2_900_000 <= TABLE.macs(arch) <= 3_100_000 and TABLE.params(arch) <= 160_000 for arch in archs)


@pytest.mark.parametrize("tuner_class", [EvolutionTuner, RandomTuner])
def test_same_seed_same_search(tuner_class):
    first = search(tuner_class(COSTS, seed=5, max_macs="3.2M"), 120)
    assert first == search(tuner_class(COSTS, seed=5, max_macs=3_200_000), 120)
    assert first != search(tuner_class(COSTS, seed=6, max_macs="3.2M"), 120)


def test_evolution_improves_on_random_search():
    evolved = search(EvolutionTuner(COSTS, seed=0), 300)
    drawn = search(RandomTuner(COSTS, seed=0), 300)
    best = [max(list(arch.values()).count("k5") for arch in archs) for archs in (evolved, drawn)]
    assert best[0] >= best[1] + 3


def test_a_generation_is_made_of_mutations_crossovers_and_random_ones(monkeypatch):
    tuner = EvolutionTuner(COSTS, population=10, top_k=3, mutation=4, crossover=3, seed=0)
    first = search(tuner, 10)
    assert (tuner.generation, list(tuner.queue)) == (0, [])
    parents = sorted(first, key=lambda arch: -list(arch.values()).count("k5"))[:3]
    assert [entry["arch"] for entry in tuner.ranked()[:3]] == parents
    second = [tuner.generate_parameters(number) for number in range(10, 20)]
    assert tuner.generation == 1

    def distance(a, b):
        return sum(a[label] != b[label] for label in a)

    assert all(min(distance(child, parent) for parent in parents) <= 6 for child in second[:4])
    for child in second[4:7]:  # every gene comes from a parent
        assert all(child[label] in {parent[label] for parent in parents} for label in child)


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
        EvolutionTuner(COSTS, population=5)


def test_a_conflict_between_limits_ends():
    """Each limit is within reach, both together are not: the search for one gives up and says so."""
    with pytest.raises(InputError, match=r"none of 1,000,000 architectures drawn meets min_macs .* max_params"):
        Feasible(TABLE, Limits(min_macs=BOUNDS.max_macs, max_params=BOUNDS.min_params))


@pytest.mark.parametrize("value", ["330M", 330_000_000, "3.3e8", 3.3e8, "330,000,000"])
def test_amounts(value):
    assert amount(value, "max_macs") == 330_000_000


@pytest.mark.parametrize("value", ["", "lots", "-1", 0, True, "nan", "inf", "M"])
def test_bad_amounts(value):
    with pytest.raises(InputError, match="give a positive number such as 330000000 or 330M"):
        amount(value, "max_macs")


def test_an_exhausted_space_ends_the_search(tmp_path):
    table = CostTable.additive({"b": {"x": (1, 1), "y": (2, 1), "z": (3, 1)}})
    table.save(tmp_path / "costs.json")
    for tuner in (RandomTuner(str(tmp_path / "costs.json"), max_macs=2), EvolutionTuner(str(tmp_path / "costs.json"))):
        seen = []
        with pytest.raises(nni.NoMoreTrialError):
            for number in range(5):
                seen.append(tuner.generate_parameters(number)["b"])
                tuner.receive_trial_result(number, {"b": seen[-1]}, 1.0)
        assert sorted(seen) in (["x", "y"], ["x", "y", "z"])


def test_restart_goes_on_as_if_nothing_happened(tmp_path, monkeypatch):
    whole = search(EvolutionTuner(COSTS, population=10, top_k=3, mutation=4, crossover=3, seed=2), 40)
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path))
    make = lambda: EvolutionTuner(COSTS, population=10, top_k=3, mutation=4, crossover=3, seed=2)  # noqa: E731
    first = search(make(), 25)
    resumed = make()
    resumed.load_checkpoint()
    resumed.update_search_space(SPACE)
    # NNI replays what was finished, with ids that start at 1 again
    resumed.import_data([{"parameter": arch, "value": {"default": 0.0}} for arch in first])
    assert first + search(resumed, 15) == whole


def test_every_generation_exports_its_best(tmp_path, monkeypatch):
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path))
    tuner = EvolutionTuner(COSTS, population=5, top_k=2, mutation=2, crossover=2, seed=0)
    archs = search(tuner, 15)
    for generation in range(3):
        best = load_arch(tmp_path / f"generation-{generation:03d}.json", TABLE.choices)
        scores = [list(arch.values()).count("k5") for arch in archs[: 5 * (generation + 1)]]
        assert list(best.values()).count("k5") == max(scores)
    assert sum("asked" in event for event in read_jsonl(tmp_path / "tuner.jsonl")) == 15


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
    with pytest.raises(nni.NoMoreTrialError, match="the last 5 architectures failed 2 times each"):
        for number in range(50):
            tuner.generate_parameters(number)
            tuner.trial_end(number, False)
    assert number == 10


def test_another_search_space_is_refused():
    with pytest.raises(InputError, match="the search space and the cost table differ"):
        RandomTuner(COSTS).update_search_space({"block00": {"_type": "choice", "_value": ["k3"]}})


def test_generators_of_steps_differ():
    assert len({step_generator(seed, step).random() for seed in range(10) for step in range(100)}) == 1000
