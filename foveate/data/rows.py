"""The rows of a CSV as people save them: its encoding, its separator, its header, blank rows and quoted cells."""

import codecs
import csv
import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from foveate.config import near
from foveate.data.read.formats import shown
from foveate.errors import DataError

COLUMNS = ("path", "label", "split", "group")
_OTHER_NAMES = {  # headers seen in public tables; they are asked about, never guessed
    "path": [
        "file",
        "file_name",
        "filename",
        "filepath",
        "file_path",
        "image",
        "image_id",
        "image_name",
        "image_path",
        "images",
        "img",
        "img_path",
        "imgpath",
        "name",
        "paths",
        "picture",
        "url",
    ],
    "label": [
        "labels",
        "class",
        "class_name",
        "classes",
        "classname",
        "category",
        "categories",
        "target",
        "targets",
        "y",
        "species",
        "tag",
    ],
}
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = (  # the longer first: the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT = 2**16  # characters from which the separator and the quoting are seen
SAVE_AS = 'save the table as UTF-8 (in Excel: "CSV UTF-8")'


class Row(NamedTuple):
    """The cells of a row as they stand in the file; an absent column gives ""."""

    line: int
    path: str
    label: str
    split: str
    group: str


def rows_of(file: str, where: str) -> Iterator[Row]:
    """Every row that is not blank. where: the name of the table in messages. DataError for what is no such table.

    UTF-8 with or without a mark, UTF-16 and UTF-32 with one. Bytes that are not UTF-8 come as surrogates, as in names
    of files. Separated by the comma, semicolon, tab or bar with which the first line has the columns.
    """
    try:
        with open(file, "rb") as raw:
            head = raw.read(_LOOKED_AT)
        encoding = _encoding(head, where)
        errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
        with open(file, newline="", encoding=encoding, errors=errors) as text:
            sample = text.read(_LOOKED_AT)
            text.seek(0)
            skipped, first = 0, text.readline()
            separator = ""
            while first and not first.strip(" \t\r\n,;|"):  # blank lines above the header
                skipped, first = skipped + 1, text.readline()
            if named := re.fullmatch(r"sep=(.)\s*", first):  # a line of Excel
                separator, skipped, first = named[1], skipped + 1, text.readline()
            separator = separator or _separator(first)
            reader = csv.reader(
                itertools.chain([first] if first else [], text),
                strict=True,
                delimiter=separator,
                skipinitialspace=_blank_before_quote(sample, separator),
            )
            yield from _read(reader, skipped, where)
    except UnicodeError:
        raise DataError(f"{where}: damaged, it is not the {encoding.upper()} that it says; {SAVE_AS}") from None
    except OSError as error:
        raise DataError(f"{where}: can not be read: {(error.strerror or str(error)).lower()}") from None


def _read(reader: Any, skipped: int, where: str) -> Iterator[Row]:
    """The rows below the header. skipped: lines above it."""
    try:
        header = [shown(name.strip().lower()) for name in next(reader, [])]
        while header and not header[-1]:
            header.pop()
        _check_header(header, where)
        line = reader.line_num + 1 + skipped
        for cells in reader:
            if any("\0" in cell for cell in cells):
                raise DataError(f"{where}: line {line}: a NUL byte; the table is damaged or not UTF-8: {SAVE_AS}")
            while len(cells) > len(header) and not cells[-1].strip():
                cells.pop()
            if any(cell.strip() for cell in cells):
                if len(cells) != len(header):
                    raise DataError(
                        f"{where}: line {line}: {len(cells)} cells; expected {len(header)} as in the first line"
                    )
                row = dict(zip(header, cells, strict=True))
                yield Row(line, *(row.get(column, "") for column in COLUMNS))
            line = reader.line_num + 1 + skipped
    except csv.Error as error:
        raise DataError(f"{where}: line {reader.line_num + skipped}: not CSV ({error})") from None


def _encoding(head: bytes, where: str) -> str:
    """How the bytes are written. Only a mark counts: a guess would make other labels of them."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    part = head[:200]
    if len(part) >= 8 and part.count(0) * 3 > len(part):
        raise DataError(f"{where}: looks like UTF-16 without its mark, not UTF-8; {SAVE_AS}")
    return "utf-8-sig"


def _separator(first: str) -> str:
    """The separator with which the first line names most of our columns; a comma where none does."""

    def named(separator: str) -> tuple[int, int]:
        cells = [cell.strip(' "\r\n').lower() for cell in first.split(separator)]
        others = sum(cell in names for cell in cells for names in _OTHER_NAMES.values())
        return sum(cell in COLUMNS for cell in cells) * 10 + others, len(cells)

    best = max(_SEPARATORS, key=lambda s: named(s)[0])
    if named(best)[0] and named(best)[1] > 1:
        return best
    return max(_SEPARATORS, key=lambda s: named(s)[1])


def _blank_before_quote(sample: str, separator: str) -> bool:
    """Whether cells are quoted behind a blank: a.jpg, "cat". Else blanks at the start belong to the cell."""
    for line in sample.splitlines():
        for match in re.finditer(re.escape(separator) + ' +"', line):
            if line.count('"', 0, match.start()) % 2 == 0:
                return True
    return False


def _check_header(names: list[str], where: str) -> None:
    for column in COLUMNS[:2]:
        if column in names:
            continue
        expected = f'{where}: no column "{column}"; expected path,label[,split,group]'
        meant = [name for name in names if name in _OTHER_NAMES[column]]
        if meant:
            raise DataError(f'{expected}; did you mean "{meant[0]}"? write {column} in its place in line 1')
        if any(re.search(r"\.[a-z]{3,4}$", name) for name in names):
            raise DataError(f"{expected}; line 1 is a row: {', '.join(names)}; put a line path,label above it")
        hint = near(column, [name for name in names if name and name not in COLUMNS])
        said = f"{hint} " if "did you mean" in hint else ""
        raise DataError(f"{expected}; {said}line 1 has: {', '.join(names) or 'nothing'}")
    for name in names:
        if name in COLUMNS and names.count(name) > 1:
            raise DataError(f'{where}: two columns "{name}"')
