"""Every training strategy in NNI's own NasExperiment, with NNI's Lightning evaluator, on digits."""

import logging
from collections import Counter

import pytest
import torch

import spaces
from docs.nni_strategies import STRATEGIES, run
from spaces.arch import validate
from spaces.cost import CostTable, measure
from spaces.errors import InputError
from strategies import nni_modules, nni_oneshot
from strategies.sampling import strict_fair, uniform

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
IMAGES = 128  # 2 batches of 64


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # NNI writes its experiments there


@pytest.fixture
def trained(monkeypatch):
    """What `activate_mixture` set, in order."""
    settings = []
    original = nni_modules.activate_mixture

    def spy(model, chosen):
        settings.append((model.training, dict(chosen)))
        original(model, chosen)

    monkeypatch.setattr(nni_modules, "activate_mixture", spy)
    return settings


@pytest.mark.parametrize("name", STRATEGIES)
def test_nas_experiment(name):
    if name == "thresholds":
        space = spaces.build("single-path-nas", "tiny")
    else:
        space = spaces.build("spos", "tiny", **({"variant": "channel"} if "widths" in name else {}))
    table = measure(space)
    before = {key: tensor.clone() for key, tensor in space.state_dict().items()}
    experiment, arch = run(STRATEGIES[name](), space, images=64)  # 3 epochs of 1 step
    validate(arch, table.choices)
    supernet = experiment.strategy.supernet
    assert supernet.state_dict().keys() == before.keys()  # a supernet that evolution can search
    assert any(not torch.equal(tensor, before[key]) for key, tensor in supernet.state_dict().items())
    if name in ("cost window", "softmax", "Gumbel"):
        assert table.macs(arch) <= 3_200_000
    module = experiment.strategy.oneshot_module
    assert int(module.steps_taken) == 3
    if hasattr(module, "search"):
        probabilities = module.export_probs()
        assert all(sum(row.values()) == pytest.approx(1, abs=1e-5) for row in probabilities.values())
        assert any(parameter.abs().max() > 0 for parameter in module.search.parameters())  # it learned


def test_paths_are_those_of_the_pure_functions(trained):
    for strategy, draw in ((nni_oneshot.Uniform(seed=5), uniform), (nni_oneshot.StrictFair(seed=5), strict_fair)):
        trained.clear()
        space = spaces.build("spos", "tiny")
        run(strategy, space, epochs=1, images=IMAGES)
        paths = [chosen for training, chosen in trained if training]
        assert paths == [path for step in range(2) for path in draw(space.chain.choices, 5, step)]
    counts = Counter(path["block04"] for path in paths)
    assert set(counts.values()) == {2}


def test_an_epoch_walks_once_over_both_parts():
    weights, arch = list(range(7)), list("abc")
    pairs = list(nni_modules.Interleaved(weights, arch))
    assert [first for first, _ in pairs] == weights
    assert [batch for _, batches in pairs for batch in batches] == arch


def test_warm_up_epochs_leave_the_architecture_alone(trained):
    experiment, _ = run(nni_oneshot.Softmax(warmup_epochs=1), spaces.build("spos", "tiny"), epochs=1, images=IMAGES)
    search = experiment.strategy.oneshot_module.search
    assert all(not logits.any() for logits in search.logits)


def test_a_plain_nni_space(trained):
    """A plain NNI ModelSpace, with costs that are given."""
    from nni.nas.nn.pytorch import LayerChoice, ModelSpace
    from torch import nn

    class Net(ModelSpace):
        def __init__(self):
            super().__init__()
            self.conv = LayerChoice({"k3": nn.Conv2d(3, 8, 3, 2, 1), "k5": nn.Conv2d(3, 8, 5, 2, 2)}, label="conv")
            self.next = LayerChoice([nn.Identity(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)], label="next")
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))

        def forward(self, x):
            return self.head(self.next(self.conv(x)))

    table = CostTable.additive({"conv": {"k3": (10, 1), "k5": (30, 1)}, "next": {0: (0, 0), 1: (5, 1), 2: (50, 1)}})
    _, arch = run(nni_oneshot.Gumbel(max_macs=35, table=table, optimizer={"lr": 0.1}), Net(), epochs=1, images=IMAGES)
    assert table.macs(arch) <= 35
    run(nni_oneshot.StrictFair(), Net(), epochs=1, images=IMAGES)
    paths = [chosen for training, chosen in trained if training and isinstance(chosen["conv"], str)]
    assert Counter(path["next"] for path in paths) == {0: 2, 1: 2, 2: 2}
    with pytest.raises(TypeError, match="give table=CostTable.additive"):
        run(nni_oneshot.CostWindow(max_macs=35), Net(), epochs=1, images=IMAGES)


def test_an_unknown_form_of_the_cost_is_refused():
    with pytest.raises(InputError, match="unknown form of cost_loss 'limit'"):
        nni_oneshot.Softmax(max_macs="2M", cost_loss={"form": "limit"})


@pytest.mark.parametrize("name", ["DARTS", "GumbelDARTS", "Proxyless"])
@pytest.mark.parametrize("space", [("spos", {"variant": "channel"}), ("single-path-nas", {}), ("spos", {})])
def test_a_strategy_of_nni_that_cannot_learn_value_choices_is_refused(name, space):
    """It would export widths and kernels drawn at random."""
    import nni.nas.strategy

    model = spaces.build(space[0], "tiny", **space[1])
    strategy = getattr(nni.nas.strategy, name)()
    if not any(block.elastic for block in model.chain.blocks):
        strategy.mutate_model(model)
        return
    with pytest.raises(InputError, match=f"{name} cannot learn the value choices of space {space[0]} .* use Softmax"):
        strategy.mutate_model(model)


def test_a_strategy_of_ones_own_says_that_it_learns_value_choices():
    from nni.nas.oneshot.pytorch.strategy import OneShotStrategy

    class Own(OneShotStrategy):
        learns_value_choices = False

    with pytest.raises(InputError, match="Own cannot learn"):
        Own().mutate_model(spaces.build("single-path-nas", "tiny"))
    Own.learns_value_choices = True
    supernet = Own().mutate_model(spaces.build("single-path-nas", "tiny"))
    assert any(type(module).__name__ == "SampledElastic" for module in supernet.modules())
