"""--layout: a folder as timm and Hugging Face's hub know it, which timm.create_model loads from the disk or from a hub.

    NAME.py             the source of the network, with an entry point that is registered in timm when it is imported
    model.safetensors   its weights
    config.json         architecture, classes and how images are prepared, in timm's words
    README.md           the model card, with the header that Hugging Face reads

`huggingface` adds .gitattributes, and the ONNX file as onnx/model.onnx where that is exported. A folder gets its files when timm
has loaded it, and the network it made gave the answers of ours, bit for bit.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shutil
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from spaces.errors import InputError, Stopped
from spaces.files import atomic, draft_folder
from trials.export_formats import formats
from trials.export_formats.export_config import LAYOUTS, Config
from trials.export_formats.files import Description, format_path
from trials.export_formats.model_card import Card
from trials.export_formats.usage import with_timm
from trials.images.dataset import Data

ONNX = "onnx/model.onnx"
CHECKED = 256  # test images that timm's network is compared on
LFS = "".join(f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in ("safetensors", "onnx"))
# What a layout adds to the source of a network; `replace` names the classifier
TIMM_SOURCE = '''

# What timm needs: timm.create_model("local-dir:FOLDER", pretrained=True), after this file was imported

from timm.models import build_model_with_cfg, register_model  # noqa: E402


class TimmNetwork(Network):
    """The network with timm's arguments: other numbers of classes get a fresh classifier, 0 gives features."""

    def __init__(self, num_classes={classes}, in_chans=3):
        super().__init__()
        if in_chans != 3:
            raise ValueError(f"in_chans {{in_chans}}: this network takes images of 3 colours")
        self.num_features = {features}
        self.num_classes = {classes}
        if num_classes != {classes}:
            self.reset_classifier(num_classes)

    def get_classifier(self):
        return self.get_submodule("{classifier}")

    def reset_classifier(self, num_classes, global_pool=None):
        self.num_classes = num_classes
        fresh = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.set_submodule("{classifier}", fresh)


@register_model
def {name}(pretrained=False, **kwargs):
    return build_model_with_cfg(TimmNetwork, "{name}", pretrained, **kwargs)
'''


def layout_folder(config: Config) -> Path:
    """The folder of a layout, beside the other files."""
    return config.target.with_name(f"{config.target.name}-{config.layout}")


def stale_layouts(config: Config, network: nn.Module) -> list[Path]:
    """The folders of layouts beside the files that hold other weights than the network, such as of an earlier export."""
    found = []
    for name in LAYOUTS:
        folder, expected = config.target.with_name(f"{config.target.name}-{name}"), network.state_dict()
        if not (folder / "model.safetensors").is_file():
            continue
        try:
            weights = load_file(folder / "model.safetensors")
        except (OSError, ValueError, SafetensorError):
            weights = {}  # damaged
        same = weights.keys() == expected.keys() and all(torch.equal(weights[key], expected[key]) for key in weights)
        found += [] if same else [folder]
    return found


def require_layout(config: Config, preprocessing: Mapping[str, Any]) -> None:
    """Check what can be known before anything is written.

    Raises:
        InputError: timm has no words for how the network wants its images, or the folder holds something else.
    """
    if preprocessing.get("channels", "RGB") != "RGB" or preprocessing.get("resize") == "opencv":
        raise InputError(
            f"--layout {config.layout}: this network takes BGR images resized as OpenCV does (--spos-preprocessing), and timm's "
            "configuration cannot say so; leave --layout out"
        )
    folder = layout_folder(config)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").exists()):
        raise InputError(f"--layout {config.layout}: '{folder}' holds something else; choose another --out")


def architecture_name(metadata: Mapping[str, Any]) -> str:
    """The network's name in timm: a word of Python's, such as onepath_84c7f6000c3f."""
    about = metadata["architecture"]
    return "onepath_" + re.sub(r"\W+", "_", str(about.get("id") or about.get("baseline"))).strip("_").lower()


def crop_share(resolution: int, short_side: int) -> float:
    """timm's crop_pct, of which `floor(resolution / crop_pct)` is the short side, in pixels, in timm's own arithmetic."""
    share = resolution / short_side
    while math.floor(resolution / share) < short_side:
        share = math.nextafter(share, 0)
    return share


def timm_config(network: nn.Module, metadata: Mapping[str, Any], classifier: str) -> dict[str, Any]:
    """The content of config.json.

    Args:
        metadata: of the exported files.
        classifier: name of the last linear layer.
    """
    prepared, classes = metadata["preprocessing"], metadata["classes"]
    side, short = prepared["resolution"], prepared["short_side"]
    scale = 1 if prepared.get("range", 1) == 1 else 255
    return {
        "architecture": architecture_name(metadata),
        "num_classes": len(classes),
        "num_features": network.get_submodule(classifier).in_features,
        "label_names": list(classes),
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [3, side, side],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": crop_share(side, short) if short else 1.0,
            "crop_mode": "center"
            if short
            else "squash",  # the whole image, whatever its shape, where nothing is cut off
            "mean": [value / scale for value in prepared["mean"]],
            "std": [value / scale for value in prepared["std"]],
            "num_classes": len(classes),
            "pool_size": None,
            "first_conv": None,
            "classifier": classifier,
        },
    }


def write_layout(
    config: Config, network: nn.Module, description: Description, data: Data, files: Mapping[str, str], card: Card
) -> Path:
    """Write the folder of a layout, check it through timm, and give its files their names.

    Args:
        network: in eval mode, on the CPU.
        files: the good files of the export -> how they answer.
        card: the model card.
    Returns:
        The folder.
    Raises:
        InputError: the network ends in no linear layer.
        Stopped: what timm loads gives other answers.
    """
    folder, metadata = layout_folder(config), description.metadata
    linear = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise InputError(
            f"--layout {config.layout}: this network has no linear layer as its classifier; leave --layout out"
        )
    about = timm_config(network, metadata, linear[-1])
    name = about["architecture"]
    with draft_folder(folder) as drafts:
        draft = drafts / folder.name
        draft.mkdir()
        source = draft / f"{name}.py"
        preprocessing = metadata["preprocessing"] | {"classes": metadata["classes"]}
        formats.write_module(network, source, preprocessing, description.titles, description.lines)
        os.replace(draft / f"{name}.safetensors", draft / "model.safetensors")
        text = source.read_text(encoding="utf-8").replace(f"{name}.safetensors", "model.safetensors")
        text = text.replace('with_suffix(".safetensors")', 'with_name("model.safetensors")')
        sizes = {"classes": about["num_classes"], "features": about["num_features"]}
        source.write_text(text + TIMM_SOURCE.format(name=name, classifier=linear[-1], **sizes), encoding="utf-8")
        (draft / "config.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        named = dict.fromkeys((source.name, "model.safetensors"), "the network's answers bit for bit, in timm")
        if config.layout == "huggingface":
            (draft / ".gitattributes").write_text(LFS)
            onnx = format_path(config.target, "onnx")
            if "onnx" in config.wanted and onnx.exists():
                (draft / "onnx").mkdir()
                shutil.copyfile(onnx, draft / ONNX)
                named[ONNX] = files[onnx.name]
        readme = front_matter(name, card) + card.text(name, named) + with_timm(name, folder, preprocessing)
        (draft / "README.md").write_text(readme, encoding="utf-8", errors=formats.ESCAPED)
        compare_with_timm(draft, network, data)
        # the weights come first, config.json last: a folder that is half written is not loaded
        order = ("model.safetensors", "config.json")
        written = [path for path in sorted(draft.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
        for path in sorted(written, key=lambda path: (path.name != order[0], path.name == order[1])):
            with atomic(folder / path.relative_to(draft)) as temporary:
                os.replace(path, temporary)
    return folder


@torch.no_grad()
def compare_with_timm(folder: Path, network: nn.Module, data: Data) -> None:
    """Let timm load a folder, and compare its network with ours on test images. Raises Stopped: an answer differs in a bit."""
    made = load_with_timm(folder)
    for images, _ in data.eval_batches("test", 64, count=min(CHECKED, data.size("test"))):
        inputs = data.normalise(images)
        if not torch.equal(made(inputs), network(inputs)):
            raise Stopped(f"what timm loads from '{folder.name}' gives other answers; nothing of it is kept; report it")


def load_with_timm(folder: Path) -> nn.Module:
    """The network of a layout in eval mode, as timm.create_model gives it when the source beside it was imported."""
    import timm

    (source,) = folder.glob("onepath_*.py") if (folder / "config.json").exists() else []
    spec = importlib.util.spec_from_file_location(source.stem, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[source.stem] = module  # where timm looks for it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a network that was registered before
        spec.loader.exec_module(module)
        made: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return made.eval()


def front_matter(name: str, card: Card) -> str:
    """The header of README.md that Hugging Face reads: the exported seed's accuracy, and beside it that of all seeds."""
    metrics = [
        {"type": "accuracy", "name": title, "value": round(value / 100, 4)} for title, value in card.accuracy.metrics()
    ]
    description = card.description
    # Hugging Face's own name for images in folders by class
    kind = "imagefolder" if description.in_folders else description.data_name
    dataset = {"name": description.data_name, "type": kind}
    result = {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics}
    header = {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "neural-architecture-search", "onepath"],
        "model-index": [{"name": name, "results": [result]}],
    }
    text = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n# license: name yours here before you publish it\n{text}---\n"
