"""What a command prints, and how much: --json, --quiet, --debug."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import typer


def _remember_debug(context: typer.Context, value: bool) -> bool:
    """Tell main, which made the dict; a caller that runs a command by itself has none."""
    settings = context.find_root().obj
    if value and isinstance(settings, dict):
        settings["debug"] = True
    return value


Debug = Annotated[
    bool, typer.Option("--debug", callback=_remember_debug, is_eager=True, help="Show the traceback of an error.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; less text at the end.")]


@dataclass(frozen=True)
class Output:
    """The form of the result."""

    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")] = False
    debug: Debug = False

    def answer(self, value: Any, lines: Callable[[], Iterable[str]]) -> None:
        """Print the result: the value with --json, else the lines."""
        if self.as_json:
            print_json(value)
        else:
            print("\n".join(lines()))


def print_json(value: Any) -> None:
    """The one object of --json. ASCII with escapes, so that every locale and every file name survives."""
    print(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False))
