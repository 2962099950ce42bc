"""Networks written as Python source: the same answers, or a reason why not."""

import importlib.util
import random

import pytest
import torch
from torch import nn

import spaces
from spaces.chain import make_affine
from spaces.errors import InputError
from trials.export_formats.module_file import module_text
from trials.export_formats.module_source import SourceWriter

SPACES = [
    ("spos", {}),
    ("spos", {"variant": "channel"}),
    ("spos", {"variant": "plus"}),
    ("fbnet", {}),
    ("proxylessnas", {}),
    ("single-path-nas", {}),
    ("docs.own_space:space", {}),
]


PREPROCESSING = {
    "resolution": 32,
    "short_side": None,
    "classes": [str(digit) for digit in range(10)],
    "channels": "RGB",
    "range": 1,
    "mean": [0.3, 0.4, 0.5],
    "std": [0.2, 0.3, 0.4],
    "resize": "antialias",
}


def drawn(chain, seed):
    draw = random.Random(seed)
    return {label: draw.choice(values) for label, values in chain.choices.items()}


def import_file(path):
    spec = importlib.util.spec_from_file_location(f"exported_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "options"), SPACES)
def test_source_is_the_network(name, options, tmp_path):
    for seed in range(2):
        chain = spaces.describe(name, "tiny", **options)
        torch.manual_seed(seed)
        network = make_affine(chain.network(drawn(chain, seed)))
        images = torch.randn(5, 3, 32, 32)
        network(images)  # statistics that are not 0 and 1
        network.eval()
        titles = [f"block{number:02d}" for number in range(len(chain.blocks))]
        path = tmp_path / f"net{seed}.py"
        path.write_text(module_text(network, PREPROCESSING, titles, ["A network."], path.stem))
        made = import_file(path).Network()
        assert list(made.state_dict()) == list(network.state_dict())
        made.load_state_dict(network.state_dict())
        with torch.no_grad():
            assert torch.equal(made.eval()(images), network(images))
        lines = path.read_text().splitlines()
        assert max(map(len, lines)) <= 120
        assert not [line for line in lines if line.startswith(("import spaces", "from spaces", "import torchvision"))]
        assert "# stem; (3, 32, 32) -> (8, " in path.read_text()


SCALE = 3


def scaled(x):
    return F_relu(x) * SCALE


F_relu = nn.functional.relu


class Odd(nn.Module):
    """A class with all that one's own may have."""

    power = 2

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.rand(3, 1, 1))
        self.register_buffer("shift", torch.rand(3, 1, 1))
        self.parts = nn.ModuleDict({"first-one": nn.Conv2d(3, 3, (3, 1), padding=(1, 0)), "b": nn.PReLU(3)})
        self.sizes = (2, 2)

    @property
    def total(self):
        return sum(self.sizes)

    def forward(self, x):
        for part in self.parts.values():
            x = part(x)
        return scaled(x) * self.gain + self.shift**self.power + self.total


class Residual(nn.Sequential):
    def forward(self, x):
        for layer in self:
            x = x + layer(x)
        return x


def test_source_of_ones_own_classes():
    torch.manual_seed(0)
    network = nn.Sequential(Odd(), Residual(nn.Conv2d(3, 3, 1), nn.GELU()), nn.GroupNorm(3, 3)).eval()
    writer = SourceWriter()
    text = writer.expression(network).flat()
    from trials.export_formats.module_source import PART_SOURCE

    space = {}
    exec(
        "\n".join(["import torch\nfrom torch import nn", *writer.imports, *writer.helpers.values(), PART_SOURCE]), space
    )
    exec("\n".join(writer.classes), space)
    made = eval(text, space).eval()
    assert {*made.state_dict()} == {*network.state_dict()}
    made.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(made(images), network(images))


class Table:
    pass


TABLE = Table()


class UsesTable(nn.Module):
    def forward(self, x):
        return x if TABLE else -x


class UsesSuper(Residual):
    def forward(self, x):
        return super().forward(x)


@pytest.mark.parametrize(
    ("module", "says"),
    [(UsesTable, "UsesTable cannot be written as source: it uses 'TABLE', a Table"), (UsesSuper, "uses super()")],
)
def test_source_that_cannot_be_written(module, says):
    with pytest.raises(InputError) as caught:
        SourceWriter().expression(nn.Sequential(module()))
    assert says in str(caught.value)
    assert "leave module out of --formats" in str(caught.value)


def test_preprocess_of_the_official_weights():
    """BGR, 0 to 255, resized as OpenCV does."""
    import cv2

    from trials.export_formats.module_file import preprocess_source

    about = {**PREPROCESSING, "channels": "BGR", "range": 255, "resize": "opencv", "short_side": 37}
    about |= {"mean": [0.0] * 3, "std": [1.0] * 3}
    space = {"PREPROCESSING": about}
    exec("import torch\nimport torch.nn.functional as F\n" + preprocess_source(about), space)
    image = torch.randint(0, 256, (3, 61, 90), dtype=torch.uint8)
    resized = cv2.resize(image.permute(1, 2, 0).numpy(), (55, 37), interpolation=cv2.INTER_LINEAR)
    expected = torch.from_numpy(resized)[2:34, 12:44].permute(2, 0, 1).flip(0)
    made = space["preprocess"](image)[0]
    assert float((made - expected).abs().max()) <= 1
