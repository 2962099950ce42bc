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
    assert most_with_truth(1) == 1


def change(run: Path, **options) -> None:
    """Change options in config.json of a run."""
    stored = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(stored | {"config": stored["config"] | options}))


@pytest.fixture
def made(monkeypatch, own_run, tmp_path):
    """Two runs whose scores are made: a part that they share, and one of their own."""
    (tmp_path / "other").mkdir()
    for path in own_run.iterdir():
        if path.is_file():
            (tmp_path / "other" / path.name).write_bytes(path.read_bytes())
    change(tmp_path / "other", seed=1)

    def score(run, archs, device, shared):
        own = np.random.default_rng(len(run.path.name))
        found = {}
        for arch in archs.values():
            name = arch_id(arch)
            value = shared * np.random.default_rng(int(name, 16)).normal() + own.normal()
            found[name] = {"top1": 60 + value, "loss": 1 - value / 10, "macs": run.table.macs(arch)}
        return found

    def use(shared):
        monkeypatch.setattr(run_scores, "score_archs", lambda run, archs, device: score(run, archs, device, shared))
        return str(own_run), str(tmp_path / "other")

    return use


def test_scores_that_the_seed_decides(made, capsys):
    run, other = made(shared=0.0)
    found = agree.main([run, "--other", other, "--archs", "80"])
    said = capsys.readouterr().out
    assert found["architectures"] == 80
    tau = found["agreement"]["top1"]
    assert tau["low"] < 0 < tau["high"]
    assert found["most"] == most_with_truth(tau["high"])
    assert "what ranks is rather the seed than the architecture" in found["verdict"]
    assert f"{tau['tau']:.2f} [{tau['low']:.2f}, {tau['high']:.2f}]" in said
    assert f"above {found['most']:.2f}" in found["verdict"]
    config = cli.parse(supernet.Config, found["next"].split()[3:], None, "trials.supernet")
    limit = yaml.safe_load((Path(run) / "search.yml").read_text())["tuner"]["classArgs"]["max_macs"]
    assert (config.strategy, int(config.max_macs)) == ("gumbel", limit)  # that which is proposed to a search


def test_scores_that_the_architectures_decide(made):
    run, other = made(shared=4.0)
    found = agree.main([run, "--other", other])
    assert found["agreement"]["top1"]["low"] > 0.5
    assert found["agreement"]["loss"]["tau"] == pytest.approx(found["agreement"]["top1"]["tau"])
    assert found["verdict"].startswith("the two agree, so tau of a score")
    assert found["next"] == f"python -m trials.search {run} --in-process"  # nothing is found yet


@pytest.mark.parametrize("strategy", ["window", "gumbel"])
def test_what_comes_next_where_the_seed_ranks(made, strategy):
    """After a sampled supernet learning under its limit; after one that has learned, short trainings."""
    run = Path(made(shared=0.0)[0])
    change(run, max_macs="3M", strategy=strategy)
    (run / "most_probable.json").write_text("{}")
    tau = kendall([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 3.0, 4.0, 1.0, 2.0, 0.0])
    _, following = agree.conclude(SupernetRun.open(run), agree.Band("macs", 1.0, 2.0), tau)
    if strategy == "gumbel":
        assert following == f"python -m trials.retrain --supernet {run} --top 1 --top-random 4"
        return
    config = cli.parse(supernet.Config, following.split()[3:], None, "trials.supernet")
    assert (config.strategy, config.max_macs) == ("gumbel", "3000000")


def test_a_second_supernet_that_cannot_be_compared(own_run, made):
    run, other = made(shared=0.0)
    with pytest.raises(InputError, match="--other is missing: .* train it with: python -m trials.supernet .*--seed 1 "):
        agree.main([run])
    with pytest.raises(InputError, match="has seed 0 as .* has; train one with another seed: .*--seed 1 "):
        agree.main([run, "--other", run])
    change(Path(other), data="cifar10")
    with pytest.raises(InputError, match="has seen cifar10, and .* digits; train with the same images"):
        agree.main([run, "--other", other])
    with pytest.raises(InputError, match="--archs 3 is out of range; give 10 to 10,000"):
        agree.main([run, "--other", run, "--archs", "3"])


@pytest.mark.slow
def test_two_real_supernets(own_run, tmp_path):
    other = tmp_path / "other"
    supernet.main([*SUPERNET, "--seed", "1", "--out", str(other)])
    found = agree.main([str(own_run), "--other", str(other), "--archs", "10", "--device", "cpu"])
    assert found["architectures"] == 10
    assert -1 <= found["agreement"]["top1"]["low"] <= found["agreement"]["top1"]["high"] <= 1
    stored = [len([*(path / "search").glob("*.json")]) for path in (own_run, other)]
    assert min(stored) >= 10  # nothing is scored twice
    assert agree.main([str(own_run), "--other", str(other), "--archs", "10"]) == found
