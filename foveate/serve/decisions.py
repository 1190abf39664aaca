"""Decisions about labels, one a picture, in a decisions.csv as `data review --apply` reads it, written at each."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foveate.errors import DataError
from foveate.files import cell, cell_text, write_bytes

COLUMNS = ("path", "label", "suggested", "decision", "new_label")
KINDS = ("", "keep", "relabel", "drop")


@dataclass(frozen=True)
class Row:
    """One picture: its label, what is suggested, and what was decided ("" where nothing was)."""

    path: str
    label: str
    suggested: str
    why: str
    decision: str = ""
    new_label: str = ""


class Changed(Exception):
    """Somebody else has decided meanwhile: the row as it is now."""

    def __init__(self, row: Row) -> None:
        super().__init__(row.path)
        self.row = row


class Decisions:
    """The table and its file. Two writers are told apart by what each saw before."""

    def __init__(self, rows: Sequence[Row], file: Path) -> None:
        self.file, self.rows = file, {row.path: row for row in rows}
        self.written: bytes | None = None
        self._reread()

    def decide(self, path: str, seen: tuple[str, str], decision: str, new_label: str) -> Row:
        """Decide about a picture and write the file. seen: (decision, new_label) that the decider knew of.

        KeyError for a picture that is not in the table, Changed where it is not as seen, DataError for no decision.
        """
        if decision not in KINDS or (decision == "relabel") != bool(new_label):
            raise DataError("expected keep, drop, relabel with a new label, or nothing")
        self._reread()
        row = self.rows[path]
        if (row.decision, row.new_label) != seen:
            raise Changed(row)
        new = replace(row, decision=decision, new_label=new_label)
        rows = {**self.rows, path: new}
        data = text_of(rows)
        write_bytes(self.file, data)  # it is kept before anybody hears of it
        self.rows, self.written = rows, data
        return new

    def _reread(self) -> None:
        """Take over what stands in the file, where another program wrote it."""
        data = self.file.read_bytes() if self.file.exists() else b""
        if data == self.written:
            return
        for found in csv.DictReader(io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline="")):
            path, decision = cell_text(found.get("path") or ""), (found.get("decision") or "").strip().lower()
            if path in self.rows and decision in KINDS:
                new = found.get("new_label") or found.get("suggested") or ""
                new_label = cell_text(new.strip()) if decision == "relabel" else ""
                if (decision == "relabel") == bool(new_label):
                    self.rows[path] = replace(self.rows[path], decision=decision, new_label=new_label)
        self.written = data


def text_of(rows: Mapping[str, Row]) -> bytes:
    """The whole table; no cell is a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows.values():
        writer.writerow([cell(value) for value in (row.path, row.label, row.suggested, row.decision, row.new_label)])
    return text.getvalue().encode("utf-8", "surrogateescape")
