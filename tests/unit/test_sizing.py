"""Recipes by the number of images: the rule, what is given, presets by the images, memory."""

import json

import pytest

from spaces.errors import InputError
from trials import retrain, supernet
from trials.common import cli
from trials.common.changes import changed_options
from trials.training import memory, recipes, retrain_plan, sizing, supernet_config, supernet_loop, supernet_plan

IMAGENET, CIFAR = 1_281_167, 50_000


def chosen(name, images, **given):
    values = sizing.fit(name, recipes.RECIPES[name], given, images, kind="network").values
    return tuple((given | values)[option] for option in ("batch_size", "epochs", "lr"))


@pytest.mark.parametrize(
    ("name", "images", "values"),
    [
        # on data of their own size, and on much smaller ones, the papers' recipes are as they were published
        ("spos", IMAGENET, (1024, 240, 0.5)),
        ("spos", 16_384, (1024, 240, 0.5)),
        ("proxylessnas", IMAGENET, (256, 300, 0.05)),
        ("fairnas", IMAGENET, (4096, 350, 0.256)),
        ("cifar", CIFAR, (96, 600, 0.025)),
        ("cifar", 1600, (96, 600, 0.025)),
        ("tiny", 60_000, (64, 16, 0.2)),
        # fewer images: a sixteenth, the rate in proportion, enough images shown
        ("tiny", 1438, (64, 69, 0.2)),
        ("tiny", 1600, (64, 60, 0.2)),
        ("tiny", 283, (16, 142, 0.05)),
        ("tiny", 255, (16, 160, 0.05)),
        ("tiny", 100, (8, 300, 0.025)),
        ("spos", 5000, (256, 240, 0.125)),
        ("spos", 300, (16, 240, 0.00781)),
        ("fairnas", 5000, (256, 350, 0.016)),
        # hardly any
        ("tiny", 5, (4, 300, 0.0125)),
        ("tiny", 1, (1, 300, 0.00313)),
    ],
)
def test_the_rule(name, images, values):
    assert chosen(name, images) == values


def test_a_batch_is_about_a_sixteenth_and_the_images_shown_are_enough():
    for images in range(8, 40_000, 37):
        for name, recipe in recipes.RECIPES.items():
            batch, epochs, lr = chosen(name, images)
            assert batch == recipe["batch_size"] or (batch & (batch - 1) == 0 and batch >= 8)
            assert batch <= max(8, images / 16 * 2**0.5)
            assert lr == pytest.approx(recipe["lr"] * batch / recipe["batch_size"], rel=0.005)
            assert epochs >= recipe["epochs"]
            shown = epochs * (images // batch) * batch
            assert shown >= 38_400 or epochs == max(300, recipe["epochs"])
            assert sizing.enough_steps(recipe, images, "network") == epochs * (images // batch)


def test_what_is_given_stays_and_the_rest_adapts():
    assert chosen("tiny", 283, lr=0.3) == (16, 142, 0.3)
    assert chosen("tiny", 283, epochs=2) == (16, 2, 0.05)
    assert chosen("tiny", 283, batch_size=64) == (64, 300, 0.2)
    assert chosen("spos", IMAGENET, batch_size=512) == (512, 240, 0.25)
    sentence = sizing.fit("tiny", recipes.RECIPES["tiny"], {"epochs": 64}, 255, kind="network").sentence
    assert sentence == (
        "recipe tiny, 255 training images: batch 16 (near a sixteenth, 16), 64 epochs (given, 960 steps), lr 0.05 (0.2 x 16/64)"
    )
    all_given = {"batch_size": 8, "epochs": 1, "lr": 0.1}
    assert sizing.fit("tiny", recipes.RECIPES["tiny"], all_given, 255, kind="network").sentence == ""
    # processes and accumulation need a multiple of their number
    values = sizing.fit("tiny", recipes.RECIPES["tiny"], {}, 283, kind="network", pieces=3).values
    assert values["batch_size"] == 15


@pytest.mark.parametrize(
    ("images", "pieces", "said"),
    [
        (674, 1, "batch 32 (near a sixteenth, 42)"),
        (400, 1, "batch 32 (near a sixteenth, 25)"),
        (100, 1, "batch 8 (the least)"),
        (5, 1, "batch 4 (all of so few)"),
        (60_000, 1, "batch 64,"),
        (60_000, 3, "batch 63 (divisible by 3)"),
        (283, 3, "batch 15 (near a sixteenth, 18, divisible by 3)"),
    ],
)
def test_the_reason_of_a_batch_is_true(images, pieces, said):
    assert said in sizing.fit("tiny", recipes.RECIPES["tiny"], {}, images, kind="network", pieces=pieces).sentence


def test_what_counts_in_epochs_follows_them():
    tiny = supernet_config.RECIPES["tiny"]
    assert sizing.follow_epochs(tiny, 20) == {"arch_warmup": 2, "temperature_decay": 0.2}
    assert sizing.follow_epochs(tiny, 200) == {"arch_warmup": 20, "temperature_decay": 0.0203}
    for preset, recipe in supernet_config.RECIPES.items():
        assert sizing.follow_epochs(recipe, recipe["epochs"])["temperature_decay"] == recipe["temperature_decay"], (
            preset
        )
    assert sizing.follow_epochs(recipes.RECIPES["fairnas"], 35)["decay_epochs"] == pytest.approx(0.24)
    assert sizing.follow_epochs(recipes.RECIPES["tiny"], 160)["decay_epochs"] == 2.4  # a cosine has no falls


def config_of(command, *flags):
    return cli.parse(command.Config, list(map(str, flags)), None, "trials.x")


def test_which_supernets_begin_warm(tmp_path):
    def warm(*flags, possible=True):
        return config_of(supernet, "--out", tmp_path, "--data", "digits", *flags).with_warm_start(possible).warm_start

    assert (warm(), warm(possible=False), warm("--strategy", "gumbel")) == (0.3, 0.0, 0.3)
    assert warm("--strategy", "threshold") == 0.0  # begins with all it has
    # what is not asked for leaves epochs to learn an architecture in
    assert (warm("--strategy", "gates", "--epochs", "1"), warm("--strategy", "gates", "--epochs", "2")) == (0.0, 0.3)
    assert warm("--strategy", "gates", "--epochs", "2", "--arch-warmup", "1") == 0.0
    assert (warm("--warm-start", "0"), warm("--preset", "cifar")) == (0.0, 0.0)
    for flags, usual in (([], 0.3), (["--space-options", "affine=true"], 0.0), (["--space", "single-path-nas"], 0.3)):
        plan = supernet_plan.plan_supernet(config_of(supernet, "--data", "digits", "--out", tmp_path, *flags))
        assert plan.config.warm_start == usual
        assert plan.paths.first == round(usual * plan.config.epochs * plan.data.steps_per_epoch("train", 64))


@pytest.mark.parametrize(
    ("flags", "usual"),
    [
        ("--space fbnet", 0.0),
        ("--space fbnet --strategy softmax", 0.0),
        ("--space spos --strategy softmax", 0.3),
        ("--space proxylessnas", 0.0),
        ("--space proxylessnas --warm-start 0.2", 0.2),
        ("--space fbnet --hard", 0.3),  # one candidate a step, as in sampling
        ("--space spos", 0.3),
        ("--space single-path-nas", 0.3),  # a skip is a size of a superkernel
    ],
)
def test_what_mixes_all_candidates_begins_cold_where_they_skip(tmp_path, flags, usual):
    """After one warm path it learned to skip no block at all (docs/chance.md)."""
    words = ["--strategy", "gumbel", "--max-macs", "9M", "--epochs", "9", *flags.split(), "--preset", "tiny"]
    plan = supernet_plan.plan_supernet(config_of(supernet, "--data", "digits", "--out", tmp_path, *words))
    assert plan.config.warm_start == usual


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            "--strategy strict-fair",
            "--op-warmup has no effect with --strategy strict-fair; leave it out; it is for: uniform, window",
        ),
        ("--strategy softmax", "--op-warmup has no effect with --strategy softmax"),
        ("--use-all-blocks", "--op-warmup has no effect with --use-all-blocks"),
        ("--warm-start 0.7", "--op-warmup 0.3 and --warm-start 0.7 leave no steps for paths alone"),
        (
            "--space single-path-nas",
            "--op-warmup is for blocks with candidates; space single-path-nas has superkernels alone",
        ),
    ],
)
def test_where_an_op_warm_up_is_refused(tmp_path, flags, says):
    with pytest.raises(InputError, match=says):
        words = ["--data", "digits", "--out", tmp_path, "--op-warmup", "0.3", *flags.split()]
        supernet_plan.plan_supernet(config_of(supernet, *words))


@pytest.mark.parametrize(
    ("flags", "warm_start", "op_warmup"),
    [
        ("--space fbnet", 0.0, 0.3),
        ("--space proxylessnas --strategy window --max-macs 9M", 0.0, 0.3),
        ("--space fbnet --warm-start 0.3", 0.3, 0.0),
        ("--space fbnet --warm-start 0.3 --op-warmup 0.2", 0.3, 0.2),
        ("--space fbnet --op-warmup 0", 0.3, 0.0),
        ("--space fbnet --strategy strict-fair", 0.3, 0.0),
        ("--space fbnet --use-all-blocks", 0.3, 0.0),
        ("--space fbnet --strategy gates", 0.0, 0.3),
        ("--space fbnet --strategy gates --epochs 1", 0.0, 0.0),  # one has to be left to learn an architecture
        ("--space spos --strategy gates", 0.3, 0.0),
        ("--space fbnet --preset small", 0.3, 0.0),  # which would take the memory of a mixture
        ("--space spos", 0.3, 0.0),
        ("--space spos --op-warmup 0.2", 0.0, 0.2),
        ("--space single-path-nas", 0.3, 0.0),
    ],
)
def test_what_samples_paths_begins_with_all_candidates_where_they_skip(tmp_path, flags, warm_start, op_warmup):
    """After one warm path the scores put architectures that skip low, and searches found worse than random ones (docs/chance.md)."""
    words = ["--epochs", "9", "--preset", "tiny", *flags.split()]
    plan = supernet_plan.plan_supernet(config_of(supernet, "--data", "digits", "--out", tmp_path, *words))
    assert (plan.config.warm_start, plan.config.op_warmup) == (warm_start, op_warmup)


def test_a_run_of_an_older_version_stays_cold(tmp_path):
    stored = {"data": "digits", "preset": "tiny", "warm_start": 0.0}
    (tmp_path / "config.json").write_text(json.dumps({"command": "supernet", "config": stored}))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").touch()  # it had begun
    resumed = config_of(supernet, "--data", "digits", "--out", tmp_path, "--resume").with_warm_start(True, skips=True)
    assert (resumed.warm_start, resumed.op_warmup) == (0.0, 0.0)
    assert [flag for flag, *_ in changed_options(stored, resumed) if flag in ("--warm-start", "--op-warmup")] == []


def test_both_commands_fit_their_recipes(arc, tmp_path):
    fitted, sentence = config_of(supernet, "--data", "digits", "--out", tmp_path).fitted(255)
    assert (fitted.preset, fitted.batch_size, fitted.epochs, fitted.lr, fitted.eval_every) == (
        "tiny",
        16,
        214,
        0.025,
        43,
    )
    assert "batch 16 (near a sixteenth, 16)" in sentence
    flags = ["--preset", "imagenet", "--out", tmp_path]
    own, _ = config_of(supernet, *flags).fitted(IMAGENET)
    assert (own.batch_size, own.epochs, own.lr, own.checkpoint_every, own.color_jitter) == (1024, 120, 0.5, 500, 0.4)
    gumbel, _ = config_of(supernet, "--strategy", "gumbel", "--out", tmp_path).fitted(255)
    assert (gumbel.arch_warmup, gumbel.temperature_decay) == (21, 0.0189)
    softmax, _ = config_of(supernet, "--strategy", "softmax", "--out", tmp_path).fitted(255)  # it has no temperature
    assert softmax.temperature_decay == supernet_config.RECIPES["tiny"]["temperature_decay"]

    network, _ = config_of(retrain, "--fixed-arc", arc).fitted(255)
    assert (network.recipe, network.preset, network.batch_size, network.epochs, network.lr) == (
        "tiny",
        "tiny",
        16,
        160,
        0.05,
    )
    by_name, sentence = config_of(retrain, "--fixed-arc", arc, "--recipe", "tiny").fitted(255)
    assert (by_name.batch_size, by_name.epochs, by_name.lr, sentence) == (64, 16, 0.2, "")
    given, _ = config_of(retrain, "--fixed-arc", arc, "--batch-size", "32").fitted(255)
    assert (given.batch_size, given.lr) == (32, 0.1)


@pytest.mark.parametrize("command", [supernet, retrain])
def test_a_run_goes_on_as_it_was_started(command, arc, tmp_path):
    """A run of an older version, whose defaults were others, takes nothing new from the rule; what is given is compared."""
    started = {"preset": "tiny", "recipe": "tiny", "epochs": 16, "batch_size": 64, "lr": 0.2, "schedule": "cosine"}
    name = command.__name__.rpartition(".")[2]
    (tmp_path / "config.json").write_text(json.dumps({"command": name, "config": started}))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").touch()  # it had begun
    flags = ["--out", tmp_path, *([] if command is supernet else ["--fixed-arc", arc])]
    again, sentence = config_of(command, *flags, "--resume").fitted(255)
    assert (again.preset, again.batch_size, again.epochs, again.lr, again.schedule) == ("tiny", 64, 16, 0.2, "cosine")
    assert sentence == ""
    other, _ = config_of(command, *flags, "--resume", "--lr", "0.3").fitted(255)
    assert other.lr == 0.3
    new, _ = config_of(command, *flags).fitted(255)
    assert new.batch_size == 16


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("train", " (50 more held out for scores)"),
        ("weights", " (89 more for the architecture, 50 more held out for scores)"),
        ("all", " (with those held out for scores)"),
    ],
)
def test_what_is_said_of_the_training_images_adds_up(part, said):
    sizes = {"train": 447, "weights": 358, "arch": 89, "score": 50, "all": 497}
    beside = sizing.images_beside(part, sizes.__getitem__)
    assert beside == said
    recipe = recipes.RECIPES["tiny"]
    sentence = sizing.fit("tiny", recipe, {}, sizes[part], kind="network", beside=beside).sentence
    assert sentence.startswith(f"recipe tiny, {sizes[part]} training images{said}: batch ")


def test_fixed_paths_say_which_images_are_used():
    """A search recalibrates BatchNorm on more images, so its score of the same path is another."""
    assert supernet_loop.fixed_paths_text([78.125, 80.625], 160, 320) == (
        "79.4% [72.5, 84.9] (78.1 to 80.6; 160 scoring images, BatchNorm by 320)"
    )


def test_the_preset_follows_the_images(tmp_path, photos):
    """`trials.supernet --out x` alone must not train ImageNet's network on digits."""
    plan = supernet_plan.plan_supernet(config_of(supernet, "--out", tmp_path / "x"))
    assert (plan.config.preset, plan.data.resolution, plan.config.batch_size) == ("tiny", 32, 64)
    assert plan.recipe.startswith(
        "recipe tiny, 1,295 training images (143 more held out for scores): batch 64, 50 epochs (1,000 steps), lr 0.1"
    )
    folder = ["--data", "folder", "--data-root", photos, "--loader", "torchvision", "--score-fraction", "0.25"]
    plan = supernet_plan.plan_supernet(config_of(supernet, *folder, "--out", tmp_path / "x"))
    assert (plan.config.preset, plan.config.batch_size) == ("tiny", 8)
    assert not (tmp_path / "x").exists()
    presets = {(400, 500): "tiny", (20_000, 32): "cifar", (60_000, 400): "imagenet", (12_000, 400): "small"}
    assert {key: sizing.preset_of_folder(*key) for key in presets} == presets
    assert config_of(supernet, "--data", "cifar10", "--data-root", "x", "--out", "x").preset == "cifar"
    assert config_of(retrain, "--fixed-arc", "spos-block").preset == "imagenet"  # a published network brings its own


def test_a_training_that_does_not_fit_is_refused(tmp_path, arc):
    config, _ = config_of(supernet, "--preset", "imagenet", "--batch-size", "512", "--out", tmp_path).fitted(IMAGENET)
    with pytest.raises(
        InputError, match=r"batches of 512 images of 224x224 need about 1048576.0 GiB, and .* --accumulate"
    ):
        memory.require_memory(config, lambda: 2**50, 224)
    network, _ = config_of(retrain, "--fixed-arc", arc, "--batch-size", "9999", "--jobs", "2").fitted(IMAGENET)
    with pytest.raises(InputError, match=r"in each of 2 processes, .* give fewer --jobs or --batch-size"):
        memory.require_memory(network, lambda: 2**50, 224, processes=2)
    memory.require_memory(network, lambda: 2**20, 224)


def test_the_estimates_are_what_autograd_keeps(arc):
    """Without allocating it: on the meta device."""
    from trials.training import dry_run

    flags = ["--fixed-arc", arc, "--batch-size", "8", "--epochs", "1", "--device", "cpu"]
    plan = retrain_plan.plan_retraining(config_of(retrain, *flags))
    _, measured = dry_run.time_network(plan.config, plan.network, plan.data)
    assert memory.network_bytes(plan.config, plan.network, 32) == pytest.approx(measured, rel=0.02)


def test_the_limit_of_a_cgroup_counts(tmp_path):
    (tmp_path / "job" / "step").mkdir(parents=True)
    (tmp_path / "job" / "memory.max").write_text("4096\n")
    (tmp_path / "job" / "step" / "memory.max").write_text("max\n")
    (tmp_path / "cgroup").write_text("0::/job/step\n")
    assert memory._cgroup_limit(tmp_path / "cgroup", tmp_path) == 4096
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("2048\n")
    (tmp_path / "cgroup").write_text("9:memory:/docker/1\n8:cpu:/x\n")
    assert memory._cgroup_limit(tmp_path / "cgroup", tmp_path) == 2048
    assert memory._cgroup_limit(tmp_path / "none", tmp_path) == memory.UNLIMITED
    assert memory.machine_memory() > 2**28


def test_advice():
    recipe = recipes.RECIPES["tiny"]
    fitting = {"epochs": 142, "batch_size": 16, "lr": 0.05}
    assert sizing.advice(recipe, fitting, 283, "network") == []
    said = sizing.advice(recipe, {"epochs": 4, "batch_size": 64, "lr": 2.0}, 283, "network")
    assert said == [
        "--batch-size 16: 64 are a large part of 283 training images",
        "--epochs 300: 16 steps, where 1,200 are usual",
        "--lr 0.2: 2 is far from the recipe's in proportion to the batch",
    ]
