"""Lists of pictures as CSV that open as DATA again: who is in which split, and what is left after the gate.

Names are written exactly as they are, bytes that are not UTF-8 too, with paths relative to the folder of the CSV. Only
what a spreadsheet would take for a formula is changed, so that reading gives it back: a path =x.jpg is ./=x.jpg, a
label =x is '=x (foveate/files.py, cell).
"""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from foveate.data.gate.check import Report
from foveate.data.gate.walk import SPLITS, below
from foveate.data.index import Dataset
from foveate.files import cell, write_bytes

Row = tuple[str, str, str, str]  # path, label, split, group


def write_split_csv(dataset: Dataset, path: str | Path) -> None:
    """Write path,label,split[,group] of a data set durably. open_data gives the same splits back. No file is moved."""
    rows = [
        (p, dataset.classes[split.labels[i]], name, split.groups[i] if split.groups else "")
        for name, split in dataset.splits.items()
        for i, p in enumerate(split.paths)
    ]
    write_bytes(path, csv_bytes(rows, Path(path).absolute().parent))


def write_clean_csv(report: Report, path: str | Path) -> int:
    """Write the pictures that the gate has nothing against; returns how many of the usable ones are dropped.

    Of the same picture in several files one stays: that in test, else that in val, else the first. Of a picture under
    two labels none stays, for nobody knows which is right.
    """
    split = {below(report.root, item.path): item.split for item in report.items}
    dropped: set[str] = set()
    for finding in report.findings:
        if finding.kind == "two_labels":
            dropped.update(finding.paths)
        elif finding.kind in ("leak", "exact_duplicate", "near_duplicate"):
            known = [p for p in finding.paths if p in split]
            best = max(known, key=lambda p: SPLITS.index(split[p]) if split[p] else 0)  # the first of the best
            dropped.update(p for p in known if p != best)
    kept = [item for item in report.items if below(report.root, item.path) not in dropped]
    rows = [(item.path, item.label, item.split, item.group) for item in kept]
    write_bytes(path, csv_bytes(rows, Path(path).absolute().parent))
    return len(report.items) - len(kept)


def csv_bytes(rows: Iterable[Row], folder: str | Path) -> bytes:
    """The rows as a CSV that will stand in a folder; split and group only where a row has one."""
    rows, folder = list(rows), os.path.abspath(folder)
    columns = [i for i in range(4) if i < 2 or any(row[i] for row in rows)]
    text = io.StringIO()
    writer = csv.writer(text)  # RFC 4180: the line ends are CRLF, so that a name with either of them is quoted
    writer.writerow([("path", "label", "split", "group")[i] for i in columns])
    for path, *rest in rows:
        where = os.path.relpath(path, folder) if os.path.isabs(path) else path  # built-in data has names, no files
        where = os.path.join(".", where) if cell(where) != where else where
        writer.writerow([(where, *map(cell, rest))[i] for i in columns])
    return text.getvalue().encode("utf-8", "surrogateescape")
