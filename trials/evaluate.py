"""Score one architecture on a trained supernet. This is the trial that NNI runs.

    python -m trials.evaluate --run runs/digits                     under NNI: the architecture comes from the tuner
    python -m trials.evaluate --run runs/digits --arch arc.json     by hand
    python -m trials.evaluate --run runs/digits --self-check 8      is the fast way exact here, and how fast is it?

Reports top-1 before BN recalibration as the intermediate result, and {default, top1, top5 (above 5 classes), loss, macs, params} at the end:
default is what --score-by says, top-1 or 100 * exp(-cross-entropy), and the tuner maximises it. A stored score of the same architecture, supernet and settings is used again.
"""

from __future__ import annotations

import contextlib
import os
import sys
import types
from typing import Any

# A trial that dies before it has asked for its parameters shifts the parameters of every later one (NNI 3.0), so this
# comes before everything that takes time or can fail.
UNDER_NNI = "NNI_PLATFORM" in os.environ and os.environ["NNI_PLATFORM"] != "unittest"
PARAMETERS = None
if __name__ == "__main__" and UNDER_NNI:
    # `import nni` takes 2 s, of which pandas and scipy.stats are 1.6: for types that no trial reports, and for distributions of
    # spaces that are not Onepath's. They stay away while it is imported.
    absent = types.ModuleType("scipy.stats")
    absent.__dict__.update(dict.fromkeys(("norm", "lognorm", "uniform", "loguniform")))
    away = {"pandas": None, "scipy.stats": absent}
    if not {"nni", *away} & set(sys.modules):
        sys.modules.update(away)  # type: ignore[arg-type]
        with contextlib.suppress(ImportError):
            import nni
        for name in away:
            del sys.modules[name]
    import nni

    PARAMETERS = nni.get_next_parameter()

from spaces.arch import Arch  # noqa: E402
from spaces.arch_file import load_arch  # noqa: E402
from spaces.errors import InputError  # noqa: E402
from spaces.latency import LatencyTable  # noqa: E402
from trials.common import cli  # noqa: E402
from trials.common.answers import answer  # noqa: E402
from trials.common.supernet_run import SupernetRun  # noqa: E402
from trials.scoring import best_of_experiment, evaluator_client, noise  # noqa: E402
from trials.scoring.evaluate_config import Config, Settings  # noqa: E402
from trials.scoring.score_store import ScoreStore  # noqa: E402
from trials.scoring.score_value import TOP5_CLASSES, has_value, score_value  # noqa: E402


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.evaluate")
    if config.self_check:
        from trials.scoring import self_check

        rows = self_check.run(config.run, Settings.of(config), config.device, config.self_check, **config.means())
        return answer("evaluate", self_check=dict(rows))
    if PARAMETERS is None and config.arch is None:
        raise InputError("no architecture: give --arch FILE, or start it through NNI with trials.search")

    # An architecture beyond the limits is not scored.
    run = SupernetRun.open(config.run)
    table = run.table
    arch = dict(PARAMETERS) if PARAMETERS is not None else load_arch(str(config.arch), table.choices)
    macs, params = table.macs(arch), table.params(arch)
    has_top5 = table.space["classes"] >= TOP5_CLASSES
    latency = LatencyTable.load(config.latency_table, table) if config.latency_table else None
    if not config.limits().satisfied_by(macs, params, latency.ms(arch) if latency else 0.0):
        unseen = dict.fromkeys(("default", "top1", *(["top5"] if has_top5 else [])), 0.0)
        unseen |= {"macs": macs, "params": params}
        report(unseen)
        return answer("evaluate", arch=arch, **unseen)

    # All others get the stored score or a new one.
    result = score(run, config, arch)
    final = {"default": score_value(result, config.score_by), "top1": result["top1"]}
    if has_top5:
        final["top5"] = result["top5"]
    if has_value(result, "loss"):
        final["loss"] = result["loss"]
    final |= {"macs": macs, "params": params}
    images = noise.scoring_images(result, run.path)
    if images:
        final["scoring_images"] = images
    folder = best_of_experiment.experiment_folder() if PARAMETERS is not None else None
    if folder:
        best_of_experiment.keep_best(folder, result, config.score_by)
    report(final, result, config.batch_size)
    return answer("evaluate", arch=arch, **final, top1_before_recalibration=result["top1_before_recalibration"])


def score(run: SupernetRun, config: Config, arch: Arch) -> dict[str, Any]:
    """The stored score; or, under NNI, that of the warm evaluator; or one that this process computes."""
    settings = Settings.of(config)
    if PARAMETERS is not None and config.warm and not config.reference:
        store = ScoreStore(run.path, run.hash, settings)
        stored = store.read(arch)
        if stored and has_value(stored, config.score_by):
            return stored
        result = evaluator_client.request_score(store, config.device, arch, **config.means())
        if result:
            return result
    from trials.scoring.scorer import Scorer  # with torch: a warm trial does without

    scorer = Scorer(run.path, settings, config.device, reference=config.reference, **config.means())
    return scorer.score([arch])[0] if config.reference else scorer.result(arch)


def report(final: dict[str, float], result: dict[str, Any] | None = None, batch_size: int = 0) -> None:
    """Tell NNI, or the terminal.

    Args:
        final: the metrics of the trial.
        result: the score; None for an architecture beyond the limits.
        batch_size: images in the batch that was measured before recalibration.
    """
    if PARAMETERS is not None:
        if result is not None:
            nni.report_intermediate_result(result["top1_before_recalibration"])
        nni.report_final_result(final)
        return
    rows = [("top-1", "0, unseen: beyond a limit")]
    if result is not None:
        images = int(final.get("scoring_images", 0))
        first = min(images, batch_size)
        rows = [
            ("top-1 before BN recalibration", noise.percent_text(result["top1_before_recalibration"], first)),
            ("top-1", noise.percent_text(result["top1"], images)),
            *([("top-5", noise.percent_text(result["top5"], images))] if "top5" in final else []),
            *([("cross-entropy", f"{result['loss']:.4f}")] if has_value(result, "loss") else []),
        ]
    rows += [("MACs", f"{final['macs']:,}"), ("params", f"{final['params']:,}")]
    if result is not None:
        if "supernets" in result:
            each = ", ".join(f"{own['top1']:.2f}" for own in result["supernets"])
            rows.append(("top-1 is the mean", f"of {len(result['supernets'])} supernets: {each}"))
        calibration = f"{result['calibration_images']:,} calibration images"
        rows.append(("with", f"precision {result.get('precision', 'of the worker')}, {calibration}"))
    print(cli.table(rows, ("score", ""), as_is=True))


if __name__ == "__main__":
    cli.run(main)
