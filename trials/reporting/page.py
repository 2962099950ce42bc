"""The report of a run as one self-contained HTML file: what templates/report.html.jinja shows is collected here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from spaces.files import atomic
from trials.evidence.classes import balanced_accuracy, neglected_class
from trials.evidence.comparison import as_sentence
from trials.evidence.floor import balanced_text
from trials.reporting import (
    answers,
    baselines_table,
    certificate_view,
    data_view,
    evidence_plots,
    making,
    plots,
    search_view,
    tradeoff_view,
)
from trials.reporting.collect import RunContents, collect_run
from trials.reporting.figures import Picture, for_page
from trials.reporting.summary import fact_rows
from trials.reporting.verdict import answer_all

TEMPLATES = Path(__file__).parent / "templates"


def write_report(run: Path, contents: RunContents | None = None) -> Path:
    """Write report.html of a run.

    Args:
        contents: what `collect_run` returned, where that has been read already.
    Returns:
        The path of the file.
    Raises:
        InputError: there is no run, or it is not trained to the end.
    """
    contents = contents or collect_run(run)
    path = run / "report.html"
    with atomic(path) as temporary:
        temporary.write_text(render_page(contents), encoding="utf-8")
    return path


def render_page(contents: RunContents) -> str:
    """The HTML file: no script, no reference to anything outside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        name=contents.path.resolve().name,
        subtitle=_subtitle(contents),
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        answers=answer_all(contents),
        facts=fact_rows(contents),
        certificate=_certificate(contents),
        networks=_networks(contents),
        tradeoff=tradeoff_view.view(contents),
        search=search_view.view(contents),
        training=_training(contents),
        making=_making(contents),
        **_images(contents),
    )


def _subtitle(contents: RunContents) -> str:
    """Space, data set and date, in a line."""
    config = contents.config
    day = str(contents.stored.get("started", "")).partition(" ")[0]
    parts = (f"{config['space']} {config['preset']}", config["space_options"], f"on {config['data']}", day)
    return ", ".join(filter(None, parts))


def _certificate(contents: RunContents) -> dict[str, Any] | None:
    """The pictures and tables of the certificate; None where there is none of this winner."""
    certificate = contents.certificate
    if not certificate or not contents.certified:
        return None
    seeds, images = certificate["seeds"], certificate["test_images"]
    caption = "Each network was trained from scratch in the same way; the bars are 95 % intervals."
    beside = "A useful score puts the accurate networks to the right: the points then rise."
    return {
        "figures": for_page(evidence_plots.plot_against_cost(contents), caption)
        + for_page(evidence_plots.plot_against_score(contents), beside),
        "choice": certificate_view.choice_rows(certificate),
        "ranking": certificate_view.ranking_lines(certificate),
        "noise": certificate_view.noise_lines(certificate),
        "rivals": [f"{rival['network']} {rival['accuracy']}" for rival in certificate.get("rivals", [])],
        "note": f"{len(certificate['random'])} random architectures, {seeds} seed{'s' * (seeds != 1)} each, {images:,} test images.",
    }


def _networks(contents: RunContents) -> dict[str, Any]:
    """The table of all trained networks: the winner first, then by what they are for, the most accurate first."""
    roles = certificate_view.roles(contents)
    first = contents.retrained.config if contents.retrained else {}
    order = ["winner", *certificate_view.FINE_TUNED.values(), "cheapest", "random, cheapest", "random", "control"]
    order += ["baseline", "retrained"]
    rows = sorted(
        contents.networks,
        key=lambda network: (
            network is not contents.retrained,
            order.index(roles[network.place]),
            -(network.interval.value if network.interval else 0.0),
        ),
    )
    return {
        "rows": [
            {
                "name": network.label,
                "role": roles[network.place],
                "place": network.place.removesuffix(network.name).rstrip("/"),
                "accuracy": network.accuracy,
                "balanced": network.balanced,
                "macs": f"{network.macs:,}" if network.macs else "",
                "params": f"{network.params:,}" if network.params else "",
                "latency": network.latency,
                "recipe": baselines_table.recipe_differences(network.config, first) or ("the same" if first else ""),
            }
            for network in rows
        ],
        "timed": any(network.latency for network in rows),
        "runtime": baselines_table.latency_runtime(contents.path),
        "fine_tuned": any(network.start for network in rows),
        "floor": f"{contents.floor['top1']:.1f}%" if contents.floor else "",
        "floor_balanced": as_sentence(text) if contents.floor and (text := balanced_text(contents.floor)) else "",
        "floor_name": contents.floor["name"] if contents.floor else "",
        "note": baselines_table.latency_note(contents.path),
        "figures": _retraining(contents),
    }


def _retraining(contents: RunContents) -> list[Picture]:
    """The pictures of the winner's training from scratch."""
    if contents.retrained is None:
        return []
    loss = "The winner trained from scratch, a line for each seed. A loss that still falls at the end asks for more epochs; where the rate falls to 0, a flat end says nothing."
    accuracy = "Accuracy meanwhile. Training images are augmented, so that their accuracy may be the lower one."
    return for_page(evidence_plots.plot_retraining_loss(contents), loss) + for_page(
        evidence_plots.plot_retraining_accuracy(contents), accuracy
    )


def _images(contents: RunContents) -> dict[str, Any]:
    """What is shown of the images: the parts, the classes, and what the winner answered to them."""
    names = data_view.class_names(contents)
    data, reason = data_view.open_images(contents)
    classes = names or (list(data.classes) if data else None)
    found = answers.read_answers(contents.retrained.folder, classes) if contents.retrained else None
    images = {
        "name": contents.config["data"],
        "classes": classes or [],
        "parts": data_view.part_rows(data) if data else [],
        "reason": reason,
        "resolution": contents.table.space["resolution"],
    }
    if found is None:
        return {"images": images, "mistakes": None}
    rows, weights = found.rows, contents.retrained.config.get("class_weights") if contents.retrained else None
    confusion = found.confusion
    total = confusion.sum(axis=1, keepdims=True)
    return {
        "images": images,
        "mistakes": {
            "classes": rows[: answers.MOST_ROWS],
            "more": max(0, len(rows) - answers.MOST_ROWS),
            "balanced": balanced_accuracy(rows),
            "neglected": neglected_class(rows) if weights != "balanced" else None,
            "seeds": len(found.predicted),
            "wrong": int((found.predicted != found.labels).any(axis=0).sum()),
            "of": len(found.labels),
            "matrix": [
                (name, [(int(n), float(n / max(1, total[row, 0]))) for n in confusion[row]])
                for row, name in enumerate(found.classes)
            ]
            if len(found.classes) <= answers.MOST_CLASSES
            else [],
            "names": list(found.classes),
            "pairs": answers.frequent_confusions(found),
            "sheet": data_view.wrong_images(found, data) if data else [],
        },
    }


def _training(contents: RunContents) -> list[Picture]:
    """The pictures of the supernet's training."""
    figures: list[Picture] = []
    if contents.log:
        figures += for_page(
            plots.plot_training(contents),
            "Loss of the supernet, and accuracy of a fixed set of paths: each, and their mean.",
        )
    if contents.probabilities:
        figures += for_page(
            plots.plot_probabilities(contents),
            "What was learned: one column per choice block, one row per candidate; time goes down.",
            wide=True,
        )
    return figures


def _making(contents: RunContents) -> dict[str, Any]:
    """How the run was made, and what was exported."""
    folder = contents.retrained.folder if contents.retrained else None
    summary = contents.summary
    search = ""
    if summary:
        search = f"{summary['yaml']}, {summary['tuner']}, " + (
            summary["experiment"] if " " in summary["experiment"] else f"NNI experiment {summary['experiment']}"
        )
    return {
        "steps": making.step_rows(contents),
        "versions": making.version_rows(contents),
        "exports": making.export_rows(folder) if folder else [],
        "export_note": making.export_note(folder) if folder else "",
        "search": search,
        "options": [(key, _option(value)) for key, value in contents.config.items() if value not in (None, "", False)],
        "recipe": [
            (key, _option(value)) for key, value in contents.retrained.config.items() if value not in (None, "", False)
        ]
        if contents.retrained
        else [],
    }


def _option(value: Any) -> str:
    """The value of an option, as text."""
    return value if isinstance(value, str) else json.dumps(value)
