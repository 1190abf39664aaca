"""foveate predict: label and probability of pictures given as files, folders or a list on stdin."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli.options.data import FollowLinks, model_folder
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, print_json, warn
from foveate.errors import DataError, printable

if TYPE_CHECKING:
    from foveate.deploy.answer import Answer

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
    follow_links: FollowLinks = False,
    top: Annotated[int, typer.Option("--top", min=1, help="How many labels a picture, most probable first.")] = 1,
    resolution: Annotated[
        int | None, option("--resolution", low=8, high=4096, help="Pixels, square; else the model's own.")
    ] = None,
    keep: Annotated[
        float | None,
        option("--keep", low=0.01, high=0.999, help='Say "unknown" of what is stranger than this share of validation.'),
    ] = None,
    coverage: Annotated[
        float | None,
        option("--set", low=0.01, high=0.999, help="The classes that hold the right one in this share, 0.95 say."),
    ] = None,
    output: Output,
) -> None:
    """Label pictures.

    Prints path, label and probability, split by tabs; with --set also the classes of the set.
    A bad picture is a line on stderr and exit code 3 at the end.
    """
    folder = Path(model) if Path(model).suffix.lower() in (".onnx", ".xml") else model_folder(model)
    from foveate.deploy.exported import load

    classifier = load(folder, resolution=resolution, tell=warn)
    answers: list[dict[str, Any]] = []
    bad = 0
    told: Counter[str] = Counter()
    for path in paths(images, follow_links, told):
        try:
            found = classifier.answer(path, top=top, keep=keep, coverage=coverage)
        except DataError as error:
            bad += 1
            print(f"error: {printable(' '.join(str(error).split()))}", file=sys.stderr, flush=True)
            answers.append({"path": path, "error": str(error)})
            continue
        if output.as_json:
            answers.append(row(path, found))
            continue
        members = "" if found.set is None else "\t" + ",".join(label.translate(ESCAPES) for label in found.set)
        for label, p in [("unknown", found.probability)] if found.unknown else found.top:
            print(f"{path.translate(ESCAPES)}\t{label.translate(ESCAPES)}\t{p:.4f}{members}")
    if output.as_json:
        print_json({"model": str(folder), "predictions": answers, "left_out": dict(told)})
    if told:
        print(left_out_line(told), file=sys.stderr)
    if bad:
        raise typer.Exit(DataError.exit_code)


def row(path: str, found: "Answer") -> dict[str, Any]:
    """What --json tells of a picture: unknown and set are null where they were not asked for."""
    return {
        "path": path,
        "label": found.label,
        "probability": found.probability,
        "unknown": found.unknown,
        "set": None if found.set is None else list(found.set),
        "strangeness": found.strangeness,
        "top": [{"label": label, "probability": p} for label, p in found.top],
    }


def paths(images: Iterable[str], follow_links: bool = False, told: Counter[str] | None = None) -> Iterator[str]:
    """Every file meant by the words of the command line, folders walked in name order.

    told: counts what is left out of folders, by kind.
    """
    for word in images:
        if word == "-":
            yield from (text for raw in sys.stdin or () if (text := raw.rstrip("\r\n")))
        elif Path(word).is_dir():
            from foveate.data.gate.inside import inside

            yield from inside(word, follow_links, told)
        else:
            yield word


def left_out_line(told: Mapping[str, int]) -> str:
    """ "5 left out: hidden and system files (3), files that are no pictures (2)"."""
    from foveate.data.read.kinds import KINDS

    kinds = [f"{KINDS[kind].title.removesuffix(', ignored')} ({n:,})" for kind, n in told.items() if n]
    return f"{sum(told.values()):,} left out: {', '.join(kinds)}"
