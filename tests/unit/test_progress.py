"""Progress bars of work that goes on: what an earlier process did says nothing of the speed of this one."""

import ast
import sys
from types import SimpleNamespace

import pytest

from tests.commands import ROOT
from trials.common import cli
from trials.common.progress import LineBar
from trials.evidence.gates import GateWarning, keep_warnings
from trials.search_driver.progress import SearchProgress
from trials.training import parallel


@pytest.fixture
def bars(monkeypatch):
    """The bars that are made; the clock of each stands still but for its attribute `now`."""
    made, make = [], cli.progress

    def progress(*args, **settings):
        bar = make(*args, **settings)
        bar.now = bar.start_t = bar.last_print_t = bar.said_t = 0.0
        bar._time = lambda: bar.now
        bar.mininterval, bar.miniters = 0.5, 0
        made.append(bar)
        return bar

    monkeypatch.setattr(cli, "progress", progress)
    return made


def test_a_training_that_goes_on_has_the_speed_of_this_process(bars, monkeypatch):
    def train_seed(config, description, seed, make_bar, *, tests):
        bar = make_bar(job.images, "", 9_000)
        bars[0].now = 10.0
        bar.update(100)
        bar.close()
        rates.append(bars[0].format_dict["rate"])

    rates: list[float] = []
    monkeypatch.setattr(parallel, "train_seed", train_seed)
    job = parallel.Job(None, {}, 0, 10_000)
    assert not parallel.train_jobs([job], 1, title="retrain")
    assert bars[0].n == 9_100
    assert rates == [pytest.approx(10)]  # images a second; 910 with those of the checkpoint
    assert bars[0].initial == 9_000


def test_a_search_that_goes_on_has_the_speed_of_this_process(bars):
    plan = SimpleNamespace(wanted=50, evaluate=SimpleNamespace(score_by="top1"))
    progress = SearchProgress(plan, SimpleNamespace(add=lambda result: None))
    for _ in range(40):
        progress.add_score(None, earlier=True)
    bars[0].now = 8.0
    progress.add_score(None)
    assert (bars[0].n, bars[0].initial) == (41, 40)
    assert bars[0].format_dict["rate"] == pytest.approx(1 / 8)


def test_a_bar_that_is_not_shown_counts_what_was_earlier(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with cli.progress(10, desc="", unit="img") as bar:
        cli.count_earlier(bar, 4)
    assert bar.n == 4


def work_on(bars, update, steps, seconds):
    """Do `steps` of work, each of which takes so many seconds."""
    for _ in range(steps):
        bars[-1].now += seconds
        update()


def of_a_loop(bars, tmp_path):
    with cli.progress(1_000, desc="supernet", unit="img") as bar:

        def update():
            bar.set_postfix_str("loss 1.2")
            bar.update(10)

        work_on(bars, update, 100, 1.0)


def of_a_search(bars, tmp_path):
    plan = SimpleNamespace(wanted=100, evaluate=SimpleNamespace(score_by="top1"))
    with SearchProgress(plan, SimpleNamespace(add=lambda result: None, close=lambda succeeded: None)) as progress:

        def update():
            progress.show_group(4, 0.5)
            progress.add_score(None)
            progress.refresh()

        work_on(bars, update, 100, 1.0)


def of_trainings(bars, tmp_path, monkeypatch):
    def train_seed(config, description, seed, make_bar, *, tests):
        bar = make_bar(1_000, "", 0)
        work_on(bars, lambda: bar.update(10), 100, 1.0)
        bar.close()
        print("trained")

    monkeypatch.setattr(parallel, "train_seed", train_seed)
    parallel.train_jobs([parallel.Job(None, {}, 0, 1_000, "winner")], 1, title="certificate", on_done=lambda _: "done")


def of_a_warning(bars, tmp_path):
    with cli.progress(1_000, desc="retrain", unit="img") as bar:
        work_on(bars, lambda: bar.update(10), 50, 1.0)
        keep_warnings(tmp_path, "retrain", [GateWarning("few-steps", "few steps", "python -m trials.x")])
        work_on(bars, lambda: bar.update(10), 50, 1.0)


def of_short_work(bars, tmp_path):
    with cli.progress(40, desc="check", unit="img") as bar:
        work_on(bars, bar.update, 40, 0.1)


def of_slow_work(bars, tmp_path):
    """Ten hours: a line every tenth of the work, not every 30 seconds."""
    with cli.progress(1_000, desc="supernet", unit="img") as bar:
        work_on(bars, bar.update, 1_000, 36.0)


@pytest.mark.parametrize(
    ("kind", "shares"),
    [
        (of_a_loop, [29, 59, 89, 100]),
        (of_a_search, [30, 60, 90, 100]),
        (of_trainings, [100]),
        (of_a_warning, [30, 60, 90, 100]),
        (of_short_work, [100]),
        (of_slow_work, [*range(10, 101, 10)]),
    ],
)
def test_a_log_has_lines_and_no_carriage_returns(kind, shares, bars, capsys, tmp_path, monkeypatch):
    given = {"monkeypatch": monkeypatch} if kind is of_trainings else {}
    kind(bars, tmp_path, **given)
    written = capsys.readouterr().err
    assert "\r" not in written
    lines = written.splitlines()
    assert [int(line.split("%")[0].split()[-1]) for line in lines] == shares
    assert all(line.endswith("]") for line in lines)
    assert written.endswith("\n")


def test_a_bar_that_stops_before_its_end_says_how_far_it_came(bars, capsys):
    with pytest.raises(KeyboardInterrupt), cli.progress(100, desc="supernet", unit="img", initial=10) as bar:
        work_on(bars, bar.update, 7, 1.0)
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "supernet:  17%, 17 of 100 img [00:07<01:23,  1.00img/s]\n"


def test_short_work_that_may_be_silent_says_nothing(bars, capsys):
    with cli.progress(10, desc="count costs", unit="form", silent=60.0) as bar:
        work_on(bars, bar.update, 10, 1.0)
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar(bars, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with cli.progress(10, desc="count costs", unit="form") as bar:
        work_on(bars, bar.update, 10, 1.0)
    assert not isinstance(bar, LineBar)
    assert "\r" in capsys.readouterr().err


def test_bars_are_made_in_one_place():
    made = {}
    for path in [*ROOT.glob("trials/**/*.py"), *ROOT.glob("strategies/*.py"), *ROOT.glob("benchmarks/**/*.py")]:
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = [ast.unparse(function) for function in calls]
        if any(name.split(".")[-1] in ("tqdm", "trange", "LineBar") or "tqdm if" in name for name in names):
            made[path.name] = True
    assert [*made] == ["progress.py"]
