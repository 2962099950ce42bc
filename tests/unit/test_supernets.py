"""--supernets: several supernets of one run are those of single runs, and a score is the mean of theirs."""

import json
import shlex
import shutil

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from spaces.errors import InputError
from spaces.files import read_jsonl
from tests.conftest import SUPERNET
from tests.experiments import copy_run
from trials import status, supernet
from trials.common import typed
from trials.common.supernet_run import SupernetRun
from trials.scoring import noise
from trials.scoring.scorer import Scorer, Settings
from trials.search_driver.plan import plan_experiment

SETTINGS = Settings(calibration_images=256, scoring_images=0, batch_size=64)


def train(folder, *words):
    return supernet.main([*SUPERNET, "--out", str(folder), *words])


@pytest.fixture(scope="module")
def single(shared):
    """The run of one supernet with seed 1."""
    return shared("seed 1", lambda folder: train(folder / "run", "--seed", "1")) / "run"


@pytest.fixture(scope="module")
def several(shared, run):
    """A run of one supernet that got a second one, after it was stopped within it."""

    def fill(folder):
        copy_run(run, folder / "run")
        train(folder / "run", "--resume", "--supernets", "2", "--stop-after", "5")
        assert not (folder / "run" / "supernet.pt").exists()
        with pytest.raises(InputError, match="is not trained to the end; first: .*--resume"):
            SupernetRun.open(folder / "run")
        (folder / "status.json").write_text(json.dumps(status.main([str(folder / "run")])["steps"][0]))
        train(folder / "run", "--resume")

    return shared("two supernets", fill)


def weights_of(run):
    return SupernetRun.open(run).all_weights


def same_weights(one, other):
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_they_are_the_supernets_of_single_runs(run, single, several):
    """Bit by bit, also where the second one was added later and interrupted."""
    first, second = weights_of(several / "run")
    assert same_weights(first, weights_of(run)[0])
    assert same_weights(second, weights_of(single)[0])
    assert not same_weights(first, second)
    assert len({SupernetRun.open(path).hash for path in (run, single, several / "run")}) == 3
    last = [read_jsonl(path / "log.jsonl")[-1] for path in (several / "run" / "supernets" / "seed1", single)]
    assert last[0]["fixed_paths"] == last[1]["fixed_paths"]
    assert not [*(several / "run" / "supernets").glob("*.pt")]


def test_commands_that_are_advised_later_are_of_both(several, run):
    assert "--supernets" not in typed.again(run, {"--epochs": 9})
    advised = typed.again(several / "run", {"--epochs": 9})
    assert advised.count("--supernets 2") == 1
    assert advised.endswith(shlex.join(["--epochs", "9", "--out", f"{several / 'run-2'}"]))
    assert "--stop-after" not in advised


def test_where_the_second_one_is(several):
    found = json.loads((several / "status.json").read_text())
    assert found["state"] == "begun"
    assert found["what"].startswith("supernet 2 of 2: ")


def test_a_score_is_the_mean_of_theirs(run, single, several, tmp_path):
    scorers = [Scorer(copy_run(path, tmp_path / name), SETTINGS) for path, name in ((run, "a"), (single, "b"))]
    both = Scorer(copy_run(several / "run", tmp_path / "both"), SETTINGS)
    archs = [{label: c[k] for label, c in both.chain.choices.items()} for k in (0, 1, 3)]
    progress = []
    found = both.score(archs, lambda group, share: progress.append(share))
    for result, *own in zip(found, *(scorer.score(archs) for scorer in scorers), strict=True):
        assert result["supernets"] == [{key: one[key] for key in ("top1", "loss")} for one in own]
        for key in ("top1", "top5", "loss", "top1_before_recalibration"):
            assert result[key] == pytest.approx(sum(one[key] for one in own) / 2)
        answers = noise.unpack_answers(result)
        assert np.array_equal(answers, np.concatenate([noise.unpack_answers(one) for one in own]))
        assert result["top1"] == pytest.approx(100 * answers.mean())
    assert progress == sorted(progress)
    assert progress[-1] == 1
    reference = Scorer(both.run, SETTINGS, reference=True).score(archs)
    assert [one["loss"] for one in reference] == [one["loss"] for one in found]
    assert all("supernets" not in scorers[0].store.read(arch) for arch in archs)


def test_means_are_compared_image_by_image():
    """By the t-test of the images' differences: answers of two supernets to one image are not independent."""
    generator = np.random.default_rng(0)
    hard = generator.random(400)

    def record(accuracy):
        right = np.stack([hard + 0.2 * generator.normal(size=400) < accuracy for _ in range(3)])
        answers = {"right": noise.pack_answers(right), "scoring_images": 400, "supernets": [{}] * 3}
        return answers | {"top1": 100 * float(right.mean())}, right

    (best, ours), (near, _), (far, theirs) = record(0.8), record(0.79), record(0.7)
    assert noise.like_the_best([best, near, far]) == [True, True, False]
    assert ttest_1samp(ours.mean(0) - theirs.mean(0), 0, alternative="greater").pvalue < 0.025
    assert noise.like_the_best([best, best | {"top1": best["top1"] - 0.01}]) == [True, True]  # the same answers


def test_a_search_by_several(several, tmp_path):
    """Old scores, of one supernet, count no more."""
    run = copy_run(several / "run", tmp_path / "run")
    plan = plan_experiment(run)
    assert plan.supernet == SupernetRun.open(run).hash


def test_what_is_refused(run, several, tmp_path):
    own = tmp_path / "run"
    shutil.copytree(several / "run", own)
    with pytest.raises(InputError, match="--supernets 2, not 1"):
        train(own, "--resume", "--supernets", "1")
    assert (own / "supernet.pt").exists()
    for words, says in (
        (["--supernets", "0"], "--supernets 0 is out of range; give 1 to 32"),
        (["--supernets", "33"], "--supernets 33 is out of range"),
        (["--supernets", "2", "--strategy", "gumbel", "--warm-start", "0"], "gumbel learns an architecture, and there"),
        (["--supernets", "2", "--epochs", "0", "--strategy", "window", "--max-macs", "3M"], "--epochs 0 trains none"),
    ):
        with pytest.raises(InputError, match=says):
            train(tmp_path / "new", *words)
    assert not (tmp_path / "new").exists()
