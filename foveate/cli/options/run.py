"""A run: its name and folder, its seed, where it is trained, what it starts from and what it goes on with."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict

import typer

from foveate.cli.options.data import FollowLinks
from foveate.cli.options.declare import option
from foveate.errors import ConfigError


class BadFiles(enum.StrEnum):
    """What to do with pictures that can not be used."""

    stop = "stop"
    skip = "skip"


class Processor(enum.StrEnum):
    """Where training runs."""

    cpu = "cpu"
    cuda = "cuda"


Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=2**32 - 1, help="Split, initial weights, order and augmentation follow from it."),
]
Bad = Annotated[BadFiles, typer.Option("--bad-files", help="Stop at the first bad picture, or leave all of them out.")]
Device = Annotated[Processor, typer.Option("--device", help="Where to train.")]
Threads = Annotated[
    int | None, option("--threads", low=1, high=1024, help="CPU threads of a latency measurement; by default all.")
]
Weights = Annotated[
    str | None,
    option("--weights", metavar="SPEC", help="Start from these: lite, a file, a model folder, hf-hub:org/name."),
]
Resume = Annotated[
    str | None, option("--resume", metavar="RUN", help="Go on with this run folder; all else comes from it.")
]
Epochs = Annotated[int | None, option("--epochs", low=1, help="Short for epochs=N.")]
Recipe = Annotated[
    str | None, option("--recipe", metavar="NAME", help="Named recipe; by default what suits the pictures.")
]


class RunKeywords(TypedDict):
    """The same as every command that makes a run takes it."""

    name: str | None
    runs: str
    seed: int
    bad_files: Literal["stop", "skip"]
    follow_links: bool


@dataclass(frozen=True)
class RunOptions:
    """Where the run lies and what its chances follow from."""

    name: Annotated[str | None, option("--name", help="Name of the run; by default the data's name.")] = None
    runs: Annotated[str, typer.Option("--runs", metavar="DIR", help="Folder that holds the runs.")] = "runs"
    seed: Seed = 0
    bad_files: Bad = BadFiles.stop
    follow_links: FollowLinks = False

    def keywords(self) -> RunKeywords:
        """As arguments of fit, train, search, ablate and compress."""
        return {
            "name": self.name,
            "runs": self.runs,
            "seed": self.seed,
            "bad_files": self.bad_files.value,
            "follow_links": self.follow_links,
        }


def require(given: Mapping[str, object], usage: str) -> None:
    """ConfigError that names the first thing that was left out, and how the command is written."""
    if missing := [what for what, value in given.items() if not value]:
        raise ConfigError(f"{missing[0]} is missing; expected {usage}")


def refuse_beside_resume(given: Mapping[str, object]) -> None:
    """ConfigError for what was given beside --resume, which takes all from the folder."""
    if too_much := [what for what, value in given.items() if value]:
        raise ConfigError(f"--resume takes all from the folder; leave out {', '.join(too_much)}")
