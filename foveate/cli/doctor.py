"""foveate doctor: what this machine has; with DATA and --model, what training waits for and the change that helps."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli.options.data import FollowLinks, Training
from foveate.cli.options.declare import command_of
from foveate.cli.options.output import Output
from foveate.cli.options.run import Device, Processor, Recipe
from foveate.cli.units import time_s as parse_time
from foveate.errors import ConfigError
from foveate.report.units import duration, milliseconds, percent, size

if TYPE_CHECKING:
    from foveate.workflows.doctor.diagnosis import Diagnosis
    from foveate.workflows.doctor.environment import Environment

EXAMPLE = "Example: foveate doctor photos --model resnet18"


@command_of
def command(
    what: Training,
    *,
    recipe: Recipe = None,
    time: Annotated[str, typer.Option("--time", metavar="TIME", help="What the measured steps may take.")] = "1m",
    device: Device = Processor.auto,
    follow_links: FollowLinks = False,
    output: Output,
) -> None:
    """Tell what this machine has and what is wrong with it.

    With DATA and --model: a few measured training steps, what they wait for, and the one change that helps most.
    """
    data, changes = what.read()
    if (data is None) != (what.model is None):
        missing = "--model NAME" if what.model is None else "DATA"
        raise ConfigError(f"{missing} is missing; expected foveate doctor, or foveate doctor DATA --model NAME")
    most_s = parse_time("--time", time)
    from foveate.workflows.doctor.diagnosis import diagnose
    from foveate.workflows.doctor.environment import environment

    found = environment()
    diagnosis = None
    if data is not None and what.model is not None and not found.broken:
        diagnosis = diagnose(
            data,
            what.model,
            recipe=recipe,
            overrides=changes,
            device=device.value,
            follow_links=follow_links,
            most_s=most_s,
            told=_say,
        )
    report: dict[str, Any] = {"environment": found.facts, "problems": [*found.broken, *found.problems]}
    report["training"] = diagnosis and {**asdict(diagnosis), "data_share": diagnosis.data_share}
    output.answer(
        report, lambda: [*environment_lines(found), *(training_lines(diagnosis, recipe) if diagnosis else ())]
    )
    if found.broken:
        raise typer.Exit(1)


def environment_lines(found: "Environment") -> list[str]:
    """The machine, and what is wrong with it."""
    f = found.facts
    simd = f["simd"]
    flags = " · ".join([simd["capability"], *(name for name in ("bf16", "amx") if simd[name])])
    free = f"{size(f['memory_free_bytes'])} memory and {size(f['disk_free_bytes'])} disk free"
    extras = [f"{name} {'yes' if there else 'no'}" for name, there in f["extras"].items()]
    out = [
        f"foveate   {f['foveate']} · Python {f['python']} · {f['system']}",
        f"packages  {' · '.join(f'{name} {version}' for name, version in f['packages'].items() if version)}",
        f"machine   {f['device']} · {f['threads']} threads in torch · {flags}",
        f"room      {free}",
        f"cuda      {', '.join(f['cuda']) or 'none'}",
        f"extras    {' · '.join(extras)}",
        f"cache     {f['cache']}: {', '.join(f['cache_files']) or 'empty'}",
    ]
    problems = [*found.broken, *found.problems]
    return out + [f"{'problem' if i == 0 else '':<9} {text}" for i, text in enumerate(problems or ["none found"])]


def training_lines(d: "Diagnosis", recipe: str | None) -> list[str]:
    """What a step consists of, the forms that were tried, and the advice."""
    pause = "in memory" if d.resident else "decoded in every epoch"
    read = f"decoding {_ms(d.data_s)}" if not d.resident else f"decoded once, about {duration(d.first_read_s)}"
    out = [
        f"step      {d.batch} pictures of {d.size} x {d.size}, {pause}: {_ms(d.both_s)} with data and all",
        f"          alone: {read} · augmenting {_ms(d.augment_s)} · network {_ms(d.step_s)}",
        f"bound by  {d.bound}: data take {percent(d.data_share)} % of the work",
    ]
    wide = max(len(form.change) for form in d.forms)
    for i, form in enumerate(d.forms):
        ratio = form.seconds / d.forms[0].seconds
        name = form.change or "as it is"
        out.append(
            f"{'forms' if i == 0 else '':<9} {name:<{max(wide, 8)}}  {_ms(form.seconds)}  {ratio:5.2f}  n = {form.n}"
        )
    out.append(f"advice    {d.advice}" + (f" (saves {percent(d.gain)} % of a step)" if d.gain else ""))
    if d.change:
        out.append(f"          foveate train ... {f'--recipe {recipe} ' if recipe else ''}{d.change}")
    return out


def _ms(seconds: float) -> str:
    return milliseconds(1e3 * seconds)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
