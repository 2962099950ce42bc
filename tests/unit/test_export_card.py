"""What an export says of its files: how they answer, and the command that uses them."""

import shlex
from pathlib import Path

import pytest
import torch

from spaces.files import CLONE
from trials import export
from trials.export_formats.compare import Comparison, FileComparison
from trials.export_formats.model_card import card


def answered(*same):
    """A file's answers to 4 images, of which the network has 3 right."""
    return FileComparison(correct=sum(same[:3]), same=[torch.tensor(same[:2]), torch.tensor(same[2:])])


@pytest.fixture
def comparison():
    files = {"onnx": answered(True, True, True, True), "int8": answered(True, True, False, True)}
    return Comparison(files, images=4, correct=3, margin=torch.ones(4), std=1.0)


def test_a_card_says_how_each_file_answers(comparison):
    files = {"m.py": "onnx", "m.onnx": "onnx", "m-int8.onnx": "int8"}
    metadata = {"classes": ["a", "b"], "architecture": {}, "preprocessing": {}, "made_by": "Onepath"}
    text = card("m", [], metadata, {name: comparison.told(kind) for name, kind in files.items()})
    assert text.split("## Files\n")[1].split("\n")[0] == (
        "`m.py`, `m.onnx`: the network's answer on each of 4 test images; `m-int8.onnx`: the network's answer on 3 of 4 test "
        "images (75.00%), top-1 50.00% where the network has 75.00%."
    )


@pytest.mark.parametrize(
    ("good", "used"),
    [
        (["net.py", "net.onnx", "net-int8.onnx"], "net.onnx"),
        (["net-int8.onnx"], "net-int8.onnx"),
        (["net.py", "net.pt2"], ""),
    ],
)
def test_an_export_ends_with_the_command_that_uses_it(tmp_path, monkeypatch, good, used):
    target = tmp_path / "my run" / "net"
    for folder in (CLONE, tmp_path):
        monkeypatch.chdir(folder)
        command = export.how_to_use(target, good)
        if not used:
            assert command is None
            continue
        _, script, file, photo = shlex.split(command)
        assert Path(script).samefile(CLONE / "docs" / "classify_onnx.py")
        assert (Path(script).is_absolute(), file, photo) == (folder != CLONE, str(target.parent / used), "photo.jpg")
