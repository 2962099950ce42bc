"""Compiled layers give what eager ones give. Most tests run the traced functions without a compiler; one has its kernels."""

import copy
import random

import pytest
import torch
from torch import nn

from spaces.arch import activate
from spaces.blocks import InvertedResidual, Style, conv_bn, shuffle_block
from spaces.errors import InputError
from spaces.model_space import make_supernet
from spaces.spec import SpaceSpec
from strategies.sampling import uniform_path
from tests.unit.test_prefix_tree import SPACES
from tests.unit.test_recipes import configured
from tests.unit.test_recorded_pass import supernet_trainer, trained
from trials.common import changes
from trials.networks.build import build_network
from trials.training import batchnorm_kernels, compilation
from trials.training.compilation import require_compiler, require_layers
from trials.training.fused_layers import fuse_layers
from trials.training.retrain_trainer import NetworkTrainer, open_data

UNIFORM = ("--strategy", "uniform")


@pytest.fixture
def traced(monkeypatch):
    """The functions are traced as for the compiler, and then run by PyTorch."""
    monkeypatch.setattr(batchnorm_kernels, "BACKEND", "eager")
    with torch._dynamo.config.patch(compilation.SETTINGS):
        yield


def pass_of(network: nn.Module, x: torch.Tensor, y: torch.Tensor):
    """Logits, gradients and buffers of one pass in training mode."""
    torch.manual_seed(1)  # dropout
    network.zero_grad()
    logits = network(x)
    nn.functional.cross_entropy(logits.float() if logits.dtype == torch.bfloat16 else logits, y).backward()
    gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    return logits.detach(), gradients, {name: buffer.clone() for name, buffer in network.named_buffers()}


def images(*, size: int = 6, resolution: int = 32, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, 3, resolution, resolution, generator=generator, dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last), torch.randint(10, (size,), generator=generator)


@pytest.mark.parametrize(("name", "options"), SPACES)
def test_a_compiled_supernet_computes_what_the_eager_one_does(traced, name, options):
    """Logits, gradients, running statistics and counters of a path, to the rounding of 64 bits; all names stay."""
    space, supernets = SpaceSpec(name, "tiny", options), []
    for compiles in (False, True):
        torch.manual_seed(0)
        supernets.append(make_supernet(space.build()).double().to(memory_format=torch.channels_last))
        if compiles:
            assert fuse_layers(supernets[-1]) == sum(isinstance(m, nn.BatchNorm2d) for m in supernets[-1].modules())
    assert list(supernets[0].state_dict()) == list(supernets[1].state_dict())
    path = uniform_path(space.describe().choices, random.Random(0))
    for supernet in supernets:
        activate(supernet, path)
    eager, compiled = (pass_of(supernet, *images()) for supernet in supernets)
    torch.testing.assert_close(compiled, eager, rtol=1e-8, atol=1e-10)
    assert sum(int(value) for name, value in compiled[2].items() if name.endswith("num_batches_tracked")) > 40
    for supernet in supernets:
        supernet.eval()
    torch.testing.assert_close(*(supernet(images()[0]) for supernet in supernets), rtol=1e-8, atol=1e-10)


def small_network(*, residual: bool = False) -> nn.Module:
    """A network with a convolution, perhaps a sum, and a unit that splits and joins channels."""
    layers = [conv_bn(Style(), 3, 8, 3, 2), shuffle_block(Style(), 8, 12, 1, kernel=3)]
    if residual:
        layers.insert(1, InvertedResidual(Style(nn.ReLU6), 8, 8, 1, kernel=3, expand=2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kernels_of_the_compiler(tmp_path, monkeypatch):
    """Real ones: two sizes of images, 64 bits; the second size needs no kernel more."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.manual_seed(0)
    eager = small_network().double().to(memory_format=torch.channels_last)
    compiled = copy.deepcopy(eager)
    fuse_layers(compiled)
    made = []
    for resolution in (12, 20):
        batch = images(resolution=resolution)
        with torch._dynamo.config.patch(compilation.SETTINGS):
            found = pass_of(compiled, *batch)
        torch.testing.assert_close(found, pass_of(eager, *batch), rtol=1e-8, atol=1e-10)
        made.append(len(list(tmp_path.rglob("*.so"))))
    assert made[0] == made[1] > 0


def test_statistics_of_16_bits_are_kept_in_32(traced):
    """As PyTorch's own BatchNorm does under autocast."""
    torch.manual_seed(0)
    eager = small_network(residual=True).to(memory_format=torch.channels_last)
    compiled, batch, found = copy.deepcopy(eager), images(dtype=torch.float32), []
    fuse_layers(compiled)
    for network in (eager, compiled):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(pass_of(network, *batch))
    assert found[1][0].dtype == torch.bfloat16
    torch.testing.assert_close(found[1][2], found[0][2], rtol=0.02, atol=0.02)
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0.1, atol=0.1)


def test_recorded_pieces_of_compiled_layers(traced, tmp_path):
    """Bit by bit what compiled layers give without recording, with dropout and the warm start."""
    plain, recorded = (supernet_trainer(tmp_path, *UNIFORM, "--compile", "on") for _ in range(2))
    recorded.record()
    (values, state), (others, theirs) = (trained(trainer, plain.warm_steps + 2) for trainer in (plain, recorded))
    assert torch.equal(values, others)
    assert all(torch.equal(mine, other) for mine, other in zip(state, theirs, strict=True))


def test_compiling_leaves_no_trace(traced, tmp_path, capfd):
    """Weights, statistics and random numbers are those of a trainer that compiles nothing; the cost is said once."""
    plain = supernet_trainer(tmp_path, *UNIFORM)
    numbers = torch.rand(3)
    compiled = supernet_trainer(tmp_path, *UNIFORM, "--compile", "on")
    assert torch.equal(torch.rand(3), numbers)
    for (name, value), (other, same) in zip(*(t.network.state_dict().items() for t in (plain, compiled)), strict=True):
        assert name == other
        assert torch.equal(value, same)
    assert all(weight.grad is None for weight in compiled.weights)
    said = [line for line in capfd.readouterr().out.splitlines() if "compiled" in line]
    assert len(said) == 1
    assert said[0].startswith("BatchNorm is compiled with what follows it, in ")


def test_a_compiled_run_goes_on_from_its_checkpoint(traced, tmp_path):
    """As if it had not stopped, and also without the compiler, as names stay."""
    flags = (*UNIFORM, "--compile", "on")
    whole, first, second = (supernet_trainer(tmp_path, *flags) for _ in range(3))
    values, state = trained(whole, 4)
    trained(first, 2)
    second.restore(copy.deepcopy(first.state()))
    rest = [second.step(step, *batch[:2])[0] for step, batch in zip(range(2, 4), second.batches(2), strict=False)]
    assert torch.equal(torch.stack(rest), values[2:, 0])
    assert all(
        torch.equal(mine, other) for mine, other in zip(second.network.state_dict().values(), state, strict=False)
    )
    supernet_trainer(tmp_path, *UNIFORM).restore(first.state())
    assert {"compile", "cuda_graphs"} <= set(changes.MAY_CHANGE)


def test_a_compiled_network_with_its_average(traced):
    """A fixed network and its moving average, which is tested in eval mode."""
    flags = ["--fixed-arc", "spos-block", "--preset", "tiny", "--data", "digits", "--resolution", "16", "--ema", "0.9"]
    found = []
    space = SpaceSpec("spos", "tiny", {"resolution": 16})
    for compiles in ("off", "on"):
        config = configured(*flags, "--batch-size", "8", "--epochs", "1", "--compile", compiles)
        description = {"arch": space.describe().warm_path, "space": space.plain()}
        trainer = NetworkTrainer(config, description, 5, open_data(config))
        values, _ = trained(trainer, 1)
        found.append((values, trainer.tested_network.eval()(images(resolution=16, dtype=torch.float32)[0])))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3)


def test_what_compilation_lacks_is_refused(monkeypatch):
    """Before anything is made, in one line; `auto` needs nothing."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    require_compiler("auto", cuda=False)
    with pytest.raises(
        InputError, match="--compile on needs the compiler 'no-such-compiler', which this machine lacks"
    ):
        require_compiler("on", cuda=False)
    monkeypatch.delenv("CXX")
    for folder in ("/mnt/my disk", "/mnt/her's"):
        monkeypatch.setattr("tempfile.tempdir", folder)
        with pytest.raises(
            InputError, match=f"temporary files, '{folder}', whose name PyTorch cannot pass to the compiler"
        ):
            require_compiler("on", cuda=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="the package triton, which this machine lacks; install what is missing"):
        require_compiler("on", cuda=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="--compile on needs one process, not 2"):
        require_compiler("on", cuda=True)
    with pytest.raises(InputError, match="this network has no BatchNorm2d to compile"):
        require_layers("on", lambda: nn.Linear(2, 2))
    require_layers("on", lambda: build_network({"baseline": "timm:mobilenetv2_100", "classes": 10}))
