"""What the tests with NNI share."""

from pathlib import Path

import pytest

from tests.commands import start_server


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> None:
    """It runs what trials compute. A trial must not start it: what a trial has started ends with its experiment."""
    start_server()


@pytest.fixture
def copy(own_run: Path) -> Path:
    """A supernet run of the test's own."""
    return own_run
