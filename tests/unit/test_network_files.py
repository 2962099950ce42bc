"""network.pt with values that are none of a network; class names that the machine could not read."""

import errno
from types import SimpleNamespace

import pytest
import torch

from spaces.arch_file import load_arch
from spaces.errors import InputError, Stopped
from trials.networks.build import read_network
from trials.reporting import data_view

WEIGHTS = {"model": {"a": torch.zeros(1)}}
GOOD = {"resolution": 8, "classes": ["a"], "mean": [0.0] * 3, "std": [1.0] * 3}


@pytest.mark.parametrize(
    "wrong",
    [
        {"preprocessing": 3},
        {"preprocessing": {**GOOD, "resolution": "8"}},
        {"preprocessing": {**GOOD, "resolution": 0}},
        {"preprocessing": {**GOOD, "mean": [0.0]}},
        {"preprocessing": {**GOOD, "classes": "ab"}},
        {"preprocessing": {**GOOD, "classes": [1]}},
        {"preprocessing": {**GOOD, "channels": "HSV"}},
        {"arch": [1, 2]},
        {"arch": {}},
        {"space": "spos"},
        {"baseline": 7},
        {"seed": "0"},
    ],
)
def test_a_network_with_wrong_values_is_one_line(tmp_path, wrong):
    path = tmp_path / "network.pt"
    torch.save(WEIGHTS | {"preprocessing": GOOD}, path)
    assert read_network(path, "model", "preprocessing")["preprocessing"] == GOOD
    torch.save(WEIGHTS | {"preprocessing": GOOD} | wrong, path)
    with pytest.raises(InputError, match="network '.*network.pt' is damaged or not such a file") as caught:
        read_network(path, "model", "preprocessing")
    assert "\n" not in str(caught.value)


def test_class_names_that_the_machine_cannot_read_are_no_damage(tmp_path, monkeypatch):
    path, contents = tmp_path / "supernet.pt", SimpleNamespace(path=tmp_path)
    path.write_bytes(b"damaged")
    assert data_view.class_names(contents) is None
    for inner in ({"preprocessing": 1}, {"preprocessing": {"classes": 3}}, {}):
        torch.save(inner, path)
        assert data_view.class_names(contents) is None
    torch.save({"preprocessing": {"classes": ["a", "b"]}}, path)
    assert data_view.class_names(contents) == ["a", "b"]

    def fails(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(Stopped, match="Input/output error"):
        data_view.class_names(contents)


def test_a_fixed_arc_that_is_no_text_names_the_formats(tmp_path):
    path = tmp_path / "arc.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(
        InputError, match=r"is not a text file \(8 bytes\); give \{label: candidate\}.*tuple of candidate"
    ):
        load_arch(path, {"block00": ["k3", "k5"]})
