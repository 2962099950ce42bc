"""Every file of a run, damaged in every way: one line that names the file, or a report without what was lost; never a traceback."""

import contextlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spaces.errors import InputError
from spaces.files import load_json
from tests.unit.test_report import make_run
from trials.choosing.candidates import best_of
from trials.common import run_files
from trials.common.run_dir import Log
from trials.common.supernet_run import SupernetRun
from trials.reporting import page
from trials.reporting.collect import collect_run
from trials.reporting.summary import summary_rows
from trials.scoring.evaluate_config import Settings
from trials.scoring.score_store import ScoreStore

OTHER_VALUES: list[Any] = [
    None,
    [],
    {},
    "",
    "x" * 5000,
    -1,
    0,
    1.5,
    True,
    10**400,
    float("nan"),
    float("inf"),
    [[[]]],
    {"a": {}},
]
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "a list": lambda content: b"[1, 2]",
    "an object": lambda content: b'{"a": 1}',
    "a number": lambda content: b"3",
    "null": lambda content: b"null",
    "a number of 5,000 digits": lambda content: b"9" * 5000,
    "not UTF-8": lambda content: b"\xff\xfe\xfa" + content,
    "a pickle": lambda content: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07unknown\x94.",
    "zeros": lambda content: bytes(len(content)),
    "nested": lambda content: b"[" * 100_000,
    "a key twice": lambda content: content.replace(b"{", b'{"twice": 1, "twice": 2, ', 1),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run", "certified")


FILES = [
    *(
        "config.json",
        "cost_table.json",
        "supernet.pt",
        "log.jsonl",
        "search.json",
        "SCORE",
        "arc.json",
        "certificate.json",
    ),
    *("floor.json", "warnings.json", "retrain/config.json", "retrain/result.json", "retrain/arc.json"),
    *("retrain/seed0/result.json", "retrain/seed0/log.jsonl", "retrain/seed0/answers.npz"),
]


def file_of(run: Path, name: str) -> Path:
    return sorted((run / "search").glob("*.json"))[0] if name == "SCORE" else run / name


@contextlib.contextmanager
def kept(path: Path) -> Iterator[bytes]:
    """The content of a file, which is as it was when the body ends."""
    content = path.read_bytes()
    try:
        yield content
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)


def answer(run: Path, *, with_page: bool) -> str:
    """What the report says of a run, or the one line with which it refuses it."""
    try:
        contents = collect_run(run)
        return str(summary_rows(contents)) + (page.render_page(contents) if with_page else "")
    except InputError as refused:
        error = refused
    line = str(error)
    assert len(line.splitlines()) == 1
    assert len(line) < 900
    assert "delete" not in line
    assert error.exit_code in (1, 3)
    return line


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_line(run, name, caplog):
    path = file_of(run, name)
    with kept(path) as content:
        for damage in DAMAGE.values():
            path.write_bytes(damage(content))
            answer(run, with_page=False)
        path.unlink()
        path.mkdir()
        said = answer(run, with_page=True)
    if name == "SCORE":
        assert f"left out: score '{path}' is a folder" in caplog.text
    elif name not in ("supernet.pt", "retrain/arc.json"):  # what the report does without
        assert f"'{path}' is a folder, not a file" in said


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All (container, key) in a JSON value."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from places(inner)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("json") or name == "SCORE"])
def test_a_value_of_another_kind_or_a_missing_key_is_one_line(run, name):
    """Drawn with a fixed seed: every key is left out once where there are few, and gets another value."""
    path, draw = file_of(run, name), random.Random(name)
    with kept(path) as content:
        everywhere = range(len(list(places(json.loads(content)))))
        for number, place in enumerate(draw.sample(everywhere, min(4, len(everywhere)))):
            for value in (..., draw.choice(OTHER_VALUES)):
                changed = json.loads(content)
                container, key = list(places(changed))[place]
                if value is ...:
                    del container[key]
                else:
                    container[key] = value
                path.write_text(json.dumps(changed))
                answer(run, with_page=number < 1)


def test_a_bad_score_costs_itself_alone(run, caplog):
    scores = [load_json(path, "") for path in (run / "search").glob("*.json")]
    best = max(scores, key=lambda score: score["top1"])
    path = run / "search" / f"{next(p.stem for p in (run / 'search').glob('*.json') if load_json(p, '') == best)}.json"
    whole = collect_run(run)
    with kept(path) as content:
        path.write_bytes(content[:100])
        left = collect_run(run)
        assert len(left.results) == len(whole.results) - 1
        assert f"left out: score '{path}' is not valid JSON" in caplog.text
        store = ScoreStore(run, "hash", Settings(calibration_images=16, scoring_images=6, batch_size=6))
        assert store.read(best["arch"]) is None  # so that it is computed anew
        with pytest.raises(InputError, match="--top 6: the search of '.*' scored 0 architectures"):
            best_of(SupernetRun.open(run), 6)  # these scores are of no supernet
    assert len(collect_run(run).results) == len(whole.results)


def test_a_damaged_line_of_a_log_costs_itself_alone(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(
        b'{"step": 1}\n\x00\xff\n[3]\n{"loss": 3}\n{"step": 2}\n{"step": "x"}\n{"step": 3}\n{"step": 4, "lo'
    )
    log = Log(path, after_step=2)
    log.write(step=3, loss=1.0)
    log.file.close()
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3, "loss": 1.0}\n'


@pytest.mark.parametrize("kind", run_files.schemas())
def test_every_kind_of_file_refuses_what_it_is_not(tmp_path, kind):
    for number, text in enumerate(["null", "7", '"text"', "[7]", '{"a": 7}', "[[]]", '{"a": null}']):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        if kind == "fixed arc" and number == 4:  # a label and a number
            continue
        with pytest.raises(InputError, match=f"^{kind} '{path}' is damaged or not such a file"):
            run_files.read(path, kind)


def test_a_run_whose_copy_is_whole_is_read(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    assert len(collect_run(tmp_path / "copy").networks) == len(collect_run(run).networks) == 5


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "a key twice"])
def test_a_damaged_cache_is_one_line(tmp_path, damage):
    np.save(tmp_path / "labels.npy", np.arange(100))
    path = tmp_path / "labels.npy"
    assert len(run_files.read_array(path, "cached labels", "r")) == 100
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(
        InputError, match=f"^cached labels '{path}' is damaged; move '{tmp_path}' away, and it is made anew$"
    ):
        run_files.read_array(path, "cached labels", "r")
