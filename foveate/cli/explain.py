"""foveate explain: where a model looks, as pictures, with a check whether that place matters."""

import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from foveate.cli.options.data import FollowLinks, Model, model_folder
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output
from foveate.cli.options.run import Seed
from foveate.errors import DataError, printable

EXAMPLE = "Example: foveate explain runs/photos-1/best my.jpg --out looked"


@command_of
def command(
    model: Model,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Files, folders, or - for a list of paths on stdin.", show_default=False
        ),
    ],
    *,
    label: Annotated[str | None, option("--label", help="Explain this class, not the most likely one.")] = None,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="auto, cam, gradcam, gradcam++, hirescam or layercam.")
    ] = "auto",
    out: Annotated[
        str | None, option("--out", metavar="DIR", help="Folder of the pictures; by default a new one.")
    ] = None,
    runs: Annotated[str, typer.Option("--runs", metavar="DIR", help="Folder that holds the runs.")] = "runs",
    seed: Seed = 0,
    follow_links: FollowLinks = False,
    output: Output,
) -> None:
    """Show where a model looks.

    Each picture is drawn with what speaks for its class in colour. That region is then covered: where the probability
    drops no more than for random regions, the map means little, and that is said.
    """
    folder = model_folder(model)
    from foveate.cli.predict import paths
    from foveate.workflows.explain import explain

    found = explain(folder, paths(images, follow_links), label=label, method=method, out=out, runs=runs, seed=seed)
    bad = [row for row in found["pictures"] if "error" in row]
    for row in bad:
        print(f"error: {printable(' '.join(row['error'].split()))}", file=sys.stderr, flush=True)
    output.answer(found, lambda: lines(found))
    if bad:
        raise typer.Exit(DataError.exit_code)


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A line a picture: label, probability, what the check says, where the overlay is."""
    rows = [row for row in found["pictures"] if "error" not in row]
    for row in rows:
        check = f"drops when covered {100 * row['drop']:+.0f} points, random {100 * row['drop_random']:+.0f}"
        yield f"{row['path']}  {row['label']} {row['probability']:.3f}  {row['verdict']} ({check})  {row['overlay']}"
    if rows:
        methods = sorted({row["method"] for row in rows})
        sure = "; cam is exact: its mean and the bias are the logit" if methods == ["cam"] else ""
        yield f"{len(rows):,} maps by {' and '.join(methods)}{sure}"
