"""docs/classify_onnx.py alone, as one who has just the file and a network runs it."""

import subprocess
import sys

import pytest

from tests.commands import ROOT

SCRIPT = ROOT / "docs" / "classify_onnx.py"


def ended(*words, **settings):
    """Exit code, what was printed, and what was said on stderr."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, **settings)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_needs_nothing_that_is_installed(word):
    code, printed, said = ended("-S", SCRIPT, word)  # without the folder of installed packages
    assert (code, said) == (0, "")
    assert "python docs/classify_onnx.py MODEL.onnx PICTURE [PICTURE ...]" in printed


def test_what_is_not_installed_is_one_line():
    code, printed, said = ended("-S", SCRIPT, "model.onnx", "photo.jpg")
    assert (code, printed) == (1, "")
    assert said == "error: No module named 'numpy'; pip install onnxruntime numpy pillow\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "error: give a network and pictures: "),
        (["none.onnx", "a.jpg"], "error: there is no network 'none.onnx'; give an .onnx file"),
        (["text.onnx", "a.jpg"], "error: text.onnx is no network that onnxruntime reads ("),
        (["other.onnx", "a.jpg"], "error: other.onnx says nothing of its preprocessing and classes; give an .onnx"),
    ],
)
def test_what_is_no_network_of_ours_is_one_line(tmp_path, words, says):
    import onnx
    from onnx import TensorProto, helper

    (tmp_path / "text.onnx").write_text("no network")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "other.onnx")
    code, printed, said = ended(SCRIPT, *words, cwd=tmp_path)
    assert (code, printed) == (1, "")
    assert said.startswith(says)
    assert said.count("\n") == 1
