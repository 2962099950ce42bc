"""Progress bars of work that goes on: what an earlier process did says nothing of the speed of this one."""

from types import SimpleNamespace

import pytest

from trials.common import cli
from trials.search_driver.progress import SearchProgress
from trials.training import parallel


@pytest.fixture
def bars(monkeypatch):
    """The bars that are made; the clock of each stands still but for its attribute `now`."""
    made, make = [], cli.progress

    def progress(*args, **settings):
        bar = make(*args, **settings)
        bar.now = bar.start_t = bar.last_print_t = 0.0
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
