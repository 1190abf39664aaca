"""foveate classic: descriptors, coding and a support vector machine, as before convolutional networks."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from foveate.cli import fit as cli_fit
from foveate.cli import show, units
from foveate.cli.options.budget import Budget, Time, read
from foveate.cli.options.data import Data
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, Quiet
from foveate.cli.options.run import RunOptions, Threads
from foveate.errors import ConfigError, printable

EXAMPLE = 'Example: foveate classic photos --features "hog(cell=16)+lbp()" --classifier rbf'


@command_of
def command(
    data: Data,
    *,
    features: Annotated[
        str | None,
        option("--features", metavar="CALLS", help="Joined by +: hog, lbp, colour, pixels, sift, patches, maps."),
    ] = None,
    coding: Annotated[
        str | None,
        option("--coding", metavar="CALL", help="Of sift, patches, maps: mean, triangle, hard, soft, llc, fisher."),
    ] = None,
    pyramid: Annotated[
        str | None, option("--pyramid", metavar="SIDES", help="Grids that codes are pooled over, e.g. 1,2,4.")
    ] = None,
    classifier: Annotated[
        str | None, option("--classifier", metavar="CALL", help="linear, rbf(c=10), forest(trees=200), boosting.")
    ] = None,
    model: Annotated[
        str | None, option("--model", metavar="NAME|MODEL", help="Whose last maps are the feature maps.")
    ] = None,
    resolution: Annotated[int | None, option("--resolution", low=8, high=1024, help="Pixels, square.")] = None,
    budget: Budget,
    time: Time = "5m",
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="What is best: accuracy, balanced, f1 or recall@CLASS.")
    ] = "accuracy",
    place: RunOptions,
    threads: Threads = None,
    quiet: Quiet = False,
    output: Output,
) -> None:
    """Learn a classical pipeline: seconds on a processor, no pretrained weights.

    Without --features several are compared on the validation pictures. The result is a run folder like any other:
    predict, eval and export take it.
    """
    limits = budget.limits()
    if limits["max_size_bytes"] is not None:
        raise ConfigError("--max-size: a classical pipeline is as large as its parts make it; choose others")
    time_s = units.time_s("--time", time)
    grids = read(sides, "--pyramid", pyramid)
    from foveate.workflows.classic import classic

    with show.progress(quiet) as listener:
        run = classic(
            data,
            features=None if features is None else calls(features),
            coding=coding,
            grids=grids,
            classifier=classifier,
            model=model,
            resolution=resolution,
            time_s=time_s,
            max_latency_ms=limits["max_latency_ms"],
            runtime=limits["runtime"],
            metric=metric,
            threads=threads,
            listener=listener,
            **place.keywords(),
        )
    output.answer(run.summary, lambda: closing(run.summary, quiet))


def calls(text: str) -> list[str]:
    """ "hog(cell=8)+lbp()" -> its calls."""
    return [part.strip() for part in re.split(r"\+(?![^(]*\))", text)]


def sides(name: str, text: str) -> list[int]:
    """ "1,2" -> [1, 2]."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f'{name} "{text}": expected sides such as 1,2,4') from None


def closing(s: Mapping[str, Any], quiet: bool = False) -> list[str]:
    """The lines at the end: the pipeline, then what fit says."""
    return (
        [f"pipeline  {printable(s['model'])}", *cli_fit.closing(s, quiet)] if not quiet else cli_fit.closing(s, quiet)
    )
