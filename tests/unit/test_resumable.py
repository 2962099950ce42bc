"""What --resume reads in NNI's own database, in every state that a killed manager leaves it in."""

import contextlib
import sqlite3
import subprocess
import sys

import pytest

from spaces.errors import InputError
from trials.search_driver.nni_manager import can_be_resumed

# A writer that ends in the middle of a transaction of which a part is in the file already.
KILLED = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("pragma cache_size = 1")
database.execute("begin")
database.execute("create table MetricData (data)")
for _ in range(2000):
    database.execute("insert into MetricData values (?)", ("x" * 500,))
database.execute("delete from ExperimentProfile")
os._exit(1)
"""


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "db").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "db" / "nni.sqlite")) as database:
        database.execute("create table ExperimentProfile (params)")
        database.execute("insert into ExperimentProfile values ('{}')")
        database.commit()
    return tmp_path


def test_killed_while_it_wrote(experiment):
    path = experiment / "db" / "nni.sqlite"
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert path.with_name("nni.sqlite-journal").stat().st_size  # what has to be rolled back
    assert can_be_resumed(experiment)
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("select name from sqlite_master").fetchall() == [("ExperimentProfile",)]


def test_killed_in_its_first_seconds(tmp_path, experiment):
    assert not can_be_resumed(tmp_path / "nowhere")
    path = experiment / "db" / "nni.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("delete from ExperimentProfile")
        database.commit()
    assert not can_be_resumed(experiment)
    path.write_bytes(b"")
    assert not can_be_resumed(experiment)
    assert path.read_bytes() == b""


def test_a_damaged_database_is_not_taken_for_none(experiment):
    (experiment / "db" / "nni.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="NNI's database '.*nni.sqlite' cannot be read \\(file is not a database\\)"):
        can_be_resumed(experiment)
