"""trials.retrain --frontier: points of a frontier trained, exported and timed; killed, resumed, shown in the report."""

import json
import re
import shutil
from pathlib import Path

import pytest

from spaces.arch import arch_id
from spaces.errors import InputError
from spaces.files import load_json, save_json
from strategies.pareto import ParetoTuner
from tests.experiments import copy_run, experiment
from trials import retrain, search
from trials.common import run_files
from trials.common.supernet_run import SupernetRun
from trials.evidence.floor import floor_text
from trials.evidence.gates import read_warnings
from trials.evidence.trade import cheapest_sentence, search_name
from trials.frontier import places, trade
from trials.frontier.places import AT_A_STEP
from trials.frontier.points import plan_points, train_points
from trials.reporting import collect, tradeoff_view
from trials.scoring.score_store import score_path
from trials.search_driver.plan import plan_experiment
from trials.training import frontier_options, parallel
from trials.training.retrain_config import Config

RECIPE = ["--epochs", "1", "--batch-size", "256", "--lr", "0.05", "--device", "cpu"]


@pytest.fixture(scope="module")
def searched(run, shared):
    """A run whose search scored eight architectures near its limit, and none that is cheap."""

    def fill(folder):
        copy = copy_run(run, folder / "run")
        limits = {"min_macs": 3_000_000, "max_macs": 3_300_000}
        arguments = {"population": 8, "top_k": 2, "mutation": 2, "crossover": 1, **limits}
        search.main([str(experiment(copy, classArgs=arguments, maxTrialNumber=8)), "--in-process"])
        summary = load_json(copy / "search.json", "")
        # a search that looks near its limit, which has no lower one
        save_json(copy / "search.json", summary | {"limits": summary["limits"] | {"min_macs": None}})

    return shared("searched-frontier", fill) / "run"


def test_points_are_trained_exported_and_timed_after_a_kill(searched, tmp_path, monkeypatch, capsys):
    """Killed in the second training; nothing is trained or exported twice, and the report shows the trade."""
    run = Path(shutil.copytree(searched, tmp_path / "run"))
    command = ["--supernet", str(run), "--frontier", "3", *RECIPE]
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
    scored = len(list((run / "search").glob("*.json")))
    answer = retrain.main([*command, "--resume"])
    printed = capsys.readouterr().out
    assert len(list((run / "search").glob("*.json"))) == scored  # none is scored twice
    assert "2 of 3 trainings are left to do" in printed
    assert [len(set(trained)), len(trained)] == [3, 4]
    stored, search_of = run_files.read(run / trade.FILE, "trade-off"), search_name(load_json(run / "search.json", ""))
    assert answer["tradeoff"] == stored
    rows, table = stored["networks"], SupernetRun.open(run).table
    assert [row["point"] for row in rows] == ["cheapest", "step 1 of 1", "winner"]
    assert rows[0]["macs"] == table.bounds().min_macs
    assert rows[1]["macs"] == pytest.approx((rows[0]["macs"] + rows[2]["macs"]) / 2, rel=0.05)
    assert [row["among"] for row in rows] == [1, AT_A_STEP, 1]
    assert [row["searched"] for row in rows] == [False, False, True]
    assert [row["run"] for row in rows] == [*(f"retrain-{row['id']}" for row in rows[:2]), "retrain"]
    assert [row["winner"] for row in rows] == [False, False, True]
    assert sum(row["best"] for row in rows) == 1
    assert {row["search"] for row in rows} == {search_of}
    assert stored["latency"].startswith("onnxruntime ")
    assert re.search(r", \d+ threads?, batch 1,", stored["latency"])
    for row in rows:
        result = load_json(run / row["run"] / "result.json", "")
        assert (row["mean"], row["macs"], row["params"]) == (result["mean"], result["macs"], result["params"])
        assert load_json(run / row["run"] / "arc.json", "") == row["arch"]
        assert row["below_floor"] == any(w["gate"] == "below the floor" for w in read_warnings(run / row["run"]))
        assert row["latency_ms"] > 0
        for suffix in (".py", ".onnx", ".pt2", "-int8.onnx", ".md"):
            assert (run / row["files"] / f"model{suffix}").exists()
        assert re.search(rf"{row['id']}.*below the floor.*{row['latency_ms']:.3g} \(IQR", printed)
        assert load_json(run / "frontier" / f"{row['macs']}-{row['id']}.json", "") == row["arch"]
    assert rows[0]["below_floor"]  # one epoch is no training
    assert floor_text(stored["floor"]) in printed
    assert "exported and timed: the network of seed 0 of each" in printed
    assert cheapest_sentence(rows) in printed
    assert "none near step 1 of 1: that is the best of random architectures" in printed
    mend = re.search(r"what mends them: mkdir (\S+) && mv (.*) (\S+) && python -m trials.retrain (.*)", printed)
    assert mend[2].split() == [str(run / row["run"]) for row in rows]
    assert "--frontier 3" in mend[4]
    assert "--fixed-arc" not in mend[4]
    pareto = re.search(r"a search of every cost, .*: python -m trials.search (\S+) --in-process", printed)[1]
    assert isinstance(plan_experiment(Path(pareto)).tuner, ParetoTuner)
    page = (run / "report.html").read_text()
    assert "Accuracy beside cost: the frontier, retrained" in page
    assert "id='tradeoff-title'" in page
    # once more: nothing is left to do, but to time
    monkeypatch.setattr(trade, "export_network", None)
    retrain.main([*command, "--resume"])
    assert len(trained) == 4
    # after a later search it stays, and names the search that it is of
    summary = load_json(run / "search.json", "")
    assert tradeoff_view.view(collect.collect_run(run))["earlier"] == ""
    save_json(run / "search.json", summary | {"ranking": summary["ranking"][::-1]})
    view = tradeoff_view.view(collect.collect_run(run))
    assert view["earlier"].startswith(
        f"These points are of an earlier search ({search_of}), and the last search is another"
    )
    assert [row["search"] for row in view["rows"]] == [search_of] * 3
    # one of a version without that, of another frontier
    old = {key: value for key, value in stored.items() if key not in ("search", "floor", "reach", "latency_limit")}
    new_keys = ("point", "search", "among", "searched", "score", "below_floor")
    old["networks"] = [{key: value for key, value in row.items() if key not in new_keys} for row in rows]
    save_json(run / trade.FILE, old)
    view = tradeoff_view.view(collect.collect_run(run))
    assert view["earlier"].startswith("These points are of an earlier search")
    assert view["rows"][0]["beside"] in ("best", "=", "worse")


def test_points_lie_at_even_steps_between_the_cheapest_and_the_winner(searched, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(places, "AT_A_STEP", 6)
    run = Path(shutil.copytree(searched, tmp_path / "run"))
    before = sorted(path.name for path in run.rglob("*"))
    retrain.main(["--supernet", str(run), "--frontier", "4", *RECIPE, "--dry-run"])
    printed = capsys.readouterr().out
    assert sorted(path.name for path in run.rglob("*")) == before  # a dry run writes nothing
    assert re.search(r"step 1 of 2 +the best of 6 +about [\d,]+ MACs +6 to score", printed)
    assert "4 points of 1 trainings each: at most 4 times the hours above" in printed
    assert re.search(r"warning: [\d,]+ steps of [\d,]+ images are too few: .* --frontier 4 ", printed)
    assert "floor " in printed
    assert max(map(len, re.findall(r"^(?:point|step|cheapest|winner|-).*", printed, re.M))) <= 120
    road = places.find_places(SupernetRun.open(run), 4)
    chosen = places.choose(road, "cpu")
    costs = [road.run.table.macs(one.arch) for one in chosen]
    step = (costs[-1] - costs[0]) / 3
    assert costs == pytest.approx([costs[0] + number * step for number in range(4)], abs=places.REACH * step + 1)
    for one, place in zip(chosen, road.places, strict=True):
        scores = [load_json(score_path(run, arch_id(arch)), "")["top1"] for arch in place.archs]
        assert one.score["top1"] <= max(scores)
        assert one.among == len(place.archs)
    assert road.waiting() == {}
    again = places.choose(places.find_places(SupernetRun.open(run), 4), "cpu", score=False)
    assert [one.arch for one in again] == [one.arch for one in chosen]
    retrain.main(["--supernet", str(run), "--frontier", "4", *RECIPE, "--dry-run"])
    assert "to score" not in capsys.readouterr().out


def test_a_winner_that_was_retrained_is_taken_with_its_options(searched, tmp_path, capsys):
    """Without --resume and without its recipe; its second seed stays, and an unfinished point is still asked about."""
    run = Path(shutil.copytree(searched, tmp_path / "run"))
    flags = ["--fixed-arc", str(run / "arc.json"), "--supernet", str(run), "--seeds", "2"]
    retrain.main([*flags, *RECIPE, "--class-weights", "balanced"])
    held = load_json(run / "retrain" / "result.json", "")
    command = ["--supernet", str(run), "--frontier", "2"]
    capsys.readouterr()
    retrain.main([*command, "--dry-run"])
    printed = capsys.readouterr().out
    assert f"recipe: options that are not given are those of the winner, '{run / 'retrain'}'\n" in printed
    assert "2 points of 1 trainings each, 1 of them done: at most 1 times the hours above" in printed
    config = Config(supernet=str(run), frontier=2, device="cpu")
    assert (config.epochs, config.batch_size, config.lr, config.class_weights) == (1, 256, 0.05, "balanced")
    road = places.find_places(SupernetRun.open(run), 2)
    points, _ = plan_points(config, road)
    assert [point.plan.config.class_weights for point in points] == ["balanced"] * 2
    train_points(points, run, 1)
    assert "1 of 2 trainings are left to do" in capsys.readouterr().out
    assert load_json(run / "retrain" / "result.json", "") == held
    with pytest.raises(InputError, match="retrain' was trained with --lr 0.05, not 0.1"):
        retrain.main([*command, "--lr", "0.1", "--dry-run"])
    (run / "retrain" / "seed0" / "result.json").unlink()
    with pytest.raises(InputError, match="holds a training already; add --resume to go on"):
        plan_points(config, road)


def test_a_winner_that_is_the_cheapest_leaves_nothing_to_choose(searched, tmp_path):
    run = Path(shutil.copytree(searched, tmp_path / "run"))
    save_json(run / "arc.json", places.find_places(SupernetRun.open(run), 2).places[0].archs[0])
    with pytest.raises(InputError, match="is as cheap as the cheapest architecture, so there is nothing to choose"):
        retrain.main(["--supernet", str(run), "--frontier", "2"])
    (run / "supernet.pt").unlink()
    with pytest.raises(InputError, match="has no supernet.pt, by whose scores .*; restore it, or give --frontier 2"):
        retrain.main(["--supernet", str(run), "--frontier", "3"])


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
        ("--frontier 1000", "--frontier 1000 is more than anybody trains; give at most 50"),
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
    with pytest.raises(InputError, match="--frontier 3 needs --supernet RUN, whose search has found a winner"):
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
    below = [row("a", 1.0) | {"below_floor": True}, row("c", 4.0, best=True) | {"below_floor": True}]
    assert cheapest_sentence(below).startswith("All points are below the floor: they are undertrained")
    assert cheapest_sentence([row("a", 1.0), row("c", 4.0, best=True)]).startswith(
        "c is the most accurate, and no faster"
    )


def test_where_a_point_is_trained(tmp_path):
    arch = {"block00": "k3"}
    own = tmp_path / f"retrain-{arch_id(arch)}"
    assert frontier_options.point_folder(tmp_path, arch) == own
    (tmp_path / "arc.json").write_text(json.dumps(arch))
    assert frontier_options.point_folder(tmp_path, arch) == tmp_path / "retrain"
    save_json(tmp_path / "retrain" / "arc.json", {"block00": "k5"})  # that of an earlier winner
    assert frontier_options.point_folder(tmp_path, arch) == own
