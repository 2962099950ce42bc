"""The same commands on a GPU; skipped where there is none."""

import contextlib

import pytest
import torch
import torch.nn.functional as F

import spaces
from spaces.arch import activate
from spaces.errors import InputError
from spaces.files import load_json
from spaces.latency import LatencyTable
from spaces.model_space import build, make_supernet
from spaces.spec import SpaceSpec
from strategies.sampling import uniform
from tests.unit.test_recipes import configured
from tests.unit.test_recorded_pass import trained
from trials import latency, retrain, supernet
from trials.common import cli, distributed
from trials.images.dataset import Data
from trials.timing.runtimes import OnnxRuntime, TorchRuntime
from trials.training import retrain_trainer
from trials.training.recorded_pass import RecordedPass
from trials.training.retrain_trainer import NetworkTrainer, open_data

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
SMALL = ["--space", "spos", "--preset", "tiny", "--resolution", "16"]
EVERYTHING = ["--ema", "0.99", "--mixup", "0.2", "--cutmix", "1", "--randaugment", "2", "--cutout", "4"]
EVERYTHING += ["--color-jitter", "0.2", "--clip-norm", "5", "--nesterov"]


def folder_data(folder, device: str) -> Data:
    """A folder of images, read by the torchvision loader, on a device."""
    flags = ["--data", "folder", "--data-root", str(folder), "--loader", "torchvision", "--workers", "0"]
    data = retrain_trainer.open_data(configured("--baseline", "timm:mobilenetv2_035", *SMALL, *flags))
    data.to(torch.device(device))
    return data


def test_the_torchvision_loader_gives_a_gpu_the_images_it_gives_a_cpu(photos):
    """Training batches are on the GPU; images to score stay on the CPU until they are used."""
    on_cpu, on_gpu = folder_data(photos, "cpu"), folder_data(photos, "cuda")
    for part in ("score", "test"):
        for (images, labels), (others, theirs) in zip(
            on_cpu.eval_batches(part, 4), on_gpu.eval_batches(part, 4), strict=True
        ):
            assert torch.equal(images, others.cpu())
            assert torch.equal(labels, theirs.cpu())
    batches = [list(data.train_batches("train", 8, seed=0, epoch=0)) for data in (on_cpu, on_gpu)]
    for (images, labels), (others, theirs) in zip(*batches, strict=True):
        assert others.is_cuda
        assert torch.equal(labels, theirs.cpu())
        torch.testing.assert_close(images, others.cpu())


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "16-mixed"])
def test_a_network_trains_and_is_tested_on_a_gpu(photos, tmp_path, precision):
    """With an average, mixing, RandAugment and held-out images, from an image folder."""
    flags = ["--data", "folder", "--data-root", str(photos), "--loader", "torchvision", "--workers", "0"]
    flags = ["--baseline", "timm:mobilenetv2_035", *SMALL, *flags, *EVERYTHING, "--hold-out", "0.2"]
    flags += ["--batch-size", "8", "--epochs", "2", "--precision", precision, "--device", "cuda"]
    retrain.main([*flags, "--out", str(tmp_path / "run")])
    result = load_json(tmp_path / "run" / "seed0" / "result.json", "")
    assert result["test_top1"] == 100 * result["test_correct"] / result["test_images"]


@pytest.mark.parametrize("strategy", ["uniform", "strict-fair", "gumbel"])
def test_a_supernet_trains_on_a_gpu(tmp_path, strategy):
    run = tmp_path / "run"
    flags = [*SMALL, "--data", "digits", "--strategy", strategy, "--epochs", "1", "--eval-paths", "1"]
    supernet.main([*flags, "--device", "cuda", "--out", str(run)])
    assert (run / "supernet.pt").exists()


def test_two_seeds_train_at_a_time_on_one_gpu(tmp_path):
    flags = ["--baseline", "timm:mobilenetv2_035", *SMALL, "--data", "digits", "--epochs", "1", "--seeds", "2"]
    retrain.main([*flags, "--jobs", "2", "--device", "cuda", "--out", str(tmp_path / "run")])
    for seed in (0, 1):
        assert (tmp_path / "run" / f"seed{seed}" / "network.pt").exists()


def test_training_on_a_gpu_says_its_arithmetic_once_and_nothing_of_lightning(tmp_path, capfd):
    distributed.say_arithmetic.cache_clear()
    flags = [*SMALL, "--data", "digits", "--epochs", "1", "--eval-paths", "1", "--device", "cuda"]
    supernet.main([*flags, "--out", str(tmp_path / "run")])
    output, errors = capfd.readouterr()
    assert output.count("arithmetic on the GPU: bf16-mixed") == 1
    assert "Tensor Cores" not in errors
    assert "Mixed Precision (AMP)" not in errors


@pytest.mark.parametrize("space", ["spos --space-options variant=channel", "fbnet", "single-path-nas"])
def test_recorded_passes_give_the_gradients_of_autograd(space):
    """Of CUDA graphs, for several paths in an update; in 64 bits, where what rounds differently does not grow."""
    name, *options = space.split()
    options = cli.space_options(options[1]) if options else {}
    images = torch.randn(16, 3, 16, 16, dtype=torch.double, device="cuda")
    labels = torch.arange(16, device="cuda") % 10
    found = []
    for records in (True, False):
        torch.manual_seed(0)
        supernet = make_supernet(build(name, "tiny", **options)).double().cuda().train()
        modules, device = [supernet.stem, *supernet.blocks, supernet.head], torch.device("cuda")
        recorded = RecordedPass(modules, F.cross_entropy, device, contextlib.nullcontext)
        blocks = supernet.chain.blocks
        for step in range(4):
            for path in (0, 1, step):  # one of them twice, or another one
                arch = uniform(supernet.chain.choices, 0, path)[0]
                activate(supernet, arch)
                torch.manual_seed(step)  # of dropout
                if records:
                    keys = [(), *(tuple(arch[label] for label in block.choices) for block in blocks), ()]
                    loss, _ = recorded(keys, images, labels, labels)
                else:
                    loss = F.cross_entropy(supernet(images).float(), labels)
                    loss.backward()
                found.append(loss.detach().double())
            gradients = [parameter.grad for parameter in supernet.parameters()]
            found += [gradient.clone() for gradient in gradients if gradient is not None]
            found += [buffer.clone().double() for buffer in supernet.buffers()]
            supernet.zero_grad()
    half = len(found) // 2
    for mine, theirs in zip(found[:half], found[half:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("more", ["", "--mixup 0.2 --ema 0.9 --clip-norm 1 --precision bf16-mixed"])
def test_a_recorded_network_learns(more):
    """As one that is not recorded: the same images, rates and dropout."""
    flags = ["--fixed-arc", "spos-block", "--preset", "tiny", "--data", "digits", "--resolution", "16"]
    description = {"arch": spaces.describe("spos", "tiny").warm_path, "space": SpaceSpec("spos", "tiny").plain()}
    losses = []
    for graphs in ("on", "off"):
        flags = [*flags, "--batch-size", "64", "--epochs", "8", "--cuda-graphs", graphs, *more.split()]
        config = configured(*flags)
        trainer = NetworkTrainer(config, description, 5, open_data(config))
        assert (trainer.recorded is not None) == (graphs == "on")
        losses.append(trained(trainer, trainer.steps)[0][:, 0])
    torch.testing.assert_close(losses[0][:3], losses[1][:3], rtol=0, atol=0.05)
    torch.testing.assert_close(losses[0][-20:].mean(), losses[1][-20:].mean(), rtol=0, atol=0.2)
    assert losses[0][-20:].mean() < losses[0][:3].mean() - 0.5


def test_events_time_what_the_gpu_does_and_not_only_the_launch():
    """A convolution with 225 times the work of another takes longer, though both are launched equally quickly."""
    runtime = TorchRuntime("cuda", 0)
    x = runtime.input((64, 256, 56, 56))
    modules = [torch.nn.Conv2d(256, 256, kernel, padding=kernel // 2, groups=256) for kernel in (1, 15)]
    prepared = [runtime.prepare(module, x) for module in modules]
    for _ in range(3):
        small, large = runtime.run(prepared, x)
    assert 0 < small < large
    assert runtime.threads is None


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_latency_table_is_measured_on_a_gpu(runtime, tmp_path):
    flags = f"--space spos --preset tiny --runtime {runtime} --device cuda --rounds 6 --networks 20".split()
    if runtime == "onnxruntime" and not OnnxRuntime("auto", 0).providers[0].startswith("CUDA"):
        with pytest.raises(InputError, match="onnxruntime-gpu"):
            OnnxRuntime("cuda", 0)
        return
    latency.main([*flags, "--out", str(tmp_path / "table.json")])
    found = LatencyTable.load(tmp_path / "table.json")
    assert found.measured["threads"] is None
    assert found.measured["device"] == torch.cuda.get_device_name()
    assert all(block.macs.max() > 0 for block in found.costs.blocks)
