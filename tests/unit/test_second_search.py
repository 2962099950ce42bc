"""A second search of a run while, or after, the winner of the first was retrained: the two are never mixed."""

import json
from pathlib import Path

import pytest

from spaces.arch import arch_id
from spaces.errors import InputError
from trials import retrain
from trials.common import locks, places
from trials.search_driver import results
from trials.search_driver.session import refuse_while_retrained
from trials.training.retrain_config import Config
from trials.training.start_options import retrain_folder

FIRST, SECOND = {"a": "k3", "b": "k5"}, {"a": "k5", "b": "k5"}


@pytest.fixture
def run(tmp_path):
    """A run whose first winner is retrained, and whose second search has found another."""
    for place, arch in (("retrain", FIRST), (".", SECOND)):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "arc.json").write_text(json.dumps(arch))
    return tmp_path


def test_another_winner_is_trained_beside_the_first(run):
    beside = run / f"retrain-{arch_id(SECOND)}"
    assert places.winners_folder(run, FIRST) == run / "retrain"
    assert places.winners_folder(run, SECOND) == retrain_folder(run / "arc.json", "") == beside
    assert Config(fixed_arc=str(run / "arc.json"), data="digits").out == str(beside)
    assert retrain_folder(run / "arc.json", "-from-supernet") == run / "retrain-from-supernet"  # nothing is there yet


@pytest.mark.parametrize("content", [None, "{", '{"arch": 3}'])
def test_a_file_that_is_none_is_left_to_its_reader(run, content):
    (run / "arc.json").unlink()
    if content:
        (run / "arc.json").write_text(content)
    assert retrain_folder(run / "arc.json", "") == run / "retrain"


@pytest.mark.parametrize(
    ("folder", "lock"),
    [("retrain", "training"), ("retrain-x", "training"), ("top/x", "training"), (".", "certificate")],
)
def test_a_search_is_refused_while_its_winner_is_trained(run, folder, lock):
    refuse_while_retrained(run)
    with (
        locks.exclusive(run / folder, lock),
        pytest.raises(
            InputError, match=rf"a {lock} of '.*' is going on \(process \d+\), and a search replaces arc.json"
        ),
    ):
        refuse_while_retrained(run)
    (run / folder).mkdir(exist_ok=True, parents=True)
    (run / folder / f".{lock}.lock").write_text("1")  # of one that was killed
    refuse_while_retrained(run)


def options(run: Path, out: Path):
    class Given:
        supernet, fixed_arc = str(run), str(run / "arc.json")

    return Given(), out


def test_a_training_is_refused_while_a_search_goes_on(run, capsys):
    given, out = options(run, run / f"retrain-{arch_id(SECOND)}")
    retrain.keep_apart(given, out, SECOND)
    assert "is of the winner of an earlier search and stays as it is; this winner goes to" in capsys.readouterr().out
    with locks.exclusive(run, "search"), pytest.raises(InputError, match=r"a search of .* which replaces '.*arc.json'"):
        retrain.keep_apart(given, out, SECOND)
    given.fixed_arc = str(run / "frontier" / "1-x.json")
    with locks.exclusive(run, "search"):
        retrain.keep_apart(given, out, SECOND)
    assert not capsys.readouterr().out


def test_a_card_that_is_older_than_the_certificate_gets_its_verdict(tmp_path):
    from trials.export_formats import model_card

    metadata = {"classes": ["a", "b"], "architecture": {"id": "abc"}, "made_by": "Onepath", "preprocessing": {}}
    text = model_card.card("net", ["Architecture abc."], metadata, {"net.onnx": "the network's answer"})
    for place, content in (
        ("export/model.md", text),
        ("export/model-hf/README.md", f"---\n{text}"),
        ("export/x.md", "# x\n"),
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(content)
    certificate = {"winner": {"id": "abc"}, "verdict": {"first": r"none \1 learned", "sentence": "better"}}
    renewed = model_card.renew_certificate(tmp_path, certificate)
    assert [path.name for path in renewed] == ["model.md", "README.md"]
    said = "## Certificate\nnone \\1 learned. Of these, the winner is better\n\n## Intended use\n"
    assert said in (tmp_path / "export" / "model.md").read_text()
    assert not model_card.renew_certificate(tmp_path, certificate)  # it has it
    assert not model_card.renew_certificate(
        tmp_path, {**certificate, "winner": {"id": "other"}, "verdict": {"sentence": ""}}
    )


def test_the_winner_stands_first_in_the_last_table():
    """Five that are equally good, and a winner that is none of them."""
    found = [{"arch": {"block": number}, "top1": 50.0 - (number == 5) - 9 * (number == 6)} for number in range(7)]
    alike = [True] * 6 + [False]
    rows = results.winner_first(found, alike, found[5], "top1")
    assert [row[2]["arch"]["block"] for row in rows] == [5, 0, 1, 2, 3]
    assert [row[1] for row in rows] == ["=", "best", "=", "=", "="]
    assert rows[0][0] == f"{arch_id(found[5]['arch'])} (winner)"
    assert "winner" not in rows[1][0]
    best = results.winner_first(found, alike, found[0], "top1")
    assert [row[2]["arch"]["block"] for row in best] == [0, 1, 2, 3, 4]
    assert best[0][0].endswith(" (winner)")
    assert best[0][1] == "best"
