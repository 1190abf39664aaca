"""foveate predict: label and probability of pictures given as files, folders or a list on stdin."""

import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli.options.data import FollowLinks, model_folder
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, print_json, warn
from foveate.errors import ConfigError, DataError, printable

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
    csv: Annotated[
        Path | None, option("--csv", help="Also write a table here: path, label, probability, unknown, error.")
    ] = None,
    sort_into: Annotated[
        Path | None,
        option("--sort-into", metavar="DIR", help="Also copy each picture into DIR/LABEL; nothing is overwritten."),
    ] = None,
    output: Output,
) -> None:
    """Label pictures.

    Prints path, label and probability, split by tabs; with --set also the classes of the set.
    A bad picture is a line on stderr and exit code 3 at the end.
    """
    check_places(csv, sort_into)
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
        answers.append(row(path, found))
        if sort_into is not None:
            answers[-1]["copy"] = copy_into(path, sort_into / folder_name("unknown" if found.unknown else found.label))
        if output.as_json:
            continue
        members = "" if found.set is None else "\t" + ",".join(label.translate(ESCAPES) for label in found.set)
        for label, p in [("unknown", found.probability)] if found.unknown else found.top:
            print(f"{path.translate(ESCAPES)}\t{label.translate(ESCAPES)}\t{p:.4f}{members}")
    if output.as_json:
        print_json({"model": str(folder), "predictions": answers, "left_out": dict(told)})
    if csv is not None:
        write_csv(csv, answers)
    if told:
        print(left_out_line(told), file=sys.stderr)
    if bad:
        raise typer.Exit(DataError.exit_code)


def check_places(csv: Path | None, sort_into: Path | None) -> None:
    """Said before the work, not after it."""
    if csv is not None and (csv.suffix.lower() != ".csv" or not csv.absolute().parent.is_dir()):
        raise ConfigError(f"--csv {csv}: expected a name that ends with .csv, in a folder that exists")
    if sort_into is not None and sort_into.exists() and not sort_into.is_dir():
        raise ConfigError(f"--sort-into {sort_into}: a file; expected a folder, which is made where it is not there")


def write_csv(place: Path, answers: Iterable[Mapping[str, Any]]) -> None:
    """path,label,probability,unknown,error: a row a picture, UTF-8; what a picture has not is empty."""
    import csv
    import io

    from foveate.files import write_bytes

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "label", "probability", "unknown", "error"))
    for found in answers:
        unknown = {True: "true", False: "false"}.get(found.get("unknown"), "")  # type: ignore[arg-type]  # None: not asked
        p = found.get("probability")
        cells = (found.get("label", ""), "" if p is None else f"{p:.6f}", unknown, found.get("error", ""))
        table.writerow((found["path"], *cells))
    write_bytes(place, text.getvalue().encode("utf-8", "backslashreplace"))


def folder_name(label: str) -> str:
    """A label as the name of a folder that every system takes and that leads nowhere else."""
    safe = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in label).strip(". ")[:80]
    reserved = {"con", "prn", "aux", "nul", *(f"{name}{i}" for name in ("com", "lpt") for i in range(1, 10))}
    return f"_{safe}" if not safe or safe.lower().partition(".")[0] in reserved else safe


def copy_into(path: str, folder: Path) -> str:
    """Copy a picture into a folder under its own name, or NAME-2, NAME-3, ... where that is taken; the copy's path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = Path(path)
    for number in range(1, 1_000_000):
        place = folder / (name.name if number == 1 else f"{name.stem}-{number}{name.suffix}")
        try:
            with open(path, "rb") as source, open(place, "xb") as copy:  # x: fails where there is one, a link too
                shutil.copyfileobj(source, copy)
            return str(place)
        except FileExistsError:
            continue
    raise ConfigError(f"--sort-into {folder}: too many files called {name.name}")


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
