"""foveate data drift: whether a server is asked other pictures than its model was chosen on."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output
from foveate.cli.options.run import Seed

EXAMPLE = "Example: foveate data drift asked runs/photos-1/best --data photos"


@command_of
def command(
    log: Annotated[str, typer.Argument(metavar="DIR", help="What serve --log-predictions wrote.", show_default=False)],
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The model that answered: folder or .onnx.", show_default=False)
    ],
    *,
    data: Annotated[
        str | None, option("--data", metavar="DATA", help="Its data: validation pictures are what is usual.")
    ] = None,
    reference: Annotated[
        str | None, option("--reference", metavar="DIR", help="Or an earlier log that is usual.")
    ] = None,
    out: Annotated[
        str | None, option("--out", metavar="DIR", help="Thumbnails of the least certain, for data review.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 where a day alarms.")] = False,
    seed: Seed = 0,
    output: Output,
) -> None:
    """Compare what was asked, day by day, with what is usual, and name the days that differ."""
    from foveate.workflows.drift import drift

    found = drift(log, model, data, reference=reference, out=out, seed=seed)
    output.answer(found, lambda: lines(found, out))
    if strict and found["alarms"]:
        raise typer.Exit(code=3)


def lines(found: Mapping[str, Any], out: str | None) -> Iterator[str]:
    """A line a day."""
    about = found["reference"]
    yield f"usual  {about['pictures']:,} pictures of {about['of']}, by {found['by']}"
    for day in found["days"]:
        text = f"{day['day']}  {day['pictures']:>6,} pictures"
        if "distance" in day:
            text += f"  distance {day['distance']:.3f} ({day['low']:.3f} to {day['high']:.3f}), p {day['p']:.2g}"
        if "unknown" in day:
            low, high = 100 * day["unknown_low"], 100 * day["unknown_high"]
            text += f"  unknown {100 * day['unknown']:.1f} % ({low:.1f} to {high:.1f})"
        text += f"  {day['note']}" if "note" in day else ""
        yield text + (f"  ALARM: {', '.join(day['why'])}" if day["why"] else "")
    yield f"alarms {', '.join(found['alarms']) or 'none'}, at p up to {found['p_limit']:.2g} a test"
    if found["of_other_models"]:
        yield f"note: {found['of_other_models']:,} rows are of other models and not looked at"
    if found["handed_over"]:
        yield f"look   {len(found['handed_over'])} pictures in {out}: foveate data review DATA --unlabelled {out}"
