"""foveate search: the best net of a space, on pictures; on a table of trained nets, searchers beside each other."""

from typing import Annotated

import typer

from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output
from foveate.cli.options.run import require
from foveate.cli.search_pictures import Costs, Trials, WinnerRun, search_on_pictures
from foveate.cli.search_table import TableOptions, is_table, search_on_table

EXAMPLE = "Example: foveate search photos --space mnasnet --max-latency 2ms --time 20m"


@command_of
def command(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA|TABLE", help="Pictures as in fit; or CSV or JSON of trained nets.", show_default=False
        ),
    ] = None,
    *,
    space: Annotated[
        str | None,
        option(
            "--space", help="A name, a call such as subnets(of=...), or my_space.py, run as code; else by the pictures."
        ),
    ] = None,
    sampler: Annotated[
        str, typer.Option("--sampler", help="A name, a call such as evolution(population=20); on a table also all.")
    ] = "predictor",
    objectives: Annotated[
        str | None,
        option(
            "--objectives",
            metavar="A,B",
            help="accuracy,latency_ms,macs,params,size_bytes; of a table: columns (+x,-y).",
        ),
    ] = None,
    number: Annotated[int | None, option("--trials", low=1, high=100_000, help="Different nets.")] = None,
    costs: Costs,
    trials: Trials,
    columns: TableOptions,
    place: WinnerRun,
    output: Output,
) -> None:
    """Search the best net of a space.

    On pictures: short trainings find it, measured here; then it is trained in full. On a table: searchers are compared.
    """
    if trials.resume is None:
        require({"DATA": data}, "foveate search DATA --space NAME, or --resume RUN")
    if data is not None and is_table(data):
        require({"--space": space}, "foveate search TABLE --space NAME")
        search_on_table(data, str(space), columns, sampler=sampler, objectives=objectives, trials=number, output=output)
        return
    columns.refuse_with_pictures(data)
    search_on_pictures(
        data,
        space,
        sampler=sampler,
        objectives=objectives,
        number=number,
        costs=costs,
        trials=trials,
        place=place,
        output=output,
    )
