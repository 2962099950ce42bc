"""Model cards: their code opens a picture as training did, they say what is doubtful, and stale files do not stay unnamed."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from spaces.files import save_json
from trials.export_formats import export_record, formats, layouts, model_card, usage
from trials.export_formats.compare import Comparison, FileComparison
from trials.export_formats.export_config import Config
from trials.export_formats.files import Description
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.images.to_rgb import to_rgb

ROOT = Path(__file__).parents[2]
CLASSES = ["bright", "dark"]


class Brightness(nn.Module):
    """Says whether a picture is bright or dark: a mean over all pixels, and one linear layer."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(3, 2)

    def forward(self, x):
        return self.classifier(self.pool(x).flatten(1))


@pytest.fixture(scope="module")
def network():
    made = Brightness().eval()
    with torch.no_grad():
        made.classifier.weight.copy_(torch.tensor([[1.0] * 3, [-1.0] * 3]))
        made.classifier.bias.zero_()
    return made


def picture(kind, path):
    """A picture whose hidden colours are the opposite of what shows: black under nothing at all, or white."""
    hidden, shown = ((0, 0, 0), (255, 255, 255)) if kind == "bright" else ((255, 255, 255), (0, 0, 0))
    image = Image.new("RGBA", (40, 30), (*hidden, 0))
    image.paste((*shown, 255), (0, 0, 4, 4))
    image.save(path)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("icons")
    for number in range(24):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 4)).astype(np.uint8)
        Image.fromarray(pixels, "RGBA").save(path)
    return root


def blocks_of(text):
    """The blocks of Python in a Markdown text: each the lines that are indented by four."""
    found = re.findall(r"\n\n((?:    .*\n|\n(?=    ))+)", text + "\n")
    return [re.sub(r"(?m)^    ", "", block) for block in found if "import" in block]


def run_block(code, folder):
    """What a block prints, run in a folder."""
    out = io.StringIO()
    for name in [name for name in sys.modules if name == "net" or name.startswith("onepath_")]:
        del sys.modules[name]  # of another export
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.syspath_prepend(str(ROOT / "docs"))
        exec(code, {})
    return out.getvalue().strip()


@pytest.fixture(scope="module", params=["white", "drop"])
def exported(request, network, images, tmp_path_factory):
    """A network's files and its layout, with the cards; the images lie on a colour, or have lost their transparency."""
    place = tmp_path_factory.mktemp("export")
    options = {"data": "folder", "data_root": str(images), "background": request.param, "loader": "torchvision"}
    data = load_data(DataOptions(**options, workers=0), 32, score_fraction=0.1)
    preprocessing = {key: value for key, value in data.preprocessing().items() if key != "classes"}
    about = {"architecture": {"baseline": "bright"}, "made_by": "test", "test_top1": "50.0", "test_images": "4"}
    metadata = {"classes": CLASSES, "preprocessing": preprocessing, **about}
    description = Description(metadata, [], ["Network bright."], {}, "icons", True)
    config = Config(weights=str(place), out=str(place / "net"), layout="huggingface", formats="module,onnx")
    formats.write_module(network, place / "net.py", preprocessing | {"classes": CLASSES}, [], ["Network bright."])
    formats.write_onnx(network, place / "net.onnx", 32, metadata)
    files = dict.fromkeys(("net.py", "net.safetensors", "net.onnx"), "the same")
    card = model_card.read_card(description, place, 0, None)
    model_card.write_card(place / "net", card.text("net", files), list(files))
    folder = layouts.write_layout(config, network, description, data, files, card)
    return place, folder, request.param


def test_the_code_of_every_card_opens_transparent_pictures_as_training_did(exported, classify, monkeypatch):
    place, folder, background = exported
    session = formats.run_onnx(place / "net.onnx")
    import onnxruntime

    stored = onnxruntime.InferenceSession(place / "net.onnx").get_modelmeta().custom_metadata_map
    how = json.loads(stored["preprocessing"])
    beside, inner = (place / "net.md").read_text(), (folder / "README.md").read_text()
    assert len(blocks_of(beside)) == 2  # ONNX, source
    assert len(blocks_of(inner)) == 3  # and timm
    answers = set()
    for kind in ("bright", "dark"):
        for where in (place, folder):
            picture(kind, where / "photo.png")
        image = classify.prepare(classify.open_rgb(str(place / "photo.png"), how), how)
        expected = CLASSES[int(session(torch.from_numpy(image)).argmax())]
        answers.add((kind, expected))
        assert [run_block(code, place) for code in blocks_of(beside)] == [expected] * 2
        for code in blocks_of(inner):
            where = place if "timm" in code else folder
            assert run_block(code, where) == expected, code
    # what shows decides where it is laid on a colour; else what is hidden
    said = {"white": ("bright", "bright"), "drop": ("dark", "bright")}[background]
    assert answers == set(zip(("bright", "dark"), said, strict=True))


def test_the_guide_shows_the_same_code():
    guide = (ROOT / "docs" / "shipping.md").read_text()
    assert usage.code(usage.with_source("model", {"background": [255, 255, 255]})) in guide
    assert 'ImageOps.exif_transpose(Image.open("photo.png"))' in usage.opened({"exif_orientation": True})[1]


@pytest.mark.parametrize("background", [None, [255, 255, 255]])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_code_opens_16_bits_as_training_does(tmp_path, monkeypatch, background, suffix):
    """Pillow's own conversion to RGB cuts off all that is above 255: a white picture."""
    values = np.add.outer(np.arange(0, 65536, 1024), np.arange(64)).astype(np.uint16)
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(values).save(path)
    path.rename(tmp_path / usage.PICTURE)  # Pillow looks into the file
    monkeypatch.chdir(tmp_path)
    names = {"numpy": np}
    exec("\n".join(usage.opened({"background": background})), names)
    expected = to_rgb(Image.open(usage.PICTURE), background=background and tuple(background))
    assert np.array_equal(np.asarray(names["image"]), expected)
    assert len(np.unique(expected)) > 60


def test_cards_say_what_is_transparent(exported):
    place, folder, background = exported
    colour = {"white": "colour (255, 255, 255)", "drop": "transparency dropped"}[background]
    for card in (place / "net.md", folder / "README.md"):
        assert colour in card.read_text()


def test_a_layout_of_another_network_is_named(exported, network):
    place, folder, _ = exported
    config = Config(weights=str(place), out=str(place / "net"), formats="onnx")
    assert layouts.stale_layouts(config, network) == []
    assert layouts.stale_layouts(config, Brightness()) == [folder]
    assert layouts.stale_layouts(Config(weights=str(place), out=str(place / "none")), network) == []


RESULT = {
    **{"macs": 1, "params": 1, "std": 6.2},
    "test_top1": [65.873, 57.143],
    "mean": 61.508,
    "interval": [43.99, 76.48],
    "test_images": 126,
    "test_correct": [83, 72],
    "balanced": {"accuracy": 49.42, "interval": [40.66, 61.07]},
    "classes": [
        {"name": name, "images": 8, "correct": [1, 0], "accuracy": value, "interval": [0.3, 90.0]}
        for name, value in (("plants", 6.25), ("town", 34.4), ("money", 35.7), ("food", 65.4))
    ],
}


def test_a_card_says_what_makes_its_accuracy_doubtful(tmp_path):
    metadata = {
        "classes": ["a", "b"],
        "preprocessing": {},
        "architecture": {"id": "abc"},
        "made_by": "x",
        "test_top1": "65.873",
        "test_images": "126",
    }
    supernet, run = tmp_path, tmp_path / "retrain"
    run.mkdir()
    save_json(run / "result.json", RESULT)
    floor = {"top1": 61.9, "interval": [53.2, 69.9], "name": "random forest on 16x16 pixels", "fingerprint": 1}
    save_json(supernet / "floor.json", floor)
    warned = {"from": "supernet", "gate": "flat loss", "text": "the loss does not fall", "command": "x"}
    save_json(supernet / "warnings.json", [warned])
    save_json(run / "warnings.json", [{**warned, "from": "retrain", "text": "below the floor"}])
    card = model_card.read_card(Description(metadata, [], ["A network."], {}, "stamps", True), run, 1, supernet)
    text = card.text("net", {"net.onnx": "the same", "net-int8.onnx": "on 96.18%"})
    for part in (
        "# net: images of stamps in 2 classes\n",
        "- This network, seed 1: top-1 65.87% [57.2, 73.6].",
        "- All seeds, trained alike: top-1 61.51% [44.0, 76.5] (2 seeds, 126 images): 65.87, 57.14.",
        "floor 61.90% [53.2, 69.9] (random forest on 16x16 pixels).",
        "every class counts alike: 49.42% [40.7, 61.1]",
        "plants 6.25% [0.3, 90.0] (8 images), town 34.40% [0.3, 90.0] (8 images), money",
        "- Warning: the loss does not fall.",
        "- Warning: below the floor.",
        "`net.onnx`: the same; `net-int8.onnx`: on 96.18%.",
        "python classify_onnx.py net.onnx photo.png",
    ):
        assert part in text, part
    assert "food" not in text
    header = layouts.front_matter("net", card)
    assert "name: stamps\n      type: imagefolder" in header
    assert "name: 'top-1, mean of the seeds: 2'\n      value: 0.6151" in header
    bare = model_card.Card(Description(metadata, [], ["A network."], {}, "digits"), model_card.Accuracy(), None, None)
    assert "as above; nothing more is known" in bare.text("net", {})


def record(place, network_file, wanted, target="net"):
    """Publish empty files of some formats, and write export.json."""
    config = Config(weights=str(network_file), out=str(place / target), formats=wanted)
    comparison = Comparison(
        {name: FileComparison(same=[torch.ones(4, dtype=torch.bool)]) for name in config.wanted},
        4,
        2,
        torch.ones(4),
        1.0,
    )
    for name in config.wanted:
        for suffix in export_record.FORMATS[name]:
            (place / f"{target}{suffix}").write_bytes(b"x")
    return export_record.write_record(config, comparison, {}, {})


def test_files_of_another_network_do_not_stay_beside_those_of_a_new_export(tmp_path):
    place, file = tmp_path / "export", tmp_path / "network.pt"
    place.mkdir()
    file.write_bytes(b"first")
    record(place, file, "module,program,onnx,int8")
    (place / "notes.txt").touch()
    (place / "other.pt2").touch()  # not listed
    # the same network: what is there stays, and is named
    kept = record(place, file, "onnx")
    assert set(kept) == {"net.py", "net.safetensors", "net.pt2", "net.onnx", "net-int8.onnx"}
    assert (place / "net.pt2").exists()
    file.write_bytes(b"second")
    assert record(place, file, "onnx") == {"net.onnx": "the network's answer on each of 4 test images"}
    assert {path.name for path in place.iterdir()} == {"net.onnx", "notes.txt", "other.pt2", "export.json"}
    assert [entry["format"] for entry in json.loads((place / "export.json").read_text())["formats"]] == ["onnx"]
    # another name in the same folder is another export, which stays
    assert record(place, file, "program", target="more").keys() == {"more.pt2"}
    assert (place / "net.onnx").exists()
    # of a record by older code, nothing says of which network it is
    written = json.loads((place / "export.json").read_text())
    for entry in written["formats"]:
        del entry["network"]
    save_json(place / "export.json", written)
    assert set(record(place, file, "int8", target="more")) == {"more-int8.onnx"}
    assert not (place / "more.pt2").exists()
    assert (place / "net.onnx").exists()
