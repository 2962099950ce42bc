"""trials.agree: two supernets beside each other, and what their agreement allows."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from spaces.arch import arch_id
from spaces.errors import InputError
from tests.conftest import SUPERNET
from trials import agree, supernet
from trials.common import cli
from trials.common.supernet_run import SupernetRun
from trials.evidence.ranking import kendall, most_with_truth
from trials.scoring import run_scores


def test_what_the_agreement_of_two_scores_allows():
    """Two scores that are the truth and an error of their own, against direct computation."""
    generator, number = np.random.default_rng(0), 1000
    truth = generator.normal(size=number)
    one, other = (truth + generator.normal(size=number) for _ in range(2))
    allowed = most_with_truth(kendall(list(one), list(other)).tau)
    assert allowed == pytest.approx(kendall(list(one), list(truth)).tau, abs=0.04)
    assert allowed == pytest.approx(
        2 / math.pi * math.asin(math.sqrt(0.5)), abs=0.04
    )  # the correlation of the two is a half
    assert most_with_truth(-0.3) == most_with_truth(0) == 0
    assert most_with_truth(1) == most_with_truth(1, 3) == 1


def test_what_the_mean_of_several_scores_can_do():
    """Against direct computation, of weak scores."""
    generator, number = np.random.default_rng(1), 2000
    truth = generator.normal(size=number)
    scores = [truth + 2 * generator.normal(size=number) for _ in range(6)]
    agreement = kendall(list(scores[0]), list(scores[1])).tau
    for many in (1, 3, 6):
        found = kendall(list(np.mean(scores[:many], axis=0)), list(truth)).tau
        assert most_with_truth(agreement, many) == pytest.approx(found, abs=0.05)


def change(run: Path, **options) -> None:
    """Change options in config.json of a run."""
    stored = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(stored | {"config": stored["config"] | options}))


@pytest.fixture
def made(monkeypatch, own_run):
    """A run of several supernets whose scores are made: a part that all share, and one of their own."""

    def score(run, archs, device, shared, number):
        own = np.random.default_rng(5)
        found = {}
        for arch in archs.values():
            name = arch_id(arch)
            values = shared * np.random.default_rng(int(name, 16)).normal() + own.normal(size=number)
            supernets = [{"top1": 60 + value, "loss": 1 - value / 10} for value in values]
            top1 = float(60 + values.mean())
            found[name] = {"top1": top1, "loss": 1.0, "macs": run.table.macs(arch), "supernets": supernets}
        return found

    def use(shared, number=2):
        change(own_run, supernets=number)
        monkeypatch.setattr(
            run_scores, "score_archs", lambda run, archs, device: score(run, archs, device, shared, number)
        )
        return str(own_run)

    return use


@pytest.mark.parametrize(("number", "pairs"), [(2, "one with the other "), (4, "one with another, mean of 6 pairs")])
def test_scores_that_the_seed_decides(made, capsys, number, pairs):
    run = made(shared=0.0, number=number)
    found = agree.main([run, "--archs", "80"])
    said = capsys.readouterr().out
    assert (found["architectures"], found["supernets"]) == (80, number)
    assert f"top-1, {pairs}" in said
    tau = found["agreement"]["top1"]
    assert tau["low"] < 0 < tau["high"]
    assert found["most"] == most_with_truth(tau["high"], number)
    assert "what ranks is rather the seed than the architecture" in found["verdict"]
    assert f"{tau['tau']:.2f} [{tau['low']:.2f}, {tau['high']:.2f}]" in said
    assert f"above {found['most']:.2f}" in found["verdict"]
    config = cli.parse(supernet.Config, found["next"].split()[3:], None, "trials.supernet")
    limit = yaml.safe_load((Path(run) / "search.yml").read_text())["tuner"]["classArgs"]["max_macs"]
    assert (config.strategy, int(config.max_macs)) == ("gumbel", limit)  # that which is proposed to a search


def test_scores_that_the_architectures_decide(made):
    run = made(shared=4.0)
    found = agree.main([run])
    assert found["agreement"]["top1"]["low"] > 0.5
    assert found["agreement"]["loss"]["tau"] == pytest.approx(found["agreement"]["top1"]["tau"])
    assert found["verdict"].startswith(
        "the supernets agree, so tau of the mean of 2 with the accuracy after retraining"
    )
    assert found["next"] == f"python -m trials.search {run} --in-process"  # nothing is found yet


@pytest.mark.parametrize("strategy", ["window", "gumbel"])
def test_what_comes_next_where_the_seed_ranks(made, strategy):
    """After a sampled supernet learning under its limit; after one that has learned, short trainings."""
    run = Path(made(shared=0.0))
    change(run, max_macs="3M", strategy=strategy)
    (run / "most_probable.json").write_text("{}")
    tau = kendall([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 3.0, 4.0, 1.0, 2.0, 0.0])
    _, following = agree.conclude(SupernetRun.open(run), agree.Band("macs", 1.0, 2.0), tau, 2)
    if strategy == "gumbel":
        assert following == f"python -m trials.retrain --supernet {run} --top 1 --top-random 4"
        return
    config = cli.parse(supernet.Config, following.split()[3:], None, "trials.supernet")
    assert (config.strategy, config.max_macs) == ("gumbel", "3000000")


def test_a_run_that_has_one_supernet(own_run):
    with pytest.raises(InputError, match="has one supernet, .* train a second one: .* --resume --supernets 2"):
        agree.main([str(own_run)])
    with pytest.raises(InputError, match="--archs 3 is out of range; give 10 to 10,000"):
        agree.main([str(own_run), "--archs", "3"])
    change(own_run, strategy="gumbel")
    with pytest.raises(InputError, match="holds one supernet, of --strategy gumbel, beside which no second one"):
        agree.main([str(own_run)])


@pytest.mark.slow
def test_two_real_supernets(own_run):
    supernet.main([*SUPERNET, "--out", str(own_run), "--resume", "--supernets", "2"])
    found = agree.main([str(own_run), "--archs", "10", "--device", "cpu"])
    assert (found["architectures"], found["supernets"]) == (10, 2)
    assert -1 <= found["agreement"]["top1"]["low"] <= found["agreement"]["top1"]["high"] <= 1
    stored = {path: path.stat().st_mtime_ns for path in (own_run / "search").glob("*.json")}
    assert len(stored) >= 10
    assert agree.main([str(own_run), "--archs", "10"]) == found
    assert stored == {path: path.stat().st_mtime_ns for path in stored}  # nothing is scored twice
