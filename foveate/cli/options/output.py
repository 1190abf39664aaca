"""What a command prints, and how much: --json, --quiet, --debug."""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, TextIO

import typer

from foveate.errors import printable


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
            print("\n".join(map(printable, lines())))


def print_json(value: Any) -> None:
    """The one object of --json. ASCII with escapes, so that every locale and every file name survives."""
    # DEL is the one control that json leaves as it is
    print(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f"))


def warn(text: str) -> None:
    """A line of warning on stderr."""
    print(f"warning: {printable(text)}", file=sys.stderr, flush=True)


class Visible:
    """A stream of text through which nothing passes that moves a terminal: whatever a name, a file or an error holds.

    What is written goes on with controls escaped (foveate.errors.printable); ends of lines and tabs stay. Where nobody
    looks, in a file or a pipe, bytes of names that are not UTF-8 stay, too, but for the controls among them.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.keep = "\n\t" if stream.isatty() else "\n\t" + "".join(map(chr, range(0xDCA0, 0xDD00)))

    def write(self, text: str) -> int:
        """Write the text, escaped; returns its length."""
        self.stream.write(printable(text, self.keep))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)  # flush, fileno, isatty, encoding, buffer
