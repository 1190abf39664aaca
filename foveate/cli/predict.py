"""foveate predict: label and probability of pictures given as files, folders or a list on stdin."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.options.data import model_folder
from foveate.cli.options.declare import command_of
from foveate.cli.options.output import Output, print_json
from foveate.errors import DataError

EXAMPLE = "Example: foveate predict runs/photos-1/best my.jpg --top 3"
ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})  # a name must not make a row or a column


@command_of
def command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Model folder, run folder, or exported .onnx or .xml.", show_default=False
        ),
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Files, folders, or - for a list of paths on stdin.", show_default=False
        ),
    ],
    *,
    top: Annotated[int, typer.Option("--top", min=1, help="How many labels a picture, most probable first.")] = 1,
    output: Output,
) -> None:
    """Label pictures.

    Prints path, label and probability, split by tabs. A bad picture is a line on stderr and exit code 3 at the end.
    """
    folder = Path(model) if Path(model).suffix.lower() in (".onnx", ".xml") else model_folder(model)
    from foveate.deploy.exported import load

    classifier = load(folder)
    answers: list[dict[str, Any]] = []
    bad = 0
    for path in paths(images):
        try:
            best = classifier.predict(path, top=top)
        except DataError as error:
            bad += 1
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
            answers.append({"path": path, "error": str(error)})
            continue
        if output.as_json:
            answers.append({"path": path, "top": [{"label": label, "probability": p} for label, p in best]})
            continue
        for label, p in best:
            print(f"{path.translate(ESCAPES)}\t{label.translate(ESCAPES)}\t{p:.4f}")
    if output.as_json:
        print_json({"model": str(folder), "predictions": answers})
    if bad:
        raise typer.Exit(DataError.exit_code)


def paths(images: Iterable[str]) -> Iterator[str]:
    """Every file meant by the words of the command line, folders walked in name order."""
    for word in images:
        if word == "-":
            yield from (text for raw in sys.stdin or () if (text := raw.rstrip("\r\n")))
        elif Path(word).is_dir():
            yield from inside(word)
        else:
            yield word


def inside(folder: str) -> list[str]:
    """Files below a folder that are named like pictures; hidden ones are left out. DataError where there are none."""
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            os.path.join(here, name)
            for name in sorted(files)
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    if not found:
        raise DataError(f"{folder}: no pictures in this folder; expected files such as .jpg or .png")
    return found


SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".avif",
    ]
)
