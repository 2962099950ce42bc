"""The names under which figures are plotted: the same for supernets, networks from scratch and searches."""

from __future__ import annotations

# key of log.jsonl, or of a score -> tag. train/: of the training images; score/: of the held-out images; test/: of the test
# images; arch/: of architectures
TAGS = {
    "loss": "train/loss",
    "train_top1": "train/top1",
    "lr": "train/lr",
    "images_per_second": "train/images_per_second",
    "val_top1": "score/top1",
    "fixed_paths_top1": "score/fixed_paths_top1",
    "test_top1": "test/top1",
    "test_top5": "test/top5",
    "expected_cost": "arch/expected_cost",
    "mode_cost": "arch/mode_cost",
    "entropy": "arch/entropy",
    "cost_multiplier": "arch/cost_multiplier",
}
IMAGES = "train/images"
PROBABILITY = "probability/"


def tag_of(key: str) -> str:
    """The tag of a figure; one that has none, such as another group's, is its own."""
    return f"arch/{key}" if key.startswith(PROBABILITY) else TAGS.get(key, key)
