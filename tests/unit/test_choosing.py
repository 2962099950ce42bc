"""Which candidates cannot be told apart, and what the options of the choice refuse."""

import dataclasses

import numpy as np
import pytest

from spaces.arch import arch_id
from spaces.errors import InputError
from spaces.files import save_json
from trials.choosing.how import how_chosen
from trials.choosing.top import short_epochs
from trials.common.supernet_run import SupernetRun
from trials.evidence.comparison import as_good_as_the_best
from trials.training.supernet_config import Config as SupernetConfig


def test_candidates_are_told_apart_as_far_as_the_images_allow():
    generator = np.random.default_rng(0)
    best = generator.random((1, 2000)) < 0.9
    worse, equal = best & (generator.random((1, 2000)) < 0.93), best.copy()
    equal[0, :3] = ~equal[0, :3]
    assert as_good_as_the_best([equal, worse, best], 2) == [True, False, True]
    assert as_good_as_the_best([best, best], 0) == [True, True]
    few = [network[:, :40] for network in (equal, worse, best)]
    assert all(as_good_as_the_best(few, 2))


def test_of_equal_candidates_the_truly_best_is_marked_in_95_of_100_choices():
    generator, missed = np.random.default_rng(0), 0
    for _ in range(300):
        networks = [generator.random((1, 300)) < 0.8 for _ in range(6)]
        best = int(np.argmax([network.mean() for network in networks]))
        missed += not as_good_as_the_best(networks, best)[0]
    assert missed / 300 < 0.05


def test_seeds_that_differ_blur_the_candidates():
    generator = np.random.default_rng(0)
    far = [np.stack([generator.random(5000) < rate for rate in rates]) for rates in ((0.95, 0.75), (0.90, 0.72))]
    assert as_good_as_the_best(far, 0) == [True, True]
    near = [np.stack([generator.random(5000) < rate for rate in rates]) for rates in ((0.85, 0.85), (0.81, 0.81))]
    assert as_good_as_the_best(near, 0) == [True, False]


def test_a_candidate_has_a_quarter_of_the_epochs():
    assert [short_epochs(None, epochs) for epochs in (1, 4, 16, 24, 69)] == [1, 1, 4, 6, 17]
    assert short_epochs(24, 24) == 24
    with pytest.raises(InputError, match="--top-epochs 25 is more than the winner's 24; give at most 24"):
        short_epochs(25, 24)


def test_no_supernet_is_trained_only_where_a_limit_is_what_the_run_is_for():
    config = SupernetConfig(out="x", data="digits", epochs=0, max_macs="3M")
    assert config.trains_none
    assert not dataclasses.replace(config, epochs=1, max_macs=None).trains_none
    with pytest.raises(InputError, match="--epochs 0 is not above 0"):
        SupernetConfig(out="x", data="digits", epochs=0)
    with pytest.raises(InputError, match="--max-macs has no effect with --strategy uniform"):
        SupernetConfig(out="x", data="digits", epochs=1, max_macs="3M")


def test_the_certificate_knows_what_the_choice_cost(tmp_path):
    run, arch, other = SupernetRun(tmp_path, {"epochs": 20}), {"block0": "a"}, {"block0": "b"}
    assert how_chosen(run, arch)["by"] == "hand"
    from_random = {
        **{"id": "", "arch": arch, "source": "random", "score": None, "run": "top/x"},
        **{"mean": 90.0, "interval": [80.0, 95.0], "correct": [90], "images": 100},
    }
    candidates = [from_random | {"id": arch_id(arch)}, from_random | {"id": arch_id(other), "arch": other}]
    choice = {"chosen": arch_id(arch), "search_best": None, "seeds": 2, "epochs": 4, "candidates": candidates}
    save_json(tmp_path / "top.json", choice)
    alone = how_chosen(run, arch)
    assert (alone["by"], alone["candidate_epochs"], alone["supernet_epochs"]) == ("short trainings", 16, 0)
    assert alone["sentence"].endswith("2 candidates of 4 epochs and 2 seeds, 16 epochs in all, without a supernet")
    candidates[1]["source"] = "search"
    save_json(tmp_path / "top.json", choice)
    assert how_chosen(run, arch)["supernet_epochs"] == 20
    assert how_chosen(run, other)["by"] == "hand"
