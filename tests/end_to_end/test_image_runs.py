"""Runs on image folders: resumed in the middle of an epoch, and their preprocessing."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from spaces.errors import InputError
from spaces.files import load_json
from trials import supernet
from trials.common.checkpoint import load_checkpoint


def test_a_run_resumes_bitwise_in_the_middle_of_an_epoch_through_dali(tree, tmp_path):
    tree = Path(shutil.copytree(tree, tmp_path / "tree"))
    flags = ["--preset", "tiny", "--data", "folder", "--data-root", str(tree), "--batch-size", "12", "--epochs", "2"]
    flags += ["--color-jitter", "0.4", "--cutout", "8", "--eval-paths", "1", "--device", "cpu", "--out"]
    supernet.main([*flags, str(tmp_path / "whole")])
    supernet.main([*flags, str(tmp_path / "cut"), "--stop-after", "10"])
    extra = tree / "china" / "new.JPEG"  # a file that comes meanwhile changes nothing
    Image.open(tree / "flower" / "00 é.JPEG").rotate(90).save(extra)
    try:
        supernet.main([*flags, str(tmp_path / "cut"), "--resume"])
    finally:
        extra.unlink()
    assert load_json(tmp_path / "cut" / "config.json", "")["config"]["loader"] == "dali"
    whole, cut = (load_checkpoint(tmp_path / name / "supernet.pt", "") for name in ("whole", "cut"))
    assert all(torch.equal(whole["model"][name], cut["model"][name]) for name in whole["model"])
    assert whole["preprocessing"]["channels"] == "RGB"
    with pytest.raises(InputError, match="was started with --loader dali, not torchvision"):
        supernet.main([*flags, str(tmp_path / "cut"), "--resume", "--loader", "torchvision"])


def test_preprocessing_travels_and_contradictions_are_refused(tree, tmp_path):
    from trials import retrain
    from trials.scoring.scorer import Scorer, Settings

    run = tmp_path / "run"
    flags = ["--preset", "tiny", "--data", "folder", "--data-root", str(tree), "--batch-size", "12", "--epochs", "1"]
    supernet.main([*flags, "--spos-preprocessing", "--exif-orientation", "--eval-paths", "0", "--out", str(run)])
    about = load_checkpoint(run / "supernet.pt", "")["preprocessing"]
    assert (about["channels"], about["range"], about["resize"], about["resolution"]) == ("BGR", 255, "opencv", 32)
    assert about["exif_orientation"] is True
    settings = Settings(24, 0, 12)
    scorer = Scorer(run, settings)
    seen, _ = next(scorer.scoring_batches())
    assert seen.max() > 200  # not normalised
    assert torch.equal(seen[:, 0], scorer.images.scoring[: len(seen), 2].float())
    (tmp_path / "arc.json").write_text(str((0,) * 20))
    again = ["--fixed-arc", str(tmp_path / "arc.json"), "--supernet", str(run), "--epochs", "1", "--batch-size", "12"]
    with pytest.raises(InputError, match=r"--no-spos-preprocessing: supernet '.*' has True; leave"):
        retrain.main([*again, "--no-spos-preprocessing"])
    with pytest.raises(InputError, match=r"--no-exif-orientation: supernet '.*' has True; leave"):
        retrain.main([*again, "--no-exif-orientation"])
    retrain.main(again)
    assert load_checkpoint(tmp_path / "retrain/seed0/network.pt", "")["preprocessing"] == about
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace('"spos_preprocessing": true', '"spos_preprocessing": false'))
    with pytest.raises(InputError, match="was trained on BGR images, and config.json of its run says"):
        Scorer(run, settings)
    with pytest.raises(InputError, match="--no-spos-preprocessing contradicts --import-official"):
        supernet.main(["--import-official", "x", "--no-spos-preprocessing", "--out", str(tmp_path / "y")])
