"""A CSV of pictures: path,label[,split,group]. Paths are relative to the CSV's folder (no picture is opened).

Names stand in the file exactly as on disk, bytes that are not UTF-8 too, so a list that we write reads back equal.
An apostrophe before a label or group that a spreadsheet would take for a formula ('=x) is not part of it.
"""

import os
import re
import stat
import unicodedata
from collections import defaultdict
from pathlib import Path

from foveate.config import near
from foveate.data.gate.walk import SPLIT_NAMES, Item, Listing, Notice, below
from foveate.data.read.formats import shown
from foveate.data.rows import SAVE_AS, Row, rows_of
from foveate.errors import DataError
from foveate.files import cell_text

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def read_table(file: str | Path) -> Listing:
    """List the rows of a CSV. Faults of the table are DataErrors with a line number; absent files: Listing.missing."""
    file = os.path.abspath(file)
    where, root = shown(os.path.basename(file)), os.path.dirname(file)
    listing = Listing(os.path.splitext(os.path.basename(file))[0], root, file, claimed=True)
    faults: dict[str, list[tuple[int, str]]] = defaultdict(list)  # kind -> (line, text): one cause, one error
    seen_paths: dict[str, tuple[Row, str, str]] = {}
    seen_files: dict[tuple[int, int], Item] = {}
    spellings: dict[str, set[str]] = defaultdict(set)
    split_at: dict[bool, int] = {}  # whether the split is given -> first line where it is (not)
    for row in rows_of(file, where):
        path, status = _find(root, row.path)
        if fault := _fault(row, status is not None):
            faults[fault[0]].append((row.line, fault[1]))
            continue
        label, group = _label(cell_text(row.label), row.path), cell_text(row.group.strip())
        split = SPLIT_NAMES[row.split.strip().lower()] if row.split.strip() else ""
        if path in seen_paths:
            first, *same = seen_paths[path]
            text = f"{shown(row.path)} stands on line {first.line} too"
            if [label, split] == same:
                listing.notices.append(Notice("same_file", path, f"{text}; counted once, there"))
            else:
                faults["twice"].append((row.line, f"{text}, with another label or split; keep one of them"))
            continue
        seen_paths[path] = row, label, split
        spellings[label].add(row.label)
        split_at.setdefault(bool(split), row.line)
        if status is None:
            listing.missing.append((path, f"line {row.line}: no such file"))
        elif not stat.S_ISREG(status.st_mode):
            listing.missing.append((path, f"line {row.line}: not a regular file"))
        elif held := seen_files.get((status.st_dev, status.st_ino)):
            text = f"the same file as {shown(below(root, held.path))}; counted once, there"
            kind = "leak" if held.split != split else "two_labels" if held.label != label else "same_file"
            listing.notices.append(Notice(kind, path, text, held.path))
        else:
            item = Item(path, split, label, group, status.st_size, status.st_mtime_ns)
            seen_files[status.st_dev, status.st_ino] = item
            listing.items.append(item)
    if not faults and len(split_at) > 1:
        text = f"no split, but line {split_at[True]} has one; fill in all or none"
        faults["split"].append((split_at[False], text))
    for found in faults.values():
        more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
        raise DataError(f"{where}: line {found[0][0]}{more}: {found[0][1]}")
    for label, written in spellings.items():
        if len(written) > 1:
            text = f"{', '.join(sorted(map(ascii, written)))} are one label, {shown(label)}"
            listing.notices.append(Notice("joined_labels", os.path.join(root, shown(label)), text))
    return listing


def _find(root: str, written: str) -> tuple[str, os.stat_result | None]:
    """(absolute path, its status or None where nothing is there) of a path as it is written.

    Where nothing has that very name: without blanks around it, then with the separators of Windows.
    """
    tries = [written, written.strip(), written.strip().replace("\\", "/")]
    first = os.path.normpath(os.path.join(root, tries[1] or written))
    for text in dict.fromkeys(tries):
        path = os.path.normpath(os.path.join(root, text))
        try:
            return path, os.stat(path)
        except (OSError, ValueError):  # ValueError: a sign that no name can have
            continue
    return first, None


def _fault(row: Row, there: bool) -> tuple[str, str] | None:
    """(kind, text) of what is wrong with a row; there: whether its file is."""
    path, label = row.path.strip(), row.label.strip()
    if not path or not label:
        return "empty", f"the {'label' if path else 'path'} is empty"
    if not there and _DRIVE.match(path):
        return "drive", f"{shown(path)} is a path of a Windows computer; write paths that start at the table's folder"
    if not there and _ADDRESS.match(path):
        return "address", f"{shown(path)} is an address; fetch the pictures and write their paths"
    folders = _folders(row.path)
    for name, cell in (("path", "" if there else row.path), ("label", row.label), ("group", row.group)):
        if _escaped(cell) and cell not in folders:
            return "encoding", f'the {name} "{shown(cell)}" is not UTF-8; {SAVE_AS}'
    split = row.split.strip().lower()
    if split and split not in SPLIT_NAMES:
        return "split", f'unknown split "{shown(row.split)}"; {near(split, SPLIT_NAMES)}'
    return None


def _escaped(text: str) -> bool:
    """Whether the text holds bytes that are not UTF-8."""
    return any("\ud800" <= c <= "\udfff" for c in text)


def _folders(path: str) -> list[str]:
    return path.split("/")[:-1]


def _label(written: str, path: str) -> str:
    """The label without blanks around it and with single ones inside, in the composed form of Unicode (NFC).

    A label that is the name of a folder of its picture stays as it is: lists that we write hold such names.
    """
    if written in _folders(path):
        return written
    return unicodedata.normalize("NFC", " ".join(written.split()))
