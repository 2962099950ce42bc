"""STEM.md beside exported files: what the network is, how well it was tested and what is doubtful about that, its use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spaces.files import atomic
from trials.common import run_files
from trials.evidence.comparison import verdict_text
from trials.evidence.floor import floor_of, floor_text
from trials.evidence.gates import read_warnings
from trials.evidence.intervals import Interval, accuracy_interval, accuracy_text, percent
from trials.export_formats.files import Description
from trials.export_formats.usage import how_to_use

SUFFIX = ".md"
MOST_CLASSES = 30  # that are named
LOWEST = 3  # classes whose accuracy is named
NO_CERTIFICATE = "none for this architecture: whether a search was better than luck is not known"


@dataclass(frozen=True)
class Accuracy:
    """What was measured on the test images, and what makes it doubtful.

    Attributes:
        exported: right answers of the seed that is exported; None where the number of test images is not known.
        seed: its number.
        result: result.json of the retraining; {} where not all seeds have a result.
        floor: floor.json; None where it was not measured.
        warnings: what the gates said of the supernet, its search, and this training, a sentence each.
    """

    exported: Interval | None = None
    seed: int = 0
    result: Mapping[str, Any] = field(default_factory=dict)
    floor: Mapping[str, Any] | None = None
    warnings: Sequence[str] = ()

    def metrics(self) -> list[tuple[str, float]]:
        """What was measured, with names, in percent."""
        found = [(f"top-1, seed {self.seed}, which this is", self.exported.value)] if self.exported else []
        if self.result:
            found += [(f"top-1, mean of the seeds: {len(self.result['test_top1'])}", self.result["mean"])]
        if "balanced" in self.result:
            found += [("balanced accuracy, all seeds", self.result["balanced"]["accuracy"])]
        return found

    def lines(self) -> list[str]:
        """The section of the card, a point each."""
        found, result = [], self.result
        if self.exported:
            found.append(f"This network, seed {self.seed}: top-1 {percent(self.exported)}.")
        if result:
            each = ", ".join(f"{value:.2f}" for value in result["test_top1"])
            right = [round(value * result["test_images"] / 100) for value in result["test_top1"]]
            right = result.get("test_correct", right)
            found.append(f"All seeds, trained alike: top-1 {accuracy_text(right, result['test_images'])}: {each}.")
        if self.floor:
            found.append(f"To compare, without deep learning: {floor_text(self.floor)}.")
        if "balanced" in result:
            balanced = Interval(result["balanced"]["accuracy"], *result["balanced"]["interval"])
            found.append(f"Balanced accuracy, in which every class counts alike: {percent(balanced)}, all seeds.")
        if result.get("classes"):
            lowest = ", ".join(
                f"{row['name']} {percent(Interval(row['accuracy'], *row['interval']))} ({row['images']} images)"
                for row in result["classes"][:LOWEST]
            )
            found.append(f"The least accurate classes, all seeds: {lowest}.")
        found += [f"Warning: {text}." for text in self.warnings]
        return found


def card(
    name: str,
    lines: Sequence[str],
    metadata: Mapping[str, Any],
    files: Mapping[str, str],
    *,
    data_name: str = "",
    accuracy: Accuracy | None = None,
    search: Mapping[str, Any] | None = None,
    certificate: Mapping[str, Any] | None = None,
) -> str:
    """The text of a model card, in Markdown.

    Args:
        name: of the files.
        lines: what a `Description` says, line by line.
        metadata: what the files say about themselves.
        files: name of each file that was checked and found good -> how it answers, as `Comparison.told` says it.
        data_name: of the data set.
        accuracy: what was measured.
        search: search.json of the supernet's run; None where nothing was searched.
        certificate: certificate.json of it; left out where its winner is another architecture.
    """
    classes = metadata["classes"]
    named = ", ".join(map(str, classes[:MOST_CLASSES]))
    more = f" and {len(classes) - MOST_CLASSES} more" if len(classes) > MOST_CLASSES else ""
    limits = {key: value for key, value in ((search or {}).get("limits") or {}).items() if value is not None}
    budget = ", ".join(
        f"{key} {value:,}" if isinstance(value, int | float) else f"{key} {value}" for key, value in limits.items()
    )
    own = certificate is not None and certificate["winner"]["id"] == metadata["architecture"].get("id")
    verdict = verdict_text(certificate["verdict"]) if certificate and own else None
    measured = (accuracy or Accuracy()).lines()
    sections = {
        "Network": " ".join(filter(None, lines)),
        "Accuracy": "\n".join(f"- {line}" for line in measured) or "as above; nothing more is known",
        "Files": "; ".join(
            f"{', '.join(f'`{file}`' for file in files if files[file] == told)}: {told}"
            for told in dict.fromkeys(files.values())
        )
        + ".",
        "How to use": how_to_use(name, metadata, list(files)),
        "Classes": f"{len(classes)}: {named}{more}",
        "Budget": budget or "none is known: the architecture was not taken from a search under a limit",
        "Certificate": verdict or NO_CERTIFICATE,
        "Intended use": "images of the kind that it was trained on, prepared as the files' metadata say (`preprocess`). Each image "
        "gets one of the classes, also one that shows none of them, and probabilities are not calibrated. The accuracy above is "
        "that of the test images; on images of other cameras, places or times it has to be measured anew.",
        "Made by": str(metadata["made_by"]),
    }
    title = f"{name}: images of {data_name or 'its data set'} in {len(classes)} classes"
    return f"# {title}\n" + "".join(f"\n## {title}\n{text}\n" for title, text in sections.items())


def read_accuracy(run: Path, seed: int, metadata: Mapping[str, Any], supernet: Path | None) -> Accuracy:
    """What is known about the accuracy of a network.

    Args:
        run: of trials.retrain.
        seed: that is exported.
        metadata: what the files say about themselves.
        supernet: the run that its architecture was searched in; None where there is none.
    """
    images, top1 = metadata["test_images"], float(metadata["test_top1"])
    known = str(images).isdigit() and int(images) > 0
    exported = accuracy_interval([round(top1 * int(images) / 100)], int(images)) if known else None
    result = run_files.read_if_there(run / "result.json", "result", {})
    trained = [entry["text"] for entry in read_warnings(run) if entry["run"] == ""]
    searched = [] if supernet is None else [entry["text"] for entry in read_warnings(supernet) if entry["run"] == ""]
    floor = floor_of(supernet or run)
    return Accuracy(exported, seed, result, floor, list(dict.fromkeys(searched + trained)))


@dataclass(frozen=True)
class Card:
    """What is known about a network, for the cards beside its files.

    Attributes:
        description: what the files say about themselves.
        accuracy: what was measured.
        search, certificate: as for `card`.
    """

    description: Description
    accuracy: Accuracy
    search: Mapping[str, Any] | None
    certificate: Mapping[str, Any] | None

    def text(self, name: str, files: Mapping[str, str]) -> str:
        """The text of the card; arguments as for `card`."""
        known, about = self.description, {"search": self.search, "certificate": self.certificate}
        more: dict[str, Any] = {"data_name": known.data_name, "accuracy": self.accuracy, **about}
        return card(name, known.lines, known.metadata, files, **more)


def read_card(description: Description, run: Path, seed: int, supernet: Path | None) -> Card:
    """What the runs know about a network.

    Args:
        description: what the files say about themselves.
        run, seed, supernet: as for `read_accuracy`.
    """
    search = certificate = None
    if supernet and description.metadata["architecture"].get("id"):
        certificate = run_files.read_if_there(supernet / "certificate.json", "certificate")
        search = run_files.read_if_there(supernet / "search.json", "search summary")
    return Card(description, read_accuracy(run, seed, description.metadata, supernet), search, certificate)


def write_card(target: Path, text: str, files: Sequence[str]) -> None:
    """Write STEM.md beside the files; where no file is good, there is none, and one of an earlier export goes.

    Args:
        target: folder and stem of the files.
        text: what `read_card` returned.
        files: names of the good files.
    """
    path = target.with_name(target.name + SUFFIX)
    if not files:
        path.unlink(missing_ok=True)
        return
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def renew_certificate(run: Path, certificate: Mapping[str, Any]) -> list[Path]:
    """Write the verdict into the model cards of a winner that was exported before it was certified, or certified anew.

    Args:
        run: of trials.retrain, with the exports of the winner in it.
        certificate: certificate.json.
    Returns:
        The cards that are written anew.
    """
    found = []
    for pattern in ("export/*.md", "export/*/README.md", "seed*/export/*.md", "seed*/export/*/README.md"):
        for path in sorted(run.glob(pattern)):
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
            verdict = verdict_text(certificate["verdict"])
            anew = re.sub(r"(?<=\n## Certificate\n).*", lambda _, verdict=verdict: verdict, text, count=1)  # type: ignore[misc]
            if anew != text and f"Architecture {certificate['winner']['id']}" in text:
                with atomic(path) as temporary:
                    temporary.write_text(anew, encoding="utf-8", errors="surrogateescape")
                found.append(path)
    return found
