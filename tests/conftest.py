"""Real parts, made once: a short supernet run on digits, and image folders of real photographs and digits."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import trials  # noqa: F401 (before torch: it sets how OpenMP waits)

# what a scan of images found is kept here, not in the home of who runs the tests
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="onepath-cache-")

ROOT = Path(__file__).resolve().parent.parent
SUPERNET = [
    "--space",
    "spos",
    "--preset",
    "tiny",
    "--data",
    "digits",
    "--score-fraction",
    "0.25",
    "--epochs",
    "3",
    "--warm-start",
    "0.7",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test has the name of its folder as a marker: unit, nni or end_to_end."""
    for item in items:
        item.add_marker(item.path.parent.name)


def onepath(command: str, *args: object, check: bool = False, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run `python -m trials.COMMAND` as a user does."""
    line = [sys.executable, "-m", f"trials.{command}", *map(str, args)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=280, check=check)


def assert_one_clear_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """A user's mistake: non-zero exit, one line, no traceback."""
    assert done.returncode not in (0, 120), done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of trials.supernet on digits."""
    from trials import supernet

    out = tmp_path_factory.mktemp("runs") / "digits"
    supernet.main([*SUPERNET, "--out", str(out)])
    return out


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two classes of JPEG crops from scikit-learn's two photographs, 20 each, of odd sizes."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    folder = tmp_path_factory.mktemp("photos")
    sample = load_sample_images()
    draw = np.random.default_rng(0)
    for name, image in zip(("china", "flower"), sample.images, strict=True):
        (folder / name).mkdir()
        for number in range(20):
            height, width = draw.integers(60, 120, 2)
            top, left = draw.integers(0, image.shape[0] - height), draw.integers(0, image.shape[1] - width)
            crop = Image.fromarray(image[top : top + height, left : left + width])
            crop.save(folder / name / f"{number:02d} ä.jpg", quality=95)
    return folder


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of 30 real JPEG files each, of odd sizes: colour crops of two photographs, grey ones of solar cells."""
    import importlib.util

    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    folder = tmp_path_factory.mktemp("tree")
    draw = np.random.default_rng(1)
    cells = Path(str(importlib.util.find_spec("elpv_dataset").submodule_search_locations[0])) / "data" / "images"
    sources = dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    for name in ("china", "flower", "cell a", "zelle ü"):
        (folder / name).mkdir()
        for number in range(30):
            if name in sources:
                image = Image.fromarray(sources[name])
            else:
                image = Image.open(cells / f"cell{number + (1 if name == 'cell a' else 1001):04d}.png")
            height, width = draw.integers(33, min(image.height, 290), 2).tolist()
            top, left = draw.integers(0, image.height - height), draw.integers(0, image.width - width)
            crop = image.crop((left, top, left + width, top + height))
            quality, subsampling = draw.integers(70, 98), draw.integers(0, 3)
            crop.save(
                folder / name / f"{number:02d} é.JPEG", "JPEG", quality=int(quality), subsampling=int(subsampling)
            )
    return folder
