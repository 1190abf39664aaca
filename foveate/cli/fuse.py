"""foveate fuse: several trained models as one."""

import enum
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from foveate.cli import fit as cli_fit
from foveate.cli import show, units
from foveate.cli.options.budget import Runtime, read
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, Quiet
from foveate.cli.options.run import RunOptions, Threads
from foveate.errors import printable
from foveate.report.units import percent

EXAMPLE = "Example: foveate fuse runs/photos-1 runs/photos-2 runs/photos-3"


class Way(enum.StrEnum):
    """How answers, or weights, become one."""

    mean = "mean"
    weights = "weights"
    greedy = "greedy"
    stack = "stack"
    soup = "soup"
    wise = "wise"


@command_of
def command(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL...", help="Model or run folders.", show_default=False)
    ] = None,
    *,
    folder: Annotated[
        str | None, option("--from", metavar="DIR", help="Of runs: the best together are found by greedy selection.")
    ] = None,
    data: Annotated[
        str | None, option("--data", metavar="DATA", help="Pictures; by default those of the first run.")
    ] = None,
    by: Annotated[
        Way,
        typer.Option("--by", help="Mean of answers, weights or greedy on validation, stack, soup of weights, wise."),
    ] = Way.mean,
    max_latency: Annotated[
        str | None, option("--max-latency", metavar="TIME", help="Of all members together, e.g. 20ms.")
    ] = None,
    runtime: Annotated[
        Runtime, option("--runtime", metavar="NAME", help="In which the latency counts: onnxruntime, or openvino.")
    ] = Runtime.onnxruntime,
    place: RunOptions,
    threads: Threads = None,
    quiet: Quiet = False,
    output: Output,
) -> None:
    """Several trained models in, one model folder out, with one ONNX file.

    Members may be of any kind and size; classes are matched by name.
    """
    limit_ms = read(units.latency_ms, "--max-latency", max_latency)
    from foveate.workflows.fuse import fuse

    with show.progress(quiet) as listener:
        run = fuse(
            models or (),
            folder=folder,
            data=data,
            by=by.value,
            max_latency_ms=limit_ms,
            runtime=runtime.value,
            threads=threads,
            listener=listener,
            **place.keywords(),
        )
    output.answer(run.summary, lambda: closing(run.summary, quiet))


def closing(s: Mapping[str, Any], quiet: bool = False) -> list[str]:
    """What each member adds, then what fit says."""
    lines = []
    if not quiet:
        wide = max(len(printable(m["model"])) for m in s["members"])
        lines = [f"{'member':<{wide}}    val   adds"]
        for m in s["members"]:
            name = printable(m["model"])
            lines.append(f"{name:<{wide}}  {percent(m['val_accuracy']):>5}  {m['adds']:+.1f}")
    return lines + cli_fit.closing(s, quiet)
