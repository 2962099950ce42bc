"""A search space of one's own: six choice blocks, each with three operations and three widths."""

from functools import partial

from torch import nn

from spaces.chain import Chain, Choice
from spaces.errors import InputError, unknown

STAGES = ((16, 3, 2), (32, 3, 2))  # out channels, blocks, stride of the first block
PRESETS = {"tiny": (32, 10)}  # resolution in pixels, classes


def conv(cin, cout, kernel=1, stride=1, groups=1):
    layers = (
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(),
    )
    return nn.Sequential(*layers)


def plain(cin, cout, stride, width, kernel):
    """Two convolutions; `width` scales the channels between them."""
    middle = int(cout * width)
    return nn.Sequential(conv(cin, middle, kernel, stride), conv(middle, cout))


def separable(cin, cout, stride, width):
    """1x1, depthwise 3x3, 1x1."""
    middle = int(cout * width)
    return nn.Sequential(conv(cin, middle), conv(middle, middle, 3, stride, groups=middle), conv(middle, cout))


def space(preset="tiny", *, classes=None, resolution=None):
    if preset not in PRESETS:
        raise InputError(unknown("preset", preset, PRESETS))
    pixels, ten = PRESETS[preset]
    blocks, cin = [], 8
    for cout, depth, first_stride in STAGES:
        for index in range(depth):
            stride = first_stride if index == 0 else 1
            candidates = {
                "plain3": partial(plain, cin, cout, stride, kernel=3),
                "plain5": partial(plain, cin, cout, stride, kernel=5),
                "separable": partial(separable, cin, cout, stride),
            }
            number = f"{len(blocks):02d}"
            blocks.append(Choice(f"block{number}", candidates, {f"width{number}": [0.5, 1.0, 2.0]}))
            cin = cout
    classes = ten if classes is None else classes
    return Chain(
        resolution=pixels if resolution is None else resolution,
        classes=classes,
        stem=partial(conv, 3, 8, 3, 2),
        blocks=blocks,
        head=lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, classes)),
    )
