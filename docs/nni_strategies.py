"""Onepath's training strategies in NNI's own NAS experiment, with its Lightning evaluator.

python -m docs.nni_strategies
"""

import torch

import spaces
from spaces.arch import arch_id
from spaces.cost import measure
from strategies import nni_oneshot
from trials.images.load import load_data
from trials.images.options import DataOptions

STRATEGIES = {
    "uniform": lambda: nni_oneshot.Uniform(seed=0),
    "uniform, widths from the largest down": lambda: nni_oneshot.Uniform(width_warmup=True),
    "all blocks": lambda: nni_oneshot.Uniform(use_all_blocks=True),
    "cost window": lambda: nni_oneshot.CostWindow(min_macs="2.9M", max_macs="3.2M"),
    "strict fairness": lambda: nni_oneshot.StrictFair(clip_norm=5.0),
    "softmax": lambda: nni_oneshot.Softmax(max_macs="3.2M", optimizer={"lr": 0.1}),
    "Gumbel": lambda: nni_oneshot.Gumbel(max_macs="3.2M", temperature=5.0, decay=0.2, cost_loss={"form": "power"}),
    "gates": lambda: nni_oneshot.Gates(warmup_epochs=1, cost_loss={"form": "linear", "weight": 0.1}),
    "thresholds": lambda: nni_oneshot.Threshold(cost_loss={"form": "target", "weight": 1.0, "target": 2.0}),
}


def run(strategy, space, part=("weights", "arch"), epochs=3, images=None):
    """One NNI experiment on digits, at 32x32 pixels.

    Args:
        part: of the images: for the weights, and for the architecture parameters (NNI calls them validation).
        images: of each part, at most; None: all.
    Returns:
        The experiment, and the architecture that it exports.
    """
    from nni.nas.evaluator.pytorch import Classification, DataLoader
    from nni.nas.experiment import NasExperiment

    data = load_data(DataOptions(data="digits"), 32, score_fraction=0.25)

    def loader(name):
        batches = data.eval_batches(name, 10_000, count=images)
        tensors = next((data.normalise(x), y) for x, y in batches)
        return DataLoader(torch.utils.data.TensorDataset(*tensors), batch_size=64, shuffle=True, drop_last=True)

    evaluator = Classification(
        learning_rate=0.01,
        train_dataloaders=loader(part[0]),
        val_dataloaders=loader(part[1]),
        max_epochs=epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        enable_checkpointing=False,
        accelerator="cpu",
        num_classes=10,
    )
    experiment = NasExperiment(space, evaluator, strategy)
    experiment.run()
    return experiment, experiment.export_top_models(formatter="dict")[0]


def main():
    for name, strategy in STRATEGIES.items():
        if name == "thresholds":
            space = spaces.build("single-path-nas", "tiny")
        else:
            space = spaces.build("spos", "tiny", **({"variant": "channel"} if "widths" in name else {}))
        _, arch = run(strategy(), space)
        print(f"{name:40} {arch_id(arch)} {measure(space).macs(arch):>12,} MACs")


if __name__ == "__main__":
    main()
