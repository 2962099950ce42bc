"""Time the parts of a search space on this machine: the script of a latency kit, which is measure.py there.

    python measure.py                                     200 rounds, one thread; writes latency.csv
    python measure.py --threads 4 --out four.csv

It needs Python 3.9 or newer, onnxruntime and numpy, and nothing else. After Ctrl-C or any kill the same command goes on. Each
part is timed while a whole network runs, each time among other parts, and whole networks are timed in between; the times are
medians at the pace of the quiet machine (docs/latency.md of Onepath).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import sys
import time
from typing import Any, NoReturn

try:
    import onnxruntime
    from passes import WARM_UP, draw_paths, evaluate_passes, random_input, run_sessions, session_options, spread_visits
except ImportError as missing:
    sys.exit(f"error: {missing.name} is not installed here; install it with: python -m pip install onnxruntime numpy")

FORMAT = "onepath latency kit 1"
KIT = "kit.json"
SAVE_EVERY = 2.0  # seconds after which what was measured is flushed to the disk


def refuse(text: str, code: int = 1) -> NoReturn:
    """End with one line; exit code 1: what was asked for cannot be done, 3: the machine failed."""
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(code)


def main(argv: list[str] | None = None) -> None:
    folder = os.path.dirname(os.path.abspath(__file__))
    kit = read_kit(folder)
    options = read_options(kit, argv)
    journal = Journal(options.out + ".progress", settings_of(kit, options))
    sessions, networks = load_sessions(folder, kit, options)
    sizes = [len(block) for block in kit["blocks"]]
    passes = options.rounds * max(sizes)
    visits = spread_visits(passes, len(networks))
    x = random_input(kit["input"])
    for number in range(WARM_UP):
        run_sessions([row[0] for row in sessions], x)
        run_sessions([networks[number % len(networks)]], x)
    began, earlier = time.monotonic(), len(journal.lines)
    told = began - 60.0
    for number, path in enumerate(draw_paths(sizes, passes, kit["seed"])):
        if number < earlier:  # measured before a kill
            continue
        chosen = [0, *path, 0]
        times = run_sessions([row[index] for row, index in zip(sessions, chosen)], x)
        whole = [[network, run_sessions([networks[network]], x)[0]] for network in visits[number]]
        journal.write({"path": chosen, "parts": times, "networks": whole})
        now = time.monotonic()
        if now - told >= 10 or number + 1 == passes:
            told, left = now, (now - began) / (number + 1 - earlier) * (passes - number - 1)
            print(f"pass {number + 1} of {passes}, about {left / 60:.1f} min left", flush=True)
    write_csv(kit, options, journal)
    journal.remove()


def read_kit(folder: str) -> dict[str, Any]:
    """Read kit.json, and check that every file of the kit is what it was when the kit was made."""
    path = os.path.join(folder, KIT)
    try:
        with open(path, encoding="utf-8") as file:
            kit = json.load(file)
        assert kit["format"] == FORMAT
        for name, digest in kit["files"].items():
            with open(os.path.join(folder, name), "rb") as file:
                if hashlib.sha256(file.read()).hexdigest() != digest:
                    refuse(f"'{os.path.join(folder, name)}' is damaged; copy the folder of the kit anew")
    except OSError as error:
        refuse(f"'{error.filename}' cannot be read ({error.strerror}); copy the whole folder of the kit")
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        refuse(f"'{path}' is damaged, or of another version of Onepath; copy the folder of the kit anew")
    return kit


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line."""

    def error(self, message: str) -> NoReturn:
        refuse(f"{message}; see: python measure.py --help")


def read_options(kit: dict[str, Any], argv: list[str] | None) -> argparse.Namespace:
    """Read the command line, and refuse what cannot be before anything is measured."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "(default %(default)s)"
    parser.add_argument("--out", default="latency.csv", help=f"CSV file to write {default}")
    parser.add_argument("--threads", type=int, default=kit["threads"], help=f"threads that a network runs on {default}")
    rounds = f"times that each part is measured at each place {default}"
    parser.add_argument("--rounds", type=int, default=kit["rounds"], help=rounds)
    provider = f"execution provider of onnxruntime {default}"
    parser.add_argument("--provider", default="CPUExecutionProvider", help=provider)
    options = parser.parse_args(argv)
    for name in ("threads", "rounds"):
        if not 1 <= getattr(options, name) <= 100_000:
            refuse(f"--{name} {getattr(options, name)} is out of range; give 1 to 100000")
    able = onnxruntime.get_available_providers()
    if options.provider not in able:
        refuse(f"--provider {options.provider[:200]} is not in this onnxruntime; choose from: {', '.join(able)}")
    if not options.out.endswith(".csv"):
        refuse(f"--out '{options.out[:200]}' is no name for a CSV file; give one that ends in .csv")
    if os.path.exists(options.out):
        refuse(f"'{options.out}' is there already; choose another --out")
    return options


def settings_of(kit: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """What must be the same when a measurement goes on; parts of it go into the CSV."""
    return {
        "space": kit["space"],
        "device": device_name(),
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        **({} if options.provider == "CPUExecutionProvider" else {"provider": options.provider}),
        "threads": options.threads,
        "batch": kit["input"][0],
        "rounds": options.rounds,
    }


def device_name() -> str:
    """Name of the board, or of the processor where there is none."""
    try:
        with open("/proc/device-tree/model", encoding="utf-8") as file:
            return file.read().strip("\0\n ")
    except OSError:
        pass
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


class Journal:
    """The passes that were measured, a JSON line for each; the first line says how. Only whole lines count."""

    def __init__(self, path: str, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.lines: list[dict[str, Any]] = []
        self.flushed = time.monotonic()
        try:
            self.file = open(path, "a+b")
        except OSError as error:
            refuse(f"cannot write to '{path}' ({error.strerror}); choose another --out")
        self.file.seek(0)
        whole = self.file.read().rpartition(b"\n")[0]
        try:
            stored, *self.lines = [json.loads(line) for line in whole.splitlines()] or [None]
        except ValueError:
            refuse(f"'{path}' is damaged; move it away, or choose another --out")
        if stored not in (None, settings):
            name = next((name for name in settings if stored.get(name) != settings[name]), "space")
            was = str(stored.get(name))[:100]
            refuse(
                f"'{path}' was begun with {name} {was}, not {settings.get(name)}; give the same, or choose another --out"
            )
        self.file.truncate(len(whole) + 1 if whole else 0)
        if stored is None:
            self.write(settings, kept=False)
        elif self.lines:
            print(f"going on after {len(self.lines)} passes")

    def write(self, line: dict[str, Any], kept: bool = True) -> None:
        """Add a line; it is on the disk after SAVE_EVERY seconds."""
        if kept:
            self.lines.append(line)
        self.file.write(json.dumps(line).encode() + b"\n")
        self.file.flush()
        if time.monotonic() - self.flushed >= SAVE_EVERY:
            os.fsync(self.file.fileno())
            self.flushed = time.monotonic()

    def remove(self) -> None:
        """Remove the file, when the CSV is written."""
        self.file.close()
        os.remove(self.path)


def load_sessions(folder: str, kit: dict[str, Any], options: argparse.Namespace) -> tuple[list[list[Any]], list[Any]]:
    """A session for every part, by its place and combination, and for every whole network."""
    print(f"loading {len(kit['networks'])} networks and their parts; they take about {kit['megabytes']:,} MB of memory")
    settings = session_options(options.threads)

    def load(part: dict[str, str]) -> Any:
        path = os.path.join(folder, part["file"])
        return onnxruntime.InferenceSession(path, settings, providers=[options.provider])

    try:
        rows = [[kit["stem"]], *kit["blocks"], [kit["head"]]]
        return [[load(part) for part in row] for row in rows], [load(network) for network in kit["networks"]]
    except Exception as error:  # onnxruntime raises exceptions of many kinds
        refuse(
            f"onnxruntime {onnxruntime.__version__} cannot load the kit ({' '.join(str(error).split())[:200]})", code=3
        )


def write_csv(kit: dict[str, Any], options: argparse.Namespace, journal: Journal) -> None:
    """Write what each part and each network takes, and on which machine that was measured."""
    rows = [[kit["stem"]], *kit["blocks"], [kit["head"]]]
    files = sorted({part["file"] for row in rows for part in row})  # parts of one file do the same work
    entries = [[files.index(row[index]["file"]) for row, index in zip(rows, line["path"])] for line in journal.lines]
    visits: list[list[tuple[int, float]]] = [[] for _ in kit["networks"]]
    for number, line in enumerate(journal.lines):
        for network, nanoseconds in line["networks"]:
            visits[network].append((number, nanoseconds))
    timings, networks_ms = evaluate_passes(entries, [line["parts"] for line in journal.lines], visits)
    names = ["stem", *["block"] * len(kit["blocks"]), "head"]
    lines = [
        [name, part["choice"], f"{timings[files.index(part['file'])].median_ms:.6f}"]
        for name, row in zip(names, rows)
        for part in row
    ]
    lines += [["network", part["choice"], f"{ms:.6f}"] for part, ms in zip(kit["networks"], networks_ms)]
    lines += [[name, value, ""] for name, value in journal.settings.items()]
    lines += [["python", platform.python_version(), ""], ["date", time.strftime("%Y-%m-%d %H:%M:%S"), ""]]
    temporary = options.out + ".tmp"
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["part", "choice", "latency_ms"], *lines])
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, options.out)
    print(f"wrote {options.out}: measured on {journal.settings['device']}, {journal.settings['runtime']}")
    print(f"next, where Onepath is: {kit['next'].replace('latency.csv', os.path.basename(options.out))}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except OSError as failed:
        refuse(f"{failed.strerror or failed}; mend that, then run the same command again to go on", code=3)
