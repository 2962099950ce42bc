"""What each step of a road is given: by the command line, the file of options, the budget and the minutes; and what is complete."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from trials.common import cli, option_files, run_dir
from trials.images.options import IN_MEMORY
from trials.road import hours, kept_timings, longer, minutes
from trials.road import steps as road
from trials.road.form import check_given, choose_form, no_limit_text, resolution_for
from trials.road.record import is_complete, refuse_differences, road_differences

# from above, in a file of options
LIMITS = {cli.flag(name).removeprefix("--") for name in ("max_macs", "max_latency_ms")}


@dataclasses.dataclass(frozen=True)
class Planned:
    """A step with what it is given.

    Attributes:
        options: that were given for it, for the record.
        more: words that are added to those of the road.
    """

    options: dict[str, Any]
    more: list[str]
    complete: bool


def plan_steps(config: Any, file: str, record: dict[str, Any]) -> list[Planned]:
    """Decide what each step is given, and refuse what a step would refuse; what takes long comes last.

    Args:
        file: of --config; "" where none is given.
        record: of the road; what is chosen for the supernet is put into it.
    Raises:
        InputError: an option that is not known, or cannot have this value; options that differ from those that the road was begun with.
    """
    sections = option_files.read(file) if file else {}
    if road.learns(config) and "search" in sections:
        raise InputError(
            f"'{file}', search: --strategy {config.strategy} learns the winner without a search; leave that section out"
        )
    given, fixed = {}, {words[0]: words for words, _ in road.steps(config)}
    for step, words in fixed.items():
        section, own = road.section_for(step, sections), road.typed_for(step, config)
        width: dict[str, Any] = {}
        if step == "supernet" and config.width_mult is not None:
            if "space-options" in {**section, **own}:
                where = "--space-options" if "space-options" in own else f"space-options in '{file}'"
                raise InputError(
                    f"--width-mult and {where}: give width_mult={config.width_mult:g} there, and leave --width-mult out"
                )
            width = {"space-options": f"width_mult={config.width_mult:g}"}
        if step == "retrain" and "seeds" not in section:
            own.setdefault("seeds", road.SEEDS)
        if section or sections.get(step) is not None:
            words = [*words, "--config", file]
        given[step] = section, own
        road.check([*words, *road.as_words(own | width)], fixed[step], section, file)
    chosen = choose_network(config, given["supernet"], record)
    picture = picture_options(config, {**given["supernet"][0], **chosen})

    def more_of(step: str) -> list[str]:
        section, own = given[step]
        more = road.as_words(chosen if step == "supernet" else own)
        more += road.as_words(picture) if step == "data" and "resolution" not in section else []
        return more + (["--config", file] if section or sections.get(step) is not None else [])

    differ = [road_differences(config, record)]
    if "minutes" in record or (config.minutes is not None and not differ[0]):
        if "minutes" not in record:
            record["minutes"] = _fit_minutes(
                config, given, [[*words, *more_of(step)] for step, words in fixed.items()], file
            )
        fitted = record["minutes"]["options"]
        for step, (section, own) in given.items():
            new = {name: value for name, value in fitted.get(step, {}).items() if name not in {**section, **own}}
            own.update(new)
            chosen |= new if step == "supernet" else {}
    plan = []
    for words, done in road.steps(config):
        step = words[0]
        section, own = given[step]
        options = section | own | ({"in-process": True} if step == "search" and config.in_process else {})
        if step == "retrain" and "seeds" not in section and config.seeds is None:
            del options["seeds"]  # nobody gave it
        complete, other = False, ""
        if step != "retrain" or not longer.stands_short(road.network_folder(config), record):
            complete, other = is_complete(step, done, options, record, config.out)
        differ.append(other)
        plan.append(Planned(options, more_of(step), complete))
    refuse_differences(config.out, [*filter(None, differ)])
    return plan


def _fit_minutes(
    config: Any, given: Mapping[str, tuple[dict[str, Any], dict[str, Any]]], steps: Sequence[list[str]], file: str
) -> dict[str, Any]:
    """Time a few steps, choose how much fits into --minutes, and say what was cut.

    Args:
        given: step -> its section of the file of options, and what was typed.
        steps: the words of all steps.
        file: of --config; "" where none is given.
    Returns:
        For the record: the minutes, the options that fit by step, about how many seconds each step takes, how much is done and would
        be without the minutes, and what a later look at the winner needs: seconds of a start, trainings of the certificate at a time.
    Raises:
        InputError: the minutes are too few, or a few steps could not be timed.
    """
    why = f", to fit the road into {config.minutes:g} minutes"
    found = kept_timings.timed(steps, config.out, config.images, file, why)
    if isinstance(found, str):
        raise InputError(f"--minutes {config.minutes:g}: what fits is not known, for {found}")
    rates, whole = found
    options = {step: {**section, **typed} for step, (section, typed) in given.items()}
    jobs = {} if "jobs" in options["retrain"] else {"jobs": min(rates.jobs, whole.seeds)}
    if jobs:  # as many trainings of the winner at a time as the certificate has
        rates = dataclasses.replace(rates, retrain_jobs=jobs["jobs"], retrain_epoch=rates.network_epoch)
    done = {words[0] for words, file in road.steps(config) if file and file.exists()}
    if (Path(config.out) / "supernet.pt").exists():  # of a command of its own
        done.add("supernet")
    to_do = [words[0] for words in steps if words[0] not in done]
    fixed = minutes.fixed_names(options, done)
    work = minutes.fit_work(config.minutes, rates, whole, fixed, to_do)
    taken = hours.hours_of(rates, work, to_do)
    print(minutes.table(work, whole, taken, config.minutes, rates.taken), flush=True)
    fitted = minutes.as_options(work, fixed)
    fitted["retrain"] = fitted.get("retrain", {}) | jobs
    seconds = {entry.step: round(3600 * entry.hours) for entry in taken}
    plan = {"given": config.minutes, "options": fitted, "seconds": seconds, "timing": round(rates.taken)}
    much = {"work": dataclasses.asdict(work), "usual": dataclasses.asdict(whole)}
    return plan | much | {"start": round(rates.start, 1), "jobs": rates.jobs}


def choose_network(
    config: Any, given: tuple[Mapping[str, Any], Mapping[str, Any]], record: dict[str, Any]
) -> dict[str, Any]:
    """The options that the supernet is given: those that were typed, and what the budget decides; a road that has begun keeps it.

    Args:
        given: the supernet's section of the file of options, and what was typed but for --width-mult.
    """
    section, own = given
    width = config.width_mult
    known = {**section, **own} | ({} if width is None else {"width-mult": width})
    check_given(known)
    chosen, said = record.get("network", {}), ""
    if not run_dir.begun(config.out) and config.max_macs:
        chosen, said = choose_form(config.images, config.max_macs, known)
        record["network"] = chosen
    elif not run_dir.begun(config.out) and not LIMITS & set(section):
        said = no_limit_text(config.images, known)
    if said:
        print(said, flush=True)
    found = {name: value for name, value in chosen.items() if name not in section}
    if width not in (None, cli.space_options(str(found.get("space-options", ""))).get("width_mult", 1)):
        found["space-options"] = f"width_mult={width:g}"
    return {**found, **own}


def picture_options(config: Any, network: Mapping[str, Any]) -> dict[str, Any]:
    """The option of trials.data check that shows the images as the supernet sees them; none where the picture or the run is there already.

    Args:
        network: options of the supernet.
    """
    if config.images in IN_MEMORY or (Path(config.out) / "check.png").exists() or run_dir.begun(config.out):
        return {}
    resolution = resolution_for(config.images, network)
    return {} if resolution is None else {"resolution": resolution}
