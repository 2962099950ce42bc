"""The whole road with its defaults: look at the images, supernet, search, retrain, export, certificate, report.

    python -m trials.run ~/images --max-macs 100M                  everything below runs/images
    python -m trials.run ~/images --max-macs 100M --dry-run        the commands, none of which is run
    python -m trials.run ~/images --max-macs 100M --config run.yml options of every step, under its name

Each step is a command of its own, which is printed and can be typed alone. Steps that are complete are not done again, so after
Ctrl-C or any kill the same command goes on. It ends with the verdict: is the winner better than random networks of its cost?
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from spaces.errors import InputError
from strategies.limits import Limits
from trials.common import cli, option_files, run_files
from trials.common.cli import option, reuse
from trials.common.options import LimitOptions
from trials.images.options import IN_MEMORY


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of trials.run."""

    positional: ClassVar[str] = "images"

    images: str = option(
        help=f"Folder of images, or a data set: {', '.join(IN_MEMORY)}",
        brief="Folder of images, or a data set such as digits",
    )
    out: str = option(None, "Run directory to write", unset="runs/ and the name of the images")
    max_macs: str = reuse(LimitOptions, "max_macs")
    in_process: bool = option(False, "Search in one process, without NNI's manager and portal")
    dry_run: bool = option(False, "Print the commands and run none")

    def __post_init__(self) -> None:
        if self.images not in IN_MEMORY and not Path(self.images).is_dir():
            raise InputError(f"'{self.images}' is no folder; give one of images, or one of: {', '.join(IN_MEMORY)}")
        Limits.of({"max_macs": self.max_macs or None})
        if self.out is None:
            object.__setattr__(self, "out", f"runs/{Path(self.images).resolve().name}")


def steps(config: Config) -> list[tuple[list[str], Path | None]]:
    """The commands of the road.

    Returns:
        Words of each command without `trials.`, and the file that is there when it need not be done again; None: it looks itself.
    """
    run, folder = Path(config.out), config.images not in IN_MEMORY
    data = ["--data", "folder", "--data-root", config.images] if folder else ["--data", config.images]
    limit = ["--strategy", "window", "--max-macs", config.max_macs] if config.max_macs else []
    search = ["search", str(run), "--resume"] + ["--in-process"] * config.in_process
    retrain = ["retrain", "--fixed-arc", str(run / "arc.json"), "--supernet", str(run), "--seeds", "2", "--resume"]
    road: list[tuple[list[str], Path | None]] = [
        (["supernet", *data, *limit, "--out", str(run), "--resume"], None),  # refuses options that have changed
        (search, run / "arc.json"),
        (retrain, run / "retrain" / "result.json"),
        (["export", "--weights", str(run / "retrain")], run / "retrain" / "export" / "export.json"),
        (["certify", str(run)], None),
        (["report", str(run)], None),
    ]
    if folder:  # exits with 1 where files are left out, which the supernet does too, and says
        road.insert(0, (["data", "check", config.images, "--out", str(run / "check.png")], run / "check.png"))
    return road


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__, "trials.run")
    file, _ = option_files.split(sys.argv[1:] if argv is None else argv, "--config")
    given = option_files.read(file) if file else {}  # a step takes its own section of it
    if not config.dry_run:
        Path(config.out).mkdir(parents=True, exist_ok=True)
    for words, done in steps(config):
        if words[0] in given:
            words = [*words, "--config", file]
        line = cli.command(words[0], *words[1:])
        if done and done.exists():
            print(f"# complete: {line}")
            continue
        print(f"$ {line}", flush=True)
        if not config.dry_run:
            run_step(words, done)
    if not config.dry_run:
        certificate = run_files.read(Path(config.out) / "certificate.json", "certificate")
        print(f"\nverdict: the winner is {certificate['verdict']['sentence']}; all of it: {config.out}/report.html")


def run_step(words: list[str], done: Path | None) -> None:
    """Run a command in a process of its own, which Ctrl-C reaches too; end with its exit code where it fails.

    Args:
        done: the file that it writes; a check of images that wrote its picture did its work.
    """
    process = subprocess.Popen([sys.executable, "-m", f"trials.{words[0]}", *words[1:]])
    try:
        code = process.wait()
    except BaseException:  # Ctrl-C, SIGTERM: the step ends first, with all that it writes
        process.terminate()
        process.wait()
        raise
    if code and not (words[0] == "data" and done and done.exists()):
        sys.exit(code if code > 0 else 128 - code)


if __name__ == "__main__":
    cli.run(main, resumes=False)
