"""The page of commands: what `foveate COMMAND --help` prints, of every command and group."""

from collections.abc import Iterator
from typing import Any

import typer.main

from foveate.cli import app

COLUMNS = 100
HEAD = """# Commands

What `foveate COMMAND --help` prints, for every command. Results go to stdout, progress to stderr; `--json` prints one
object in place of text.

| exit code | means |
|---|---|
| 0 | done |
| 1 | failed; one line on stderr says what was given, what was expected and what to do |
| 2 | the command line is wrong |
| 3 | the data can not be used |
| 4 | the budget can not be reached; the line names the nearest that can |
| 75 | interrupted, and `--resume` goes on |
| 130, 143 | Ctrl-C, SIGTERM |
"""


def helps() -> Iterator[tuple[str, str]]:
    """(`foveate fit`, its help) of the program, its commands and those of its groups, in the order of the program."""
    yield from _helps(typer.main.get_command(app), "foveate", None)


def _helps(command: Any, name: str, parent: Any) -> Iterator[tuple[str, str]]:
    context = command.context_class(
        command, info_name=name.rpartition(" ")[2], parent=parent, terminal_width=COLUMNS, max_content_width=COLUMNS
    )
    yield name, command.get_help(context)
    for other in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from _helps(command.get_command(context, other), f"{name} {other}", context)


def page() -> str:
    parts = [HEAD]
    parts += [f"## {name}\n\n```text\n{text.strip()}\n```\n" for name, text in helps()]
    return "\n".join(parts)
