"""Files of the machine: what killed writers leave, keys that stand twice, texts of other editors, what cannot be read."""

import fcntl
import os
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from spaces import files
from spaces.errors import InputError, Stopped, shown
from spaces.files import atomic, load_json, parse_json, parse_yaml, read_text, save_json
from tests.commands import ROOT
from trials.common import locks
from trials.scoring.evaluate_config import Settings
from trials.scoring.score_store import ScoreStore

KILLED = """
import os, signal
from spaces.files import atomic
with atomic("result.json") as temporary:
    temporary.write_text("half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment)
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".tmp")
    mine = tmp_path / ".data.tmp"  # no name of ours
    mine.touch()
    with open(tmp_path / ".other.json.99.tmp", "w") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)  # as a writer that lives does
        files._swept.clear()
        save_json(tmp_path / "result.json", {"whole": True})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".data.tmp", ".other.json.99.tmp", "result.json"]
    assert load_json(tmp_path / "result.json", "result") == {"whole": True}


def test_a_body_that_raises_leaves_the_file_as_it_was(tmp_path):
    save_json(tmp_path / "a.json", 1)
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("2")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert load_json(tmp_path / "a.json", "number") == 1


def test_a_folder_of_drafts_takes_no_temporary_file_but_where_it_is_asked_to(tmp_path):
    """A module that is imported while drafts are written, such as PyTorch's compiler, may keep the folder's name for ever."""
    with files.draft_folder(tmp_path / "export") as drafts:
        assert tempfile.gettempdir() != str(drafts)
        with files.temporary_files_in(drafts):
            assert tempfile.gettempdir() == str(drafts)
            with tempfile.NamedTemporaryFile() as file:
                assert os.path.dirname(file.name) == str(drafts)
        assert tempfile.gettempdir() != str(drafts)
    assert not list(tmp_path.iterdir())


def test_one_at_a_time_and_no_lock_file_is_left(tmp_path):
    path = tmp_path / ".lock"
    path.write_text("left by a killed one")
    inside, most = [], []

    def work(number: int) -> None:
        with locks.waiting(path):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.02)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
    assert not path.exists()


CLAIMS = """
import sys, time
from pathlib import Path
from trials.scoring.evaluate_config import Settings
from trials.scoring.score_store import ScoreStore
store = ScoreStore(Path(sys.argv[1]), "hash", Settings(calibration_images=1, scoring_images=1, batch_size=1))
for turn in range(100):
    with store.claimed([{"a": 1}, {"a": turn}]):
        path = Path(sys.argv[1]) / "inside"
        path.touch(exist_ok=False)
        path.unlink()
"""


def test_a_claim_is_exclusive_and_leaves_no_file(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CLAIMS, str(tmp_path)]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    with ScoreStore(tmp_path, "hash", Settings(calibration_images=1, scoring_images=1, batch_size=1)).claimed(
        [{"a": 1}]
    ):
        assert (tmp_path / "search" / ".lock").exists()
    assert list((tmp_path / "search").iterdir()) == []


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (parse_json, '{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' stands there twice"),
        (parse_json, "[" * 100_000, "nested too deeply"),
        (parse_json, "9" * 5000, "Exceeds the limit"),
        (parse_yaml, "a: 1\nb: 2\na: 3", r"key 'a' stands there twice \(line 1 and below\)"),
        (parse_yaml, "tuner: {name: TPE, name: Random}", "key 'name' stands there twice"),
        (parse_yaml, "[" * 100_000, "nested too deeply"),
        (parse_yaml, "a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        (parse_yaml, "a: !!int ''", "not of the type that its tag says"),
        (parse_yaml, "a: !!timestamp x", "not of the type that its tag says"),
        (parse_yaml, "a: 2020-13-45", "month must be in 1..12"),
        (parse_yaml, "a: [", "while parsing"),
    ],
)
def test_what_is_refused(parse, text, says):
    with pytest.raises(ValueError, match=says):
        parse(text)


def test_merged_keys_and_keys_of_other_kinds_are_no_doubles():
    assert parse_yaml("base: &b {x: 1}\nother: {<<: *b, x: 2}")["other"] == {"x": 2}
    assert parse_yaml("1: a\n'1': b") == {1: "a", "1": "b"}


def test_values_in_messages_are_short():
    bomb = parse_yaml(
        "a: &a [x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    )
    assert len(shown(bomb)) <= 200
    assert len(shown("x" * 10_000)) <= 200
    assert shown(10**5000) == "a number of thousands of digits"
    assert "\n" not in shown("a\nb")


def test_texts_that_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes("ü".encode("latin-1"))
    for name, says in (
        ("none", "table '.*none' does not exist; check the path"),
        ("latin/below", "does not exist"),
        (".", "is a folder, not a file"),
        ("pipe", "is a pipe, a socket or a device"),
        ("latin", r"is not a text file \(1 bytes\)"),
        ("x" * 300, r"cannot be read \(File name too long\); check the path"),
        ("a\0b", "is no name of a file"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            read_text(tmp_path / name, "table")
        assert caught.value.exit_code == 1
    with pytest.raises(
        Stopped, match=r"table '/proc/self/mem' cannot be read \(Input/output error\); the file is as it was"
    ):
        read_text("/proc/self/mem", "table")
