"""What the log says: a loss is never negative, what differs from the defaults, what NNI's `default` is."""

import dataclasses

import pytest

from trials.common import cli, run_dir
from trials.common.typed import given_text
from trials.evidence.comparison import change_text
from trials.evidence.intervals import Interval
from trials.images.options import DataOptions
from trials.scoring.score_value import SCORE_BY, metric_text
from trials.training.supernet_config import Config


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        (Interval(-0.28, -0.9, 0.4), "int8 gains 0.28 points [-0.4, 0.9]"),
        (Interval(0.28, -0.4, 0.9), "int8 loses 0.28 points [-0.4, 0.9]"),
    ],
)
def test_a_loss_below_0_is_a_gain(lost, says):
    assert change_text("int8", lost) == says


def test_the_line_of_options_has_what_differs():
    config = dataclasses.replace(DataOptions(), cutout=8, workers=3, test_fraction=0.5)
    assert given_text(config) == "--workers 3 --test-fraction 0.5 --mirror off --cutout 8"  # digits are never mirrored
    assert given_text(config, {"cutout", "background"}) == "--cutout 8"  # the rest was decided by a recipe


def test_what_a_recipe_decides_is_not_in_the_line_of_options(tmp_path, capsys):
    out = str(tmp_path / "run")
    config = cli.parse(Config, ["--preset", "tiny", "--out", out, "--epochs", "3"], None, "trials.supernet")
    fitted, _ = config.fitted(1000)
    assert fitted.batch_size  # and much else, which stands in config.json
    run_dir.open_run(out, "supernet", fitted, resume=False)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"supernet: --epochs 3 --preset tiny --out {out}"
    assert [line.split()[0] for line in printed[1:]] == ["commit"]


@pytest.mark.parametrize("score_by", SCORE_BY)
def test_default_of_the_portal_is_explained(score_by):
    assert metric_text(score_by).startswith("`default` is ")
    assert ("cross-entropy" in metric_text(score_by)) == (score_by == "loss")
