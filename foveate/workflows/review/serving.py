"""foveate data review --serve: the findings of a review as work for the relabelling pages. No torch."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.config import parse_json
from foveate.errors import ConfigError, DataError
from foveate.files import check_writable
from foveate.serve.decisions import Row
from foveate.serve.relabel import Work
from foveate.workflows.review.look import hold

MAX_BYTES = 256 * 2**20
ODD = {"far": "unlike the others", "dark": "dark", "blurred": "blurred", "odd_size": "of an odd size"}


def work_of(
    data: str, folder: str | Path, *, follow_links: bool = False, commands: Sequence[Sequence[str]] = ()
) -> Work:
    """What the pages show of a review's folder: suspects first, then outliers, then what is worth a second look."""
    if data == "digits":
        raise ConfigError('"digits" is built in and has no files: no list of them can be written')
    folder = Path(folder)
    found = findings(folder)
    check_writable(folder)
    held = hold(data, follow_links)
    names = held.names()
    labels = {name: item.label for name, item in zip(names, held.items, strict=True)}
    rows: dict[str, Row] = {}
    for row in found["suspects"]:
        why = f"looks like {row['suggested']} ({row['score']:.2f})"
        rows.setdefault(row["path"], Row(row["path"], labels.get(row["path"], ""), row["suggested"], why))
    for row in found["outliers"]:
        why = ODD.get(row["kind"], row["kind"])
        rows.setdefault(row["path"], Row(row["path"], labels.get(row["path"], ""), "", why))
    for row in found["next_to_label"]:
        why = f"between {' and '.join(row['between'])}" if row.get("between") else "typical"
        rows.setdefault(row["path"], Row(row["path"], labels.get(row["path"], ""), "", why))
    known = tuple(row for path, row in rows.items() if path in labels)
    if rows and not known:
        raise DataError(f"{folder}: its pictures are not those of {held.name}; was it made for this data?")
    files = {name: item.path for name, item in zip(names, held.items, strict=True)}
    return Work(held.name, tuple(sorted(found["classes"])), known, files, folder / "decisions.csv", commands)


def findings(folder: Path) -> Mapping[str, Any]:
    """review.json of a folder. ConfigError where there is none."""
    file = folder / "review.json"
    try:
        value = parse_json(file.read_text("utf-8"), "review.json")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{file}: {reason}; expected a folder of data review") from None
    if not isinstance(value, dict) or value.get("schema") != "foveate.data.review/1":
        raise ConfigError(f"{file}: not of data review")
    return value


def training_commands(data: str, folder: Path, runs: str, model: str | None) -> list[list[str]]:
    """Write the corrected list, then train on it: as MODEL where one is named, else what fits in ten minutes."""
    here = [sys.executable, "-m", "foveate"]
    new = str(folder / "list.csv")
    apply = [*here, "data", "review", data, "--apply", str(folder / "decisions.csv"), "--clean", new]
    if model is not None:
        return [apply, [*here, "train", new, "--model", model, "--runs", runs]]
    return [apply, [*here, "fit", new, "--time", "10m", "--runs", runs]]
