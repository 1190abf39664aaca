"""What a form of an exported model is: one record a form. No torch, so that forms can be listed without it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.deploy.runtime import Session
    from foveate.deploy.subject import Subject

Files = Mapping[str, bytes]  # suffix -> bytes; of a folder: name -> bytes


@dataclass(frozen=True)
class Given:
    """What a form may be asked for beside the model. title: of a page. runtime: a folder that holds what goes into a
    page; None: looked for. fetch: take it from its registry where it is not there."""

    title: str = "model"
    runtime: Path | None = None
    fetch: bool = False


@dataclass(frozen=True)
class Form:
    """One form.

    make gives its files, and open runs them again: answers are compared before anything is kept.
    """

    about: str
    suffix: str  # of the file that is opened, or of the folder
    missing: Callable[[Given], str | None]  # why it can not be made here, and what to do; None where it can
    make: Callable[["Subject", Given], Files]
    open: Callable[[Files, int], "Session"]  # (files, threads)
    precision: str = "fp32"
    folder: bool = False
    next: str = ""  # what to do with it, {file} in it
