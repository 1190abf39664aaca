"""Every option of every command, as tests/facts/options.txt lists them: none comes, goes or changes unseen.

After a wanted change write the file anew and read the difference: python tests/cli/test_options.py
"""

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from foveate.cli import app

FACTS = Path(__file__).parents[1] / "facts" / "options.txt"


def listed(command: Any, name: str = "foveate") -> Iterator[str]:
    """A line for each argument and option, in the order of the help: command, names, metavar, default."""
    for parameter in command.params:
        names = " ".join((*parameter.opts, *parameter.secondary_opts)) if parameter.param_type_name == "option" else ""
        default = parameter.default() if callable(parameter.default) else parameter.default
        if isinstance(default, enum.Enum):
            default = default.value
        shown = "required" if parameter.required else "none" if default is None else f"{default}".lower()
        yield f"{name} {' '.join(part for part in (names, parameter.metavar) if part)} = {shown}"
    for other, inner in sorted(getattr(command, "commands", {}).items()):
        yield from listed(inner, f"{name} {other}")


def text() -> str:
    return "".join(f"{line}\n" for line in listed(typer.main.get_command(app)))


def test_no_option_comes_goes_or_changes_unseen():
    assert text() == FACTS.read_text("utf-8"), __doc__


if __name__ == "__main__":
    FACTS.write_text(text(), "utf-8")
