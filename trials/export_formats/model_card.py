"""STEM.md beside exported files: what the network is, what it was trained and tested on, its budget, its certificate, its use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spaces.files import atomic
from trials.common import run_files
from trials.evidence.comparison import verdict_text

SUFFIX = ".md"
MOST_CLASSES = 30  # that are named


def card(
    name: str,
    lines: Sequence[str],
    metadata: Mapping[str, Any],
    files: Mapping[str, str],
    *,
    search: Mapping[str, Any] | None = None,
    certificate: Mapping[str, Any] | None = None,
) -> str:
    """The text of a model card, in Markdown.

    Args:
        name: of the files.
        lines: what a `Description` says, line by line.
        metadata: what the files say about themselves.
        files: name of each file that was checked and found good -> how it answers, as `Comparison.told` says it.
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
    sections = {
        "Network": " ".join(filter(None, lines)),
        "Files": "; ".join(
            f"{', '.join(f'`{file}`' for file in files if files[file] == told)}: {told}"
            for told in dict.fromkeys(files.values())
        )
        + ".",
        "Classes": f"{len(classes)}: {named}{more}",
        "Budget": budget or "none is known: the architecture was not taken from a search under a limit",
        "Certificate": verdict or "none for this architecture: whether a search was better than luck is not known",
        "Intended use": "images of the kind that it was trained on, prepared as the files' metadata say (`preprocess`). Each image "
        "gets one of the classes, also one that shows none of them, and probabilities are not calibrated. The accuracy above is "
        "that of the test images; on images of other cameras, places or times it has to be measured anew.",
        "Made by": str(metadata["made_by"]),
    }
    return f"# {name}\n" + "".join(f"\n## {title}\n{text}\n" for title, text in sections.items())


def read_card(
    name: str, lines: Sequence[str], metadata: Mapping[str, Any], files: Mapping[str, str], supernet: str | None
) -> str:
    """The text of the model card, with what the supernet's run knows about this network.

    Args:
        name, lines, metadata, files: as for `card`.
        supernet: the run whose search and certificate are of this network, if they are.
    """
    search = certificate = None
    if supernet and metadata["architecture"].get("id"):
        certificate = run_files.read_if_there(Path(supernet) / "certificate.json", "certificate")
        search = run_files.read_if_there(Path(supernet) / "search.json", "search summary")
    return card(name, lines, metadata, files, search=search, certificate=certificate)


def write_card(target: Path, text: str, files: Iterable[str]) -> None:
    """Write STEM.md beside the files; nothing where no file is good.

    Args:
        target: folder and stem of the files.
        text: what `read_card` returned.
        files: names of the good files.
    """
    if not [*files]:
        return
    with atomic(target.with_name(target.name + SUFFIX)) as temporary:
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
