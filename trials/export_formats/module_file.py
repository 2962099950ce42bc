"""STEM.py of an export: one network's source, with its preprocessing, in a file that needs torch and safetensors alone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from trials.export_formats.module_source import PART, Writer
from trials.export_formats.python_source import WIDTH, Call, literal

# Each is the source of `preprocess` for one way to bring an image to its size
WHOLE = """    side = PREPROCESSING["resolution"]
    images = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True).round().clamp(0, 255)
"""
CENTRE = """    side, short = PREPROCESSING["resolution"], PREPROCESSING["short_side"]
    height, width = images.shape[2:]
    long = {long}
    size = (short, long) if height <= width else (long, short)
    images = F.interpolate(images.float(), size, mode="bilinear", antialias={antialias}).round().clamp(0, 255)
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    images = images[:, :, top : top + side, left : left + side]
"""
LONG = "short * max(height, width) // min(height, width)"
LONG_OPENCV = "int(short / min(height, width) * max(height, width) + 0.5)"
LOAD = '''def load(path=None):
    """The network in eval mode, with the weights of a .safetensors file; of the one beside this file where None."""
    network = Network()
    network.load_state_dict(load_file(path or Path(__file__).with_suffix(".safetensors")))
    return network.eval()
'''


def module_text(
    network: nn.Module, preprocessing: Mapping[str, Any], titles: Sequence[str], about: Sequence[str], stem: str
) -> str:
    """The whole file.

    Args:
        network: in eval mode.
        preprocessing: as a network.pt has it.
        titles: what was chosen in each child of `network.blocks`; empty where there are no choices.
        about: lines that say what network this is.
        stem: name of the file, without .py.
    Raises:
        InputError: a class of the network cannot be written as source.
    """
    writer = Writer()
    comments = block_comments(network, preprocessing["resolution"], titles)
    doc = inspect.cleandoc(type(network).__doc__ or "The network.").splitlines()[0] if not titles else ""
    body = writer.network(network, comments, doc or "(N, 3, H, W) normalised images to (N, classes) logits.")
    values = {key: value for key, value in preprocessing.items() if key != "classes"}
    lines = {"import torch", "import torch.nn.functional as F", "from torch import nn", "from pathlib import Path"}
    standard, others = import_lines(lines | {"from safetensors.torch import load_file"} | writer.imports)
    parts = [
        header(about, stem),
        "from __future__ import annotations\n\n" + standard,
        others,
        constant("PREPROCESSING", values) + constant("CLASSES", preprocessing["classes"]),
    ]
    sources = [*writer.helpers.values()]
    sources += [PART, *writer.classes] if writer.classes else []
    sources += [body, preprocess_source(preprocessing), LOAD]
    return "\n".join(parts) + "\n\n" + "\n\n".join(source.strip("\n") + "\n" for source in sources)


def header(about: Sequence[str], stem: str) -> str:
    """The file's docstring."""
    use = f"""
    import torch
    import {stem}

    network = {stem}.load()                        # reads {stem}.safetensors beside this file
    images = {stem}.preprocess(image)              # uint8 RGB (3, H, W) of any size
    with torch.no_grad():
        print({stem}.CLASSES[int(network(images).argmax())])
"""
    text = "\n".join(about).replace("\\", "\\\\").replace('"""', "'''")
    return f'"""{text}\n{use}"""\n'


def constant(name: str, value: Any) -> str:
    """An assignment, in several lines where one is too long."""
    if isinstance(value, dict):
        inner = [(None, Call(f'"{key}": ', [(None, literal(part))], ("", ""))) for key, part in value.items()]  # type: ignore[arg-type]
        return Call("", inner, "{}").lines(0, f"{name} = ") + "\n"
    return Call("", [(None, literal(part)) for part in value], "[]").lines(0, f"{name} = ") + "\n"


def preprocess_source(about: Mapping[str, Any]) -> str:
    """Source of `preprocess`, with the steps that this network needs and no others."""
    opencv = about["resize"] == "opencv"
    if about["short_side"] is None:
        how, resize = "resized whole", WHOLE
    else:
        how = "its short side resized, then its centre cut out"
        resize = CENTRE.format(long=LONG_OPENCV if opencv else LONG, antialias=not opencv)
    bgr = about["channels"] == "BGR"
    lines = [
        "def preprocess(image):",
        f'    """uint8 RGB (3, H, W) or (N, 3, H, W), 0 to 255, to float (N, 3, R, R): {how}, then normalised."""',
        "    images = image if image.dim() == 4 else image[None]",
        resize.rstrip("\n"),
    ]
    if bgr:
        lines.append("    images = images.flip(1)  # to BGR")
    divisor = " / 255" if about["range"] == 1 else ""
    lines += [
        '    mean = torch.tensor(PREPROCESSING["mean"], device=images.device).view(3, 1, 1)',
        '    std = torch.tensor(PREPROCESSING["std"], device=images.device).view(3, 1, 1)',
        f"    return (images{divisor} - mean) / std",
    ]
    return "\n".join(lines) + "\n"


@torch.no_grad()
def block_comments(network: nn.Module, resolution: int, titles: Sequence[str]) -> dict[str, str]:
    """child -> its choices and the shapes (C, H, W) that enter and leave it, for the stem, the blocks and the head."""
    blocks = dict(zip((f"blocks.{number}" for number in range(len(titles))), titles, strict=True))
    wanted = {"stem": "stem", **blocks, "head": "head"} if titles else {}
    comments: dict[str, str] = {}

    def watch(name: str, module: nn.Module) -> Any:
        def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            shapes = " -> ".join(str(tuple(tensor.shape[1:])) for tensor in (inputs[0], output))
            comments[name] = f"{wanted[name]}; {shapes}"
            if len(comments[name]) > WIDTH - 10:
                comments[name] = f"{wanted[name][:60]}...; {shapes}"

        return module.register_forward_hook(note)

    watched = [watch(name, network.get_submodule(name)) for name in wanted]
    try:
        network(torch.zeros(1, 3, resolution, resolution))
    finally:
        for handle in watched:
            handle.remove()
    return comments


def import_lines(lines: set[str]) -> tuple[str, str]:
    """Imports of Python's library, and the others, each sorted; names from one module share a line."""
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
