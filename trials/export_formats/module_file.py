"""STEM.py of an export: one network's source, with its preprocessing, in a file that needs torch and safetensors alone.

The file has, from top to bottom: a docstring that says what the network is and how to use it, imports, PREPROCESSING and
CLASSES, helper functions, the classes that the network's author wrote, `class Network`, `preprocess` and `load`.
module_source.py writes the classes; this module, all else.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from trials.export_formats.module_source import PART_SOURCE, SourceWriter
from trials.export_formats.python_source import WIDTH, Call, literal

# Source inside `preprocess`, for each of the two ways to bring an image to its size: the whole image resized, or its short
# side resized and the centre cut out
WHOLE = """    side = PREPROCESSING["resolution"]
    images = F.interpolate(images.float(), (side, side), mode="bilinear", antialias={antialias}).round().clamp(0, 255)
"""
CENTRE = """    side, short = PREPROCESSING["resolution"], PREPROCESSING["short_side"]
    height, width = images.shape[2:]
    long = {long}
    size = (short, long) if height <= width else (long, short)
    images = F.interpolate(images.float(), size, mode="bilinear", antialias={antialias}).round().clamp(0, 255)
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    images = images[:, :, top : top + side, left : left + side]
"""
# What is transparent of an image with four channels, laid on one colour
LAID_ON = (
    "    if images.shape[1] == 4:",
    "        alpha = images[:, 3:].float() / 255",
    '        background = torch.tensor(PREPROCESSING["background"], device=images.device).view(3, 1, 1)',
    "        images = (images[:, :3].float() * alpha + background * (1 - alpha)).round()",
)
# An image that is not square, laid in the middle of a square of one colour
PADDED = (
    "    height, width = images.shape[2:]",
    "    side = max(height, width)",
    "    top, left = (side - height) // 2, (side - width) // 2",
    '    border = torch.tensor(PREPROCESSING["border"], device=images.device).view(3, 1, 1)',
    "    square = border.float().expand(len(images), 3, side, side).clone()",
    "    square[:, :, top : top + height, left : left + width] = images",
    "    images = square",
)
# Length of the long side in pixels: torchvision cuts it off, the official SPOS code with OpenCV rounds it
LONG = "short * max(height, width) // min(height, width)"
LONG_OPENCV = "int(short / min(height, width) * max(height, width) + 0.5)"
LOAD = '''def load(path=None):
    """The network in eval mode, with the weights of a .safetensors file; of the one beside this file where None."""
    network = Network()
    network.load_state_dict(load_file(path or Path(__file__).with_suffix(".safetensors")))
    return network.eval()
'''


def module_text(
    network: nn.Module, preprocessing: Mapping[str, Any], titles: Sequence[str], lines: Sequence[str], stem: str
) -> str:
    """The text of the whole file.

    Args:
        network: in eval mode.
        preprocessing: as a network.pt has it, with the "classes".
        titles: what was chosen in each child of `network.blocks`; [] where there are no choices.
        lines: text for the top of the file, which says what network this is.
        stem: name of the file, without .py.
    Raises:
        InputError: a class of the network cannot be written as source.
    """
    writer = SourceWriter()
    comments = block_comments(network, preprocessing["resolution"], titles)
    doc = inspect.cleandoc(type(network).__doc__ or "The network.").splitlines()[0] if not titles else ""
    network_class = writer.network_class(
        network, comments, doc or "(N, 3, H, W) normalised images to (N, classes) logits."
    )
    imports = {"import torch", "import torch.nn.functional as F", "from torch import nn", "from pathlib import Path"}
    standard, others = import_lines(imports | {"from safetensors.torch import load_file"} | writer.imports)
    values = {key: value for key, value in preprocessing.items() if key != "classes"}
    top = [
        header(
            lines,
            stem,
            turned=bool(preprocessing.get("exif_orientation")),
            takes_alpha=bool(preprocessing.get("background")),
        ),
        "from __future__ import annotations\n\n" + standard,
        others,
        constant("PREPROCESSING", values) + constant("CLASSES", preprocessing["classes"]),
    ]
    sources = [*writer.helpers.values()]
    sources += [PART_SOURCE, *writer.classes] if writer.classes else []
    sources += [network_class, preprocess_source(preprocessing), LOAD]
    return "\n".join(top) + "\n\n" + "\n\n".join(source.strip("\n") + "\n" for source in sources)


def header(lines: Sequence[str], stem: str, *, turned: bool, takes_alpha: bool) -> str:
    """The file's docstring: what the network is, and how to use the file.

    Args:
        turned: it was trained on upright images.
        takes_alpha: `preprocess` lays transparent pixels on a colour.
    """
    clear = ", of a transparent picture RGBA (4, H, W)," if takes_alpha else ""
    upright = ", turned as its EXIF orientation says" if turned else ""
    use = f"""
    import torch
    import {stem}

    network = {stem}.load()                        # reads {stem}.safetensors beside this file
    images = {stem}.preprocess(image)              # uint8 or uint16 RGB (3, H, W){clear} of any size{upright}
    with torch.no_grad():
        print({stem}.CLASSES[int(network(images).argmax())])
"""
    text = "\n".join(lines).replace("\\", "\\\\").replace('"""', "'''")
    return f'"""{text}\n{use}"""\n'


def constant(name: str, value: Mapping[str, Any] | Sequence[Any]) -> str:
    """An assignment of a dict or a list, in several lines where one is too long."""
    if isinstance(value, Mapping):
        entries = [(None, Call(f'"{key}": ', [(None, literal(entry))], ("", ""))) for key, entry in value.items()]
        return Call("", entries, "{}").wrapped(0, f"{name} = ") + "\n"
    return Call("", [(None, literal(entry)) for entry in value], "[]").wrapped(0, f"{name} = ") + "\n"


def preprocess_source(preprocessing: Mapping[str, Any]) -> str:
    """Source of `preprocess`, with the steps that this network needs and no others."""
    opencv = preprocessing["resize"] == "opencv"
    if preprocessing["short_side"] is None:
        how, resize = "resized whole", WHOLE.format(antialias=not opencv)
    else:
        how = "its short side resized, then its centre cut out"
        resize = CENTRE.format(long=LONG_OPENCV if opencv else LONG, antialias=not opencv)
    pads = preprocessing.get("fit") == "pad"
    how = "laid on a square, " + how if pads else how
    alpha = ", or RGBA" if preprocessing.get("background") else ""
    lines = [
        "def preprocess(image):",
        f'    """uint8 RGB (3, H, W) or (N, 3, H, W), or uint16{alpha}, to float (N, 3, R, R): {how}, then normalised."""',
        "    images = image if image.dim() == 4 else image[None]",
        "    if images.dtype == torch.uint16:  # 16 bits, which the network has seen as 8",
        "        images = (images.float() / 257).round()",
        "    elif images.dtype != torch.uint8:",
        '        raise TypeError(f"an image of 8 or 16 bits is wanted, uint8 or uint16, not {images.dtype}")',
        *(LAID_ON if alpha else ()),
        *(PADDED if pads else ()),
        resize.rstrip("\n"),
    ]
    if preprocessing["channels"] == "BGR":
        lines.append("    images = images.flip(1)  # to BGR")
    divisor = " / 255" if preprocessing["range"] == 1 else ""
    lines += [
        '    mean = torch.tensor(PREPROCESSING["mean"], device=images.device).view(3, 1, 1)',
        '    std = torch.tensor(PREPROCESSING["std"], device=images.device).view(3, 1, 1)',
        f"    return (images{divisor} - mean) / std",
    ]
    return "\n".join(lines) + "\n"


@torch.no_grad()
def block_comments(network: nn.Module, resolution: int, titles: Sequence[str]) -> dict[str, str]:
    """A line for the stem, each block and the head: what was chosen there, and the shapes that enter and leave it.

    Args:
        resolution: side of the images in pixels.
        titles: what was chosen in each block; [] for a network without choices, which gets no lines.
    Returns:
        By name of the child, for example "shuffle5; (64, 28, 28) -> (64, 28, 28)"; the shapes are (C, H, W).
    """
    blocks = dict(zip((f"blocks.{number}" for number in range(len(titles))), titles, strict=True))
    wanted = {"stem": "stem", **blocks, "head": "head"} if titles else {}
    comments: dict[str, str] = {}

    def write_comment(name: str, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        shapes = " -> ".join(str(tuple(tensor.shape[1:])) for tensor in (inputs[0], output))
        comments[name] = f"{wanted[name]}; {shapes}"
        if len(comments[name]) > WIDTH - 10:
            comments[name] = f"{wanted[name][:60]}...; {shapes}"

    handles = [network.get_submodule(name).register_forward_hook(partial(write_comment, name)) for name in wanted]
    try:
        network(torch.zeros(1, 3, resolution, resolution))
    finally:
        for handle in handles:
            handle.remove()
    return comments


def import_lines(lines: set[str]) -> tuple[str, str]:
    """Sort imports: those of Python's library, then the others; names from one module share a line.

    Args:
        lines: such as "import math" and "from torch import nn".
    """
    names: dict[str, list[str]] = {}
    sections: tuple[list[str], list[str]] = ([], [])
    for line in sorted(lines):
        if line.startswith("from "):
            module, _, name = line[5:].partition(" import ")
            names.setdefault(module, []).append(name)
        else:
            sections[line.split()[1].split(".")[0] in ("torch", "safetensors")].append(line)
    for module, wanted in sorted(names.items()):
        line = f"from {module} import {', '.join(wanted)}"
        sections[module.split(".")[0] in ("torch", "safetensors")].append(line)
    return "".join(line + "\n" for line in sections[0]), "".join(line + "\n" for line in sections[1])
