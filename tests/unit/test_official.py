"""Checkpoints in the layout of the official SPOS code become runs of ours, and nothing else does.

The layout is written out here once more, independently of the importer; that it is the real one
was checked against the official code itself (docs/method.md).
"""

import re

import numpy as np
import pytest
import torch
from torch import nn

import spaces
from spaces.arch_file import load_arch
from spaces.errors import InputError
from spaces.files import load_json
from spaces.published import PUBLISHED
from tests.commands import assert_one_clear_line, onepath
from trials import retrain, supernet
from trials.images.dataset import normalise
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.networks import build, official_spos
from trials.scoring.scorer import Scorer, Settings

CANDIDATES = ("k3", "k5", "k7", "xception")


def layer_numbers(module: nn.Module) -> dict[str, str]:
    """Names of our nested layers as the official flat Sequential numbers them: conv, bn, relu, conv, bn, ..."""
    leaves = [name for name, layer in module.named_modules() if not list(layer.children())]
    return {name: str(number) for number, name in enumerate(leaves)}


def official_block(block: nn.Module, start: str) -> dict[str, torch.Tensor]:
    state = {}
    for branch in ("main", "proj"):
        layers = getattr(block, branch)
        if layers is not None:
            numbers = layer_numbers(layers)
            for name, tensor in layers.state_dict().items():
                layer, kind = name.rsplit(".", 1)
                state[f"{start}branch_{branch}.{numbers[layer]}.{kind}"] = tensor
    return state


def official_state(stem: nn.Module, blocks: dict[str, nn.Module], head: nn.Module) -> dict[str, torch.Tensor]:
    state = {f"first_conv.{name}": tensor for name, tensor in stem.state_dict().items()}
    for start, block in blocks.items():
        state |= official_block(block, start)
    state |= {f"conv_last.{name}": tensor for name, tensor in head[0].state_dict().items()}
    return state | {"classifier.0.weight": head[4].weight.detach()}


@pytest.fixture(scope="module")
def chain():
    return spaces.describe("spos", "imagenet", classes=2)


@pytest.fixture(scope="module")
def checkpoint(chain, tmp_path_factory):
    """A supernet with random weights, as the official code saves it, and the modules it was made of."""
    torch.manual_seed(0)
    stem, head = chain.stem(), chain.head()
    built = [{name: build() for name, build in block.candidates.items()} for block in chain.blocks]
    blocks = {f"features.{i}.{j}.": built[i][name] for i in range(20) for j, name in enumerate(CANDIDATES)}
    state = official_state(stem, blocks, head)
    path = tmp_path_factory.mktemp("official") / "checkpoint-150000.pth.tar"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    return path, state, (stem, built, head)


def test_layout_is_the_official_one(checkpoint):
    _, state, _ = checkpoint
    for name in (
        "first_conv.0.weight",
        "features.0.0.branch_main.0.weight",
        "features.0.0.branch_main.3.weight",
        "features.0.0.branch_main.5.weight",
        "features.4.3.branch_proj.2.weight",
        "features.19.3.branch_main.12.weight",
        "conv_last.1.running_var",
        "classifier.0.weight",
    ):
        assert name in state
    assert "features.1.0.branch_proj.0.weight" not in state
    assert sum(1 for name in state if re.fullmatch(r"features\.0\.3\.branch_main\.\d+\.weight", name)) == 6


@pytest.mark.slow
def test_a_supernet_becomes_a_run(checkpoint, chain, photos, tmp_path):
    path, _, (stem, built, head) = checkpoint
    run = tmp_path / "run"
    data = ["--data", "folder", "--data-root", str(photos), "--score-fraction", "0.25"]
    supernet.main(["--import-official", str(path), *data, "--out", str(run)])
    stored = load_json(run / "config.json", "")["config"]
    assert stored["spos_preprocessing"] is True
    assert stored["import_official"] == str(path)
    scorer = Scorer(run, Settings(calibration_images=16, scoring_images=6, batch_size=6))
    arch = PUBLISHED["spos"]["spos-block"].arch
    network = chain.network(arch, scorer.blocks.weights).eval()
    expected = nn.Sequential(stem, *(built[i][name] for i, name in enumerate(arch.values())), head).eval()
    images = 255 * torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(network(images), expected(images))
    result = scorer.result(arch)
    assert result["macs"] == 322_918_720 - 1024 * 998  # two classes instead of 1,000
    assert 0 <= result["top1"] <= 100


def test_images_are_bgr_up_to_255(photos):
    data = load_data(
        DataOptions(data="folder", data_root=str(photos), spos_preprocessing=True), 32, score_fraction=0.25
    )
    images, _ = next(data.eval_batches("score", 4))
    seen = data.normalise(images)
    assert torch.equal(seen[:, 0], images[:, 2].float())
    assert torch.equal(seen[:, 2], images[:, 0].float())
    assert seen.max() > 200
    plain = normalise(images, "folder", spos=False)
    assert plain.abs().max() < 5
    batch, _ = next(data.train_batches("train", 4, seed=0, epoch=0))
    assert batch.max() > 200


@pytest.mark.slow
@pytest.mark.parametrize(("key", "bare"), [("spos-block", True), ("spos-block-channel", False)])
def test_a_fixed_network_is_tested_and_its_architecture_found(key, bare, photos, tmp_path):
    entry = PUBLISHED["spos"][key]
    chain = spaces.describe("spos", "imagenet", classes=2, affine=True, **entry.options)
    torch.manual_seed(1)
    network = chain.network(entry.arch)
    blocks = {f"features.{i}.": block for i, block in enumerate(network.blocks)}
    state = official_state(network.stem, blocks, network.head)
    path = tmp_path / "network.pth.tar"
    torch.save(state if bare else {"state_dict": state}, path)
    run = tmp_path / "run"
    retrain.main(["--import-official", str(path), "--data", "folder", "--data-root", str(photos), "--out", str(run)])
    assert load_arch(run / "arc.json", chain.choices) == entry.arch
    result = load_json(run / "result.json", "")
    assert (result["arch"], result["params"]) == (entry.arch, entry.params - 1024 * 998)
    again = build.load_network(run / "seed0" / "network.pt")
    data = load_data(
        DataOptions(data="folder", data_root=str(photos), spos_preprocessing=True), 224, score_fraction=0.1
    )
    images, labels = next(data.eval_batches("test", 8))
    with torch.no_grad():
        logits = again(data.normalise(images))
        torch.testing.assert_close(logits, network.eval()(data.normalise(images)))
    right = (logits.argmax(1) == labels).float().mean()
    assert result["mean"] == pytest.approx(100 * float(right))


def test_half_precision_becomes_single(checkpoint, tmp_path):
    _, state, _ = checkpoint
    half = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    torch.save({"state_dict": half}, tmp_path / "half.pth.tar")
    assert official_spos.read_checkpoint(str(tmp_path / "half.pth.tar")).weights["stem.0.weight"].dtype == torch.float32


def test_checkpoints_of_an_old_pytorch(checkpoint, tmp_path):
    _, state, _ = checkpoint
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    torch.save({"state_dict": old}, tmp_path / "old.pth.tar")
    found = official_spos.read_checkpoint(str(tmp_path / "old.pth.tar"))
    assert (found.classes, found.arch) == (2, None)
    assert int(found.weights["stem.1.num_batches_tracked"]) == 0


def test_a_supernet_of_nni_1_3_to_1_5(checkpoint, tmp_path):
    """Its LayerChoice keeps its candidates in `self.choices`; the numpy number is what an optimiser script added."""
    path, state, _ = checkpoint
    inserted = {re.sub(r"^(features\.\d+\.)", r"\1choices.", name): tensor for name, tensor in state.items()}
    assert "features.0.choices.0.branch_main.0.weight" in inserted
    torch.save({"state_dict": inserted, "best_acc1": np.float64(41.7)}, tmp_path / "nni.pth.tar")
    found, plain = (official_spos.read_checkpoint(str(file)) for file in (tmp_path / "nni.pth.tar", path))
    assert (found.classes, found.arch) == (2, None)
    assert list(found.weights) == list(plain.weights)
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in plain.weights.items())


def test_anything_else_is_refused(checkpoint, photos, tmp_path, run):
    path, state, _ = checkpoint

    def changed(name, tensor):
        torch.save({"state_dict": {**state, name: tensor}}, tmp_path / f"{name}.pth.tar")
        return str(tmp_path / f"{name}.pth.tar")

    text = tmp_path / "text.pth"
    text.write_text("hello")
    torch.save({"state_dict": {"fc.weight": torch.zeros(2)}}, tmp_path / "other.pth.tar")
    content = path.read_bytes()
    (tmp_path / "cut.pth.tar").write_bytes(content[: len(content) // 2])
    missing = {name: tensor for name, tensor in state.items() if name != "features.3.1.branch_main.3.weight"}
    torch.save(missing, tmp_path / "missing.pth.tar")
    for file, says in (
        (
            str(tmp_path / "other.pth.tar"),
            r"is no official SPOS checkpoint \(found: fc.weight\); give checkpoint-150000",
        ),
        (str(run / "supernet.pt"), "is no official SPOS checkpoint"),
        (str(tmp_path / "cut.pth.tar"), "is truncated or not a checkpoint; if it was downloaded"),
        (str(tmp_path / "none"), "official checkpoint '.*none' does not exist"),
        (str(tmp_path / "missing.pth.tar"), r"'features.3.1.\*' has \d+ tensors instead of"),
        (changed("features.3.1.branch_main.3.weight", torch.zeros(32, 1, 3, 3)), "has shape .* instead of"),
        (changed("extra", torch.zeros(1)), "'extra' is unknown"),
        (changed("first_conv.0.weight", 3), "'first_conv.0.weight' is a int, not a dense tensor"),
        (
            changed("conv_last.0.weight", state["conv_last.0.weight"].int()),
            "is not made of finite floating-point numbers",
        ),
        (changed("classifier.0.weight", torch.tensor(1.0)), "'classifier.0.weight' is not made of finite"),
        (changed("conv_last.1.running_var", -torch.ones(1024)), "'conv_last.1.running_var' has a negative variance"),
        (changed("features.0.0.branch_main.foo.3.weight", torch.zeros(1)), r"'features.0.0.\*' has"),
        (changed("module.first_conv.0.weight", torch.zeros(1)), "is unknown or stands there twice"),
        (str(text), "is truncated or not a checkpoint; if it was downloaded"),
        (str(tmp_path), "is a folder, not a file"),
    ):
        with pytest.raises(InputError, match=says):
            official_spos.read_checkpoint(file)
    with pytest.raises(InputError, match="holds a supernet, not one network; use: python -m trials.supernet --import"):
        retrain.main(["--import-official", str(path), "--out", str(tmp_path / "x")])
    with pytest.raises(InputError, match="official SPOS checkpoints are of .* imagenet, not of spos tiny; leave these"):
        supernet.main(["--import-official", str(path), "--preset", "tiny", "--out", str(tmp_path / "x")])
    done = onepath("supernet", "--import-official", path, "--data", "digits", "--out", tmp_path / "x")
    assert_one_clear_line(done, "has 2 classes, data set digits has 10; give the images it was trained on")
    assert not (tmp_path / "x").exists()
