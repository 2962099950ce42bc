"""What a machine lacks, a library or shared memory, is known before other work begins."""

import sys

import pytest

from spaces.errors import InputError, require_library
from spaces.files import save_json
from strategies.pareto import ParetoTuner
from tests.commands import ROOT
from trials import export, latency, retrain
from trials.common import cli, machine
from trials.images.options import DataOptions
from trials.training import memory
from trials.training.supernet_config import Config

COSTS = ROOT / "experiments" / "spaces" / "spos-tiny.costs.json"


@pytest.fixture
def missing(monkeypatch):
    """A function that makes a library one that does not import."""

    def remove(name):
        for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == name.partition(".")[0]]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, name, None)

    return remove


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--baseline", "timm:mobilenetv2_100"],
            "--baseline timm:mobilenetv2_100 needs timm, which does not import here",
        ),
        (["--fixed-arc", "spos-cifar", "--optimizer", "rmsprop-tf"], "--optimizer rmsprop-tf needs timm"),
        (["--fixed-arc", "fairnas-a"], "--optimizer rmsprop-tf needs timm"),  # its recipe takes it
    ],
)
def test_without_timm(options, says, missing, tmp_path):
    missing("timm")
    root = ["--data", "cifar10", "--data-root", str(tmp_path)] if "spos-cifar" in options else ["--data", "digits"]
    with pytest.raises(InputError, match=says) as caught:
        retrain.main([*options, *root, "--recipe", "fairnas", "--out", str(tmp_path / "run")])
    assert "pip install timm" in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("library", ["onnxruntime", "onnx", "onnxscript", "safetensors"])
def test_without_what_the_formats_need(library, missing, tmp_path):
    missing(library)
    save_json(
        tmp_path / "config.json", {"command": "retrain", "config": {"data": "digits"}}
    )  # a run, which is looked at first
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0" / "network.pt").touch()
    with pytest.raises(InputError, match=f"trials.export needs {library}, which .* pip install {library}"):
        export.main(["--weights", str(tmp_path)])


def test_without_a_runtime_to_time_in(missing, tmp_path):
    missing("onnxruntime")
    with pytest.raises(
        InputError, match=r"trials.latency needs onnxruntime, which does not import here \(.*\); install"
    ):
        latency.main(["--space", "spos", "--preset", "tiny", "--out", str(tmp_path / "a.json")])


def test_without_dali(missing):
    missing("nvidia.dali")
    with pytest.raises(
        InputError, match=r"--loader dali needs nvidia.dali, .* pip install nvidia-dali-cuda120, or give"
    ):
        DataOptions(data="folder", loader="dali")
    assert DataOptions(data="folder").loader == "torchvision"
    assert DataOptions.of({"data": "folder", "loader": "dali"}).loader == "torchvision"


def test_without_pymoo(missing):
    missing("pymoo")
    with pytest.raises(InputError, match="ParetoTuner needs pymoo, which is not installed here"):
        ParetoTuner(str(COSTS))


def test_a_library_that_breaks_while_it_is_imported(tmp_path, monkeypatch):
    (tmp_path / "built_elsewhere.py").write_text("raise OSError('libcuda.so.1: cannot open\\nshared object')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"x needs built_elsewhere, .*\(libcuda.so.1: cannot open shared object\)"):
        require_library("built_elsewhere", "x")


def test_any_other_library_is_one_line_too(capsys):
    def main():
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401

    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    assert caught.value.code == 3
    assert capsys.readouterr().err.startswith("error: library no_such_library does not import here (No module named")
    assert machine.failure(ImportError("cannot import name 'x'", name="trials.common")) is None


@pytest.mark.parametrize(
    ("size", "batch", "workers", "says"),
    [
        (
            512,
            80,
            2,
            "/dev/shm has 64 MB free, and batches of 62.9 MB from 2 decoding processes need 315; give a container more",
        ),
        (224, 1024, 1, "batches of 154.1 MB from 1 decoding processes need 462"),
        (224, 64, 0, ""),
        (32, 64, 8, ""),
    ],
)
def test_batches_that_do_not_fit_into_shared_memory(size, batch, workers, says):
    """The 64 MB of a container that was given no --shm-size."""
    config = Config(out="none", data="folder", loader="torchvision", workers=workers, batch_size=batch)
    if not says:
        return memory.require_shared_memory(config, size, has=64_000_000)
    with pytest.raises(InputError) as caught:
        memory.require_shared_memory(config, size, has=64_000_000)
    assert says in str(caught.value)
    assert memory.require_shared_memory(config, size, has=10**9) is None
