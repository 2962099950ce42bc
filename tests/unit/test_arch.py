"""Fixed-arc files in all their formats, and what is wrong with bad ones."""

import json

import pytest
import yaml

from spaces.arch import ArchError, arch_id, save_arch, validate
from spaces.arch_file import load_arch
from spaces.errors import InputError
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
        ('"k3"', "neither JSON nor a tuple"),
        ("7", "it holds a int; give {label: candidate}"),
        ("", "is empty; give {label: candidate}"),
        (json.dumps([INDICES, INDICES]), r"it holds lists of \[20, 20\] numbers; this space needs 20, for block"),
        ('{"block00": "k3", "block00": "k5"}', "key 'block00' stands there twice"),
        ("block00: k3\nblock00: k5", "key 'block00' stands there twice"),
        (str(ARCH)[:-1] + ", 'block00': 'k5'}", "key 'block00' stands there twice"),
        (
            json.dumps({"channel_1": 32, "layer_1": "k3"}),
            "'channel_1' is a number of channels of NNI's ShuffleNetSpace",
        ),
        (json.dumps({f"LayerChoice{2 * i}": "0" for i in range(20)}), "do not follow each other"),
        (json.dumps({f"LayerChoice{i}": "4" for i in range(20)}), "4 for 'block00' is not a candidate number"),
        (json.dumps({f"LayerChoice{i}": "k9" for i in range(20)}), "unknown candidate for 'block00': 'k9'"),
        (json.dumps({f"LayerChoice{i}": [True, False] for i in range(20)}), "exactly one true, and 4 entries"),
        (json.dumps({f"LayerChoice{i}": [True] + 4 * [False] for i in range(20)}), "exactly one true, and 4 entries"),
        (json.dumps({f"LayerChoice{i}": [1, 0, 0, 0] for i in range(20)}), "exactly one true, and 4 entries"),
        ("layers.0.0: {chosen: shuffle_3x3}\nlayers.0.2: {chosen: shuffle_3x3}", r"blocks of stage 0 are \[0, 2\]"),
        ("layers.0.0: shuffle_3x3", "give chosen: NAME"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nblock00: [*b, *b]", "unknown label 'a'"),
        ("[" * 100_000, "neither JSON nor a tuple"),
        ("9" * 5_000, "neither JSON nor a tuple"),
        ("{}", "lacks 'block00' and 19 more"),
        (json.dumps({**ARCH, "block3": "k3"}), "unknown label 'block3'; did you mean"),
        (
            json.dumps({**ARCH, "block03": "k4"}),
            "unknown candidate for 'block03': 'k4'.*choose from: k3, k5, k7, xception",
        ),
        (json.dumps({**ARCH, "block03": ["k3"]}), "unknown candidate for 'block03'"),
        (json.dumps(INDICES[:-1]), "it holds 19 choices; this space has 20"),
        (json.dumps([*INDICES[:-1], 4]), "4 for 'block19' is not a candidate number; give 0 to 3"),
        (json.dumps({f"LayerChoice{i}": [True, True, False, False] for i in range(20)}), "a mask has exactly one true"),
    ],
)
def test_bad_files(tmp_path, text, says):
    (tmp_path / "arc.json").write_text(text)
    with pytest.raises(ArchError, match=says):
        load_arch(tmp_path / "arc.json", CHOICES)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(InputError, match="does not exist; check the path"):
        load_arch(tmp_path / "none.json", CHOICES)
    (tmp_path / "binary").write_bytes(b"\x80\x04\xff\xfe")
    with pytest.raises(InputError, match="is not a text file"):
        load_arch(tmp_path / "binary", CHOICES)


NUMBERED = {
    "names and numbers of NNI 1.6 to 2.10": {f"LayerChoice{i + 7}": str(index) for i, index in enumerate(INDICES)},
    "one choice as a list": {f"LayerChoice{i}": [str(index)] for i, index in enumerate(INDICES)},
    "names in NNI 1.6": {f"LayerChoice{i}": NAMES[index] for i, index in enumerate(INDICES)},
    "ShuffleNetSpace of NNI 3.0": {
        f"layer_{i + 1}": "xcep" if index == 3 else NAMES[index] for i, index in enumerate(INDICES)
    },
    "mmrazor": {
        f"backbone.layers.{stage}.{block}": {
            "chosen": ["shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception"][INDICES[first + block]]
        }
        for stage, (first, blocks) in enumerate([(0, 4), (4, 4), (8, 8), (16, 4)])
        for block in range(blocks)
    },
    "a score": {"arch": ARCH, "top1": 91.2},
    "a trial of NNI": {"parameter_id": 3, "parameter_source": "algorithm", "parameters": ARCH, "parameter_index": 0},
}


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump])
@pytest.mark.parametrize("form", NUMBERED)
def test_forms_of_other_codes_are_read_aloud(tmp_path, capsys, form, write):
    (tmp_path / "arc").write_text(write(dict(sorted(dict(NUMBERED[form]).items()))))
    assert load_arch(tmp_path / "arc", CHOICES) == ARCH
    assert capsys.readouterr().out.endswith(": " + " ".join(f"{k}={v}" for k, v in ARCH.items()) + "\n")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, capsys, encoding):
    (tmp_path / "arc.json").write_text(json.dumps(ARCH), encoding=encoding)
    assert load_arch(tmp_path / "arc.json", CHOICES) == ARCH
    assert capsys.readouterr().out == ""  # our own form


WIDTHS = [0.2, 0.4, 0.6, 0.8]
WITH_WIDTHS = {
    label: values for i in range(20) for label, values in ((f"block{i:02d}", NAMES), (f"width{i:02d}", WIDTHS))
}


def test_blocks_and_widths_are_two_lists(tmp_path, capsys):
    numbers = [3, 2, 1, 0] * 5
    (tmp_path / "arc.json").write_text(json.dumps([INDICES, numbers]))
    arch = load_arch(tmp_path / "arc.json", WITH_WIDTHS)
    assert list(arch) == list(WITH_WIDTHS)
    assert [arch[f"block{i:02d}"] for i in range(20)] == [NAMES[index] for index in INDICES]
    assert [arch[f"width{i:02d}"] for i in range(20)] == [WIDTHS[number] for number in numbers]
    assert "read as 20 block numbers then 20 width numbers: block00=k7 width00=0.8 " in capsys.readouterr().out


@pytest.mark.parametrize("content", [INDICES + INDICES, INDICES, {f"LayerChoice{i}": "0" for i in range(40)}])
def test_numbers_that_may_be_blocks_or_widths_are_refused(tmp_path, content):
    (tmp_path / "arc.json").write_text(json.dumps(content))
    with pytest.raises(ArchError, match="of block and which of width; give 2 lists|this space has block and width"):
        load_arch(tmp_path / "arc.json", WITH_WIDTHS)


def test_identity_depends_on_content_alone():
    assert arch_id(ARCH) == arch_id(dict(reversed(ARCH.items()))) == "5ba25fd042bb"
    assert arch_id(ARCH) != arch_id({**ARCH, "block00": "k3"})


def test_booleans_are_no_candidate_numbers():
    with pytest.raises(ArchError):
        validate({"a": True}, {"a": [0, 1]})
