"""trials.retrain --top: the best few of a search, chosen among by held-out images; killed, resumed, searched again."""

from pathlib import Path

import pytest
from scipy.stats import binom

from spaces.arch import arch_id
from spaces.errors import InputError
from spaces.files import load_json, save_json
from tests.experiments import SMALL, experiment
from trials import retrain, search
from trials.certifying.controls import choose_networks
from trials.choosing.candidates import best_of
from trials.choosing.how import how_chosen
from trials.choosing.searched import read_searched
from trials.common import run_dir
from trials.common.supernet_run import SupernetRun
from trials.networks.answers import Answers
from trials.scoring.noise import unpack_answers
from trials.training import retrain_loop, retrain_trainer

RECIPE = ["--epochs", "1", "--batch-size", "256", "--checkpoint-every", "1", "--lr", "0.05"]
STEPS = 4  # of one network: 1,078 training images without the held-out ones


@pytest.fixture
def searched(own_run, capsys):
    """A run whose search scored four architectures; said.txt is what it printed."""
    capsys.readouterr()
    search.main([str(experiment(own_run, classArgs=SMALL, maxTrialNumber=4)), "--in-process"])
    (own_run / "said.txt").write_text(capsys.readouterr().out)
    return own_run


def told_apart(best, other):
    """p of McNemar's exact test that the best one is better, from the answers in two scores."""
    ours, theirs = (unpack_answers(score) for score in (best, other))
    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return float(binom.sf(won - 1, won + lost, 0.5)) if won > lost else 1.0


def test_the_best_few_are_chosen_by_held_out_images(searched, monkeypatch, capsys):
    """Killed in the second candidate; no step is taken twice, and no candidate sees a test image."""
    said = (searched / "said.txt").read_text()
    ranked = sorted(
        (load_json(searched / "search" / f"{entry['id']}.json", "") for entry in history(searched)),
        key=lambda score: (-score["top1"], score["macs"]),
    )
    alike_first = load_json(searched / "search.json", "")["ranking"]
    ranked.sort(key=lambda score: alike_first.index(arch_id(score["arch"])))
    assert f"{max(score['top1'] for score in ranked):.2f} +- " in said
    ranked_by_score = sorted(ranked, key=lambda score: -score["top1"])
    assert ranked_by_score[0]["top1"] == ranked[0]["top1"]
    assert f"{ranked[0]['top1']:.2f} +- " in said
    assert ranked[0]["scoring_images"] == 128
    alike = sum(told_apart(ranked[0], other) >= 0.05 / 3 for other in ranked[1:])
    assert f"noise: on 128 scoring images, {alike} of the 3 others cannot be told apart from the best" in said
    assert f"python -m trials.retrain --supernet {searched} --top {alike + 1} --top-random 4" in said
    flags = ["--supernet", str(searched), "--top", "3", *RECIPE]

    # the search's own winner has been retrained already, by another recipe
    retrain.main(["--fixed-arc", str(searched / "arc.json"), "--supernet", str(searched), *RECIPE, "--lr", "0.01"])
    steps: list[tuple[str, int, int]] = []
    parts: list[tuple[str, str]] = []
    step, answer_images = retrain_trainer.NetworkTrainer.step, retrain_loop.answer_images

    def counted(self, number, *batch):
        if len(steps) == STEPS + 2 and ("cut", "") not in parts:
            parts.append(("cut", ""))
            raise KeyboardInterrupt
        steps.append((Path(self.config.out).name, self.seed, number))
        return step(self, number, *batch)

    def noted(fabric, network, data, part):
        parts.append((part, "read"))
        return answer_images(fabric, network, data, part)

    monkeypatch.setattr(retrain_trainer.NetworkTrainer, "step", counted)
    monkeypatch.setattr(retrain_loop, "answer_images", noted)
    with pytest.raises(KeyboardInterrupt):
        retrain.main(flags)
    with pytest.raises(InputError, match="holds candidates already; add --resume to go on with them"):
        retrain.main(flags)
    with pytest.raises(InputError, match="was begun with --lr 0.05, not 0.1; give 0.05, or move '.*top' away to begin"):
        retrain.main([*flags, "--resume", "--lr", "0.1"])
    both = "was begun with --lr 0.05, not 0.1, and --weight-decay [^ ]+, not 0.3; give --lr 0.05 --weight-decay [^ ]+, or move"
    with pytest.raises(InputError, match=both):
        retrain.main([*flags, "--resume", "--lr", "0.1", "--weight-decay", "0.3"])
    assert ("test", "read") not in parts
    assert len(steps) == STEPS + 2
    retrain.main([*flags, "--resume"])
    said = capsys.readouterr().out

    # what was trained and read
    names = [arch_id(score["arch"]) for score in ranked[:3]]
    assert steps[: 3 * STEPS] == [(name, 0, number) for name in names for number in range(STEPS)]
    assert len(set(steps)) == len(steps)
    assert {folder for folder, _, _ in steps[3 * STEPS :]} == {"retrain"}
    assert [part for part in parts if part[0] != "cut"] == [("score", "read")] * 3 + [("test", "read")]

    # the choice, from the answers to the held-out images
    choice = load_json(searched / "top.json", "")
    assert [candidate["id"] for candidate in choice["candidates"]] == names
    assert choice["search_best"] == names[0]
    for candidate in choice["candidates"]:
        seed = searched / candidate["run"] / "seed0"
        assert not (seed / "answers.npz").exists()
        assert not (seed / "network.pt").exists()
        answers = Answers.load(seed / "held_out_answers.npz")
        assert candidate["correct"] == [int(answers.right.sum())]
        assert candidate["images"] == answers.size == 359
        low, high = candidate["interval"]
        assert low < candidate["mean"] == 100 * candidate["correct"][0] / 359 < high
    best = max(choice["candidates"], key=lambda candidate: candidate["mean"])
    assert choice["chosen"] == best["id"]
    assert (
        load_json(searched / "arc.json", "")
        == best["arch"]
        == load_json(searched / "retrain" / "result.json", "")["arch"]
    )
    assert f"chosen by held-out images: {best['id']}" in said
    assert f"{best['mean']:.2f}% [{best['interval'][0]:.1f}, {best['interval'][1]:.1f}] (1 seed, 359 images)" in said

    # the earlier network made room; nothing is left to do a second time
    aside = searched / f"retrain-{names[0]}"
    assert f"'{searched / 'retrain'}' holds another network or recipe; it is now '{aside}'" in said
    assert run_dir.load_run(aside, "retrain")["lr"] == 0.01
    before = len(steps), len(parts)
    retrain.main(["--supernet", str(searched), "--top", "3", "--resume"])  # the recipe is what it was
    assert (len(steps), len(parts)) == before
    assert load_json(searched / "top.json", "") == choice

    # a later search ends the choice, and says so
    capsys.readouterr()
    path = experiment(searched, classArgs=SMALL, maxTrialNumber=4)
    search.main([str(path), "--in-process"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"is {best['id']}, which retrain --top chose; the search replaces it" in said
    assert f"python -m trials.retrain --supernet {searched} --top 3 --seeds 1 --resume" in said
    assert not (searched / "top.json").exists()
    assert arch_id(load_json(searched / "arc.json", "")) == names[0]


def history(run):
    return load_json(run / "search.json", "")["history"]


def test_a_dry_run_says_what_all_would_take(searched, capsys):
    retrain.main(["--supernet", str(searched), "--top", "3", "--seeds", "2", "--jobs", "4", *RECIPE, "--dry-run"])
    said = capsys.readouterr().out
    assert (
        "3 candidates (3 the best of the search; 1 epoch and 2 seeds each: 6 epochs in all) come first: in all 3 times the hours"
        in said
    )
    assert "hours expected" in said
    assert not (searched / "top").exists()
    assert not (searched / "top.json").exists()


def test_several_at_a_time(searched):
    """Two candidates in processes of their own leave what one process leaves."""
    flags = ["--supernet", str(searched), "--top", "2", *RECIPE]
    retrain.main([*flags, "--jobs", "2"])
    choice = load_json(searched / "top.json", "")
    (searched / "top").rename(searched / "top of two")
    retrain.main([*flags, "--resume"])
    assert load_json(searched / "top.json", "") == choice


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--top 5", "--top 5 needs --supernet RUN, from whose search or space it chooses"),
        ("--top 5 --supernet RUN --fixed-arc spos-block", "--top 5 chooses the architecture; leave --fixed-arc out"),
        ("--top 5 --supernet RUN --baseline timm:mobilenetv2_100", "leave --baseline out"),
        ("--top 5 --supernet RUN --import-official x.pth", "leave --import-official out"),
        ("--top 1 --supernet RUN", "--top 1 leaves nothing to choose; give --top and --top-random 2 or more together"),
        ("--top -3 --supernet RUN", "--top -3 leaves nothing to choose"),
        ("--top-random 1 --supernet RUN", "--top-random 1 leaves nothing to choose"),
        ("--top -3 --top-random 9 --supernet RUN", "--top -3 --top-random 9 leaves nothing to choose"),
        ("--top 2 --top-epochs 0 --supernet RUN", "--top-epochs 0 is not above 0"),
        ("--fixed-arc spos-block --top-epochs 2", "--top-epochs is of the candidates of --top and --top-random"),
        ("--top-random 3 --supernet RUN", "has neither a winner nor a limit, so there is no band of cost to draw from"),
        ("--top-random 3", "--top-random 3 needs --supernet RUN"),
        ("--top 5 --supernet RUN --out here", "leave --out out"),
        ("--top 5 --supernet RUN", "no search of '.*' has ended yet; search it with: python -m trials.search /"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(flags, says, own_run):
    with pytest.raises(InputError, match=says):
        retrain.main([str(own_run) if word == "RUN" else word for word in flags.split()])
    assert not (own_run / "top").exists()


def test_what_a_search_cannot_give(searched, monkeypatch):
    with pytest.raises(InputError, match="scored 4 architectures; give at most 4"):
        best_of(SupernetRun.open(searched), 5)
    path = searched / "search" / f"{history(searched)[0]['id']}.json"
    save_json(path, load_json(path, "") | {"supernet": "another"})
    assert len(best_of(SupernetRun.open(searched), 3)) == 3
    with pytest.raises(InputError, match="scored 3 architectures; give at most 3"):
        best_of(SupernetRun.open(searched), 4)
    (searched / "search.json").unlink()
    save_json(searched / "most_probable.json", {"arch": load_json(searched / "arc.json", "")})
    with pytest.raises(InputError, match="learned one architecture, and scored none; take it with: python -m trials"):
        best_of(SupernetRun.open(searched), 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="--top 2 under torchrun"):
        retrain.main(["--supernet", str(searched), "--top", "2"])


def test_random_candidates_are_trained_briefly_and_the_certificate_draws_others(searched, capsys):
    """A short training has its own epochs, on resume too; the winner's own is whole. No control was a candidate."""
    flags = ["--supernet", str(searched), *RECIPE, "--epochs", "2", "--top", "1", "--top-random"]
    retrain.main([*flags, "2", "--top-epochs", "1"])
    first = load_json(searched / "top.json", "")
    assert [candidate["source"] for candidate in first["candidates"]] == ["search", "random", "random"]
    assert (first["epochs"], first["top"], first["top_random"]) == (1, 1, 2)
    for candidate in first["candidates"]:
        own = run_dir.load_run(searched / candidate["run"], "retrain")
        assert (own["epochs"], own["eval_every"], own["hold_out"]) == (1, 1, 0.25)
    assert all(first["band"]["low"] <= one["macs"] <= first["band"]["high"] for one in first["candidates"][1:])
    assert run_dir.load_run(searched / "retrain", "retrain")["epochs"] == 2
    with pytest.raises(InputError, match="was begun with --top-epochs 1, not 2; give 1"):
        retrain.main([*flags, "2", "--top-epochs", "2", "--resume"])
    with pytest.raises(InputError, match="--top-epochs 3 is more than the winner's 2; give at most 2"):
        retrain.main([*flags, "2", "--top-epochs", "3", "--resume"])
    retrain.main(["--supernet", str(searched), "--top", "1", "--top-random", "3", "--resume"])
    second = load_json(searched / "top.json", "")
    assert second["candidates"][:3] == first["candidates"]  # whichever is arc.json by now, the band is the search's
    assert second["epochs"] == 1
    assert run_dir.load_run(searched / "retrain", "retrain")["epochs"] == 2

    run = SupernetRun.open(searched)
    tried = {candidate["id"] for candidate in second["candidates"]}
    controls = {network.id for network in choose_networks(read_searched(run), 20).randoms}
    assert len(controls) == 20
    assert not controls & tried
    how = how_chosen(run, load_json(searched / "arc.json", ""))
    assert (how["by"], how["candidate_epochs"], how["scored"]) == ("short trainings", 4, 4)
    assert how["supernet_epochs"] == run.config["epochs"]
