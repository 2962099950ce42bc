"""trials.certify without training: which networks are compared, the certificate of made-up answers, what it advises."""

import dataclasses
import json
import math
import random
import shlex
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from spaces.arch import arch_id, save_arch
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import save_json
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from strategies.sampling import uniform_path
from tests.commands import ROOT, assert_one_clear_line, onepath
from tests.unit.test_latency import made
from trials import certify, export, retrain, supernet
from trials.certifying import certify_config, controls, jobs, show
from trials.certifying.advice import Adviser
from trials.certifying.certificate import Tested, make_certificate
from trials.certifying.controls import DRAW_SEED, Network, choose_networks
from trials.choosing import band as bands
from trials.choosing import searched
from trials.choosing.band import Band, band_of, random_archs
from trials.choosing.searched import Searched, read_searched
from trials.common import cli, run_dir
from trials.common.supernet_run import SupernetRun
from trials.evidence.cheaper import difference_of_two
from trials.evidence.comparison import Comparison, verdict_text
from trials.evidence.gates import few_steps
from trials.evidence.intervals import Interval
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.training.retrain_plan import plan_retraining
from trials.training.short_training import ShortTraining, beside_the_floor, short_training

COSTS = CostTable.load(ROOT / "experiments/spaces/spos-tiny.costs.json")
SMALL_TABLE = CostTable.additive(
    {f"block{n}": {"a": (100, 10), "b": (110, 5), "c": (150, 7)} for n in range(3)}, (50, 5)
)


def found(winner, limits=Limits(), latency=None, table=COSTS) -> Searched:
    run = SupernetRun(Path("run"), {})
    run.__dict__["table"] = table  # a cached property, as if it had been read
    return Searched(run, limits, latency, winner)


def winners_band(search: Searched) -> Band:
    return band_of(search, search.winner)


def drawn(limits=Limits(), seed=0, table=COSTS, latency=None):
    return FeasibleSpace(table, limits, latency).sample(random.Random(seed))


# the networks


def test_the_band_is_that_of_the_winner():
    winner = drawn(Limits(max_macs=3_300_000, min_macs=3_100_000))
    macs = COSTS.macs(winner)
    assert winners_band(found(winner, Limits(max_macs=3_300_000))) == Band("macs", 0.9 * 3_300_000, 3_300_000)
    assert winners_band(found(winner)) == Band("macs", 0.95 * macs, 1.05 * macs)
    wide = winners_band(found(winner, Limits(max_macs=9_000_000)))  # the winner is far below it
    assert (wide.low, wide.high) == (0.95 * macs, 1.05 * macs)
    table = made()
    by_latency = winners_band(found(winner, Limits(max_macs=3_300_000, max_latency_ms=table.ms(winner)), table))
    assert by_latency == Band("latency_ms", 0.9 * table.ms(winner), table.ms(winner))


@pytest.mark.parametrize("kind", ["macs", "params too", "latency"])
def test_random_architectures_are_of_the_band_and_extend_each_other(kind):
    table = made() if kind == "latency" else None
    winner = drawn(Limits(max_macs=3_300_000, min_macs=3_200_000))
    limits = Limits(max_macs=3_300_000)
    if kind == "params too":
        limits = Limits(max_macs=3_300_000, max_params=COSTS.params(winner) + 1000)
    if kind == "latency":
        limits = Limits(max_macs=COSTS.macs(winner) + 50_000, max_latency_ms=table.ms(winner) * 1.01)
    search = found(winner, limits, table)
    networks = choose_networks(search, 30)
    band = networks.band
    assert [network.id for network in choose_networks(search, 8).randoms] == [n.id for n in networks.randoms[:8]]
    names = {arch_id(COSTS.canonical(network.arch)) for network in networks.all}
    assert len(networks.all) == len(names) == 32
    for network in networks.randoms:
        cost = network.latency_ms if kind == "latency" else network.macs
        assert band.low <= cost <= band.high
        assert limits.satisfied_by(network.macs, network.params, network.latency_ms or 0.0)
        assert network.folder == f"controls/{network.id}"
    assert networks.winner.folder == "retrain"
    least = min(network.macs for network in networks.all) if kind != "latency" else None
    if least is not None:
        assert networks.cheapest.macs == least == COSTS.bounds().min_macs
    else:
        assert networks.cheapest.latency_ms == pytest.approx(table.bounds_ms()[0])


def test_a_band_with_few_architectures(monkeypatch):
    """All 6 orders of a, b, c cost 410; the winner is one of them."""
    monkeypatch.setattr(bands, "PATIENCE", 5000)
    winner = {"block0": "a", "block1": "b", "block2": "c"}
    search = found(winner, table=SMALL_TABLE)
    band = Band("macs", 410, 410)
    archs = random_archs(search, band, 50, known=[winner], seed=DRAW_SEED)
    assert len(archs) == 5
    assert all(sorted(arch.values()) == ["a", "b", "c"] for arch in archs)
    alone = {"block0": "c", "block1": "c", "block2": "c"}
    with pytest.raises(InputError, match="no other architecture within no limit has 475 to 525 MACs"):
        choose_networks(found(alone, table=SMALL_TABLE), 8)


def test_draws_are_uniform():
    """Which of the five others comes first, over the seeds of the draws."""
    winner, firsts = {"block0": "a", "block1": "b", "block2": "c"}, []
    for seed in range(300):
        search = found(winner, table=SMALL_TABLE)
        firsts.append(arch_id(random_archs(search, Band("macs", 410, 410), 1, known=[winner], seed=seed)[0]))
    counts = np.unique(firsts, return_counts=True)[1]
    assert len(counts) == 5
    # chi-square with 4 degrees of freedom; 24 is exceeded with probability 8e-5
    assert ((counts - 60) ** 2 / 60).sum() < 24


def test_the_cheapest_keeps_the_other_limits():
    winner = {"block0": "c", "block1": "b", "block2": "b"}
    assert controls.cheapest_arch(found(winner, table=SMALL_TABLE), "macs") == dict.fromkeys(winner, "a")
    few_params = found(winner, Limits(max_params=5 + 5 + 5 + 10), table=SMALL_TABLE)  # two b and one a
    assert SMALL_TABLE.macs(controls.cheapest_arch(few_params, "macs")) == 50 + 110 + 110 + 100
    from_below = found(winner, Limits(min_macs=375), table=SMALL_TABLE)
    assert SMALL_TABLE.macs(controls.cheapest_arch(from_below, "macs")) == 50 + 3 * 110
    networks = choose_networks(found(dict.fromkeys(winner, "a"), Limits(max_macs=390), table=SMALL_TABLE), 3)
    assert networks.cheapest.arch == networks.winner.arch
    assert len(networks.all) == 4


# the certificate


def network(name: str, role: str = "random", macs: int = 100) -> Network:
    return Network(role, {"block0": name}, macs, macs // 10, None, f"controls/{name}")


def answers(rate: float, seed: int, seeds: int = 2, images: int = 2000) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, images)) < rate


def certificate(
    winner: float, randoms: list[float], *, seeds: int = 2, images: int = 2000, scores=True, cheapest=0.8, first=""
):
    tested = [
        Tested(network(f"r{i}", macs=100 + i), answers(rate, i + 1, seeds, images), 50 + 40 * rate if scores else None)
        for i, rate in enumerate(randoms)
    ]
    one = Tested(network("w", "winner"), answers(winner, 0, seeds, images), 90.0 if scores else None)
    least = Tested(network("c", "cheapest", 50), answers(cheapest, 99, seeds, images), 70.0) if cheapest else None
    made_of = make_certificate(
        one,
        least,
        tested,
        band=Band("macs", 90, 110),
        scoring_images=359 if scores else None,
        advise=lambda code, comparison, accuracy, cheaper: (f"do {code} {cheaper or ''}".strip(), str(accuracy)),
        about={"recipe": {}},
        first=first,
    )
    assert json.loads(json.dumps(made_of, allow_nan=False)) == made_of
    return made_of


def test_a_planted_winner_and_a_loser():
    rates = [0.90 + 0.002 * i for i in range(8)]
    better = certificate(0.97, rates)
    assert better["verdict"]["code"] == "better"
    assert better["verdict"]["next"] == "do better"
    difference = better["comparison"]["difference"]
    assert difference == pytest.approx(better["winner"]["mean"] - np.mean([r["mean"] for r in better["random"]]))
    low, high = better["comparison"]["interval"]
    assert 0 < low < difference < high
    assert (better["comparison"]["beaten"], better["comparison"]["of"]) == (8, 8)
    assert certificate(0.80, rates)["verdict"]["code"] == "worse"
    assert certificate(0.907, rates)["verdict"]["code"] == "not distinguishable"


def test_what_is_wrong_with_the_images_is_said_again(capsys):
    made_of = certificate(0.97, [0.9, 0.91, 0.92])
    show.print_certificate(made_of, "", "")  # also of older code, which kept nothing of it
    assert "of the images" not in capsys.readouterr().out
    show.print_certificate(made_of | {"images": ["9 of 20 test images are nearly equal"]}, "", "")
    assert "\nof the images: 9 of 20 test images are nearly equal\n" in capsys.readouterr().out


def test_a_cheaper_network_that_is_as_good_is_named_with_both_intervals():
    rates = [0.90 + 0.002 * i for i in range(8)]
    better = certificate(0.95, rates, cheapest=0.97)
    assert better["cheaper"]["code"] == "better"
    low, high = better["cheaper"]["interval"]
    assert 0 < low < better["cheaper"]["difference"] < high
    own, winner = (Interval(better[role]["mean"], *better[role]["interval"]) for role in ("cheapest", "winner"))
    said = better["verdict"]["cheaper"]
    assert said == better["cheaper"]["sentence"]
    assert said.startswith(
        f"a cheaper network is better: the cheapest architecture, {better['cheapest']['id']}, saves 50 % of the MACs and has "
        f"{own} %, the winner {winner} %, which is "
    )
    assert verdict_text(better["verdict"]).endswith(f". A{said[1:]}")
    assert better["verdict"]["next"] == f"do better {better['cheapest']['run']}"
    as_good = certificate(0.95, rates, cheapest=0.951, images=20_000)
    assert as_good["cheaper"]["code"] == "as good"
    assert -1 < as_good["cheaper"]["interval"][0] < 0 <= as_good["cheaper"]["difference"]


@pytest.mark.parametrize(
    "how",
    [
        {"cheapest": 0.94, "images": 20_000},  # worse
        {"cheapest": 0.951, "images": 300},  # the numbers do not carry it
        {"cheapest": 0.97, "seeds": 1},  # nor do they without a second seed
        {"cheapest": None},
        {"cheapest": 0.97, "first": "no network has learned enough"},
    ],
)
def test_nothing_is_said_of_a_cheaper_network_where_the_numbers_do_not_carry_it(how):
    made_of = certificate(0.95, [0.90 + 0.002 * i for i in range(8)], **how)
    assert made_of["cheaper"] is None
    assert made_of["verdict"]["cheaper"] == ""
    assert "cheaper" not in verdict_text(made_of["verdict"])


def test_the_interval_of_two_networks_holds_the_true_difference():
    """Networks of one true accuracy but for a planted difference, seeds that differ, and a fresh sample of images each time."""
    generator, held, rounds = np.random.default_rng(0), 0, 400
    for _ in range(rounds):
        hard = generator.normal(size=500)  # of each image, for all networks alike
        networks = []
        for skill in (2.1, 2.0, 2.0, 2.0):
            of_seeds = skill + generator.normal(0, 0.1, (2, 1))
            networks.append(generator.normal(size=(2, 500)) + hard < of_seeds)
        found = difference_of_two(networks[0], networks[1], networks)
        truth = 100 * (norm.cdf(2.1 / math.sqrt(2.01)) - norm.cdf(2.0 / math.sqrt(2.01)))
        held += found.low <= truth <= found.high
    assert 0.93 <= held / rounds <= 0.99


def test_what_stands_in_a_certificate():
    made_of = certificate(0.95, [0.80, 0.84, 0.88, 0.92, 0.96])
    one = made_of["winner"]
    assert one["correct"] == [int(right.sum()) for right in answers(0.95, 0)]
    assert one["test_top1"] == [correct / 20 for correct in one["correct"]]
    low, high = one["interval"]
    assert low < one["mean"] < high
    assert (made_of["seeds"], made_of["test_images"], made_of["scoring_images"]) == (2, 2000, 359)
    ranking = made_of["ranking"]
    # the scores and the MACs of these networks are in the order of their accuracies
    assert ranking["n"] == 5
    assert [ranking[key]["tau"] for key in ("score", "macs", "seeds")] == pytest.approx([1, 1, 1])
    assert ranking["score_minus_macs"]["difference"] == 0
    assert ranking["given_up"] == 0
    noise = made_of["noise"]
    pooled = [made_of["cheapest"], one, *made_of["random"]]
    variances = [np.var(node["test_top1"], ddof=1) for node in pooled]
    assert noise["seeds_sd"] == pytest.approx(np.sqrt(np.mean(variances)))
    assert noise["seeds_needed"]["0.5"] > noise["seeds_needed"]["1.0"] >= 2
    assert noise["images_needed"]["0.5"] > noise["images_needed"]["1.0"]
    assert 0 < noise["score_sd"] < 3


def test_a_certificate_of_little():
    """One seed, one random architecture, no score, no cheapest: nothing is invented, and JSON can hold it."""
    made_of = certificate(0.95, [0.9], seeds=1, images=50, scores=False, cheapest=None)
    assert made_of["verdict"]["code"] == "not distinguishable"
    assert made_of["comparison"]["interval"] == [-100, 100]
    assert made_of["comparison"]["uncertainty"]["architectures"] is None
    assert made_of["cheapest"] is None
    assert made_of["noise"]["seeds_sd"] is None
    assert made_of["noise"]["seeds_needed"] is None
    assert all(made_of["ranking"][key] is None for key in ("score", "macs", "params", "seeds", "given_up"))


# what it advises


CONFIGS = {
    "certify": certify_config.Config,
    "retrain": retrain.Config,
    "export": export.Config,
    "supernet": supernet.Config,
}


def options_of(command: str):
    """What a printed command is read as; refused where an option is unknown. Commands that are chained are read one by one."""
    read = []
    for part in command.split(" && "):
        words = shlex.split(part)
        if words[0] in ("mkdir", "mv"):
            read.append((words[0], words[1:]))
            continue
        assert words[:2] == ["python", "-m"]
        name = words[2].removeprefix("trials.")
        if name in CONFIGS and name != "export":
            read.append((name, cli.parse(CONFIGS[name], words[3:], None, words[2])))
        else:
            read.append((name, words[3:]))
    return read


@pytest.fixture
def bare_run(tmp_path) -> Path:
    """A run of trials.supernet as far as options and costs go; nothing here reads its weights."""
    run = tmp_path / "run"
    words = ["--space", "spos", "--preset", "tiny", "--score-fraction", "0.25", "--epochs", "3", "--out", str(run)]
    config = cli.parse(supernet.Config, words, None, "trials.supernet")
    run_dir.open_run(run, "supernet", config, resume=False)
    COSTS.save(run / "cost_table.json")
    (run / "supernet.pt").touch()
    return run


@pytest.fixture
def adviser(bare_run) -> Adviser:
    data = load_data(DataOptions(data="digits"), 16, score_fraction=0.25)
    floor = {"top1": 90.0, "name": "random forest on 16x16 pixels"}
    return Adviser(bare_run, "retrain", 2, 8, {"--epochs": 64, "--batch-size": 32}, None, data, floor)


def advised(adviser: Adviser, code: str, uncertainty: dict, half: float = 2.0, of: int = 8, mean: float = 97.0):
    comparison = Comparison(Interval(0.1, 0.1 - half, 0.1 + half), 4, of, uncertainty)
    return adviser.advise(code, comparison, Interval(mean, mean - 1, mean + 1))


def test_the_next_command(adviser):
    run = str(adviser.run)
    command, why = advised(adviser, "better", {})
    assert command == f"python -m trials.export --weights {run}/retrain"
    settled = Comparison(Interval(1.0, 0.5, 1.5), 8, 8, {})
    command, why = adviser.advise("better", settled, Interval(97.0, 96.0, 98.0), "controls/abc")
    assert command == f"python -m trials.export --weights {run}/controls/abc"
    assert why == "the search paid, and a cheaper network is at least as good; ship that"
    more_seeds, why = advised(adviser, "not distinguishable", {"seeds": 3.0, "architectures": 1.0, "images": 2.0})
    ((_, config),) = options_of(more_seeds)
    assert (config.run, config.seeds, config.random) == (run, 4, 8)
    assert why == (
        "the luck of the seeds is the largest uncertainty: alone it moves the difference by about 3.00 points, with 4 seeds of each by "
        "about 2.12; a difference of about 6.0 points would show then"  # 1.96 times the root of 2.12^2 + 1 + 2^2
    )
    more_random, why = advised(adviser, "not distinguishable", {"seeds": 1.0, "architectures": 3.0, "images": 2.0})
    assert "which random architectures were drawn is the largest uncertainty" in why
    assert "with 20 of them by about 1.90" in why  # of 8
    ((_, config),) = options_of(more_random)
    assert (config.seeds, config.random) == (2, 20)
    only_one, why = advised(
        adviser, "not distinguishable", {"seeds": np.inf, "architectures": np.inf, "images": 1.0}, of=1
    )
    assert options_of(only_one)[0][1].random == 20
    assert why == "one random architecture says nothing about the others"
    more_images, why = advised(adviser, "not distinguishable", {"seeds": 1.0, "architectures": 1.0, "images": 2.0})
    assert "with 718 of them by about 1.41" in why  # of 359
    ((_, config),) = options_of(more_images)
    assert (config.test_fraction, config.score_fraction, config.out) == (0.4, 0.25, f"{run}-2")


def test_what_may_find_a_better_architecture(adviser):
    """By what was measured: learning under the limit; short trainings where there is none; no search of a supernet that learned one."""
    run, stored = str(adviser.run), json.loads((adviser.run / "config.json").read_text())
    short = f"python -m trials.retrain --supernet {run}"
    save_arch(adviser.run / "arc.json", uniform_path(COSTS.choices, random.Random(0)))  # which a certified run has
    assert advised(adviser, "worse", {})[0] == f"{short} --top-random 8"  # nothing was searched
    save_json(adviser.run / "most_probable.json", {})
    assert advised(adviser, "worse", {})[0] == f"{short} --top 1 --top-random 4"  # what was learned takes part
    (adviser.run / "most_probable.json").unlink()
    summary = {"limits": {}, "share_of_space": 1.0, "history": [{"id": "a"}, {"id": "b"}]}
    save_json(adviser.run / "search.json", summary)
    worse, why = advised(adviser, "worse", {})
    assert worse == f"{short} --top 2 --top-random 4"
    assert "by short trainings" in why
    assert advised(adviser, "not distinguishable", {"seeds": 1.0}, half=0.3)[0] == worse
    save_json(adviser.run / "search.json", summary | {"limits": {"max_macs": 3_200_000, "max_latency_ms": None}})
    command, why = advised(adviser, "worse", {})
    ((name, config),) = options_of(command)
    assert (name, config.strategy, config.max_macs, config.out) == ("supernet", "gumbel", "3200000", f"{run}-2")
    assert "learn an architecture under the limit" in why
    typed_words = ["--strategy", "window", "--max-macs", "3M", "--warm-start", "0.3", "--epochs", "3", "--out", run]
    typed_words += ["--op-warmup", "0.2", "--min-macs=2M", "--supernets", "2"]
    of_window = stored["config"] | {"max_macs": "3M", "strategy": "window"}
    line = shlex.join(["python", "-m", "trials.supernet", *typed_words])
    save_json(adviser.run / "config.json", stored | {"config": of_window, "typed": line})
    ((_, config),) = options_of(advised(adviser, "worse", {})[0])
    found = (config.strategy, config.max_macs, config.warm_start, config.op_warmup, config.min_macs, config.epochs)
    assert found == ("gumbel", "3200000", None, None, "", 3)  # the limit of the search, not that of the supernet
    baseline = shlex.join(["python", "-m", "trials.supernet", "--use-all-channels", "--epochs", "3", "--out", run])
    save_json(adviser.run / "config.json", stored | {"config": of_window, "typed": baseline})
    ((_, config),) = options_of(advised(adviser, "worse", {})[0])
    assert (config.strategy, config.use_all_channels, config.epochs) == ("gumbel", False, 3)
    save_json(adviser.run / "config.json", stored | {"config": of_window | {"strategy": "softmax"}})
    assert advised(adviser, "worse", {})[0] == worse  # it has learned under the limit
    save_json(
        adviser.run / "top.json",
        {"chosen": "a", "search_best": "a", "seeds": 2, "top": 2, "top_random": 4, "candidates": []},
    )
    assert advised(adviser, "worse", {})[0] == f"{short} --top 2 --top-random 8 --seeds 2 --resume"


def test_images_that_cannot_be_had_are_not_advised(adviser):
    """The images came with a test part of their own, so the next factor is named."""
    stored = json.loads((adviser.run / "config.json").read_text())
    save_json(
        adviser.run / "config.json", stored | {"config": stored["config"] | {"test_fraction": 0.3}}
    )  # digits have 0.2
    command, why = advised(adviser, "not distinguishable", {"seeds": 1.0, "architectures": 0.5, "images": 2.0})
    assert options_of(command)[0][1].seeds == 4
    assert why.startswith("the luck of the seeds is the largest uncertainty")


def test_a_winner_below_the_floor(adviser):
    (adviser.run / "retrain").mkdir()
    (adviser.run / "controls").mkdir()
    save_arch(adviser.run / "arc.json", uniform_path(COSTS.choices, random.Random(0)))
    command, why = advised(adviser, "better", {}, mean=50.0)
    assert "is below the floor" in why
    made_, moved, (name, config), (last, again) = options_of(command)
    assert made_ == ("mkdir", [f"{adviser.run}/undertrained-2"])
    assert moved[1] == [f"{adviser.run}/retrain", f"{adviser.run}/controls", f"{adviser.run}/undertrained-2"]
    assert (name, config.epochs, config.batch_size, config.seeds) == ("retrain", 64, 32, 2)
    assert config.out == f"{adviser.run}/retrain"
    assert (last, again.run) == ("certify", str(adviser.run))


def test_networks_that_were_trained_too_briefly(adviser):
    """More seeds of such networks are wasted, and so is shipping them."""
    (adviser.run / "retrain").mkdir()
    save_arch(adviser.run / "arc.json", uniform_path(COSTS.choices, random.Random(0)))
    brief = dataclasses.replace(adviser, few_steps=few_steps(280, 1500, 32, 899, ""))
    for code in ("better", "worse", "not distinguishable"):
        command, why = advised(brief, code, {"seeds": 1.0, "architectures": 0.5, "images": 2.0})
        assert why == (
            "the networks were trained too briefly: 280 steps of 32 images are too few: each of 899 is seen 10 times, and the "
            "recipe shows it 53 times (1,500 such steps)"
        )
        assert [name for name, _ in options_of(command)] == ["mkdir", "mv", "retrain", "certify"]


def test_networks_with_a_third_of_the_recipe_that_do_not_reach_the_floor(adviser):
    """More seeds of them are wasted: the next step is a longer training of all, and the verdict begins with it."""
    (adviser.run / "retrain").mkdir()
    save_arch(adviser.run / "arc.json", uniform_path(COSTS.choices, random.Random(0)))
    short = ShortTraining(35, 134, "does not reach the floor of 28.4% (always 'cat')", useless=True)
    brief = dataclasses.replace(adviser, short=short, time="10 trainings of 134 epochs take about 9 minutes each")
    said = "the networks were trained with 35 of the recipe's 134 epochs, and the winner does not reach the floor of 28.4% (always 'cat')"
    for code in ("better", "worse", "not distinguishable"):
        command, why = advised(brief, code, {"seeds": 1.0, "architectures": 0.5, "images": 2.0})
        assert why == f"{said}; 10 trainings of 134 epochs take about 9 minutes each"
        assert [name for name, _ in options_of(command)] == ["mkdir", "mv", "retrain", "certify"]
    assert brief.first == f"{said}: train them longer"
    warning = brief.warn(Interval(97.0, 96.0, 98.0))
    assert warning.text.endswith("does not reach the floor of 28.4% (always 'cat'): not for use")
    assert warning.command == command
    assert adviser.first == ""
    assert adviser.warn(Interval(97.0, 96.0, 98.0)) is None


def test_which_trainings_are_short(bare_run):
    """A quarter to a half of the recipe's steps, and not above the floor beyond the noise of the test images."""
    save_arch(bare_run / "arc.json", uniform_path(COSTS.choices, random.Random(0)))
    words = ["--fixed-arc", str(bare_run / "arc.json"), "--supernet", str(bare_run)]

    def looked_at(part: float, accuracy: float) -> ShortTraining | None:
        config = dataclasses.replace(usual.config, epochs=round(part * usual.config.epochs))
        floor = {"top1": 28.4, "name": "random forest on 16x16 pixels", "test_images": 80}
        return short_training(config, usual.data, Interval(accuracy, accuracy - 7, accuracy + 8), floor)

    usual = plan_retraining(cli.parse(retrain.Config, words, None, "trials.retrain"))
    epochs = usual.config.epochs
    short = looked_at(0.3, 22.5)
    assert (short.epochs, short.usual, short.useless) == (round(0.3 * epochs), epochs, True)
    assert short.warning().text == (
        f"the network was trained with {short.epochs} of the recipe's {epochs} epochs, and does not reach the floor of 28.4% "
        "(random forest on 16x16 pixels): not for use"
    )
    near = looked_at(0.3, 33.0)
    assert near.warning().text.endswith("and is not clearly above the floor of 28.4% (random forest on 16x16 pixels)")
    assert looked_at(0.3, 60.0) is None  # clearly above
    assert looked_at(0.6, 22.5) is None  # long enough
    assert looked_at(0.1, 22.5) is None  # few steps, which is said before the training
    assert looked_at(0.3, 5.0) is None  # below the floor beyond noise
    config = dataclasses.replace(usual.config, epochs=round(0.3 * epochs))
    floor = {"top1": 28.4, "name": "random forest on 16x16 pixels", "test_images": 80}
    assert beside_the_floor(config, usual.data, Interval(5.0, 1.0, 12.0), floor).gate == "below the floor"


def test_how_long_a_longer_training_takes(bare_run):
    save_arch(bare_run / "arc.json", uniform_path(COSTS.choices, random.Random(0)))
    words = ["--fixed-arc", str(bare_run / "arc.json"), "--supernet", str(bare_run), "--epochs", "10"]
    plan = plan_retraining(cli.parse(retrain.Config, words, None, "trials.retrain"))
    folder = bare_run / "retrain"
    one = jobs.Retraining(Network("winner", plan.arch, 1, 1, None, "retrain"), plan, folder)
    assert jobs.longer_time([one], 2, {"--epochs": 40}) == ""
    for seed, seconds in enumerate((50.0, 70.0)):
        (folder / f"seed{seed}").mkdir(parents=True)
        counts = {"test_top1": 50.0, "test_images": 2, "test_correct": 1}
        save_json(folder / f"seed{seed}" / "result.json", {**counts, "seconds": seconds, "seed": seed})
    assert jobs.longer_time([one], 2, {"--epochs": 40}) == "2 trainings of 40 epochs take about 4 minutes each"
    assert jobs.longer_time([one], 2, {}) == "2 trainings of 10 epochs take about 60 seconds each"


# mistakes


def test_mistakes_get_one_clear_line(bare_run, tmp_path):
    assert_one_clear_line(
        onepath("certify", tmp_path / "none"), "does not exist; make one with: python -m trials.supernet"
    )
    with pytest.raises(InputError, match="--random 0 is below 1"):
        certify.main([str(bare_run), "--random", "0"])
    (bare_run / "arc.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match=f"search first: python -m trials.search {bare_run} --in-process"):
        certify.main([str(bare_run)])
    save_json(bare_run / "arc.json", {"block00": "k3"})
    with pytest.raises(InputError, match="is not an architecture of spos tiny, the space of .*; search again"):
        certify.main([str(bare_run)])
    save_arch(bare_run / "arc.json", drawn())
    (bare_run / "supernet.pt").unlink()
    with pytest.raises(InputError, match="is not trained to the end"):
        certify.main([str(bare_run)])


def test_limits_and_latency_of_a_run(bare_run, tmp_path):
    run = SupernetRun.open(bare_run)
    winner = drawn(Limits(max_macs=3_000_000))
    save_arch(bare_run / "arc.json", winner)
    assert read_searched(run).limits == Limits()
    limits = {"max_macs": 3_000_000, "min_macs": None, "max_params": None, "max_latency_ms": None}
    save_json(bare_run / "search.json", {"limits": limits, "share_of_space": 1.0, "history": []})
    assert read_searched(run).limits == Limits(max_macs=3_000_000)
    save_json(
        bare_run / "search.json", {"limits": limits | {"max_latency_ms": 100.0}, "share_of_space": 1.0, "history": []}
    )
    with pytest.raises(
        InputError, match="was limited to 100 ms, and its latency table is not known; give --latency-table"
    ):
        read_searched(run)
    path = tmp_path / "latency.json"
    tuner = {"classArgs": {"latency_table": str(path)}}
    record = {"id": "x", "folder": "x", "in_process": True, "tuner": tuner}
    save_json(bare_run / "experiment.json", {**record, "trialCommand": "python -m trials.evaluate"})
    with pytest.raises(InputError, match=f"its latency table '{path}' is gone"):
        read_searched(run)
    made().save(path)
    read = read_searched(run)
    assert read.latency.ms(winner) == made().ms(winner)
    save_arch(bare_run / "arc.json", drawn(Limits(min_macs=3_100_000)))  # put there by hand: beyond the limit
    assert read_searched(run).limits == Limits()
    assert searched.read_limits(run) == Limits(max_macs=3_000_000, max_latency_ms=100.0)
