"""What keeps a checkpoint from being read is told apart: a right, a machine, contents that are not allowed, damage."""

import argparse
import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from spaces.errors import InputError, Stopped
from tests.commands import ROOT
from trials.common.checkpoint import fitting, load_checkpoint

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


@pytest.fixture
def path(tmp_path):
    torch.save({"model": WEIGHTS, "step": 7}, tmp_path / "supernet.pt")
    return tmp_path / "supernet.pt"


def test_what_was_saved_is_read(path):
    for mmap in (False, True):
        state = load_checkpoint(path, "supernet", needs=("model", "step"), mmap=mmap)
        assert torch.equal(state["model"]["a.weight"], WEIGHTS["a.weight"])


@pytest.mark.parametrize("number", [np.float64(41.7), np.float32(1.5), np.int64(3), np.bool_(True), np.float16(2)])
@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_numbers_beside_the_weights_are_read(path, number, zipped):
    torch.save({"model": WEIGHTS, "best_acc1": number}, path, _use_new_zipfile_serialization=zipped)
    assert load_checkpoint(path, "supernet")["best_acc1"] == number


def test_a_numpy_number_of_numpy_1_is_read(path):
    """numpy 2 renamed the module that its numbers name in a file; the file of numpy 1 is made by naming the old one."""
    torch.save({"best_acc1": np.float64(41.7)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert load_checkpoint(path, "supernet")["best_acc1"] == 41.7


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_file_with_an_object_is_not_called_damaged(path, zipped):
    torch.save({"model": WEIGHTS, "args": argparse.Namespace(lr=1)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InputError, match="is whole but holds argparse.Namespace, which is not read .* save its weights"
    ):
        load_checkpoint(path, "supernet")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "one byte": lambda content: b"\x80",
    "half": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-20],
    "zeros in the middle": lambda content: content[:400] + bytes(200) + content[600:],
    "text": lambda content: b"hello",
    "JSON": lambda content: b'{"model": 1}',
    "a pickle": lambda content: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07unknown\x94.",
    "a zip of something else": lambda content: b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("mmap", [False, True])
def test_damage_is_one_line_and_nothing_is_to_be_deleted(path, damage, mmap):
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(InputError) as caught:
        load_checkpoint(path, "supernet", needs=("model",), mmap=mmap)
    message = str(caught.value)
    assert caught.value.exit_code == 1
    assert len(message.splitlines()) == 1
    assert len(message) < 500
    assert "delete" not in message
    assert "is truncated or not a checkpoint; restore it" in message or "holds a str, not a checkpoint" in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds a list, not a checkpoint; name another file"),
        ({"state_dict": WEIGHTS}, r"lacks 'model' \(it has state_dict\)"),
        ({"model": 3}, "'model' is int and no weights by name"),
        ({"model": {"a": 3}}, "'model' is dict and no weights by name"),
    ],
)
def test_other_contents(path, content, says):
    torch.save(content, path)
    with pytest.raises(InputError, match=says):
        load_checkpoint(path, "supernet", needs=("model",))


def test_a_missing_file_a_folder_and_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, says in (("none", "does not exist"), (".", "is a folder, not a file"), ("pipe", "is a pipe, a socket")):
        with pytest.raises(InputError, match=says):
            load_checkpoint(tmp_path / name, "supernet")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read as somebody else")
def test_a_file_that_is_not_ours_to_read_is_not_called_damaged():
    """Not below tmp_path, into which nobody else may look."""
    path = f"/tmp/onepath-unreadable-{os.getpid()}.pt"
    torch.save({"model": WEIGHTS}, path)
    os.chmod(path, 0)
    try:
        os.seteuid(65534)
        with pytest.raises(
            InputError, match=r"cannot be read \(Permission denied\); the file is as it was: give yourself"
        ):
            load_checkpoint(path, "supernet")
    finally:
        os.seteuid(0)
        os.unlink(path)


def test_too_many_open_files_and_errors_of_the_disk_stop(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # closes what earlier tests left
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(
            Stopped, match=r"cannot be read \(Too many open files\); the file is as it was: raise the limit"
        ):
            load_checkpoint(path, "supernet")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with pytest.raises(Stopped, match=r"cannot be read \(Input/output error\); the file is as it was"):
        load_checkpoint("/proc/self/mem", "supernet")


OF_LITTLE_MEMORY = """
import resource, sys
from trials.common.checkpoint import load_checkpoint
from spaces.errors import Stopped
import torch
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, resource.RLIM_INFINITY))
try:
    load_checkpoint(sys.argv[1], "supernet")
except Stopped as error:
    print(error)
"""


def test_too_little_memory_stops(tmp_path):
    """In a process of its own: what this one holds in reserve would do for the tensor."""
    torch.save({"model": {"a": torch.zeros(2**26)}}, tmp_path / "large.pt")  # 256 MiB
    command = [sys.executable, "-c", OF_LITTLE_MEMORY, str(tmp_path / "large.pt")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "large.pt' (268,436,955 bytes) does not fit into memory; the file is as it was: free memory" in said


def test_weights_of_another_network_are_one_line(path):
    state = load_checkpoint(path, "network", needs=("model",))
    with pytest.raises(InputError, match="network '.*' does not fit this network .*; name the file that belongs to it"):
        with fitting("network", path):
            torch.nn.Linear(4, 4).load_state_dict(state["model"])
