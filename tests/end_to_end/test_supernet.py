"""trials.supernet with every strategy: kill and resume, what it writes, dry run, bad numbers, bad options."""

import json
import re

import pytest
import torch

from spaces.arch_file import load_arch
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import load_json
from spaces.spec import SpaceSpec
from strategies.feasible import FeasibleSpace
from tests.commands import ROOT, Command, assert_one_clear_line, onepath
from tests.conftest import SUPERNET
from trials import report, supernet
from trials.common import cli
from trials.common.checkpoint import load_checkpoint
from trials.training import supernet_config, supernet_plan, supernet_trainer, trainer

QUICK = ["--preset", "tiny", "--data", "digits", "--score-fraction", "0.25", "--batch-size", "72", "--eval-paths", "2"]
QUICK += ["--device", "cpu"]  # where a resumed run is bitwise the same
FEWER_STEPS = ["--score-fraction", "0.7"]  # where a step takes long: several candidates of every block are computed
STRATEGIES = {
    "window": ["--space", "spos", "--strategy", "window", "--min-macs", "2.9M", "--max-macs", "3.2M"],
    "strict-fair": [
        *("--space", "spos", "--space-options", "variant=channel", "--strategy", "strict-fair"),
        *("--width-warmup", "--warm-start", "0.2", "--epochs", "3", "--score-fraction", "0.8"),
        *("--ema", "0.9"),
    ],
    "softmax": [
        *("--space", "spos", "--strategy", "softmax", "--max-macs", "3M", "--cost-loss", "power"),
        *FEWER_STEPS,
    ],
    "gumbel": [
        *("--space", "spos", "--strategy", "gumbel", "--hard", "--max-macs", "3M"),
        *("--cost-loss", "target", "--cost-weight", "1", "--arch-optimizer", "sgd"),
    ],
    "gates": [
        *("--space", "proxylessnas", "--strategy", "gates", "--max-macs", "3M", "--arch-passes", "2"),
        *("--precision", "bf16-mixed", "--op-warmup", "0.4", *FEWER_STEPS),
    ],
    "threshold": [
        *("--space", "single-path-nas", "--strategy", "threshold", "--optimizer", "adam", "--lr", "0.002"),
        *("--cost-loss", "linear", "--cost-weight", "0.1", "--accumulate", "2", "--clip-norm", "5"),
    ],
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_killed_and_resumed_is_bitwise_equal(name, tmp_path):
    flags = [*QUICK, "--epochs", "2", "--score-fraction", "0.5", *STRATEGIES[name], "--checkpoint-every", "3"]
    if name in supernet_config.DIFFERENTIABLE:
        flags += ["--arch-warmup", "0", "--warm-start", "0"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = Command("trials.supernet", *flags, "--out", killed)
    last = killed / "checkpoints" / "last.pt"
    while not last.exists():
        assert process.poll(0.02) is None, process.written()
    process.kill()
    process.wait()
    assert not (killed / "supernet.pt").exists()
    step = load_checkpoint(last, "")["step"]
    assert step % 3 == 0
    supernet.main([*flags, "--out", str(killed), "--resume"])
    supernet.main([*flags, "--out", str(whole)])
    for file in ("supernet.pt", "checkpoints/last.pt"):
        one, two = (flat(load_checkpoint(run / file, "")) for run in (killed, whole))
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert torch.equal(value, two[key]) if isinstance(value, torch.Tensor) else value == two[key], key

    def lines(run, file):
        kept = [json.loads(line) for line in (run / file).read_text().splitlines()]
        return [{key: value for key, value in line.items() if key != "images_per_second"} for line in kept]

    logs = lines(killed, "log.jsonl"), lines(whole, "log.jsonl")
    assert logs[0] == logs[1]
    followed = [[line["fixed_paths"] for line in log if "fixed_paths" in line] for log in logs]
    assert followed[0] == followed[1]
    assert [len(found) for found in followed[0]] == [2] * (3 if name == "strict-fair" else 2)
    if name in supernet_config.DIFFERENTIABLE:
        assert lines(killed, "probabilities.jsonl") == lines(whole, "probabilities.jsonl")
        learned(whole, name)
    else:
        assert not (whole / "arc.json").exists()
    if name == "gates":  # learns under its limit
        control = load_checkpoint(whole / "checkpoints" / "last.pt", "")["cost_control"]
        assert control["loss_square"] > 0
        assert control["multiplier"] == logs[0][-2]["cost_multiplier"] != 0
    report.main([str(whole)])
    assert (whole / "report.html").read_text().count("<svg") == (3 if name in supernet_config.DIFFERENTIABLE else 1)


def flat(state, prefix=""):
    items = {}
    for key, value in state.items() if isinstance(state, dict) else enumerate(state):
        if isinstance(value, dict | list):
            items |= flat(value, f"{prefix}{key}.")
        else:
            items[f"{prefix}{key}"] = value
    return items


def learned(run, name):
    """What a differentiable strategy writes."""
    table = CostTable.load(run / "cost_table.json")
    arch = load_arch(run / "arc.json", table.choices)
    about = load_json(run / "most_probable.json", "")
    assert (about["arch"], about["macs"], about["params"]) == (arch, table.macs(arch), table.params(arch))
    if about["max_macs"]:
        assert about["macs"] <= about["max_macs"] == 3_000_000
    mode = about["mode"]
    assert about["macs_without_limit"] == table.macs(mode)
    assert about["overturned"] == [label for label in arch if arch[label] != mode[label]]
    assert 0 < about["entropy"] <= 1
    gap = about["discretisation"]
    assert 0 <= gap["path_top1"] <= 100
    assert 0 <= gap["mixture_top1"] <= 100
    assert 0 < gap["images"] <= 1000
    history = [json.loads(line) for line in (run / "probabilities.jsonl").read_text().splitlines()]
    assert len(history) == 3  # before the first epoch, after each
    for moment in history:
        for label, row in moment["probabilities"].items():
            assert len(row) == len(table.choices[label])
            assert sum(row) == pytest.approx(1, abs=1e-5)
    assert history[0]["probabilities"] != history[-1]["probabilities"]
    events = b"".join(path.read_bytes() for path in (run / "tensorboard").glob("events*"))
    label, candidate = next(iter(arch.items()))
    assert f"arch/probability/{label}/{candidate}".encode() in events
    # the probability that is reported is that of the last line
    chosen = [row[table.choices[label].index(arch[label])] for label, row in history[-1]["probabilities"].items()]
    product = float(torch.tensor(chosen, dtype=torch.float64).log().sum())
    assert about["log_probability"] == pytest.approx(product, abs=1e-6)
    # the supernet has no architecture parameters inside: evolution can search it
    weights = load_checkpoint(run / "supernet.pt", "")["model"]
    assert not [key for key in weights if "logit" in key or "alpha" in key]


def test_what_is_learned_under_a_limit_ends_at_the_limit(tmp_path, capsys):
    limit = 1_040_000
    flags = [
        "--preset",
        "tiny",
        "--data",
        "digits",
        "--resolution",
        "16",
        "--space",
        "single-path-nas",
        "--epochs",
        "4",
    ]
    flags += ["--strategy", "threshold", "--max-macs", str(limit), "--batch-size", "32"]
    flags += ["--arch-warmup", "1", "--eval-paths", "0", "--device", "cpu"]
    # 6 passes are about 140 steps of the thresholds. With 50 the mode is still on its way: docs/strategies.md has both.
    supernet.main([*flags, "--arch-passes", "6", "--out", str(tmp_path / "limited")])
    said = capsys.readouterr().out
    supernet.main([*flags, "--cost-loss", "none", "--out", str(tmp_path / "free")])
    limited, free = (load_json(tmp_path / run / "most_probable.json", "") for run in ("limited", "free"))
    assert free["macs_without_limit"] > 1.5 * limit
    assert 0.8 * limit <= limited["macs_without_limit"] <= 1.05 * limit
    assert limited["macs"] <= limit
    overturned = len(limited["overturned"])
    assert (overturned > 0) == (limited["macs_without_limit"] > limit)
    assert overturned <= 2 < len(free["overturned"])
    assert (
        f"the limit overturned {overturned} of {len(limited['arch'])} choices; entropy {limited['entropy']:.2f} of 1"
        in said
    )
    last = [json.loads(line) for line in (tmp_path / "limited" / "log.jsonl").read_text().splitlines()][-1]
    assert last["mode_cost"] == pytest.approx(limited["macs_without_limit"] / 1e6)
    assert last["entropy"] == pytest.approx(limited["entropy"], abs=0.05)
    events = b"".join(path.read_bytes() for path in (tmp_path / "limited" / "tensorboard").glob("events*"))
    assert all(
        name in events for name in (b"arch/mode_cost", b"arch/expected_cost", b"arch/entropy", b"arch/cost_multiplier")
    )


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    flags = [*QUICK, "--epochs", "2", "--out", str(tmp_path / "run")]
    supernet.main([*flags, "--stop-after", "4"])
    real, calls = trainer.F.cross_entropy, []

    def diverging(*args, **kwargs):
        calls.append(1)
        return real(*args, **kwargs) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr(trainer.F, "cross_entropy", diverging)
    says = (
        r"the loss became nan at step 7 on path [0-9a-f]{12} \(block00 \w+, .*block19 \w+\); the last good checkpoint is "
        r"'.*checkpoints/last.pt' \(step 4\); start again with a lower --lr, or with --clip-norm"
    )
    with pytest.raises(InputError, match=says):
        supernet.main([*flags, "--resume"])
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt", "")["step"] == 4
    assert not (tmp_path / "run" / "supernet.pt").exists()


def test_an_architecture_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    flags = [*QUICK, *STRATEGIES["gates"], "--epochs", "2", "--arch-warmup", "0", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(supernet_trainer.cost_loss, "cost_loss", lambda form, loss, cost, **_: loss * float("nan"))
    with pytest.raises(InputError, match=r"the loss became nan at step \d+ on a mixture of candidates; there is"):
        supernet.main(flags)
    assert not (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def test_a_run_that_diverges_leaves_no_bad_checkpoint(tmp_path):
    done = onepath("supernet", *QUICK, "--lr", "1e30", "--checkpoint-every", "1", "--out", tmp_path / "run")
    assert done.returncode == 3
    last = [line for line in done.stderr.strip().splitlines() if line.startswith("error: ")]
    assert len(last) == 1
    assert "the weights are no longer finite after step 1, path" in last[0]
    assert "there is no checkpoint yet" in last[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def test_dry_run(tmp_path, capsys):
    for flags, passes, memory in (
        (["--space", "spos", "--strategy", "strict-fair", "--accumulate", "2"], "4 paths of 72 images", r"0\.\d\d"),
        # its first steps run all candidates of all blocks
        (["--space", "proxylessnas", "--strategy", "gates"], "1 mixture or path of 72 images", r"1\.\d\d"),
        (
            ["--space", "proxylessnas", "--strategy", "gates", "--op-warmup", "0"],
            "1 mixture or path of 72 images",
            r"0\.\d\d",
        ),
    ):
        supernet.main([*QUICK, *flags, "--epochs", "20", "--out", str(tmp_path / "none"), "--dry-run"])
        rows = capsys.readouterr().out
        steps = "280 (20 epochs of 14)" if "strict-fair" in flags else "220 (20 epochs of 11)"
        assert passes in rows
        assert steps in rows
        assert re.search(r"hours expected +0\.\d\d", rows)
        assert re.search(rf"memory of a process, estimated +{memory} GiB", rows)
    assert f"{500_904:,}" not in rows
    assert not (tmp_path / "none").exists()


def test_the_estimate_of_activations_is_what_autograd_keeps():
    from spaces.cost import measure
    from trials.images.load import load_data
    from trials.images.options import DataOptions
    from trials.training import dry_run

    config, _ = cli.parse(supernet_config.Config, [*QUICK, "--out", "none"], None, "trials.supernet").fitted(1000)
    import spaces

    data = load_data(DataOptions(data="digits"), 32, score_fraction=0.25)
    about = {"name": "spos", "preset": "tiny", "options": {"classes": 10, "resolution": 32}}
    table = measure(spaces.describe("spos", "tiny"))
    paths = supernet_plan.make_paths(
        config, spaces.describe("spos", "tiny"), FeasibleSpace(table, config.limits()), data
    )
    run = supernet_trainer.SupernetTrainer(config, data, SpaceSpec.read(about), table, paths)
    images = next(data.train_batches("train", 72, seed=0, epoch=0))[0]
    one, half = dry_run.measure_activations(run, 0, images), dry_run.measure_activations(run, 0, images[:36])
    assert 1.9 < one / half < 2.05  # (the difference is a path's BatchNorm statistics)
    assert one > images.nbytes  # and more than its input


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--max-macs 3M", "--max-macs has no effect with --strategy uniform; use --strategy window, or set the limit"),
        (
            "--strategy window",
            "--strategy window needs --max-macs, --min-macs or --max-latency-ms, such as --max-macs 330M",
        ),
        ("--strategy binned --max-macs 3M", "bins of MACs need their range: give --min-macs and --max-macs"),
        ("--strategy window --max-macs 1M", "max_macs 1,000,000 is out of reach: the space reaches"),
        ("--strategy gumbel --max-macs 1M", "max_macs 1,000,000 is out of reach: the space reaches"),
        ("--strategy gumbel --max-macs many", "max_macs is 'many'; give a positive number such as 330000000 or 330M"),
        ("--strategy threshold", "--strategy threshold decides on superkernels; space spos has blocks with candidates"),
        ("--strategy fair", "argument --strategy: invalid choice: 'fair'"),
        ("--strategy gumbel --use-all-blocks", "--use-all-blocks is for sampling strategies, not gumbel; leave it out"),
        ("--strategy softmax --hard", "--hard has no effect with --strategy softmax; leave it out, or see --help"),
        ("--cost-loss power", "--cost-loss has no effect with --strategy uniform; leave it out, or see --help"),
        ("--temperature 3", "--temperature has no effect with --strategy uniform"),
        ("--strategy gates --temperature 3", "--temperature has no effect with --strategy gates"),
        ("--arch-warmup 3", "--arch-warmup has no effect with --strategy uniform"),
        ("--strategy gates --cost-loss power --cost-weight 3", "--cost-weight has no effect with --cost-loss power"),
        ("--strategy gates --cost-loss power --cost-target 3M", "--cost-target has no effect with --cost-loss power"),
        ("--strategy gates --cost-loss limit", "--cost-loss limit needs --max-macs; give it, or another cost loss"),
        ("--strategy gates --max-macs 3M --cost-weight 3", "--cost-weight has no effect with --cost-loss limit"),
        ("--strategy gates --max-macs 3M --cost-target 2M", "--cost-target has no effect with --cost-loss limit"),
        ("--strategy gates --arch-passes 0", "--arch-passes 0 is not above 0; give a larger number"),
        ("--arch-passes 2", "--arch-passes has no effect with --strategy uniform; leave it out"),
        (
            "--strategy gates --max-macs 3M --cost-loss limit --latency-table x.json",
            "--cost-loss limit needs --max-latency-ms, in the milliseconds of --latency-table",
        ),
        ("--eval-paths 1000000", "--eval-paths 1000000 is above 1,000; give fewer"),
        (
            "--strategy gates --cost-loss target --cost-weight 1 --cost-target abc",
            "--cost-target is 'abc'; give a positive",
        ),
        ("--strategy gates --arch-lr 0", "--arch-lr 0.0 is not above 0; give a larger number"),
        (
            "--strategy gates --cost-loss target --cost-weight 1 --max-macs 3M --latency-table x.json",
            "--cost-loss target with a --latency-table needs --cost-target",
        ),
        ("--strategy gates --cost-loss linear", "--cost-loss linear needs --cost-weight, such as 0.1"),
        ("--strategy gates --cost-loss target --cost-weight 1", "--cost-loss target needs --cost-target or --max-macs"),
        (
            "--strategy gates --epochs 2 --arch-warmup 2",
            "--arch-warmup 2 after a warm start of 0 epochs leaves none of 2 to learn an architecture",
        ),
        (
            "--space proxylessnas --strategy gates --epochs 20 --warm-start 0.95",
            "after a warm start of 19 epochs leaves none of 20",
        ),
        ("--strategy gates --arch-fraction 0.01", "--batch-size 64 exceeds the 10 images of part 'arch'; lower it"),
        ("--strategy gates --arch-fraction 1.5", "--arch-fraction 1.5 is out of range; give a number between 0 and 1"),
        (
            "--accumulate 3 --batch-size 64",
            "--batch-size 64 is not divisible into 1 processes x 3 parts; give a multiple of 3",
        ),
        ("--width-warmup", "width warm-up and use-all-channels need a space with widths or superkernels"),
        ("--clip-norm -1", "--clip-norm -1.0 is below 0; give 0 or more"),
        ("--eval-every 0", "--eval-every 0 is not above 0; give 1 or more, or --eval-paths 0"),
        (
            "--strategy gates --cost-loss linear --cost-weight 1 --latency-table none",
            "latency table 'none' does not exist",
        ),
        (
            "--strategy gates --max-macs 3M --max-latency-ms 3 --latency-table x.json",
            "--strategy gates exports under one limit; give --max-macs or --max-latency-ms",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_written(arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    out = tmp_path / "run"
    with pytest.raises(InputError) as caught:
        supernet.main(["--preset", "tiny", "--data", "digits", "--out", str(out), *arguments.split()])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_one_of_them_as_the_user_sees_it():
    assert_one_clear_line(
        onepath("supernet", *SUPERNET, "--max-macs", "3M", "--out", "runs/x"), "--max-macs has no effect"
    )


def test_the_logarithm_of_a_small_cost_is_refused(tmp_path):
    flags = ["--space", "fbnet", "--strategy", "gumbel", "--cost-loss", "power", "--out", str(tmp_path / "run")]
    with pytest.raises(InputError, match="takes the logarithm of the cost in millions, and the space starts at 0.427"):
        supernet.main([*QUICK, *flags])


def test_fp16_with_its_scaler_resumes_bitwise(tmp_path, monkeypatch):
    """The scale of the loss is in the checkpoint. fp16 is for GPUs; the same plugin runs, slowly, on the CPU.

    The scale begins so low that no gradient overflows, whatever the processor's rounding is.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.precision import MixedPrecision

    def fabric(device, precision):
        scaler = torch.amp.GradScaler("cpu", init_scale=1, growth_interval=2)
        return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])

    monkeypatch.setattr(trainer, "make_fabric", fabric)
    flags = [
        "--preset",
        "tiny",
        "--data",
        "digits",
        "--score-fraction",
        "0.75",
        "--batch-size",
        "16",
        "--eval-paths",
        "0",
    ]
    flags += [
        "--strategy",
        "gates",
        "--arch-warmup",
        "0",
        "--arch-fraction",
        "0.5",
        "--clip-norm",
        "5",
        "--epochs",
        "1",
    ]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    supernet.main([*flags, "--out", str(broken), "--stop-after", "3"])
    supernet.main([*flags, "--out", str(broken), "--stop-after", "5", "--resume"])
    supernet.main([*flags, "--out", str(whole), "--stop-after", "5"])
    one, two = (load_checkpoint(run / "checkpoints" / "last.pt", "") for run in (broken, whole))
    assert one["precision"]["scale"] == 4  # doubled twice in five steps
    assert one["precision"] == two["precision"]
    for part in ("model", "search"):
        assert all(torch.equal(tensor, two[part][key]) for key, tensor in one[part].items())
    assert any(logits.abs().max() > 0 for logits in one["search"].values())
