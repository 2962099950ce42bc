"""trials.run --minutes: what fits, what is cut and what is not, and that a road goes on with its plan."""

import dataclasses
import json
import re

import pytest

from spaces.errors import InputError, Stopped
from trials import run
from trials.common import typed
from trials.evidence import gates
from trials.road import hours, minutes, record
from trials.road.hours import Rates, Work
from trials.training import recipes, sizing, supernet_config

STEPS = ("supernet", "search", "retrain", "certify", "export", "report")
# 1,600 images of 32 pixels on two cores
RATES = Rates(
    start=6,
    supernet_epoch=5,
    paths=25,
    path=0.5,
    score=1.5,
    trial=0,
    retrain_epoch=4,
    network_epoch=4,
    test=1,
    retrain_jobs=2,
    jobs=2,
    taken=20,
)
WHOLE = Work(supernet_epochs=40, architectures=100, network_epochs=60, seeds=2, random=8)


def fit(given, rates=RATES, whole=WHOLE, fixed=frozenset(), steps=STEPS):
    return minutes.fit_work(given, rates, whole, fixed, steps)


def planned(work, rates=RATES, steps=STEPS):
    return 60 * sum(entry.hours for entry in hours.hours_of(rates, work, steps)) + rates.taken / 60


def least():
    with pytest.raises(InputError) as refused:
        fit(1)
    return int(re.search(r"is about ([\d,]+) \(", str(refused.value))[1].replace(",", ""))


@pytest.fixture(autouse=True)
def typed_line():
    typed.remember("trials.run", ["pics", "--max-macs", "8M", "--minutes", "1"])


def test_the_plan_ends_within_the_minutes_and_leaves_less_than_two_trainings_of_them():
    for given in range(least(), 60):
        work, end = fit(given), given * (1 - minutes.MARGIN)
        assert end - 2 * (RATES.start + work.network_epochs * RATES.network_epoch) / 60 <= planned(work) <= end


def test_more_minutes_take_nothing_away():
    last = fit(least())
    for given in range(least() + 1, 150):
        work = fit(given)
        assert all(now >= was for now, was in zip(dataclasses.astuple(work), dataclasses.astuple(last), strict=True))
        last = work
    assert last == dataclasses.replace(WHOLE, random=20)  # a p below 0.05 can be reached from 20 on


def test_what_is_never_cut():
    work = fit(least())
    assert work.seeds == WHOLE.seeds
    assert work.random >= 3  # with the winner and the cheapest they are five, the fewest that are ranked
    assert work.architectures >= 30
    for epochs, usual in ((work.supernet_epochs, WHOLE.supernet_epochs), (work.network_epochs, WHOLE.network_epochs)):
        assert gates.few_steps(epochs, usual, 64, 1600, "") is None


@pytest.mark.parametrize("images", [40, 255, 800, 1600, 5000, 20_000])
def test_the_least_epochs_are_enough_for_the_gates(images):
    """They count steps, and those of a supernet after its warm start."""
    for kind, recipe, warm in (
        ("network", recipes.RECIPES["tiny"], 0.0),
        ("supernet", supernet_config.RECIPES["tiny"], 0.3),
    ):
        usual = sizing.fit("", recipe, {}, images, kind=kind).values
        per_epoch = max(1, images // usual["batch_size"])
        epochs = minutes.least_of(usual["epochs"], minutes.LEAST_PART)
        steps = epochs * per_epoch
        enough = sizing.enough_steps(recipe, images, kind, usual["batch_size"])
        assert (
            gates.few_steps(steps - round(warm * steps), round(enough * (1 - warm)), usual["batch_size"], images, "")
            is None
        )


def test_too_few_minutes_are_refused_with_the_least_that_do():
    with pytest.raises(InputError) as refused:
        fit(1)
    text = str(refused.value)
    assert "\n" not in text
    assert text.startswith(
        "--minutes 1 is too short for a result that says something; the least for these images and options is about "
    )
    assert "11 epochs of the supernet, 30 architectures scored, 16 epochs of each network, 3 random networks" in text
    assert text.endswith(f"python -m trials.run pics --max-macs 8M --minutes {least()}")
    with pytest.raises(InputError):
        fit(least() - 1)
    fit(least())


def test_export_and_report_take_longer_beside_other_work():
    quiet, busy = (
        {entry.step: 3600 * entry.hours - RATES.start for entry in hours.hours_of(rates, WHOLE, STEPS)}
        for rates in (RATES, dataclasses.replace(RATES, slowed=3.0))
    )
    for step in ("export", "report"):
        assert busy[step] == pytest.approx(3 * quiet[step])
    assert busy["certify"] == quiet["certify"]  # whose steps were timed beside it


def test_several_supernets_take_as_often_the_time_of_one():
    one, three = (
        {
            entry.step: 3600 * entry.hours - RATES.start
            for entry in hours.hours_of(RATES, dataclasses.replace(WHOLE, supernets=number), STEPS)
        }
        for number in (1, 3)
    )
    for step in ("supernet", "search"):
        assert three[step] == pytest.approx(3 * one[step])
    assert three["certify"] == one["certify"]
    assert fit(40, whole=dataclasses.replace(WHOLE, supernets=3)).supernets == 3


def test_what_is_given_stays():
    for given in (35, 60, 300):
        assert fit(given, fixed=frozenset({"random"})).random == WHOLE.random
        work = fit(given, fixed=frozenset({"network_epochs", "architectures"}))
        assert (work.network_epochs, work.architectures) == (60, 100)
    assert minutes.fixed_names({"retrain": {"epochs": 3}, "certify": {}}, ("search",)) == {
        "network_epochs",
        "architectures",
    }


def test_steps_that_are_complete_take_no_time():
    assert fit(25, steps=("certify", "report")).network_epochs > fit(25).network_epochs


def test_what_was_cut_is_said_with_what_it_costs():
    work = dataclasses.replace(WHOLE, random=4, network_epochs=20, supernet_epochs=20)
    text = minutes.table(work, WHOLE, hours.hours_of(RATES, work, STEPS), 40, RATES.taken)
    assert re.search(r"random networks +4 +8 +beating all 4 happens by luck in 1 of 5 cases, with 8 in 1 of 9", text)
    assert re.search(r"epochs of each network +20 +60 +less than half of the recipe; may stay at the floor", text)
    assert re.search(r"epochs of the supernet +20 +40 +at least half of the recipe", text)
    assert "architectures" not in text
    assert re.search(r"^planned: \d+ of 40 minutes, 15 % of which stay free: supernet ", text.splitlines()[-1])
    whole = minutes.table(WHOLE, WHOLE, hours.hours_of(RATES, WHOLE, STEPS), 90, RATES.taken)
    assert whole.startswith("all of the road fits, nothing is cut\n")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("ten", "argument --minutes: invalid float value: 'ten'"),
        ("0", "--minutes 0 is not above 0; give the time that you have, such as --minutes 40"),
        ("-3", "--minutes -3 is not above 0"),
        ("nan", "--minutes: nan is not a finite number"),
        ("1e9", r"--minutes 1e\+09 is above 100,000, ten weeks"),
    ],
)
def test_minutes_that_mean_nothing_are_refused_in_one_line(tmp_path, given, says):
    with pytest.raises(InputError, match=says) as refused:
        run.main(["digits", "--out", str(tmp_path / "new"), "--minutes", given])
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()


def begun(tmp_path, **changes):
    """A run of --minutes 40 whose supernet is trained."""
    plan = {
        "given": 40,
        "options": {
            "supernet": {"epochs": 20},
            "search": {"max-trials": 50},
            "retrain": {"epochs": 30, "jobs": 2},
            "certify": {"random": 4},
        },
        "seconds": {"supernet": 100},
        "timing": 20,
    }
    kept = {"images": "digits", "max_macs": "", "steps": {"supernet": {"epochs": 20}}, "minutes": plan} | changes
    (tmp_path / "supernet.pt").write_text("")
    (tmp_path / record.RECORD).write_text(json.dumps(kept))
    return ["digits", "--out", str(tmp_path), "--dry-run"]


def test_a_road_goes_on_with_its_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(hours, "ask", lambda _: pytest.fail("it was planned anew"))
    words = begun(tmp_path)
    for more in (["--minutes", "40"], ["--minutes", "40", "--resume"]):
        lines = [step["command"] for step in run.main([*words, *more])["steps"]]
        assert "--epochs 20" in lines[0]
        assert "--max-trials 50" in lines[1]
        assert "--epochs 30 --jobs 2" in lines[2]
        assert "--random 4" in lines[3]
    lines = [step["command"] for step in run.main([*words, "--minutes", "40", "--random", "6"])["steps"]]
    assert "--random 6" in lines[3]
    assert "--random 4" not in lines[3]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "was begun with --minutes 40, not with no --minutes; give that again, or another --out, such as .*-2"),
        (["--minutes", "60"], "was begun with --minutes 40, not with --minutes 60"),
        (["--max-macs", "8M"], "with no --max-macs and --minutes 40, not with --max-macs 8M and no --minutes; give"),
    ],
)
def test_other_minutes_are_refused(tmp_path, more, says):
    with pytest.raises(InputError, match=says):
        run.main([*begun(tmp_path), *more])


def test_minutes_for_a_road_that_was_begun_without_are_refused(tmp_path):
    words = begun(tmp_path)
    kept = json.loads((tmp_path / record.RECORD).read_text())
    del kept["minutes"]
    (tmp_path / record.RECORD).write_text(json.dumps(kept))
    with pytest.raises(InputError, match="was begun with no --minutes, not with --minutes 40"):
        run.main([*words, "--minutes", "40"])


def test_a_dry_run_times_a_few_steps_and_plans(tmp_path, capsys):
    """The minutes stand in a file of options, and beside options that stay."""
    (tmp_path / "run.yml").write_text("run: {minutes: 5000}\nretrain: {epochs: 7}\n")
    words = [
        "digits",
        "--preset",
        "tiny",
        "--random",
        "3",
        "--out",
        str(tmp_path / "new"),
        "--config",
        str(tmp_path / "run.yml"),
    ]
    steps = run.main([*words, "--dry-run"])["steps"]
    out = capsys.readouterr().out
    assert "all of the road fits, nothing is cut\nplanned: " in out
    assert "--max-trials 100" in steps[1]["command"]
    assert "--epochs" not in steps[2]["command"]  # the step reads its section
    assert "--random 3" in steps[3]["command"]
    assert not (tmp_path / "new").exists()


def test_how_long_it_took_is_said_beside_the_plan():
    planned = {"given": 40, "seconds": {"supernet": 120, "certify": 600}, "timing": 30}
    said = minutes.minutes_taken(planned, {"supernet": 150, "certify": 540})
    assert said == "took 12.0 of 40 minutes; by step, of those planned: supernet 2.5 of 2.0, certify 9.0 of 10.0"


@pytest.mark.parametrize(
    ("taken", "step", "says"),
    [
        ({}, "supernet", "0.5 of 38 minutes are gone; 2.0 are planned for supernet"),
        ({"supernet": 150, "search": 30}, "certify", "3.5 of 38 minutes are gone; 10.0 are planned for certify"),
        (
            {"supernet": 150, "certify": 66},
            "certify",
            "4.1 of 38 minutes are gone; 10.0 .* certify, of which 1.1 are gone",
        ),
        ({"supernet": 150}, "retrain", "3.0 of 38 minutes are gone"),
        # at the pace of the steps before it that do like work, where that is another one
        (
            {"supernet": 60},
            "search",
            "1.5 of 38 minutes are gone; 5.0 are planned for search, about 2.5 by what supernet took",
        ),
        ({"supernet": 115}, "search", "2.4 of 38 minutes are gone; 5.0 are planned for search"),
        ({"supernet": 60, "export": 900}, "certify", "16.5 of 38 minutes are gone; 10.0 are planned for certify"),
    ],
)
def test_how_much_is_gone_is_said_before_a_step(taken, step, says):
    planned = {"given": 38, "seconds": {"supernet": 120, "search": 300, "certify": 600}, "timing": 30}
    assert re.fullmatch(says, minutes.minutes_gone(planned, taken, step))


def test_a_road_says_how_much_is_gone_above_each_step(tmp_path, capsys, monkeypatch):
    def stopped(words, done):
        raise Stopped("here")

    monkeypatch.setattr(run, "run_step", stopped)
    words = [word for word in begun(tmp_path, taken={"supernet": 90}) if word != "--dry-run"]
    with pytest.raises(Stopped, match="here"):
        run.main([*words, "--minutes", "40"])
    gone, command = capsys.readouterr().out.splitlines()[-2:]
    assert gone == "1.8 of 40 minutes are gone; 1.7 are planned for supernet, of which 1.5 are gone"
    assert command.startswith("$ python -m trials.supernet --data digits")
