"""One export from beginning to end: what is asked for is checked, files are written, compared with the network, published."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spaces.errors import InputError, Stopped
from spaces.files import draft_folder
from trials.common import cli, run_dir
from trials.common.places import supernet_of
from trials.export_formats import files, layouts
from trials.export_formats.compare import Comparison
from trials.export_formats.export_config import FORMATS, Config, find_weights
from trials.export_formats.export_record import write_record
from trials.export_formats.model_card import read_card, write_card
from trials.networks.build import load_network, read_network


@dataclass(frozen=True)
class Exported:
    """What an export has written.

    Attributes:
        stored: the options of the run that trained the network.
        comparison: the answers of the network and of each file.
        problems: why files are not good enough, by format.
        rows: of the table, a line for each format.
        good: names of the files that agree with the network.
        layout: the folder of --layout; None without it.
    """

    config: Config
    stored: Mapping[str, Any]
    comparison: Comparison
    problems: dict[str, str]
    rows: list[tuple[Any, ...]]
    good: list[str]
    layout: Path | None

    def require_good(self) -> None:
        """Raises Stopped: a file is not good enough."""
        if not self.problems:
            return
        name, problem = next(iter(self.problems.items()))
        others = [*self.problems][1:]
        more = f" (and {len(others)} more: {', '.join(others)})" if others else ""
        failed = files.format_path(self.config.target, name)
        raise Stopped(f"format {name}: {problem}; kept as '{failed}.failed'{more}; {files.remedy_for(name)}")


def export_network(config: Config) -> Exported:
    """Write, check and publish the files of a network.

    Raises:
        InputError: there is no such network, its images are gone, or it cannot be written in a format.
        Stopped: the network is not as accurate as it was right after its training.
    """
    stored_config = find_weights(config)
    stored = read_network(config.network_file, "model", "preprocessing")
    stored_config = stored_config or run_dir.load_run(config.run, "retrain")
    made, began = run_dir.provenance(), time.perf_counter()
    files.require_fixed_arc(config, stored)
    if config.layout:
        layouts.require_layout(config, stored["preprocessing"])
    network = load_network(config.network_file).float()
    data, preprocessing = files.open_data(config, stored_config, stored)
    description = files.describe_network(config, stored, network, preprocessing, stored_config, data)
    target = config.target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise InputError(f"cannot write to '{target.parent}' ({error.strerror}); choose another --out") from None
    with draft_folder(target) as folder:
        draft = folder / target.name
        files.write_files(config, network, draft, description, data)
        comparison = files.compare_files(config, network, draft, data, description.result)
        problems = files.find_problems(config, comparison)
        rows = [files.table_row(name, draft, target, comparison, name in problems) for name in config.wanted]
        files.publish_files(config, draft, problems)
    made |= {"seconds": time.perf_counter() - began, "preprocessing": description.metadata["preprocessing"]}
    kept = write_record(config, comparison, problems, made)
    good = [target.name + suffix for name in config.wanted if name not in problems for suffix in FORMATS[name]]
    seed, supernet = stored.get("seed", config.seed), supernet_of(config.run, stored_config)
    card = read_card(description, config.run, seed, supernet)
    write_card(target, card.text(target.name, kept), list(kept))
    layout = layouts.write_layout(config, network, description, data, kept, card) if config.layout else None
    for folder in layouts.stale_layouts(config, network):
        cli.say(f"note: '{folder}' is of another network, which was exported earlier; renew it with --layout")
    return Exported(config, stored_config, comparison, problems, rows, good, layout)
