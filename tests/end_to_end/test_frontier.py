"""trials.retrain --frontier: points of a frontier trained, exported and timed; killed, resumed, shown in the report."""

import json
import re
import shutil
from pathlib import Path

import pytest

from spaces.arch import arch_id
from spaces.errors import InputError
from spaces.files import load_json, save_json
from tests.experiments import copy_run, experiment
from trials import retrain, search
from trials.common import run_files
from trials.evidence.trade import cheapest_sentence
from trials.frontier import trade
from trials.training import frontier_options, parallel

RECIPE = ["--epochs", "1", "--batch-size", "256", "--lr", "0.05", "--device", "cpu"]


@pytest.fixture(scope="module")
def searched(run, shared):
    """A run whose frontier has three points of the eight that its search scored."""

    def fill(folder):
        copy = copy_run(run, folder / "run")
        arguments = {"population": 8, "top_k": 2, "mutation": 2, "crossover": 1}
        search.main([str(experiment(copy, classArgs=arguments, maxTrialNumber=8)), "--in-process"])
        summary = load_json(copy / "search.json", "")
        winner = arch_id(load_json(copy / "arc.json", ""))
        scores = [load_json(path, "") for path in (copy / "search").glob("*.json")]
        others = sorted((s for s in scores if arch_id(s["arch"]) != winner), key=lambda s: s["macs"])
        chosen = [*others[:2], next(s for s in scores if arch_id(s["arch"]) == winner)]
        for path in (copy / "frontier").glob("*.json"):
            path.unlink()
        for score in chosen:
            save_json(copy / "frontier" / f"{score['macs']}-{arch_id(score['arch'])}.json", score["arch"])
        save_json(copy / "search.json", summary | {"frontier": [arch_id(score["arch"]) for score in chosen]})

    return shared("searched-frontier", fill) / "run"


def test_points_are_trained_exported_and_timed_after_a_kill(searched, tmp_path, monkeypatch, capsys):
    """Killed in the second training; nothing is trained or exported twice, and the report shows the trade."""
    run = Path(shutil.copytree(searched, tmp_path / "run"))
    command = ["--supernet", str(run), "--frontier", "2", *RECIPE]
    trained, plain = [], parallel.train_seed

    def train(config, *arguments, **named):
        trained.append(config.out)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return plain(config, *arguments, **named)

    monkeypatch.setattr(parallel, "train_seed", train)
    with pytest.raises(KeyboardInterrupt):
        retrain.main(command)
    assert not (run / trade.FILE).exists()
    with pytest.raises(InputError, match="holds a training already; add --resume to go on, which trains nothing twice"):
        retrain.main(command)
    with pytest.raises(InputError, match="was trained with --lr 0.05, not 0.1, so the points could not be compared"):
        retrain.main([*command[:-3], "0.1", *command[-2:], "--resume"])
    capsys.readouterr()
    answer = retrain.main([*command, "--resume"])
    printed = capsys.readouterr().out
    assert "1 of 2 trainings are left to do" in printed
    assert [len(set(trained)), len(trained)] == [2, 3]
    frontier = load_json(run / "search.json", "")["frontier"]
    stored = run_files.read(run / trade.FILE, "trade-off")
    assert answer["tradeoff"] == stored
    rows = stored["networks"]
    assert [row["id"] for row in rows] == [frontier[0], frontier[-1]]  # the cheapest and the best
    assert [row["run"] for row in rows] == [f"retrain-{frontier[0]}", "retrain"]
    assert [row["winner"] for row in rows] == [False, True]
    assert sum(row["best"] for row in rows) == 1
    for row in rows:
        result = load_json(run / row["run"] / "result.json", "")
        assert (row["mean"], row["macs"], row["params"]) == (result["mean"], result["macs"], result["params"])
        assert load_json(run / row["run"] / "arc.json", "") == row["arch"]
        assert row["latency_ms"] > 0
        for suffix in (".py", ".onnx", ".pt2", "-int8.onnx", ".md"):
            assert (run / row["files"] / f"model{suffix}").exists()
        assert re.search(rf"{row['id']}.*{row['latency_ms']:.3g} \(IQR", printed)
    assert "exported and timed: the network of seed 0 of each" in printed
    assert cheapest_sentence(rows) in printed
    page = (run / "report.html").read_text()
    assert "Accuracy beside cost: the frontier, retrained" in page
    assert "id='tradeoff-title'" in page
    # once more: nothing is left to do, but to time
    monkeypatch.setattr(trade, "export_network", None)
    retrain.main([*command, "--resume"])
    assert len(trained) == 3
    # a point more
    monkeypatch.undo()
    retrain.main(["--supernet", str(run), "--frontier", "3", *RECIPE, "--resume", "--dry-run"])
    assert "3 points of 1 trainings each: at most 3 times the hours above" in capsys.readouterr().out
    # the frontier of a later search is another one
    summary = load_json(run / "search.json", "")
    save_json(run / "search.json", summary | {"frontier": frontier[1:2]})
    from trials.reporting import collect, tradeoff_view

    assert tradeoff_view.view(collect.collect_run(run)) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--frontier 1", "--frontier 1 leaves nothing to choose; give 2 or more, or --fixed-arc RUN/arc.json"),
        ("--frontier -2", "--frontier -2 leaves nothing to choose"),
        ("--frontier 2.5", "argument --frontier: invalid int value: '2.5'"),
        (
            "--frontier 2 --fixed-arc arc.json",
            "--frontier 2 takes the architectures of a search; leave --fixed-arc out",
        ),
        ("--frontier 2 --baseline timm:resnet18", "leave --baseline out"),
        ("--frontier 2 --top 3", "--frontier 2 with --top: these are two ways to choose; leave one of them out"),
        ("--frontier 2 --from-supernet", "--frontier 2 with --from-supernet: these are two ways"),
        ("--frontier 2 --out runs/x", "leave --out out"),
        ("--frontier 4", "has 3 architectures; give at most 3, or search for longer"),
        ("--frontier 2 --seeds 0", "--seeds 0 is not above 0"),
        ("--frontier 2 --jobs 0", "--jobs 0 is not above 0"),
        ("--frontier 2 --top-epochs 3", "--top-epochs is of the candidates of --top"),
    ],
)
def test_what_a_frontier_does_not_go_with(searched, arguments, says):
    before = sorted(path.name for path in searched.iterdir())
    with pytest.raises(InputError) as refused:
        retrain.main(["--supernet", str(searched), *arguments.split()])
    assert says in str(refused.value)
    assert sorted(path.name for path in searched.iterdir()) == before


def test_a_frontier_needs_a_search(run, monkeypatch):
    with pytest.raises(InputError, match="--frontier 3 needs --supernet RUN, whose search has found the frontier"):
        retrain.main(["--frontier", "3"])
    with pytest.raises(InputError, match="no search of '.*' has ended yet; search it with: python -m trials.search"):
        retrain.main(["--supernet", str(run), "--frontier", "3"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="--frontier 3 under torchrun"):
        retrain.main(["--supernet", str(run), "--frontier", "3"])


def test_the_sentence_names_the_cheapest_that_may_be_as_good():
    def row(name, ms, *, best=False, alike=False):
        return {"id": name, "latency_ms": ms, "best": best, "like_the_best": best or alike}

    assert "b cannot be told apart from the most accurate, c (95 %), and takes 25 % less time" in cheapest_sentence(
        [row("a", 1.0), row("b", 3.0, alike=True), row("c", 4.0, best=True)]
    )
    assert cheapest_sentence([row("a", 1.0), row("c", 4.0, best=True)]).startswith(
        "c is the most accurate, and no faster"
    )


def test_files_that_are_no_points_are_left_out(tmp_path):
    for name in ("200-0123456789ab", "1000-ba9876543210", "notes"):
        save_json(tmp_path / "frontier" / f"{name}.json", {"block00": "k3"})
    files = frontier_options.point_files(tmp_path)
    assert [path.stem for path in files] == ["200-0123456789ab", "1000-ba9876543210"]
    (tmp_path / "arc.json").write_text(json.dumps({"block00": "k3"}))
    assert frontier_options.point_folder(tmp_path, files[0]) == tmp_path / "retrain"
    save_json(tmp_path / "retrain" / "arc.json", {"block00": "k5"})  # that of an earlier winner
    assert frontier_options.point_folder(tmp_path, files[0]) == tmp_path / "retrain-0123456789ab"
