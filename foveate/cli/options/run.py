"""A run: its name and folder, its seed, where it is trained, what it starts from and what it goes on with."""

import enum
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import typer

from foveate.cli.options.data import FollowLinks
from foveate.cli.options.declare import option, running
from foveate.errors import ConfigError


class BadFiles(enum.StrEnum):
    """What to do with pictures that can not be used."""

    stop = "stop"
    skip = "skip"


class Processor(enum.StrEnum):
    """Where training runs."""

    auto = "auto"
    cuda = "cuda"
    mps = "mps"
    cpu = "cpu"


class Licence(enum.StrEnum):
    """Which published weights may be taken."""

    commercial = "commercial"
    any = "any"


Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=2**32 - 1, help="Split, initial weights, order and augmentation follow from it."),
]
Bad = Annotated[BadFiles, typer.Option("--bad-files", help="Stop at the first bad picture, or leave all of them out.")]
Device = Annotated[Processor, typer.Option("--device", metavar="NAME", help="Where to train: auto, cuda, mps or cpu.")]
Threads = Annotated[
    int | None, option("--threads", low=1, high=1024, help="CPU threads of a latency measurement; by default all.")
]
_WEIGHTS = "auto: published ones on this machine; hub: fetch those that race; none: from scratch; "
Weights = Annotated[
    str,
    typer.Option("--weights", metavar="SPEC", help=f"{_WEIGHTS}lite, a file, a model folder, hf-hub:org/name."),
]
Resume = Annotated[
    str | None, option("--resume", metavar="RUN", help="Go on with this run folder; all else comes from it.")
]
Epochs = Annotated[int | None, option("--epochs", low=1, help="Short for epochs=N.")]
Recipe = Annotated[
    str | None,
    option(
        "--recipe", metavar="NAME|FILE", help="A name, or a .json or .toml file; by default what suits the pictures."
    ),
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

    def spoken(self) -> dict[str, Any]:
        """As arguments of train: what the command line says, and None for the rest."""
        said = spoken()
        return {key: value if key in said else None for key, value in self.keywords().items()}


def spoken() -> set[str]:
    """Names of the parameters of the running command that its command line or foveate.toml says."""
    context = running()
    if context is None:
        return set()
    source = context.get_parameter_source
    return {
        name
        for name in context.params
        if getattr(source(name), "name", "") in ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP")
    }


def require(given: Mapping[str, object], usage: str) -> None:
    """ConfigError that names the first thing that was left out, and how the command is written."""
    if missing := [what for what, value in given.items() if not value]:
        raise ConfigError(f"{missing[0]} is missing; expected {usage}")


def refuse_beside_resume(folder: str, recorded: Mapping[str, object], obeyed: Collection[str] = ()) -> None:
    """ConfigError for a setting that the command line says beside --resume and that the run has not.

    recorded: what the run has, by parameter. obeyed: parameters that may change from one session to the next. What is
    in neither can not be compared, and is refused as well.
    """
    context = running()
    labels = {
        p.name: p.opts[0] if p.param_type_name == "option" else p.metavar or p.name for p in context.command.params
    }
    for name in sorted(spoken() - {"resume", "quiet", "as_json", "json", "debug", *obeyed}, key=list(labels).index):
        asked = context.params[name]
        asked = asked.value if isinstance(asked, enum.Enum) else asked
        if not asked and asked != 0:
            continue
        if name not in recorded:
            raise ConfigError(
                f"--resume {folder} takes all from the folder; leave out {labels[name]}, or start a new run without"
                " --resume"
            )
        if not _alike(recorded[name], asked):
            raise ConfigError(
                f"--resume {folder}: the run has {labels[name]} {_shown(recorded[name])}, asked for {_shown(asked)};"
                " a run goes on as it began: leave that out, or start a new run without --resume"
            )


def _alike(has: object, asked: object) -> bool:
    """Whether two settings are the same; paths that lead to the same place are."""
    if isinstance(has, str) and isinstance(asked, str):
        return has == asked or (os.sep in has + asked and Path(has).resolve() == Path(asked).resolve())
    return (
        tuple(has) == tuple(asked)
        if isinstance(has, (list, tuple)) and isinstance(asked, (list, tuple))
        else has == asked
    )


def _shown(value: object) -> str:
    """A setting in words."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else "none" if value is None else str(value)
