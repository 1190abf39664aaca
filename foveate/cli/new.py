"""foveate new: a folder with a commented foveate.toml, so that a project is a file under version control."""

import json
from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output
from foveate.cli.project import NAME, TEMPLATE
from foveate.errors import ConfigError

EXAMPLE = "Example: foveate new flowers --data photos"


@command_of
def command(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Folder of the project, made where it is not there.", show_default=False),
    ],
    *,
    data: Annotated[
        str | None, option("--data", metavar="DATA", help='The pictures; else "photos", to be changed.')
    ] = None,
    output: Output,
) -> None:
    """Begin a project: write a commented foveate.toml.

    Every command that is started in that folder reads data, budget, weights and seed from it; options win.
    """
    from foveate.files import write_text

    place = Path(name)
    if place.exists() and not place.is_dir():
        raise ConfigError(f"{name}: a file; expected the name of a folder")
    target = place / NAME
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target}: there is one already; edit it, or take another NAME")
    place.mkdir(parents=True, exist_ok=True)
    shown = json.dumps(data or "photos", ensure_ascii=False)  # a basic string of TOML is written as JSON's
    write_text(target, TEMPLATE.format(data=shown))
    change = "" if place.resolve() == Path().resolve() else f"cd {name}; "
    output.answer(
        {"project": str(target)}, lambda: [f"wrote     {target}", f"next      look at it, then: {change}foveate fit"]
    )
