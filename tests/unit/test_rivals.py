"""Networks that start from their supernet or from pretrained weights."""

import dataclasses
import shutil
import types

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from spaces.arch import activate, save_arch
from spaces.cost import measure
from spaces.errors import InputError
from spaces.files import load_json, save_json
from spaces.model_space import make_supernet
from spaces.spec import SpaceSpec
from tests.unit.test_recipes import configured
from tests.unit.test_spaces import TINY, random_arch, trained
from trials import retrain
from trials.certifying.jobs import recipe_config
from trials.common import run_dir
from trials.common.checkpoint import load_checkpoint
from trials.common.supernet_run import SupernetRun
from trials.networks import pretrained
from trials.training import retrain_trainer, supernet_config
from trials.training.retrain_config import Config
from trials.training.retrain_plan import plan_retraining, print_notes

MODEL = "timm:test_resnet"
SMALL = ["--preset", "tiny", "--data", "digits", "--resolution", "16", "--batch-size", "128", "--epochs", "2"]
SMALL += ["--device", "cpu", "--checkpoint-every", "5"]


# from the supernet


def make_run(folder, name, options):
    """A run of a supernet whose weights are of a few steps, as trials.supernet leaves it; its architecture in arc.json."""
    spec = SpaceSpec(name, "tiny", {**options, "classes": 10, "resolution": 32})
    weights, text = trained(make_supernet(spec.build())), ",".join(f"{key}={value}" for key, value in options.items())
    config = supernet_config.Config(
        data="digits",
        space=name,
        preset="tiny",
        space_options=text,
        resolution=32,
        out=str(folder),
        score_fraction=0.25,
    )
    stored = {"command": "supernet", "config": dataclasses.asdict(config), "typed": None, **run_dir.provenance()}
    save_json(folder / "config.json", stored)
    measure(spec.describe()).save(folder / "cost_table.json")
    run_dir.save_checkpoint(folder / "supernet.pt", {"model": weights.state_dict(), "space": spec.plain()})
    arch = random_arch(weights.chain, 3)
    save_arch(folder / "arc.json", arch)
    return weights, arch


@pytest.mark.parametrize("case", TINY, ids=str)
def test_a_network_from_its_supernet_begins_as_the_path(case, tmp_path):
    path_of, arch = make_run(tmp_path / "run", *case)
    flags = ["--fixed-arc", tmp_path / "run" / "arc.json", "--supernet", tmp_path / "run", "--from-supernet"]
    config = configured(*flags, "--device", "cpu", images=1438)
    assert (config.recipe, config.out) == ("tiny", str(tmp_path / "run" / "retrain-from-supernet"))
    assert (config.epochs, config.lr) == (23, 0.2)  # 500 steps at least
    plan = plan_retraining(config)
    assert plan.start.about["kind"] == "supernet"
    trainer = retrain_trainer.NetworkTrainer(plan.config, plan.network, 0, plan.data)
    images = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    activate(path_of.to(memory_format=torch.channels_last), arch)
    with torch.no_grad():
        assert torch.equal(trainer.network.eval()(images), path_of.eval()(images))
    theirs = SupernetRun.open(tmp_path / "run").chain.network(arch, path_of.state_dict(), affine=True)
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), trainer.network.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in trainer.network.parameters())


def test_a_fine_tuned_winner_is_no_winner_trained_alike(tmp_path):
    run = tmp_path / "run"
    make_run(run, "spos", {})
    (run / "retrain").mkdir()
    config = configured("--fixed-arc", run / "arc.json", "--supernet", run, "--from-supernet", images=1438)
    save_json(run / "retrain" / "config.json", {"command": "retrain", "config": dataclasses.asdict(config)})
    options = types.SimpleNamespace(jobs=1, device="cpu", precision=None, data_root=None)
    with pytest.raises(InputError, match="was fine-tuned from the supernet's weights, and a certificate compares"):
        recipe_config(SupernetRun.open(run), "retrain", 1, options)


# pretrained


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """State dicts of timm's models in their forms: 7 classes, 10 classes, nested, safetensors, another model's, damaged."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(1)
    seven, ten = (timm.create_model("test_resnet", num_classes=n).state_dict() for n in (7, 10))
    torch.save(seven, folder / "seven.pth")
    torch.save(ten, folder / "ten.pt")
    torch.save({"epoch": 3, "state_dict_ema": {f"module.{k}": v for k, v in seven.items()}}, folder / "nested.pth")
    safetensors.torch.save_file(seven, folder / "seven.safetensors")
    torch.save(timm.create_model("test_efficientnet", num_classes=10).state_dict(), folder / "other.pth")
    wide = {**seven, "layer1.0.conv1.weight": torch.zeros(5, 5, 3, 3)}
    torch.save(wide, folder / "wide.pth")
    torch.save(
        {k: v for k, v in seven.items() if k != "conv1.0.weight"} | {"extra.x": torch.ones(1)}, folder / "few.pth"
    )
    torch.save({**seven, "conv1.0.weight": seven["conv1.0.weight"] * float("nan")}, folder / "nan.pth")
    torch.save({"model": nn.Linear(2, 2)}, folder / "pickled.pth")
    torch.save({"a": 1}, folder / "nothing.pth")
    whole = (folder / "seven.pth").read_bytes()
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.safetensors").write_bytes((folder / "seven.safetensors").read_bytes()[:500])
    (folder / "text.pth").write_text("hello")
    return folder


@pytest.mark.parametrize("name", ["seven.pth", "nested.pth", "seven.safetensors"])
def test_all_but_a_classifier_of_another_size_is_taken(name, weights):
    torch.manual_seed(2)
    network = timm.create_model("test_resnet", num_classes=10)
    fresh = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    loaded = pretrained.load_weights(network, MODEL, weights / name)
    given = load_checkpoint(weights / "seven.pth", "")
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, fresh[key] if key.startswith("fc.") else given[key]), key
    assert str(loaded) == "75 of 77 tensors; fc made anew; missing: none; unexpected: none"


def test_a_classifier_of_the_same_size_is_taken_and_what_differs_is_said(weights):
    network = timm.create_model("test_resnet", num_classes=10)
    loaded = pretrained.load_weights(network, MODEL, weights / "ten.pt")
    assert (loaded.anew, loaded.taken) == ([], loaded.tensors)
    assert torch.equal(network.fc.weight, load_checkpoint(weights / "ten.pt", "")["fc.weight"])
    loaded = pretrained.load_weights(network, MODEL, weights / "few.pth")
    assert str(loaded).endswith("fc made anew; missing: conv1.0.weight; unexpected: extra.x")


def test_positions_of_another_resolution_are_resampled_by_timm(tmp_path):
    torch.save(timm.create_model("test_vit", num_classes=5).state_dict(), tmp_path / "vit.pth")
    network = timm.create_model("test_vit", num_classes=10, img_size=64)
    loaded = pretrained.load_weights(network, "timm:test_vit,img_size=64", tmp_path / "vit.pth")
    assert (loaded.anew, loaded.missing) == (["head"], [])


def test_weights_of_the_hub_are_found_in_its_cache(weights, tmp_path, monkeypatch):
    from huggingface_hub import constants, file_download

    for module in (constants, file_download.constants):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path / "hub"))
    baseline = "timm:test_resnet.r160_in1k"
    says = r"'.*/hub' has no model.safetensors of timm/test_resnet.r160_in1k, and nothing is downloaded; put it there with hf"
    with pytest.raises(InputError, match=says):
        pretrained.find_weights("hub", baseline)
    repository = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    shutil.copy(weights / "seven.safetensors", snapshot / "model.safetensors")
    assert pretrained.find_weights("hub", baseline) == snapshot / "model.safetensors"
    assert pretrained.find_weights("hub", MODEL) == snapshot / "model.safetensors"  # its default weights


def test_images_are_as_the_weights_expect_them(weights, tmp_path, capsys):
    flags = ["--baseline", MODEL, "--pretrained", weights / "seven.pth", "--data", "digits", "--device", "cpu"]
    plan = plan_retraining(configured(*flags, images=1438))
    assert plan.data.resolution == plan.config.resolution == 160
    assert plan.data.statistics == ((0.5,) * 3, (0.5,) * 3)  # timm's, not those of digits
    images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    assert torch.equal(plan.data.normalise(images), torch.ones(1, 3, 2, 2))
    assert plan.data.preprocessing()["mean"] == [0.5] * 3
    assert not any("pixels" in note for note in plan.start.notes)
    smaller = plan_retraining(configured(*flags, "--resolution", "32", images=1438))
    assert smaller.start.notes[-1].endswith(
        "160x160 pixels of these weights, and the images are 32x32; as they were made: --resolution 160"
    )
    make_run(tmp_path / "run", "spos", {})
    beside = configured(*flags[:4], "--supernet", tmp_path / "run", images=1438)
    assert beside.out == str(tmp_path / "run" / "baselines" / "timm-test_resnet-pretrained")
    assert (beside.recipe, beside.resolution, beside.spos_preprocessing) == ("finetune", 32, False)
    assert configured(*flags[:4], "--supernet", tmp_path / "run", "--resolution", "96", images=1438).resolution == 96


# mistakes, before anything is written

NO_START = "--fixed-arc spos-block --preset tiny"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--baseline timm:test_resnet --pretrained W/absent.pth", "no such file|does not exist|is not there"),
        ("--baseline timm:test_resnet --pretrained W/cut.pth", "is truncated or not a checkpoint; fetch them again"),
        ("--baseline timm:test_resnet --pretrained W/text.pth", "is truncated or not a checkpoint"),
        ("--baseline timm:test_resnet --pretrained W/cut.safetensors", "are truncated or no safetensors"),
        ("--baseline timm:test_resnet --pretrained W/pickled.pth", "not read because loading it could run code"),
        ("--baseline timm:test_resnet --pretrained W/nothing.pth", r"hold no tensors by name \(a\)"),
        ("--baseline timm:test_resnet --pretrained W/nan.pth", "are not finite in conv1.0.weight"),
        ("--baseline timm:test_resnet --pretrained W/other.pth", "are of another architecture than .* it lacks"),
        ("--baseline timm:test_resnet --pretrained W/wide.pth", r"layer1.0.conv1.weight is \(5, 5, 3, 3\), not"),
        ("--baseline timm:test_resnet --pretrained W", "is a folder; name the file"),
        ("--baseline timm:test_resnet --pretrained W/seven.onnx", "is no .safetensors, .pth or .pt"),
        ("--baseline timm:test_resnet --pretrained=", "--pretrained '' names no weights"),
        ("--baseline timm:test_resnt --pretrained W/seven.pth", "did you mean test_resnet"),
        ("--baseline timm:test_resnet.r224 --pretrained hub", "after the dot it knows r160_in1k"),
        ("--baseline timm:test_resnet.r160_in1k", "'.r160_in1k' names pretrained weights, and this baseline"),
        ("--baseline torchvision:resnet18 --pretrained W/seven.pth", "it is of --baseline timm:NAME"),
        (f"{NO_START} --pretrained W/seven.pth", "with no --baseline: it is of --baseline timm:NAME"),
        (f"{NO_START} --from-supernet", "--from-supernet needs --supernet RUN"),
        ("--baseline timm:test_resnet --from-supernet --supernet W", "that network is in no supernet"),
        ("--baseline timm:test_resnet --pretrained W/ten.pt --from-supernet", "a network starts from one of them"),
        ("--top 2 --supernet W --from-supernet", "these train from scratch; choose first"),
        (f"{NO_START} --class-weights inverse", "invalid choice: 'inverse'"),
    ],
)
def test_mistakes_are_named(flags, says, weights, tmp_path):
    words = flags.replace("W", str(weights)).split()
    with pytest.raises(InputError, match=says) as raised:
        retrain.main([*words, "--data", "digits", "--device", "cpu", "--out", str(tmp_path / "x")])
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("start", [[], ["--pretrained", "seven.pth"]])
@pytest.mark.parametrize(("given", "expected"), [(None, "balanced"), ("none", "none"), ("balanced", "balanced")])
def test_rivals_count_classes_as_the_winner_does(start, given, expected, weights, tmp_path, capsys):
    """Trained from scratch or fine-tuned; what is given wins, and stays when the options are made anew."""
    run = tmp_path / "run"
    make_run(run, "spos", {"variant": "channel"})
    winner = Config(fixed_arc=str(run / "arc.json"), supernet=str(run), class_weights="balanced")
    save_json(run / "retrain" / "config.json", {"command": "retrain", "config": dataclasses.asdict(winner)})
    pretrained = str(weights / start[1]) if start else None
    config = Config(baseline=MODEL, supernet=str(run), pretrained=pretrained, class_weights=given)
    assert config.class_weights == expected
    assert dataclasses.replace(config, seeds=2).class_weights == expected
    plan = plan_retraining(dataclasses.replace(config, epochs=1, batch_size=64))
    print_notes(plan)
    said = "class weights: balanced, as the winner's, in fine-tuning too; --class-weights none: not"
    assert (said in capsys.readouterr().out) == bool(start and expected == "balanced")
    save_json(
        run / "retrain" / "config.json",
        {"command": "retrain", "config": {**dataclasses.asdict(winner), "class_weights": None}},
    )
    assert Config(baseline=MODEL, supernet=str(run), pretrained=pretrained).class_weights is None


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", (4, 32, 0.01, "cosine", "tiny")),
        ("--batch-size 64 --epochs 3", (3, 64, 0.01, "cosine", "tiny")),
        ("--recipe tiny", (4, 32, 0.01, "cosine", "tiny")),
        ("--recipe small", (60, 128, 0.0625, "cosine", "small")),
    ],
)
def test_a_network_from_its_supernet_is_trained_as_the_winner_is(flags, expected, tmp_path, capsys):
    """In a quarter of its epochs; what is given wins, and another recipe is taken as it is."""
    run = tmp_path / "run"
    make_run(run, "spos", {})
    own = ["--fixed-arc", run / "arc.json", "--supernet", run, "--device", "cpu"]
    winner = configured(*own, "--epochs", 14, "--batch-size", 32, "--lr", 0.01, images=1438)
    save_json(run / "retrain" / "config.json", {"command": "retrain", "config": dataclasses.asdict(winner)})
    config = configured(*own, "--from-supernet", *flags.split(), images=1438)
    assert (config.epochs, config.batch_size, config.lr, config.schedule, config.recipe) == expected
    print_notes(plan_retraining(config))
    said = f"recipe: options that are not given are those of the winner, '{run / 'retrain'}', in 1/4 of its epochs"
    assert (said in capsys.readouterr().out) == (expected[-1] == "tiny")
    # a run that was begun otherwise goes on as it was
    stored = {**dataclasses.asdict(config), "epochs": 60, "batch_size": 128, "recipe": "small"}
    save_json(run / "retrain-from-supernet" / "config.json", {"command": "retrain", "config": stored})
    save_json(run / "retrain-from-supernet" / "result.json", {})
    again = configured(*own, "--from-supernet", "--resume", images=1438)
    assert (again.epochs, again.batch_size, again.recipe) == (60, 128, "small")


def test_a_dry_run_of_a_choice_needs_no_winner(tmp_path, capsys):
    """What is timed is the first candidate: no arc.json is there before one is chosen."""
    run = tmp_path / "run"
    make_run(run, "spos", {})
    (run / "arc.json").unlink()
    stored = load_json(run / "config.json", "")
    save_json(run / "config.json", {**stored, "config": {**stored["config"], "max_macs": 3_000_000}})
    flags = ["--supernet", str(run), "--top-random", "3", "--epochs", "4", "--batch-size", "256", "--device", "cpu"]
    found = retrain.main([*flags, "--dry-run"])
    said = capsys.readouterr().out
    assert "3 candidates (3 random ones of one cost; 1 epoch and 1 seed each: 3 epochs in all) come first" in said
    assert "hours expected" in found["estimate"]
    assert not (run / "arc.json").exists()
    assert not (run / "top").exists()


def test_mistakes_with_a_run(tmp_path):
    run = tmp_path / "run"
    make_run(run, "spos", {})
    flags = ["--fixed-arc", str(run / "arc.json"), "--supernet", str(run), "--from-supernet"]
    with pytest.raises(InputError, match="of networks that start from fresh weights, which trials.certify compares"):
        configured(*flags, "--out", run / "retrain")
    (run / "supernet.pt").rename(run / "aside.pt")
    with pytest.raises(InputError, match="has no trained weights; train it to the end"):
        configured(*flags)
    (run / "supernet.pt").write_bytes((run / "aside.pt").read_bytes()[:1000])
    with pytest.raises(InputError, match="supernet '.*' .* is truncated or not a checkpoint"):
        plan_retraining(configured(*flags, images=1438))


# runs


@pytest.mark.parametrize("start", ["supernet", "pretrained"])
def test_a_fine_tuned_run_resumes_bitwise_and_says_what_it_is(start, weights, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    make_run(run, "spos", {"variant": "channel"})
    flags = ["--supernet", str(run), "--class-weights", "balanced", *SMALL[6:], "--hold-out", "0.25", "--resume"]
    if start == "supernet":
        flags += ["--fixed-arc", str(run / "arc.json"), "--from-supernet"]
    else:
        flags += ["--baseline", MODEL, "--pretrained", str(weights / "seven.pth")]
    step = retrain_trainer.NetworkTrainer.step

    def stop(self, number, *batch):
        if number == 11:
            raise KeyboardInterrupt
        return step(self, number, *batch)

    cut, whole = tmp_path / "cut", tmp_path / "whole"
    with monkeypatch.context() as patch:
        patch.setattr(retrain_trainer.NetworkTrainer, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            retrain.main([*flags, "--out", str(cut)])
    retrain.main([*flags, "--out", str(whole)])
    said = capsys.readouterr().out
    assert "fine-tuning: starts from" in said
    assert "balanced accuracy " in said
    retrain.main([*flags, "--out", str(cut)])
    ours, theirs = (load_checkpoint(folder / "seed0" / "network.pt", "") for folder in (cut, whole))
    assert all(torch.equal(ours["model"][name], theirs["model"][name]) for name in theirs["model"])
    result, stored = load_json(whole / "result.json", ""), load_json(whole / "start.json", "")
    assert stored["kind"] == theirs["start"]["kind"] == result["start"]["kind"] == start
    assert {entry["name"] for entry in result["classes"]} == set("0123456789")
    assert result["balanced"]["accuracy"] == pytest.approx(np.mean([one["accuracy"] for one in result["classes"]]))
    config = load_json(whole / "config.json", "")["config"]
    assert (config["recipe"], config["class_weights"]) == (
        "finetune" if start == "pretrained" else "tiny",
        "balanced",
    )
    if start == "pretrained":
        assert theirs["preprocessing"]["mean"] == [0.5] * 3
        (tmp_path / "moved.pth").write_bytes((weights / "seven.pth").read_bytes())  # the same weights elsewhere
        retrain.main([*flags[:-1], str(tmp_path / "moved.pth"), "--out", str(whole)])
        with pytest.raises(InputError, match="was started from '.*seven.pth' .*, not from '.*ten.pt'"):
            retrain.main([*flags[:-1], str(weights / "ten.pt"), "--out", str(whole)])
