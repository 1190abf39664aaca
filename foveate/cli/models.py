"""foveate models: the names that --model takes, what they cost and what is published of them."""

import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import units
from foveate.cli.options.budget import MaxMacs, read
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output
from foveate.report.units import count

if TYPE_CHECKING:
    from foveate.zoo.catalogue import Entry

EXAMPLE = 'Example: foveate models "resnet*" --max-macs 2G --sort macs'


class Sort(enum.StrEnum):
    """The columns that order the table."""

    model = "model"
    params = "params"
    macs = "macs"
    resolution = "resolution"
    top1 = "top1"


@command_of
def command(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help='Shell pattern, e.g. "resnet*"; a plain word matches anywhere.')
    ] = "*",
    *,
    max_macs: MaxMacs = None,
    max_params: Annotated[
        str | None, option("--max-params", metavar="N", help="At most so many parameters: 5M.")
    ] = None,
    sort: Annotated[Sort, typer.Option("--sort", help="Order of the lines; top1 begins with the best.")] = Sort.model,
    names: Annotated[bool, typer.Option("--names", help="Names only, one a line.")] = False,
    output: Output,
) -> None:
    """List the models with what they cost at their own resolution, and their published accuracy.

    Accuracies come from different recipes: the column says whose they are. The docs page zoo.md plots them.
    """
    limit_macs = read(units.count, "--max-macs", max_macs)
    limit_params = read(units.count, "--max-params", max_params)
    from foveate.zoo.catalogue import catalogue

    found = catalogue(pattern, max_macs=limit_macs, max_params=limit_params, sort=sort.value)

    def lines() -> Iterator[str]:
        if names:
            yield from (e.model for e in found)
            return
        wide = max((len(e.model) for e in found), default=5)
        yield f"{'model':<{wide}}  {'params':>8}  {'MACs':>8}    px   top-1  weights, or who reports the accuracy"
        yield from (line(e, wide) for e in found)

    output.answer({"models": [row(e) for e in found]}, lines)


def line(e: "Entry", wide: int) -> str:
    """A line of the table for people."""
    p = e.published
    top1 = f"{p.top1:.1f}" if p and p.top1 is not None else "-"
    origin = (p.weights or p.source) if p else ""
    numbers = f"{count(e.params):>8}  {count(e.macs):>8}  {e.resolution:>4}"
    return f"{e.model:<{wide}}  {numbers}  {top1:>6}  {origin}".rstrip()


def row(e: "Entry") -> dict[str, Any]:
    """A line of the table for programs."""
    p, known = e.published, {}
    if p is not None:
        known = {"paper": p.paper, "arxiv": p.arxiv, "top1": p.top1, "top1_source": p.source, "weights": p.weights}
    counted = {"params": e.params, "macs": e.macs, "resolution": e.resolution}
    return {"model": e.model, "family": e.family, **counted, **known}
