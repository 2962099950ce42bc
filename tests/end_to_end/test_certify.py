"""trials.certify: small real runs, extended, killed and resumed; learned architectures, older runs, trainings that stop."""

import re
import shutil
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from spaces.errors import InputError, Stopped
from spaces.files import load_json, save_json
from tests.commands import Command
from tests.experiments import log_without_times, scores
from trials import certify, retrain, search, supernet
from trials.certifying.controls import choose_networks
from trials.choosing.searched import read_searched
from trials.common import locks
from trials.common.checkpoint import load_checkpoint
from trials.common.supernet_run import SupernetRun
from trials.evidence.comparison import as_sentence, verdict_text
from trials.networks.answers import Answers
from trials.training.retrain_trainer import NetworkTrainer

SUPERNET = ["--space", "spos", "--preset", "tiny", "--data", "digits", "--resolution", "16", "--epochs", "1"]
SUPERNET += ["--batch-size", "256", "--warm-start", "0"]
RECIPE = ["--epochs", "1", "--batch-size", "256", "--lr", "0.05", "--checkpoint-every", "2"]
STEPS = 5  # of one training: 1,438 images


@pytest.fixture(scope="session")
def searched(shared) -> Path:
    """A searched run, whose winner was retrained with one seed by a version that kept no answers."""

    def fill(folder: Path) -> None:
        run = folder / "run"
        supernet.main([*SUPERNET, "--out", str(run)])
        search.main([str(run), "--in-process", "--max-trials", "4"])
        retrain.main(["--fixed-arc", str(run / "arc.json"), "--supernet", str(run), *RECIPE])
        (run / "retrain" / "seed0" / "answers.npz").unlink()

    return shared("searched", fill) / "run"


@pytest.fixture(scope="session")
def certified(shared, searched) -> Path:
    """That run with a certificate of two random architectures and two seeds, made in one go."""

    def fill(folder: Path) -> None:
        shutil.copytree(searched, folder / "run")
        certify.main([str(folder / "run"), "--jobs", "1", "--device", "cpu", "--random", "2", "--seeds", "2"])

    return shared("certified", fill) / "run"


@pytest.fixture
def steps(monkeypatch) -> list[tuple[str, int, int]]:
    """The steps that are trained from now on in this process: folder, seed, number."""
    taken: list[tuple[str, int, int]] = []
    original = NetworkTrainer.step

    def counted(self, step, *batch):
        taken.append((Path(self.config.out).name, self.seed, step))
        return original(self, step, *batch)

    monkeypatch.setattr(NetworkTrainer, "step", counted)
    return taken


def copy(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to


def files(run: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(run)): (p.stat().st_size, p.stat().st_mtime_ns) for p in run.rglob("*") if p.is_file()}


def trainings(run: Path) -> list[Path]:
    """The folders of all trainings of a run."""
    return sorted(path.parent.relative_to(run) for path in run.glob("**/seed*/result.json"))


def test_the_certificate_is_that_of_its_networks(certified, searched):
    stored = load_json(certified / "certificate.json", "")
    nodes = [stored["winner"], stored["cheapest"], *stored["random"]]
    assert [node["run"] for node in nodes[:1]] == ["retrain"]
    assert len(trainings(certified)) == 8
    rights = {}
    for node in nodes:
        result = load_json(certified / node["run"] / "result.json", "")
        assert (result["arch"], result["test_top1"]) == (node["arch"], node["test_top1"])
        assert result["macs"] == node["macs"]
        config = load_json(certified / node["run"] / "config.json", "")["config"]
        assert (config["epochs"], config["batch_size"], config["lr"]) == (1, 256, 0.05)
        assert load_json(certified / node["run"] / "arc.json", "") == node["arch"]
        kept = [Answers.load(certified / node["run"] / f"seed{seed}" / "answers.npz") for seed in range(2)]
        assert node["correct"] == [int(one.right.sum()) for one in kept]
        rights[node["id"]] = np.stack([one.right for one in kept])
    random = np.mean([rights[node["id"]].mean() for node in stored["random"]])
    difference = 100 * (rights[stored["winner"]["id"]].mean() - random)
    assert stored["comparison"]["difference"] == pytest.approx(difference)
    assert stored["recipe"]["from"] == f"that of '{certified / 'retrain'}'"
    assert stored["band"]["low"] <= min(node["macs"] for node in stored["random"])
    assert (certified / "report.html").exists()

    # the winner's old training was tested anew, and nothing of it was changed
    seed = load_json(certified / "retrain" / "seed0" / "result.json", "")
    assert seed == load_json(searched / "retrain" / "seed0" / "result.json", "")
    assert stored["winner"]["correct"][0] == seed["test_correct"]

    # scores are those of the search, which they do not enter
    records = scores(certified)
    assert {node["id"]: records[node["id"]]["top1"] for node in nodes} == {node["id"]: node["score"] for node in nodes}
    assert len({str(record["settings"]) for record in records.values()}) == 1
    for name in ("search.json", "arc.json"):
        assert (certified / name).read_bytes() == (searched / name).read_bytes()


def test_more_of_everything_trains_only_what_is_new(certified, tmp_path, steps, capsys):
    run = copy(certified, tmp_path / "run")
    before = files(run)
    certify.main([str(run), "--random", "3", "--dry-run"])
    said = capsys.readouterr().out
    assert "2 trainings, " in said
    assert f"python -m trials.certify {run} --random 3" in said
    assert files(run) == before
    steps.clear()

    # a random architecture more
    certify.main([str(run), "--jobs", "1", "--random", "3"])
    said = " ".join(capsys.readouterr().out.split())
    stored = load_json(run / "certificate.json", "")
    new = stored["random"][2]["id"]
    assert sorted(steps) == [(new, seed, step) for seed in range(2) for step in range(STEPS)]
    old = load_json(certified / "certificate.json", "")
    assert stored["random"][:2] == old["random"]
    assert stored["winner"] == old["winner"]
    assert said.count(as_sentence(verdict_text(stored["verdict"]))) == 1
    assert f"the winner is {stored['verdict']['sentence']}" in verdict_text(stored["verdict"])
    assert f"next: {stored['verdict']['next']}" in said
    assert "floor " in said

    # the same again trains nothing
    steps.clear()
    certify.main([str(run), "--jobs", "1", "--random", "3"])
    again = load_json(run / "certificate.json", "")
    for key in ("provenance", "recipe"):
        del stored[key], again[key]
    assert again == stored
    assert steps == []

    # a seed more of fewer networks
    certify.main([str(run), "--jobs", "1", "--random", "1", "--seeds", "3"])
    names = {folder for folder, _, _ in steps}
    assert names == {"retrain", stored["cheapest"]["id"], stored["random"][0]["id"]}
    assert {seed for _, seed, _ in steps} == {2}
    assert len(load_json(run / "retrain" / "result.json", "")["test_top1"]) == 3

    # another recipe is refused before anything is trained
    steps.clear()
    with pytest.raises(InputError, match="retrain' was trained with --precision auto, and now it is bf16-mixed"):
        certify.main([str(run), "--jobs", "1", "--random", "1", "--precision", "bf16-mixed"])
    changed = load_json(run / "retrain" / "config.json", "")
    save_json(run / "retrain" / "config.json", {**changed, "config": {**changed["config"], "lr": 0.1}})
    with pytest.raises(InputError, match="controls/.*' was trained with --lr 0.05, and now it is 0.1"):
        certify.main([str(run), "--jobs", "1", "--random", "1"])
    save_json(run / "retrain" / "config.json", changed)
    with locks.exclusive(run, "certificate"), pytest.raises(InputError, match="another certificate of '.*' is going"):
        certify.main([str(run), "--jobs", "1", "--random", "3"])
    assert steps == []


def test_killed_at_any_moment_it_loses_and_repeats_nothing(searched, certified, tmp_path):
    """Ctrl-C while one network is trained, SIGKILL while two are; then to the end. The same bits as without."""
    run = copy(searched, tmp_path / "run")
    command = ["trials.certify", run, "--random", "2", "--seeds", "2", "--jobs", "1", "--device", "cpu"]

    def wait_for(process: Command, pattern: str) -> None:
        while not list(run.glob(pattern)):
            assert process.poll(0.05) is None, process.written()

    process = Command(*command)
    wait_for(process, "retrain/seed1/checkpoints/last.pt")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "stopped; what was written is complete, run the same command again" in errors
    finished = files(run)

    process = Command(*command, "--jobs", "2")
    wait_for(process, "controls/*/seed0/checkpoints/last.pt")
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert len(gone) >= 2
    assert not alive
    kept = {name for name in files(run) if re.search("seed./(result.json|answers.npz|network.pt)$", name)}
    after_kill = files(run)
    assert not (run / "certificate.json").exists()

    process = Command(*command)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    now = files(run)
    assert all(now[name] == after_kill[name] for name in kept)
    assert all(finished[name] == now[name] for name in finished if name.endswith("seed0/result.json"))
    assert trainings(run) == trainings(certified)
    for folder in trainings(run):
        mine, other = (load_checkpoint(of / folder / "network.pt", "")["model"] for of in (run, certified))
        assert all(torch.equal(mine[name], other[name]) for name in other)
        assert (run / folder / "answers.npz").read_bytes() == (certified / folder / "answers.npz").read_bytes()
        assert log_without_times(run / folder) == log_without_times(certified / folder)
    mine, other = (load_json(of / "certificate.json", "") for of in (run, certified))
    for key in ("verdict", "recipe", "provenance"):  # these name the folder and the time
        del mine[key], other[key]
    assert mine == other


def test_a_training_that_stops_is_named_and_the_others_are_kept(searched, tmp_path, monkeypatch, capsys):
    run = copy(searched, tmp_path / "run")
    networks = choose_networks(read_searched(SupernetRun.open(run)), 2)
    bad, original = networks.randoms[0], NetworkTrainer.step

    def step(self, number, *batch):
        loss, top1 = original(self, number, *batch)
        return (loss * torch.nan if Path(self.config.out).name == bad.id else loss), top1

    monkeypatch.setattr(NetworkTrainer, "step", step)
    with pytest.raises(
        Stopped, match=f"random {bad.id} stopped: seed 0: the loss became nan .*; the other networks are kept"
    ):
        certify.main([str(run), "--jobs", "1", "--random", "2", "--seeds", "1"])
    stored = load_json(run / "certificate.json", "")
    assert [node["id"] for node in stored["random"]] == [networks.randoms[1].id]
    assert stored["comparison"]["of"] == 1
    assert "with one seed the noise of training is unknown" in capsys.readouterr().out
    monkeypatch.undo()
    certify.main([str(run), "--jobs", "1", "--random", "2", "--seeds", "1"])  # it is tried again
    assert len(load_json(run / "certificate.json", "")["random"]) == 2


def test_a_learned_architecture(tmp_path, capsys):
    run = tmp_path / "run"
    supernet.main([*SUPERNET, "--strategy", "gumbel", "--arch-warmup", "0", "--max-macs", "750k", "--out", str(run)])
    retrain.main(["--fixed-arc", str(run / "arc.json"), "--supernet", str(run), *RECIPE])
    certify.main([str(run), "--jobs", "1", "--random", "2", "--seeds", "1"])
    stored, learned = load_json(run / "certificate.json", ""), load_json(run / "most_probable.json", "")
    assert stored["winner"]["arch"] == learned["arch"]
    assert all(node["macs"] <= 750_000 for node in stored["random"])
    assert all(node["score"] is not None for node in (stored["winner"], *stored["random"]))
    assert set(scores(run)) == {node["id"] for node in (stored["winner"], stored["cheapest"], *stored["random"])}
