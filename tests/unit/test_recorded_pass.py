"""Recorded passes give what autograd gives. On a CPU the same pieces run one by one; test_gpu.py has real recordings."""

import pytest
import torch

import spaces
from spaces.errors import InputError
from spaces.spec import SpaceSpec
from tests.unit.test_recipes import configured
from trials.common import cli
from trials.training.retrain_trainer import NetworkTrainer, open_data
from trials.training.supernet_config import Config
from trials.training.supernet_plan import plan_supernet
from trials.training.supernet_trainer import SupernetTrainer

SPACES = ["spos", "fbnet", "proxylessnas", "single-path-nas"]
FAIR = "--strategy strict-fair --accumulate 2"  # several paths in an update, and micro-batches


def supernet_trainer(tmp_path, *flags: str) -> SupernetTrainer:
    """A supernet of digits at 16 pixels, as `trials.supernet` makes it."""
    flags = (*flags, "--preset", "tiny", "--data", "digits", "--resolution", "16", "--batch-size", "8")
    words = ["--epochs", "1", *flags, "--warm-start", "0.02", "--seed", "3", "--out", str(tmp_path / "run")]
    plan = plan_supernet(cli.parse(Config, words, "", "trials.supernet"))
    return SupernetTrainer(plan.config, plan.data, plan.space, plan.loss_table, plan.paths)


def trained(trainer, steps: int = 6):
    """Losses and top-1 of the first steps, and all weights, buffers and momenta after them."""
    seen = [trainer.step(step, *batch[:2]) for step, batch in zip(range(steps), trainer.batches(0), strict=False)]
    momenta = [state["momentum_buffer"] for state in trainer.optimizer.state.values() if "momentum_buffer" in state]
    return torch.stack([torch.stack(pair) for pair in seen]), [*trainer.network.state_dict().values(), *momenta]


@pytest.mark.parametrize("flags", [*(f"--space {space} {FAIR}" for space in SPACES), "--space-options variant=channel"])
def test_a_recorded_supernet_is_trained_as_one_that_is_not(tmp_path, flags):
    """Bit by bit, with the warm start at the beginning."""
    flags = [*flags.split(), *(() if "--strategy" in flags else ("--strategy", "uniform"))]
    plain, recorded = supernet_trainer(tmp_path, *flags), supernet_trainer(tmp_path, *flags)
    recorded.record(1 / recorded.config.accumulate)
    assert plain.warm_steps
    steps = plain.warm_steps + 2
    (values, state), (others, theirs) = trained(plain, steps), trained(recorded, steps)
    assert torch.equal(values, others)
    assert all(torch.equal(mine, other) for mine, other in zip(state, theirs, strict=True))


def test_a_mixture_is_not_recorded(tmp_path):
    """Only the one path of the warm start is."""
    trainer = supernet_trainer(tmp_path, "--strategy", "gumbel", "--epochs", "2", "--arch-warmup", "0")
    trainer.record()
    losses, _ = trained(trainer, trainer.warm_steps + 1)
    assert losses.isfinite().all()
    assert len(trainer.recorded.pieces) == 22


@pytest.mark.parametrize("mixing", [[], ["--mixup", "0.2", "--cutmix", "1", "--ema", "0.9", "--clip-norm", "1"]])
def test_a_recorded_network_is_trained_as_one_that_is_not(mixing):
    """Bit by bit, with dropout."""
    flags = ["--fixed-arc", "spos-block", "--preset", "tiny", "--data", "digits", "--resolution", "16"]
    config = configured(*flags, "--batch-size", "8", "--epochs", "1", "--label-smoothing", "0.1", *mixing)
    space = SpaceSpec("spos", "tiny", {"resolution": 16})
    arch = spaces.describe("spos", "tiny").warm_path
    found = []
    for records in (False, True):
        trainer = NetworkTrainer(config, {"arch": arch, "space": space.plain()}, 5, open_data(config))
        if records:
            trainer.record()
        found.append(trained(trainer, 5))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(mine, other) for mine, other in zip(found[0][1], found[1][1], strict=True))


def test_graphs_that_cannot_be_recorded_are_refused(tmp_path):
    with pytest.raises(
        InputError, match="--cuda-graphs on needs a GPU, one process and --precision 32 or bf16-mixed, not cpu"
    ):
        supernet_trainer(tmp_path, "--strategy", "uniform", "--cuda-graphs", "on", "--device", "cpu")
