"""foveate models: the names that --model takes."""

from typing import Annotated, Any

import typer

from foveate.cli import show
from foveate.cli.options import Debug, Json, print_json
from foveate.errors import ConfigError

EXAMPLE = 'Example: foveate models "resnet*" --long'


def command(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help='Shell pattern, e.g. "resnet*"; a plain word matches anywhere.')
    ] = "*",
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Count parameters and multiply-adds too (slower).")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the models.

    --long counts what each costs at its own resolution.
    """
    from foveate.config import near
    from foveate.zoo import list_models, variant

    names = list_models(pattern) or list_models(f"*{pattern}*")
    if not names:
        raise ConfigError(f'no model matches "{pattern}": {near(pattern.strip("*?"), list_models())}')
    if not long and not as_json:
        print("\n".join(names))
        return
    rows: list[dict[str, Any]] = []
    wide = max(map(len, names))
    for name in names:
        config = variant(name)
        row: dict[str, Any] = {"model": name, "family": config.family, "resolution": config.resolution}
        if long:
            from foveate.cost.count import cost

            counted = cost(config)
            row |= {"params": counted.params, "macs": counted.macs}
            if not as_json:
                numbers = f"{show.count(counted.params):>8} params   {show.count(counted.macs):>8} MACs"
                print(f"{name:<{wide}}   {config.resolution:>4} px   {numbers}", flush=True)
        rows.append(row)
    if as_json:
        print_json({"models": rows})
