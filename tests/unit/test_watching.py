"""Loggers: TensorBoard without points that stand twice, CSV, the services, what is refused, and what each tag means."""

import csv
import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.plugins.hparams import metadata

from spaces.errors import InputError
from tests.commands import ROOT
from tests.experiments import events
from tests.unit.test_recipes import configured
from trials.images.dataset import STATISTICS, Data, normalise
from trials.training import retrain_config, supernet_config
from trials.training.loop import TrainingLog
from trials.training.retrain_trainer import NetworkTrainer, open_data
from trials.watching import options, services
from trials.watching.boards import Boards, grid
from trials.watching.options import loggers
from trials.watching.subject import Subject
from trials.watching.tags import TAGS, tag_of
from trials.watching.tensorboard import METRICS, NAMES, NUMBERS, keep_until

SUPERNET = {"out": "run", "preset": "tiny", "data": "digits"}


def training_log(run, logger="tensorboard", *, writes=True, **more):
    config = supernet_config.Config(**(SUPERNET | {"logger": logger} | more))
    return TrainingLog(run, config, facts={"command": "supernet", "network": "supernet"}, name="mine", writes=writes)


def killed_and_resumed(run, logger):
    """Lines at 2, 4, 6 and 8, killed; the checkpoint is that of step 4; then 6 to 10, to the end."""
    log = training_log(run, logger)
    log.begin(0, 4)
    log.boards.image("train/images", 0, np.zeros((8, 8, 3), np.uint8))
    for step in (2, 4, 6, 8):
        log.write(step, {"loss": 1 / step, "images_per_second": 9.0})
        if step % 4 == 0:
            log.write(step, {"fixed_paths_top1": 10.0 * step}, fixed_paths=[10.0 * step])
    log.flush()
    for board in log.boards.boards:  # a kill closes nothing
        getattr(board, "writer", log).flush()
    with training_log(run, logger) as again:
        again.begin(4, 4)
        for step in (6, 8, 10):
            again.write(step, {"loss": 1 / step, "images_per_second": 8.0})
            if step % 4 == 0:
                again.write(step, {"fixed_paths_top1": 10.0 * step}, fixed_paths=[10.0 * step])


def test_tensorboard_holds_each_point_once_after_a_kill(tmp_path):
    killed_and_resumed(tmp_path, "tensorboard")
    found = events(tmp_path / "tensorboard")
    assert found["train/loss"] == found["train/images_per_second"] == [2, 4, 6, 8, 10]
    assert found["score/fixed_paths_top1"] == [4, 8]
    assert found["train/images"] == [0]
    assert found[metadata.SESSION_START_INFO_TAG] == found[metadata.SESSION_END_INFO_TAG] == [0]
    lines = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [2, 4, 4, 6, 8, 8, 10]


def test_event_files_survive_a_kill_while_they_are_rewritten(tmp_path):
    """The rewritten file is there, the old ones still are; a file that ends within a record; an older version's tags."""
    from torch.utils.tensorboard import SummaryWriter

    for steps in ((1, 2), (2, 3)):
        with SummaryWriter(str(tmp_path), filename_suffix=f".{steps[0]}") as writer:
            for step in steps:
                writer.add_scalar("val_top1", step, step, walltime=step)
    damaged = max(tmp_path.glob("events*"), key=lambda path: path.name.endswith(".2"))
    damaged.write_bytes(damaged.read_bytes()[:-5])
    assert keep_until(tmp_path, 2) == 2
    assert events(tmp_path) == {"score/top1": [1, 2]}
    assert len(list(tmp_path.iterdir())) == 1
    assert keep_until(tmp_path, -1) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_began_without_a_logger_tells_it_all(tmp_path):
    with training_log(tmp_path, "none") as log:
        log.begin(0, 4)
        log.write(2, {"loss": 0.5})
        log.write(4, {"loss": 0.25})
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl"}
    with training_log(tmp_path, "tensorboard,csv") as log:
        log.begin(2, 4)
        log.write(4, {"loss": 0.25})
    assert events(tmp_path / "tensorboard")["train/loss"] == [2, 4]


def test_csv_has_one_row_for_each_step_after_a_kill(tmp_path):
    killed_and_resumed(tmp_path, "csv")
    with open(tmp_path / "csv" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4", "6", "8", "10"]
    assert [row["score/fixed_paths_top1"] for row in rows] == ["", "40.0", "", "80.0", ""]
    assert not (tmp_path / "tensorboard").exists()


def test_only_the_first_process_writes(tmp_path):
    with training_log(tmp_path / "run", writes=False) as log:
        log.begin(0, 4)
        log.write(2, {"loss": 1.0})
        log.plot(2, {"loss": 1.0})
        log.show(SimpleNamespace(), torch.zeros(1))
        log.flush()
    assert not (tmp_path / "run").exists()


def test_a_session_that_fails_is_not_marked_as_ended(tmp_path):
    with pytest.raises(KeyboardInterrupt), training_log(tmp_path) as log:
        log.begin(0, 4)
        log.write(2, {"loss": 1.0})
        raise KeyboardInterrupt
    found = events(tmp_path / "tensorboard")
    assert metadata.SESSION_START_INFO_TAG in found
    assert metadata.SESSION_END_INFO_TAG not in found


def test_a_session_that_was_stopped_and_goes_on_ends_once(tmp_path):
    for first in (0, 4):
        with training_log(tmp_path) as log:
            log.begin(first, 4)
            log.write(first + 4, {"loss": 1.0})
    found = events(tmp_path / "tensorboard")
    assert (found["train/loss"], found[metadata.SESSION_END_INFO_TAG]) == ([4, 8], [0])


class Recorder:
    """In place of Lightning's logger: what the service would have been told."""

    version = "id7"

    def __init__(self, fails=False):
        self.told, self.fails = [], fails

    def log_metrics(self, values, step):
        if self.fails:
            raise ConnectionError("no route\nto host")
        self.told.append(step)


class Recorded(services.Service):
    """A service whose logger is a Recorder."""

    kind = "mlflow"

    def open(self, subject, known):
        self.opened_with = known
        return Recorder(fails=subject.name == "fails")

    def end(self, succeeded):
        self.logger.told.append(succeeded)


def test_a_service_is_told_no_step_twice(tmp_path):
    subject = Subject(tmp_path, tmp_path, "mine", {})
    first = Recorded(subject, 0)
    assert first.opened_with is None
    for step in (2, 4, 4, 6, 8):
        first.scalars(step, {"train/loss": 1.0})
    assert first.logger.told == [2, 4, 4, 6, 8]
    notes = json.loads((tmp_path / services.NOTES).read_text())
    assert notes == {"mlflow": {"id": "id7", "step": 8}}

    for resumed_at in (4, 2):  # killed again before it came as far as the first time
        again = Recorded(subject, resumed_at)
        assert again.opened_with == "id7"
        for step in (4, 6, 8):
            again.scalars(step, {"train/loss": 1.0})
        assert again.logger.told == []
    again.scalars(10, {"train/loss": 1.0})
    again.scalars(10, {"score/top1": 1.0})
    assert again.logger.told == [10, 10]
    last = Recorded(subject, 10)  # killed while the network was tested: its accuracy belongs to the last step, too
    last.result(10, {"test/top1": 1.0})
    assert last.logger.told == [10]
    assert Recorded(subject, 0).opened_with is None  # it begins anew, and so does the service's run


def test_a_service_that_fails_does_not_end_the_training(tmp_path, capsys):
    failing = Recorded(Subject(tmp_path, tmp_path, "fails", {}), 0)
    for step in (2, 4):
        failing.scalars(step, {"train/loss": 1.0})
    failing.close(succeeded=True)
    said = "note: mlflow is told nothing more (no route); log.jsonl holds everything\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("given", "names"),
    [("tensorboard", ("tensorboard",)), ("csv, wandb", ("csv", "wandb")), ("none", ())],
)
def test_loggers_that_are_named(given, names):
    assert loggers(given) == names


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("tensorbord", "unknown logger 'tensorbord'; did you mean 'tensorboard'? choose from: tensorboard, wandb, mlflow, csv, none"),
        ("", "unknown logger ''"),
        ("csv,", "unknown logger ''"),
        ("CSV", "unknown logger 'CSV'"),
        ("csv;wandb", "unknown logger 'csv;wandb'"),
        ("csv,csv", "names a logger twice; name each once"),
        ("none,csv", "none goes with no other; give none, or the others"),
        ("x" * 500, "unknown logger 'xxx"),
    ],
)  # fmt: skip
def test_loggers_that_are_refused(given, reason):
    for refused in (
        lambda: loggers(given),
        lambda: supernet_config.Config(**SUPERNET, logger=given),
        lambda: retrain_config.Config(fixed_arc="spos-block", logger=given),
    ):
        with pytest.raises(InputError) as caught:
            refused()
        assert reason in str(caught.value)
        assert len(str(caught.value)) < 700
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_package_that_is_missing_is_named_with_its_command(name, package, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, name, None)  # as where it is not installed
    with pytest.raises(InputError) as caught:
        supernet_config.Config(**SUPERNET, logger=f"tensorboard,{name}")
    assert str(caught.value).startswith(f"--logger {name} needs {name}, which does not import here")
    assert str(caught.value).endswith(f"install it with: pip install {package}, or give another --logger")


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    options._has_wandb_account.cache_clear()
    with pytest.raises(
        InputError, match="--logger wandb knows no account here; log in with: wandb login, or set WANDB_MODE=offline"
    ):
        supernet_config.Config(**SUPERNET, logger="wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    killed_and_resumed(tmp_path / "run", "wandb")
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) >= 1
    notes = json.loads((tmp_path / "run" / services.NOTES).read_text())["wandb"]
    assert notes["step"] == 10
    assert all(notes["id"] in path.name for path in (tmp_path / "run" / "wandb").glob("offline-run-*"))


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")
def test_mlflow_in_the_folder_of_the_run(tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    killed_and_resumed(tmp_path, "mlflow")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name(services.PROJECT).experiment_id])
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")] == [2, 4, 6, 8, 10]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "score/fixed_paths_top1")] == [4, 8]
    assert run.data.params["preset"] == "tiny"
    assert run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(run.info.run_id, "train")] == ["train/images-000000.png"]


def test_every_column_of_the_hparams_tab_exists():
    """Options that were renamed would leave a column empty."""
    known = {*supernet_config.Config.__dataclass_fields__, *retrain_config.Config.__dataclass_fields__}
    assert {*NAMES, *NUMBERS} - known == {"command", "network"}
    assert set(METRICS) <= set(TAGS.values())


def test_tags_are_grouped_and_explained():
    groups = {tag.partition("/")[0] for tag in TAGS.values()}
    assert groups == {"train", "score", "test", "arch"}
    assert tag_of("probability/block0/k3") == "arch/probability/block0/k3"
    page = (ROOT / "docs" / "watching.md").read_text()
    assert [tag for tag in TAGS.values() if f"`{tag}`" not in page] == []


@pytest.mark.parametrize("spos", [False, True])
@pytest.mark.parametrize(
    "statistics", [STATISTICS["folder"], ((0.5,) * 3, (0.25,) * 3)]
)  # those of a baseline's weights
def test_pictures_are_the_images_before_they_were_normalised(spos, statistics):
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    data = SimpleNamespace(statistics=statistics, spos=spos)
    shown = Data.pixels(data, normalise(images, statistics, spos=spos))
    assert np.array_equal(shown, images.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("loader", ["dali", "torchvision"])
def test_pictures_are_what_the_network_gets(loader, photos):
    """With all augmentation there is, mixing too: what is shown, normalised again, is what goes into the network."""
    flags = ["--data", "folder", "--data-root", str(photos), "--loader", loader, "--workers", "0", "--resolution", "32"]
    flags += ["--randaugment", "2", "--color-jitter", "0.2", "--cutout", "8", "--mixup", "0.2", "--cutmix", "1"]
    config = configured("--baseline", "timm:mobilenetv2_035", "--preset", "tiny", *flags)
    data = open_data(config)
    trainer = SimpleNamespace(config=config, data=data, seed=3)
    trainer._seeds = lambda step: NetworkTrainer._seeds(trainer, step)
    images, labels = next(data.train_batches("train", 8, seed=3, epoch=0))
    mixed, targets = NetworkTrainer.mixed(trainer, 0, images, labels)
    assert targets.shape == (8, len(data.classes))
    shown = data.pixels(mixed)
    assert shown.shape == (8, 32, 32, 3)
    again = data.normalise(torch.from_numpy(shown).permute(0, 3, 1, 2))
    black, white = (data.normalise(torch.full((1, 3, 1, 1), value, dtype=torch.uint8)) for value in (0, 255))
    assert (again - mixed.clamp(black, white)).abs().max() < 0.51 / 255 / 0.224
    assert torch.equal(NetworkTrainer.mixed(trainer, 0, images, labels)[0], mixed)  # asked twice, it is the same


def test_a_grid_shows_every_picture():
    images = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (10, 20, 30)])
    sheet = grid(images, columns=2)
    assert sheet.shape == (2 * 68, 2 * 68, 3)  # 64 pixels, and 2 around them
    assert [int(sheet[y, x, 0]) for y, x in ((34, 34), (34, 102), (102, 34), (102, 102), (0, 0))] == [
        10,
        20,
        30,
        255,
        255,
    ]


def test_boards_are_closed_when_one_cannot_begin(tmp_path, monkeypatch):
    class Broken(services.MlflowRun):
        def open(self, subject, known):
            raise ValueError("the server says no\nand more")

    monkeypatch.setattr("trials.watching.boards.MlflowRun", Broken)
    with pytest.raises(InputError) as caught:
        Boards("tensorboard,mlflow", Subject(tmp_path, tmp_path, "mine", {"command": "supernet"}), 0)
    assert str(caught.value) == "--logger mlflow cannot begin (the server says no); mend that, or give another --logger"
    assert metadata.SESSION_END_INFO_TAG not in events(tmp_path / "tensorboard")
