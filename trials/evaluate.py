"""Score one architecture on a trained supernet. This is the trial that NNI runs.

    python -m trials.evaluate --run runs/digits                     under NNI: the architecture comes from the tuner
    python -m trials.evaluate --run runs/digits --arch arc.json     by hand
    python -m trials.evaluate --run runs/digits --self-check 8      is the fast way exact here, and how fast is it?

Reports top-1 before BN recalibration as the intermediate result, and {default: top-1, top5, macs, params} at the end.
A stored score of the same architecture, supernet and settings is used again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import types
from pathlib import Path
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

from spaces.errors import InputError  # noqa: E402
from trials import cli, run_dir  # noqa: E402
from trials.cli import option  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Config:
    run: str = option(help="run directory of trials.supernet")
    arch: str | None = option(None, "fixed-arc file; not needed under NNI")
    calibration_images: int = option(2560, "training images for BN recalibration (as many as there are)")
    scoring_images: int = option(0, "held-out images that give the score; 0: all of the scoring part")
    batch_size: int = option(128, "images at a time")
    max_macs: str = option("", "score an architecture above this with 0, unseen; for tuners that know no limits")
    max_latency_ms: str = option("", "the same with the latency of --latency-table, milliseconds")
    latency_table: str = option("", "written by trials.latency, for --max-latency-ms")
    precision: str = option(
        "auto",
        "of the arithmetic: exact is the plain network bit for bit, the others fold BatchNorm and are faster; see docs",
        choices=("auto", "exact", "32", "bf16", "16"),
    )
    device: str = option("auto", "where to run", choices=("auto", "cpu", "cuda"))
    warm: bool = option(True, "under NNI: trials of one machine share an evaluator that stays warm")
    self_check: int = option(
        0, "score so many candidates together and one by one, compare, and say what each way takes"
    )
    reference: bool = option(False, "score one by one, each as a fixed network: the same scores, slower")

    def __post_init__(self) -> None:
        cli.not_negative(self, "self_check")
        if self.self_check and self.arch:
            raise InputError("--self-check draws its own candidates; leave --arch out")
        if self.calibration_images < 1 or self.batch_size < 1 or self.scoring_images < 0:
            raise InputError("--calibration-images and --batch-size must be at least 1, --scoring-images at least 0")
        if bool(self.max_latency_ms) != bool(self.latency_table):
            raise InputError("--max-latency-ms and --latency-table go together; give both or none")

    def limits(self) -> Any:
        """What an architecture must meet to be seen. Raises InputError: not a number."""
        from strategies.limits import Limits

        return Limits.of({"max_macs": self.max_macs or None, "max_latency_ms": self.max_latency_ms or None})


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a score depends on besides the supernet; scores under other settings are not mixed."""

    calibration_images: int
    scoring_images: int  # 0: the whole scoring part
    batch_size: int
    precision: str = "auto"

    @classmethod
    def of(cls, config: Config) -> Settings:
        return cls(config.calibration_images, config.scoring_images, config.batch_size, config.precision)


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__)
    if config.self_check:
        from trials import self_check

        self_check.run(config)
        return
    if PARAMETERS is None and config.arch is None:
        raise InputError("no architecture: give --arch FILE, or start it through NNI with trials.search")

    from spaces.arch import load_arch
    from spaces.cost import CostTable
    from spaces.latency import LatencyTable

    run = Path(config.run)
    run_dir.load_run(run, "supernet")
    run_dir.require_supernet(run)
    table = CostTable.load(run / "cost_table.json")
    arch = dict(PARAMETERS) if PARAMETERS is not None else load_arch(str(config.arch), table.choices)
    macs, params = table.macs(arch), table.params(arch)
    latency = LatencyTable.load(config.latency_table, table) if config.latency_table else None
    if not config.limits().met_by(macs, params, latency.ms(arch) if latency else 0.0):
        report({"default": 0.0, "top5": 0.0, "macs": macs, "params": params}, None)
        return
    result = score(run, config, arch)
    final = {"default": result["top1"], "top5": result["top5"], "macs": macs, "params": params}
    how = f"precision {result.get('precision', 'of the worker')}, {result['calibration_images']:,} calibration images"
    report(final, result["top1_before_recalibration"], how)


def score(run: Path, config: Config, arch: dict[str, Any]) -> dict[str, Any]:
    """The stored score; or, under NNI, that of the warm evaluator; or one that this process computes."""
    settings = Settings.of(config)
    if PARAMETERS is not None and config.warm and not config.reference:
        from trials import warm

        supernet = run_dir.file_hash(run / "supernet.pt")
        result = run_dir.stored_score(run, arch, supernet, vars(settings))
        result = result or warm.ask(run, supernet, vars(settings), config.device, arch)
        if result:
            return result
    from trials.scoring import Scorer

    scorer = Scorer(run, settings, config.device, reference=config.reference)
    return scorer.score([arch])[0] if config.reference else scorer.result(arch)


def report(final: dict[str, float], before: float | None, how: str = "") -> None:
    """Tell NNI, or the terminal."""
    if PARAMETERS is not None:
        if before is not None:
            nni.report_intermediate_result(before)
        nni.report_final_result(final)
        return
    rows = [] if before is None else [("top-1 before BN recalibration", f"{before:.2f}%")]
    rows += [("top-1", f"{final['default']:.2f}%"), ("top-5", f"{final['top5']:.2f}%")]
    rows += [("MACs", f"{final['macs']:,}"), ("params", f"{final['params']:,}")]
    rows += [("with", how)] if how else []
    print(cli.table(rows, ("score", ""), as_is=True))


if __name__ == "__main__":
    cli.run(main)
