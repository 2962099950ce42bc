"""Readers of what people and machines write, given files that were changed at random: a value, or one line; nothing else.

The changes are drawn with a fixed seed for each reader, so that a failure comes again; ONEPATH_FUZZ sets how many (default 60),
ONEPATH_FUZZ_SEED other ones.
"""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spaces.arch_file import load_arch
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import read_jsonl, save_json
from spaces.latency import LatencyTable
from spaces.published import PUBLISHED
from tests.commands import ROOT
from tests.unit.test_report import make_certificate, make_network, make_search, make_supernet
from trials.common import run_files
from trials.common.checkpoint import load_checkpoint
from trials.images.image_list import load_list
from trials.images.val_labels import read_val_labels
from trials.networks.answers import Answers
from trials.networks.official_spos import read_checkpoint
from trials.scoring import noise
from trials.search_driver.experiment_yaml import read_yaml
from trials.timing import latency_csv

NUMBER, SEED = int(os.environ.get("ONEPATH_FUZZ", 60)), os.environ.get("ONEPATH_FUZZ_SEED", "0")
COSTS = CostTable.load(ROOT / "experiments/spaces/spos-tiny.costs.json")
ARCH = PUBLISHED["spos"]["spos-block"].arch
# what turns up in files that went wrong: other quotes, marks of editors, numbers without end, tags, controls, nothing
SNIPPETS = [
    *(
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\x00",
        b"\x00" * 64,
        b"\xc3\x28",
        b"\r",
        b"\n\n",
        b'"',
        b"'",
        b",",
        b";",
        b"\t",
        b"{",
        b"}",
        b"[",
        b"]",
    ),
    *(
        b"null",
        b"true",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"-1",
        b"9" * 5000,
        b"[" * 3000,
        b"{" * 3000,
        b"k9",
        b"LayerChoice1",
        b"layer_1",
    ),
    *(
        b"&a [*a]",
        b"*a",
        b"!!python/name:os.system",
        b"!!int ''",
        b"<<: {",
        b": ",
        b"- ",
        b"#",
        b"=",
        b"block,,",
        "ü".encode(),
        "\uff19".encode(),
    ),
]


def changed(content: bytes, draw: random.Random) -> bytes:
    """One to three changes: bytes flipped, cut out, doubled, swapped, or a snippet put in or in place of something."""
    for _ in range(draw.randint(1, 3)):
        first, last = sorted(draw.choices(range(len(content) + 1), k=2))
        last = min(last, first + draw.choice((1, 4, 40, 10**9)))
        part = content[first:last]
        part = draw.choice(
            (
                lambda part: b"",
                lambda part: part * 2,
                lambda part: draw.choice(SNIPPETS),
                lambda part: part + draw.choice(SNIPPETS),
                lambda part: bytes(byte ^ 1 << draw.randrange(8) for byte in part[:8]) + part[8:],
                lambda part: part[::-1],
            )
        )(part)
        content = content[:first] + part + content[last:]
    return content


def write_json(value: Any) -> Callable[[Path], object]:
    return lambda path: save_json(path, value)


def write_text(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def write_csv(path: Path) -> None:
    latency_csv.write_template(str(path), COSTS, [])
    path.write_text(path.read_text().replace(",\r\n", ",0.5\r\n").replace(",\n", ",0.5\n"))


def write_latency_table(path: Path) -> None:
    blocks = [[500_000] * len(block.macs) for block in COSTS.blocks]
    LatencyTable(COSTS.space, [block.choices for block in COSTS.blocks], 10**6, blocks).save(path)


def write_official(path: Path) -> None:
    """As far as one must go into the file until it is refused."""
    torch.save(
        {"state_dict": {f"features.{i}.0.branch_main.0.weight": torch.zeros(2, 2, 1, 1) for i in range(20)}}, path
    )


FILES = [f"images/{number:03d}.jpg" for number in range(12)]
LABELS = [f"{Path(name).name}{{}}class{number % 3}" for number, name in enumerate(FILES)]
READERS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "arc": (write_json(ARCH), lambda path: load_arch(path, COSTS.choices)),
    "arc of NNI 1": (
        write_json({f"LayerChoice{number}": "1" for number in range(20)}),
        lambda path: load_arch(path, COSTS.choices),
    ),
    "arc as a tuple": (write_text(str((2, 1, 0, 3) * 5)), lambda path: load_arch(path, COSTS.choices)),
    "arc of mmrazor": (
        write_text("".join(f"layers.0.{number}:\n  chosen: shuffle_3x3\n" for number in range(20))),
        lambda path: load_arch(path, COSTS.choices),
    ),
    "labels with commas": (
        write_text("\n".join(LABELS).format(*[","] * 12)),
        lambda path: read_val_labels(path, FILES, ["class0", "class1", "class2"]),
    ),
    "labels with spaces": (
        write_text("\n".join(LABELS).format(*[" "] * 12)),
        lambda path: read_val_labels(path, FILES, ["class0", "class1", "class2"]),
    ),
    "latency CSV": (write_csv, lambda path: latency_csv.read(str(path), COSTS)),
    "latency table": (write_latency_table, lambda path: LatencyTable.load(path, COSTS)),
    "cost table": (COSTS.save, CostTable.load),
    "YAML": (write_text((ROOT / "experiments/quickstart.yml").read_text()), read_yaml),
    "log": (
        write_text("".join(json.dumps({"step": step, "loss": 2.0}) + "\n" for step in range(9))),
        lambda path: read_jsonl(path, repair=True),
    ),
    "answers": (lambda path: Answers(np.arange(9), np.arange(9)).save(path), Answers.load),
    "checkpoint": (
        lambda path: torch.save({"model": {"a": torch.zeros(3, 3)}, "best": np.float64(3)}, path),
        lambda path: load_checkpoint(path, "supernet", needs=("model",)),
    ),
    "old checkpoint": (
        lambda path: torch.save({"model": {"a": torch.zeros(3, 3)}}, path, _use_new_zipfile_serialization=False),
        lambda path: load_checkpoint(path, "supernet", needs=("model",)),
    ),
    "official checkpoint": (write_official, lambda path: read_checkpoint(str(path))),
}


def hold(read: Callable[[Path], object], path: Path) -> bool:
    """Whether a file was refused; in one line, if so."""
    try:
        read(path)
    except InputError as error:
        line = str(error)
        assert len(line.splitlines()) == 1, line
        assert len(line) < 1000, line
        assert "delete" not in line
        return True
    return False


@pytest.mark.parametrize("name", READERS)
def test_a_file_changed_at_random_is_read_or_refused_in_one_line(tmp_path, name):
    write, read = READERS[name]
    write(tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    if name != "official checkpoint":  # there is no small one that is whole
        assert not hold(read, tmp_path / "file")
    draw, refused = random.Random(f"{name} {SEED}"), 0
    for _ in range(NUMBER):
        (tmp_path / "file").write_bytes(changed(content, draw))
        refused += hold(read, tmp_path / "file")
    assert refused or name == "log"  # which never is


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    make_supernet(run)
    archs = make_search(run)
    make_certificate(run, archs, make_network(run, "retrain", archs[-2], [350, 352]))
    return run


RUN_FILES = {
    "run configuration": "config.json",
    "search summary": "search.json",
    "certificate": "certificate.json",
    "result": "retrain/result.json",
    "result of a seed": "retrain/seed0/result.json",
    "score": "search/*.json",
}


@pytest.mark.parametrize("kind", RUN_FILES)
def test_a_run_file_changed_at_random_is_read_or_refused_in_one_line(run, tmp_path, kind):
    content = sorted(run.glob(RUN_FILES[kind]))[0].read_bytes()

    def read(path: Path) -> None:
        record = run_files.read(path, kind)
        if kind == "score":
            noise.unpack_answers(record)

    draw, refused = random.Random(f"{kind} {SEED}"), 0
    for _ in range(NUMBER):
        (tmp_path / "file").write_bytes(changed(content, draw))
        refused += hold(read, tmp_path / "file")
    assert refused
    (tmp_path / "file").write_bytes(content)
    assert not hold(read, tmp_path / "file")


@pytest.mark.parametrize("name", ["images.csv.gz"])
def test_a_list_of_images_changed_at_random(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x1f\x8b" + bytes(100))
    assert hold(load_list, tmp_path)
