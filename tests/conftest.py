"""Real parts, made once: a short supernet run on digits, and image folders of real photographs and digits."""

import fcntl
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trials  # noqa: F401 (before torch: it sets how OpenMP waits)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # networks this small gain nothing from a second thread, two processes do
# what a scan of images found is kept here, not in the home of who runs the tests
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="onepath-cache-")

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
    "--device",  # what it is compared with is trained there too
    "cpu",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test has the name of its folder as a marker; those that take long come first, so that none is left at the end."""
    for item in items:
        item.add_marker(item.path.parent.name)
        if "run" in getattr(item, "fixturenames", ()):  # it trains a supernet
            item.add_marker("slow")

    def place(item: pytest.Item) -> tuple[int, int]:
        patience = item.get_closest_marker("timeout")
        return ["nni", "end_to_end", "unit"].index(item.path.parent.name), -patience.args[0] if patience else 0

    items.sort(key=place)


@pytest.fixture(scope="session")
def classify() -> Any:
    """The script that people run an exported network with, as a module."""
    path = Path(__file__).parents[1] / "docs" / "classify_onnx.py"
    spec = importlib.util.spec_from_file_location("classify_onnx", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Shared = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """A function that gives a folder which all processes of the tests read, and which the first that asks makes.

    Its arguments are the folder's name, and a function that fills it.
    """
    base = tmp_path_factory.getbasetemp()
    everyones = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    everyones.mkdir(exist_ok=True)

    def get(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = everyones / name, everyones / f"{name}.done"
        with open(everyones / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def run(shared: Shared) -> Path:
    """A finished run of trials.supernet on digits. It is only read: what writes into it takes `own_run`."""

    def fill(folder: Path) -> None:
        from trials import supernet

        supernet.main([*SUPERNET, "--out", str(folder / "run")])

    return shared("digits", fill) / "run"


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    """A copy of that run, into which a test may write."""
    from tests.experiments import copy_run  # imports NNI

    return copy_run(run, tmp_path / "run")


@pytest.fixture
def arc(tmp_path: Path) -> Path:
    """A file with an architecture of the space spos: its first candidate everywhere."""
    path = tmp_path / "arc.json"
    path.write_text(str((0,) * 20))
    return path


@pytest.fixture(scope="session")
def photos(shared: Shared) -> Path:
    """A folder with two classes of JPEG crops from scikit-learn's two photographs, 20 each, of odd sizes."""
    return shared("photos", make_photos)


def make_photos(folder: Path) -> None:
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    sample = load_sample_images()
    draw = np.random.default_rng(0)
    for name, image in zip(("china", "flower"), sample.images, strict=True):
        (folder / name).mkdir()
        for number in range(20):
            height, width = draw.integers(60, 120, 2)
            top, left = draw.integers(0, image.shape[0] - height), draw.integers(0, image.shape[1] - width)
            crop = Image.fromarray(image[top : top + height, left : left + width])
            crop.save(folder / name / f"{number:02d} ä.jpg", quality=95)


@pytest.fixture(scope="session")
def tree(shared: Shared) -> Path:
    """Four classes of 30 real JPEG files each, of odd sizes: colour crops of two photographs, grey ones of solar cells."""
    return shared("tree", make_tree)


def make_tree(folder: Path) -> None:
    import importlib.util

    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

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
