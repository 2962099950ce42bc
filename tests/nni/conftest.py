"""What the tests with NNI share."""

from pathlib import Path

import pytest


@pytest.fixture
def copy(own_run: Path) -> Path:
    """A supernet run of the test's own."""
    return own_run
