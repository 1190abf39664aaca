"""New lists of pictures from a person's decisions. No picture is moved, changed or removed."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.data.gate.walk import SPLITS, Item
from foveate.data.read.formats import shown
from foveate.data.split import csv_bytes
from foveate.errors import ConfigError, DataError
from foveate.files import cell_text, write_bytes
from foveate.workflows.review.look import Held

DECISIONS = ("keep", "relabel", "drop", "")


def read_decisions(file: str | Path) -> dict[str, tuple[str, str]]:
    """name -> (decision, new label) of a decisions.csv: columns path, decision, and label or suggested.

    relabel takes the column "new_label" where it is filled in, else "suggested". Rows without a decision are left out.
    DataError with the line for what can not be obeyed.
    """

    try:
        text = Path(file).read_text("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise ConfigError(f"--apply {shown(str(file))}: {(error.strerror or str(error)).lower()}") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    where = shown(os.path.basename(os.fspath(file)))
    if not {"path", "decision"} <= set(reader.fieldnames or ()):
        raise DataError(f"{where}: expected columns path,label,suggested,decision as data review writes them")
    found: dict[str, tuple[str, str]] = {}
    for line, row in enumerate(reader, 2):
        path, decision = cell_text(row["path"] or ""), (row["decision"] or "").strip().lower()
        if decision not in DECISIONS:
            raise DataError(
                f'{where}: line {line}: decision "{shown(decision)}"; expected keep, relabel, drop or nothing'
            )
        new = cell_text((row.get("new_label") or row.get("suggested") or "").strip())
        if decision == "relabel" and not new:
            raise DataError(f"{where}: line {line}: relabel without a label; fill in suggested or new_label")
        if path in found and found[path] != (decision, new):
            raise DataError(f"{where}: line {line}: a second decision for {shown(path)}; keep one of them")
        if decision:
            found[path] = decision, new
    if not found:
        raise DataError(
            f"{where}: no row has a decision; write keep, relabel or drop into its column decision, or decide in"
            " review.html or with data review --serve"
        )
    return found


def apply(held: Held, decisions: Mapping[str, tuple[str, str]]) -> tuple[list[Item], dict[str, int]]:
    """(the pictures that are left with their labels, how many of each decision). DataError for an unknown name."""
    names = held.names()
    if strange := sorted(set(decisions) - set(names)):
        raise DataError(f"decisions name {shown(strange[0])}, which {shown(held.name)} has not; were they made for it?")
    done = {"keep": 0, "relabel": 0, "drop": 0}
    items = []
    for name, item in zip(names, held.items, strict=True):
        decision, label = decisions.get(name, ("", ""))
        if decision:
            done[decision] += 1
        if decision != "drop":
            items.append(item._replace(label=label) if decision == "relabel" else item)
    return items, done


def without_copies(held: Held, groups: Sequence[Mapping[str, Any]]) -> tuple[list[Item], list[str]]:
    """(the pictures with one of each set of near duplicates, the names that go). Of a set that has two labels all stay,
    for nobody knows which is right; else that in test stays, else that in val, else the first.
    """
    place = dict(zip(held.names(), held.items, strict=True))
    gone: list[str] = []
    for row in groups:
        if len(row["labels"]) > 1:
            continue
        best = max(row["paths"], key=lambda p: SPLITS.index(place[p].split) if place[p].split else 0)
        gone += [path for path in row["paths"] if path != best]
    left = set(gone)
    return [item for name, item in place.items() if name not in left], sorted(left)


def write_list(items: Sequence[Item], file: str | Path) -> None:
    """A CSV as data split writes: it opens as DATA."""
    if not items:
        raise DataError("no picture is left: no list is written")
    rows = [(item.path, item.label, item.split, item.group) for item in items]
    write_bytes(file, csv_bytes(rows, Path(file).absolute().parent))
