"""How networks are trained from scratch, and fine-tuned: the recipes of the papers, as data. Sources were read in November 2026.

spos            github.com/megvii-model/SinglePathOneShot, src/Evaluation/template/train.py: 300,000 steps of 1,024 images are 240
                epochs; there is no warm-up; ColorJitter(0.4, 0.4, 0.4). Deviation: its last epoch, which learns nothing and
                measures the BatchNorm statistics anew, is left out here.
proxylessnas    github.com/mit-han-lab/proxylessnas, search/imagenet_run_exp.py (300 epochs, batch 256, SGD with Nesterov momentum,
                0.05 cosine) and search/README.md (the dropout of each network). Deviations: its colour distortion also turns
                the hue by up to 0.1, and it decays biases. Its `normal` distortion (brightness 32/255, saturation 0.5) has no
                counterpart here. This is not its second official recipe (training/: batch 512, lr 0.1, 5e-5, warm-up of 5 epochs).
fairnas         FairNAS (arXiv:1907.01845) trains as MnasNet does. The figures are those of MnasNet in github.com/tensorflow/tpu,
                models/official/mnasnet (configs/mnasnet_config.py): 437,898 steps of 1,024 images are 350 epochs; 0.016 per 256
                images is 0.256 for 4,096; EMA 0.9999. The learning rate is multiplied by 0.97 every 2.4 epochs, counted from
                the first step. Not verified: that FairNAS used MnasNet's 350 epochs and EMA.
cifar           github.com/ShunLu91/Single-Path-One-Shot-NAS, retrain_best_choice.py: 600 epochs, batch 96, SGD 0.025 linear (an
                earlier version: cosine), no label smoothing. Deviation: that code calls 3e-4 its weight decay, but passes it to
                PyTorch's SGD in the position of `dampening`; here it is the weight decay. Its 93.31 % is the accuracy of the
                epoch that is best on the test images.
small           our own, for 1,000 to 50,000 images of 64 to 160 pixels: SPOS's with a batch of 128 (its rate in proportion), a cosine, a
                warm-up of 5 of 240 epochs, and a weight decay of 1e-4, as fewer images are fitted more easily. Not tuned.
finetune        of networks that start from pretrained weights. SGD with Nesterov momentum and a cosine, at a rate of 0.05 for 256 images:
                within what arXiv:1805.08974 (Kornblith et al.) searches, up to 0.1, and near PyTorch's tutorial of transfer
                learning (0.001 for 4). As many steps for few images as BiT's rule (arXiv:1912.11370) has, 500. The warm-up is ours:
                the classifier begins with random weights.
tiny            our own, for a CPU.
"""

from __future__ import annotations

from typing import Any

COMMON: dict[str, Any] = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": False,
    "decay_norm_and_bias": False,
    "warmup": 0.0,  # fraction of the steps
    "decay_epochs": 2.4,  # epochs between the falls of schedule exponential
    "decay_rate": 0.97,  # what each of them multiplies the rate by
    "label_smoothing": 0.1,
    "clip_norm": 0.0,
    "ema": 0.0,
    "dropout": None,  # None: as the network was published
    "color_jitter": 0.0,
    "cutout": 0,
    "randaugment": 0,
    "randaugment_magnitude": 9,
    "mixup": 0.0,
    "cutmix": 0.0,
}
RECIPES: dict[str, dict[str, Any]] = {
    "spos": {
        **COMMON,
        **{"epochs": 240, "batch_size": 1024, "lr": 0.5, "schedule": "linear", "weight_decay": 4e-5},
        "color_jitter": 0.4,
    },
    "proxylessnas": {
        **COMMON,
        **{"epochs": 300, "batch_size": 256, "lr": 0.05, "schedule": "cosine", "weight_decay": 4e-5},
        **{"nesterov": True, "color_jitter": 0.4},
    },
    "fairnas": {
        **COMMON,
        **{"epochs": 350, "batch_size": 4096, "lr": 0.256, "schedule": "exponential", "weight_decay": 1e-5},
        **{"optimizer": "rmsprop-tf", "warmup": 5 / 350, "ema": 0.9999, "dropout": 0.2},
    },
    "cifar": {
        **COMMON,
        **{"epochs": 600, "batch_size": 96, "lr": 0.025, "schedule": "linear", "weight_decay": 3e-4},
        "label_smoothing": 0.0,
    },
    "small": {
        **COMMON,
        **{
            "epochs": 240,
            "batch_size": 128,
            "lr": 0.0625,
            "schedule": "cosine",
            "weight_decay": 1e-4,
            "warmup": 5 / 240,
        },
        "color_jitter": 0.4,
    },
    "finetune": {
        **COMMON,
        **{"epochs": 10, "batch_size": 256, "lr": 0.05, "schedule": "cosine", "weight_decay": 1e-4, "warmup": 0.1},
        "nesterov": True,
    },
    "tiny": {
        **COMMON,
        **{"epochs": 16, "batch_size": 64, "lr": 0.2, "schedule": "cosine", "weight_decay": 1e-4, "warmup": 0.1},
    },
}
OPTIONS = tuple(RECIPES["spos"])  # the options that a recipe decides, unless they are given
# preset of space proxylessnas -> dropout of its network; `imagenet` is `mobile` under another name
PROXYLESS_DROPOUT = {"imagenet": 0.1, "mobile": 0.1, "cpu": 0.2, "gpu": 0.3, "mobile-14": 0.3}


SHORTER = 4  # a network that starts from the weights of its supernet has this part of the recipe's epochs


def default_name(space: str, preset: str) -> str:
    """The name of the recipe that a network of this space and preset is trained with by default."""
    if preset in RECIPES:  # tiny, small, cifar, fairnas
        return preset
    return "proxylessnas" if space == "proxylessnas" else "spos"


def recipe(name: str, space: str, preset: str) -> dict[str, Any]:
    """The options of a recipe, by name, for a network of this space and preset."""
    if name == "proxylessnas" and space == "proxylessnas":
        return RECIPES[name] | {"dropout": PROXYLESS_DROPOUT.get(preset)}
    return dict(RECIPES[name])


def shorter(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe for a network that starts from the weights of its supernet; docs/retraining.md says why its rate stays."""
    return values | {"epochs": max(1, round(values["epochs"] / SHORTER))}
