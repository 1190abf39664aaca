"""Completion of commands and options in a shell: the scripts are typer's, the shell is the one that $SHELL names."""

import os
from pathlib import Path
from typing import Annotated

import typer

from foveate.errors import ConfigError

SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
ASKED = "_FOVEATE_COMPLETE"  # set by the script in the shell


def shell() -> str:
    """The user's shell by $SHELL; no process is looked at. ConfigError where it is none of SHELLS."""
    found = os.environ.get("SHELL", "")
    name = Path(found).stem.lower()
    if name not in SHELLS:
        shown = f'"{found}"' if found else "not set"
        raise ConfigError(f"SHELL is {shown}: expected one of {', '.join(SHELLS)}; SHELL=bash foveate ... names it")
    return name


def prepare_completion() -> None:
    """Let typer know the shells, where a script asks; nothing otherwise."""
    if ASKED in os.environ:
        from typer._completion_classes import completion_init

        completion_init()


def _show(wanted: bool) -> None:
    if wanted:
        from typer._completion_shared import get_completion_script

        print(get_completion_script(prog_name="foveate", complete_var=ASKED, shell=shell()))
        raise typer.Exit


def _install(wanted: bool) -> None:
    if wanted:
        from typer._completion_shared import install

        name, path = install(shell=shell(), prog_name="foveate", complete_var=ASKED)
        print(f"{name}      {path}\nnext      start a new shell, then: foveate <TAB>")
        raise typer.Exit


Show = Annotated[
    bool,
    typer.Option("--show-completion", callback=_show, is_eager=True, help="Print the completion script of $SHELL."),
]
Install = Annotated[
    bool,
    typer.Option("--install-completion", callback=_install, is_eager=True, help="Install it into $SHELL's own files."),
]
