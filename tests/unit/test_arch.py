"""Fixed-arc files in all their formats, and what is wrong with bad ones."""

import json

import pytest

from spaces.arch import ArchError, arch_id, load_arch, save_arch, validate
from spaces.published import PUBLISHED

NAMES = ["k3", "k5", "k7", "xception"]
CHOICES = {f"block{i:02d}": NAMES for i in range(20)}
ARCH = PUBLISHED["spos"]["spos-block"].arch
INDICES = [2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3]


def test_round_trip(tmp_path):
    save_arch(tmp_path / "arc.json", ARCH)
    assert load_arch(tmp_path / "arc.json", CHOICES) == ARCH


@pytest.mark.parametrize("text", [str(tuple(INDICES)), json.dumps(INDICES)])
def test_official_tuple(tmp_path, text):
    (tmp_path / "arc").write_text(text)
    assert load_arch(tmp_path / "arc", CHOICES) == ARCH


def test_nni_1_masks_in_the_order_of_their_numbers(tmp_path):
    masks = {f"LayerChoice{i + 1}": [k == index for k in range(4)] for i, index in enumerate(INDICES)}
    shuffled = dict(sorted(masks.items()))  # LayerChoice1, LayerChoice10, LayerChoice11, ...
    (tmp_path / "arc.json").write_text(json.dumps(shuffled))
    assert load_arch(tmp_path / "arc.json", CHOICES) == ARCH


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "neither JSON nor a tuple"),
        ("__import__('os').getcwd()", "neither JSON nor a tuple"),
        ('"k3"', "it holds a str"),
        ("{}", "lacks 'block00' and 19 more"),
        (json.dumps({**ARCH, "block3": "k3"}), "unknown label 'block3'; did you mean"),
        (
            json.dumps({**ARCH, "block03": "k4"}),
            "unknown candidate for 'block03': 'k4'.*choose from: k3, k5, k7, xception",
        ),
        (json.dumps({**ARCH, "block03": ["k3"]}), "unknown candidate for 'block03'"),
        (json.dumps(INDICES[:-1]), "it holds 19 choices; this space has 20"),
        (json.dumps([*INDICES[:-1], 4]), "4 for 'block19' is not a candidate number; give 0 to 3"),
        (json.dumps({"LayerChoice1": [True, True, False, False]}), "needs exactly one true"),
    ],
)
def test_bad_files(tmp_path, text, says):
    (tmp_path / "arc.json").write_text(text)
    with pytest.raises(ArchError, match=says):
        load_arch(tmp_path / "arc.json", CHOICES)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(ArchError, match="does not exist; check the path"):
        load_arch(tmp_path / "none.json", CHOICES)
    (tmp_path / "binary").write_bytes(b"\x80\x04\xff\xfe")
    with pytest.raises(ArchError, match="is not a text file"):
        load_arch(tmp_path / "binary", CHOICES)


def test_identity_depends_on_content_alone():
    assert arch_id(ARCH) == arch_id(dict(reversed(ARCH.items()))) == "5ba25fd042bb"
    assert arch_id(ARCH) != arch_id({**ARCH, "block00": "k3"})


def test_booleans_are_no_candidate_numbers():
    with pytest.raises(ArchError):
        validate({"a": True}, {"a": [0, 1]})
