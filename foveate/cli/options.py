"""The options that several commands share, and what MODEL stands for. Standard library and typer only."""

import enum
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.errors import ConfigError


class BadFiles(enum.StrEnum):
    """What to do with pictures that can not be used."""

    stop = "stop"
    skip = "skip"


class Device(enum.StrEnum):
    """Where training runs."""

    cpu = "cpu"
    cuda = "cuda"


class Runtime(enum.StrEnum):
    """In which runtime a latency counts."""

    onnxruntime = "onnxruntime"
    openvino = "openvino"


def _remember_debug(context: typer.Context, value: bool) -> bool:
    """Tell main, which made the dict; a caller that runs a command by itself has none."""
    settings = context.find_root().obj
    if value and isinstance(settings, dict):
        settings["debug"] = True
    return value


Debug = Annotated[
    bool, typer.Option("--debug", callback=_remember_debug, is_eager=True, help="Show the traceback of an error.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; less text at the end.")]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Folder of class folders (or train/ val/ test/), a CSV path,label, or digits.",
        show_default=False,
    ),
]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Model folder, or a run folder (then its best/).", show_default=False)
]
Name = Annotated[
    str | None, typer.Option("--name", help="Name of the run; by default the data's name.", show_default=False)
]
Runs = Annotated[str, typer.Option("--runs", metavar="DIR", help="Folder that holds the runs.")]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=2**32 - 1, help="Split, initial weights, order and augmentation follow from it."),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="SPEC",
        help="Start from these: lite, a file, a model folder, hf-hub:org/name.",
        show_default=False,
    ),
]
MaxLatency = Annotated[
    str | None,
    typer.Option(
        "--max-latency",
        metavar="TIME",
        help="Median latency of a picture on this device, e.g. 5ms.",
        show_default=False,
    ),
]
LatencyIn = Annotated[
    Runtime,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="In which the latency counts: onnxruntime, or openvino (an extra).",
        show_default=False,
    ),
]
MaxSize = Annotated[
    str | None,
    typer.Option("--max-size", metavar="SIZE", help="Size of the exported model, e.g. 5MB.", show_default=False),
]
MaxMacs = Annotated[
    str | None,
    typer.Option("--max-macs", metavar="N", help="Multiply-adds of one picture, e.g. 300M.", show_default=False),
]
TrainDevice = Annotated[Device, typer.Option("--device", help="Where to train.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, max=1024, help="CPU threads of a latency measurement; by default all.", show_default=False
    ),
]
Bad = Annotated[BadFiles, typer.Option("--bad-files", help="Stop at the first bad picture, or leave all of them out.")]


def model_folder(text: str) -> Path:
    """MODEL as a folder with a config.json: itself, best/ of a run folder, or the local copy of hf-hub:ORG/NAME.

    ConfigError where there is none.
    """
    if text.startswith("hf-hub:"):
        from foveate.zoo.hub import hub_folder

        return hub_folder(text)
    folder = Path(text)
    for candidate in (folder, folder / "best"):
        if (candidate / "config.json").is_file():
            return candidate
    if not folder.exists():
        raise ConfigError(f"{text}: no such folder; expected a model folder such as runs/photos-1/best")
    raise ConfigError(f"{text}: no config.json here or in best/; expected a model folder such as runs/photos-1/best")


def print_json(value: Any) -> None:
    """The one object of --json. ASCII with escapes, so that every locale and every file name survives."""
    print(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False))
