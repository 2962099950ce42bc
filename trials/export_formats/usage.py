"""How a network is used, as code for its model card: a picture is opened as in training, prepared, and classified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trials.images import fit

PICTURE = "photo.png"  # the name of the picture in the code


def opened(preprocessing: Mapping[str, Any]) -> list[str]:
    """Lines of Python that open PICTURE as `image`, RGB, as the network's training did; they need NumPy, as `numpy`, and Pillow.

    Args:
        preprocessing: as a network.pt has it.
    """
    turn, colour = preprocessing.get("exif_orientation"), preprocessing.get("background")
    first = f'Image.open("{PICTURE}")'
    lines = [
        f"from PIL import Image{', ImageOps' * bool(turn)}",
        f"picture = ImageOps.exif_transpose({first})" if turn else f"picture = {first}",
        'if picture.mode.startswith("I"):  # grey of 16 bits, which the network has seen as 8',
        '    picture = Image.fromarray((numpy.asarray(picture) / 257).round().astype("uint8"))',
    ]
    if not colour:
        return [*lines, 'image = picture.convert("RGB")']
    return [
        *lines,
        'picture = picture.convert("RGBA")',
        f'image = Image.new("RGB", picture.size, {tuple(colour)})  # what is transparent is laid on this colour',
        "image.paste(picture, mask=picture)",
    ]


def squared(preprocessing: Mapping[str, Any]) -> list[str]:
    """Lines of Python that lay `image` in the middle of a square, where the network's training did."""
    if preprocessing.get("fit") != fit.PAD:
        return []
    return [
        "side = max(image.size)",
        f'square = Image.new("RGB", (side, side), {tuple(preprocessing["border"])})  # all of the picture, with borders',
        "square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))",
        "image = square",
    ]


def how_opened(preprocessing: Mapping[str, Any]) -> str:
    """A sentence that says what the network expects of a picture before it is resized."""
    colour = preprocessing.get("background")
    clear = f"what is transparent laid on the colour {tuple(colour)}" if colour else "transparency dropped"
    turned = "turned upright as EXIF says" if preprocessing.get("exif_orientation") else "not turned by EXIF"
    how = preprocessing.get("fit", fit.CROP if preprocessing.get("short_side") else fit.SQUASH)
    border = f" of the colour {tuple(preprocessing['border'])}" if how == fit.PAD else ""
    return (
        f"Pictures are opened as in training: RGB of 8 bits, {clear}, {turned}. One that is not square: {fit.WORDS[how]}{border}. "
        "The lines below do so for files of 8 and of 16 bits; `classify_onnx.py` for TIFFs of 12 bits and for grey PNGs with a "
        "transparent colour, too."
    )


def code(lines: Sequence[str]) -> str:
    """Lines as a block of code in Markdown."""
    return "\n" + "".join(f"    {line}\n" if line else "\n" for line in lines)


def how_to_use(stem: str, metadata: Mapping[str, Any], files: Sequence[str]) -> str:
    """The section of the model card: the command that classifies a picture, and a few lines of Python, for the files there are.

    Args:
        stem: of the files.
        metadata: what the files say about themselves, with the `preprocessing`.
        files: names of the good files.
    """
    preprocessing = metadata["preprocessing"]
    text = how_opened(preprocessing) + "\n"
    onnx = next((name for name in files if name.endswith(".onnx")), None)
    if onnx:
        text += "\nWith `docs/classify_onnx.py` of Onepath, which needs onnxruntime, numpy and pillow alone:\n"
        text += code([f"python classify_onnx.py {onnx} {PICTURE}"])
        text += "\nThe same from Python, with that file beside yours:\n"
        text += code(
            [
                "import json, onnxruntime",
                "from classify_onnx import open_rgb, prepare",
                "",
                f'session = onnxruntime.InferenceSession("{onnx}")',
                "about = {key: json.loads(session.get_modelmeta().custom_metadata_map[key]) for key in "
                '("preprocessing", "classes")}',
                f'image = prepare(open_rgb("{PICTURE}", about["preprocessing"]), about["preprocessing"])',
                'print(about["classes"][int(session.run(["logits"], {"images": image})[0].argmax())])',
            ]
        )
    if f"{stem}.py" in files:
        text += "\nWith torch and safetensors, beside the files:\n"
        text += code(with_source(stem, preprocessing))
    if f"{stem}.pt2" in files:
        text += f'\n`torch.export.load("{stem}.pt2").module()` takes images prepared as its `metadata.json` says.\n'
    return text.rstrip("\n")


def with_source(module: str, preprocessing: Mapping[str, Any]) -> list[str]:
    """Lines of Python that classify PICTURE with an exported module; they need torch, safetensors, NumPy and Pillow."""
    return [
        "import numpy, torch",
        f"import {module}",
        *opened(preprocessing),
        f"network = {module}.load()",
        "pixels = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)",
        "with torch.no_grad():",
        f"    print({module}.CLASSES[int(network({module}.preprocess(pixels)).argmax())])",
    ]


def with_timm(name: str, folder: Path, preprocessing: Mapping[str, Any]) -> str:
    """The section of a layout's README.md that says how to load it.

    Args:
        name: of the source file, without .py.
        folder: of the layout.
    """
    lines = [
        "import numpy, sys, timm, torch",
        *opened(preprocessing),
        *squared(preprocessing),
        f'sys.path.insert(0, "{folder.name}")',
        f"import {name}  # registers it in timm",
        "",
        f'network = timm.create_model("local-dir:{folder.name}", pretrained=True).eval()',
        "transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))",
        "with torch.no_grad():",
        '    print(network.pretrained_cfg["label_names"][int(network(transform(image)[None]).argmax())])',
    ]
    return f"""
## How to load it
With torch and timm, where this folder lies; `num_classes=5` gives it a fresh classifier, for fine-tuning:
{code(lines)}
"""
