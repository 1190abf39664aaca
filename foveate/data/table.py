"""A CSV of pictures: path,label[,split,group]. Paths are relative to the CSV's folder (no picture is opened).

Names stand in the file exactly as on disk, bytes that are not UTF-8 too, so a list that we write reads back equal.
An apostrophe before a label or group that a spreadsheet would take for a formula ('=x) is not part of it.
"""

import csv
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from foveate.config import near
from foveate.data.gate.walk import SPLIT_NAMES, Item, Listing, Notice, below
from foveate.data.read.formats import shown
from foveate.errors import DataError
from foveate.files import cell_text

COLUMNS = ("path", "label", "split", "group")


def read_table(file: str | Path) -> Listing:
    """List the rows of a CSV. Faults of the table are DataErrors with a line number; absent files: Listing.missing."""
    file = os.path.abspath(file)
    where, root = shown(os.path.basename(file)), os.path.dirname(file)
    listing = Listing(os.path.splitext(os.path.basename(file))[0], root, file, claimed=True)
    seen_paths: dict[str, int] = {}
    seen_files: dict[tuple[int, int], Item] = {}
    labels: dict[str, set[str]] = {}
    split_at: dict[bool, int] = {}  # whether the split is given -> first line where it is (not)
    for line, row in _rows(file, where):
        path, label, group = (
            os.path.normpath(os.path.join(root, row["path"])),
            cell_text(row["label"]),
            cell_text(row["group"]),
        )
        split = _split(row["split"], f"{where}: line {line}")
        if not row["path"] or not label:
            raise DataError(f"{where}: line {line}: the {'label' if row['path'] else 'path'} is empty")
        if path in seen_paths:
            raise DataError(
                f"{where}: line {line}: {shown(row['path'])} stands on line {seen_paths[path]} too; keep one of them"
            )
        seen_paths[path] = line
        split_at.setdefault(bool(split), line)
        labels.setdefault(split, set()).add(label)
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # ValueError: a NUL in the name
            listing.missing.append((path, f"line {line}: no such file"))
            continue
        if not stat.S_ISREG(status.st_mode):
            listing.missing.append((path, f"line {line}: not a regular file"))
        elif first := seen_files.get((status.st_dev, status.st_ino)):
            text = f"the same file as {shown(below(root, first.path))}; counted once, there"
            kind = "leak" if first.split != split else "two_labels" if first.label != label else "same_file"
            listing.notices.append(Notice(kind, path, text, first.path))
        else:
            item = Item(path, split, label, group, status.st_size, status.st_mtime_ns)
            seen_files[status.st_dev, status.st_ino] = item
            listing.items.append(item)
    if len(split_at) > 1:
        raise DataError(
            f"{where}: line {split_at[False]}: no split, but line {split_at[True]} has one; fill in all or none"
        )
    listing.folders = {split: sorted(names) for split, names in labels.items()}
    return listing


def _split(text: str, where: str) -> str:
    """train, val, test or "" for a cell of the split column."""
    name = text.strip().lower()
    if name and name not in SPLIT_NAMES:
        raise DataError(f'{where}: unknown split "{shown(text)}"; {near(name, SPLIT_NAMES)}')
    return SPLIT_NAMES.get(name, "")


def _rows(file: str, where: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, cells of the four columns) of every row; an absent column gives ""."""
    try:
        with open(file, newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            reader = csv.reader(text, strict=True)
            try:
                names = [n.strip().lower() for n in next(reader, [])]
                _check_header(names, where)
                line = reader.line_num + 1
                for cells in reader:
                    if cells and len(cells) != len(names):
                        raise DataError(
                            f"{where}: line {line}: {len(cells)} cells; expected {len(names)} as in the first line"
                        )
                    if cells:
                        row = dict(zip(names, cells, strict=True))
                        yield line, {column: row.get(column, "") for column in COLUMNS}
                    line = reader.line_num + 1
            except csv.Error as error:
                raise DataError(f"{where}: line {reader.line_num}: not CSV ({error})") from None
    except OSError as error:
        raise DataError(f"{where}: can not be read: {(error.strerror or str(error)).lower()}") from None


def _check_header(names: list[str], where: str) -> None:
    for column in COLUMNS[:2]:
        if column not in names:
            semicolons = len(names) == 1 and ";" in names[0]
            hint = (
                "cells are separated by semicolons; use commas"
                if semicolons
                else f"line 1 has: {shown(', '.join(names))}"
            )
            raise DataError(f'{where}: no column "{column}"; expected path,label[,split,group]; {hint}')
    for name in names:
        if name in COLUMNS and names.count(name) > 1:
            raise DataError(f'{where}: two columns "{name}"')
