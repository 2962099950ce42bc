"""Run folders when the machine or their owner goes wrong: a full disk, two commands at once, a start that failed, a deleted run."""

import os
import re
import resource
import shutil

import pytest
import torch

from spaces.errors import InputError, Stopped
from spaces.files import atomic, load_json
from tests.commands import Command
from trials import retrain, supernet
from trials.common import cli, locks, run_dir
from trials.common.checkpoint import load_checkpoint
from trials.export_formats import formats
from trials.training import supernet_loop

QUICK = [
    *("--preset", "tiny", "--data", "digits", "--device", "cpu", "--eval-paths", "0", "--warm-start", "0"),
    *("--score-fraction", "0.8", "--batch-size", "32", "--epochs", "1", "--checkpoint-every", "3"),
]
# a file-size limit is a full disk that needs no rights: it fails the same writes, with another number
LIMITED = """
import importlib, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
command = importlib.import_module(sys.argv[2])
from trials.common import cli
sys.argv[1:] = sys.argv[3:]
cli.run(command.main)
"""


@pytest.fixture
def small_files():
    """Let no file of this process grow beyond 50 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path, request):
    path = tmp_path / "checkpoints" / "last.pt"
    run_dir.save_checkpoint(path, {"model": torch.ones(10)})
    request.getfixturevalue("small_files")
    with pytest.raises(OSError, match="File too large") as caught:
        run_dir.save_checkpoint(path, {"model": torch.zeros(100_000)})
    assert caught.value.filename == str(path)
    assert torch.equal(load_checkpoint(path, "")["model"], torch.ones(10))
    assert [entry.name for entry in path.parent.iterdir()] == ["last.pt"]


def test_every_atomic_write_says_which_file(tmp_path, small_files):
    with pytest.raises(OSError, match="File too large") as caught, atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("a" * 100_000)
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_an_export_that_cannot_be_written_is_not_the_network_s_fault(tmp_path, small_files):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2000, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    for write in (formats.write_program, formats.write_onnx):
        with pytest.raises(OSError, match="File too large"):
            write(network.eval(), tmp_path / "model", 8, {})


def test_a_full_disk_stops_a_command_with_one_line_and_resume_goes_on(tmp_path):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    supernet.main([*QUICK, "--out", str(broken), "--stop-after", "3"])
    before = load_checkpoint(broken / "checkpoints" / "last.pt", "")
    process = Command("-c", LIMITED, 50_000, "trials.supernet", *QUICK, "--out", broken, "--resume")
    _, errors = process.communicate()
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    assert errors.rstrip().splitlines()[-1] == (
        f"error: File too large at '{broken}/checkpoints/last.pt'; mend that, then run the same command with --resume to go on"
    )
    after = load_checkpoint(broken / "checkpoints" / "last.pt", "")
    assert after["step"] == before["step"] == 3
    assert not list(broken.rglob(".*"))  # neither temporary files nor the lock
    supernet.main([*QUICK, "--out", str(broken), "--resume"])
    supernet.main([*QUICK, "--out", str(whole)])
    one, two = (load_checkpoint(run / "supernet.pt", "")["model"] for run in (broken, whole))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("raised", "line", "code"),
    [
        (OSError(28, "No space left on device", "a/b"), "No space left on device at 'a/b'; mend that, then run", 3),
        (OSError(5, "Input/output error"), "Input/output error; mend that, then run the same command again", 3),
        (OSError(24, "Too many open files", "x"), "Too many open files at 'x'", 3),
        (MemoryError(), "the memory of this machine is used up; end what else runs here, then run the same", 3),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "the memory of this machine", 3),
        (
            RuntimeError("unable to allocate shared memory(shm) for file </torch_1>"),
            "/dev/shm is full; give it more",
            3,
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "the memory of the GPU is used up", 3),
    ],
)
def test_what_the_machine_fails_at_is_one_line(raised, line, code, capsys):
    def main():
        raise raised

    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    assert caught.value.code == code
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"error: {line}")


def test_a_fault_of_ours_keeps_its_traceback():
    for fault in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), KeyError("x")):

        def main(fault=fault):
            raise fault

        with pytest.raises(type(fault)):
            cli.run(main)


def test_output_on_a_full_disk_leaves_the_exit_code():
    code = "from trials.common import cli\ncli.run(lambda: print('x' * 100_000))"
    with open("/dev/full", "w") as full, open(os.devnull) as nothing:
        process = Command("-c", code, files=[nothing.fileno(), full.fileno(), full.fileno()])
        assert process.wait() == 3


def test_a_second_training_of_a_run_is_refused(tmp_path):
    out = tmp_path / "run"
    supernet.main([*QUICK, "--out", str(out), "--stop-after", "3"])
    before = (out / "log.jsonl").read_bytes()
    says = f"another training of '{out}' is going on \\(process {os.getpid()}\\); wait for it or stop it"
    with locks.exclusive(out, "training"):
        for more in (["--resume"], []):
            with pytest.raises(InputError, match=says):
                supernet.main([*QUICK, "--out", str(out), *more])
    assert (out / "log.jsonl").read_bytes() == before
    supernet.main([*QUICK, "--out", str(out), "--resume"])  # the lock went with its holder
    assert not (out / ".training.lock").exists()
    arc = tmp_path / "arc.json"
    arc.write_text(str((0,) * 20))
    folder = tmp_path / "retrain"
    with locks.exclusive(folder, "training"), pytest.raises(InputError, match=f"another training of '{folder}'"):
        retrain.main(["--fixed-arc", str(arc), "--preset", "tiny", "--epochs", "1"])
    assert not folder.exists()


def test_a_killed_holder_s_lock_does_not_block(tmp_path):
    code = "import sys, time, pathlib\nfrom trials.common import locks\n"
    code += "with locks.exclusive(pathlib.Path(sys.argv[1]), 'training'):\n    time.sleep(600)"
    process = Command("-c", code, tmp_path)
    while not (tmp_path / ".training.lock").exists() or not (tmp_path / ".training.lock").read_text():
        assert process.poll(0.05) is None, process.written()
    with pytest.raises(InputError, match=f"process {process.pid}"), locks.exclusive(tmp_path, "training"):
        pass
    process.kill()
    process.wait()
    with locks.exclusive(tmp_path, "training"):
        assert (tmp_path / ".training.lock").read_text() == str(os.getpid())


def test_a_start_that_trained_nothing_blocks_no_other(tmp_path, monkeypatch):
    out = tmp_path / "run"

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(supernet_loop, "TrainingLog", fail)
    with pytest.raises(OSError, match="No space"):
        supernet.main([*QUICK, "--out", str(out), "--seed", "3", "--lr", "7"])
    assert run_dir.left_over(out, "supernet")
    monkeypatch.undo()
    # neither its name nor its options bind the next start, with --resume or without
    for more in (["--resume"], []):
        supernet.main([*QUICK, "--out", str(out), "--stop-after", "2", *more])
        stored = load_json(out / "config.json", "")["config"]
        assert (stored["seed"], stored["lr"]) == (0, 0.05)
        assert run_dir.begun(out)
        if more:
            shutil.rmtree(out / "checkpoints")
    with pytest.raises(InputError, match="already holds a run; add --resume to continue it"):
        supernet.main([*QUICK, "--out", str(out)])


def test_a_retraining_that_trained_nothing_leaves_no_architecture(tmp_path, capsys):
    arcs = [tmp_path / f"{number}.json" for number in (0, 1)]
    for number, arc in enumerate(arcs):
        arc.write_text(str((number,) * 20))
    flags = ["--preset", "tiny", "--epochs", "1", "--out", str(tmp_path / "run"), "--device", "cpu"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"command": "retrain", "config": {"lr": 9}}')
    (tmp_path / "run" / "arc.json").write_text('{"block00": "k3"}')
    retrain.main(["--fixed-arc", str(arcs[1]), *flags])
    assert load_json(tmp_path / "run" / "arc.json", "")["block00"] == "k5"


@pytest.mark.parametrize("moves", [False, True])
def test_a_run_that_is_deleted_or_moved_while_it_trains_stops(tmp_path, monkeypatch, moves):
    out, moved = tmp_path / "run", tmp_path / "moved"
    real = supernet_loop.stop_if_not_finite

    def disturb(trainer, losses, checkpoint):
        real(trainer, losses, checkpoint)
        if losses[-1][0] == 4:  # the checkpoint of step 3 is written
            shutil.move(out, moved)

    monkeypatch.setattr(supernet_loop, "stop_if_not_finite", disturb)
    flags = [*QUICK, "--out", str(out)]
    monkeypatch.setattr(supernet_loop, "LOG_EVERY", 5)
    with pytest.raises(Stopped, match=r"log.jsonl' was deleted or moved away while the run was trained"):
        supernet.main(flags)
    assert not (out / "checkpoints").exists()  # half a run would be worse than none
    monkeypatch.undo()
    if moves:
        supernet.main([*QUICK, "--out", str(moved), "--resume"])
        assert (moved / "supernet.pt").exists()
    assert re.fullmatch(r"last.pt", ",".join(path.name for path in (moved / "checkpoints").iterdir()))


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path):
    """Many programs write a config.json; and an unfinished run of one command is not one of another."""
    for text in ('{"model_type": "bert"}', '{"command": "retrain", "config": {}}', "not JSON"):
        (tmp_path / "config.json").write_text(text)
        for more in ([], ["--resume"]):
            with pytest.raises(InputError):
                supernet.main([*QUICK, "--out", str(tmp_path), *more])
        assert (tmp_path / "config.json").read_text() == text
        assert len(list(tmp_path.iterdir())) == 1
