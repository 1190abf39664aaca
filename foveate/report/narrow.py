"""Tables of a page on a phone: a row becomes a block, in which every cell says what its column is."""

import re

TABLE = re.compile(r"<table(?! class=\"(?:matrix|facts))[^>]*><thead>.*?</table>", re.S)
HEAD, ROW, CELL = (
    re.compile(r"<th\b[^>]*>(.*?)</th>", re.S),
    re.compile(r"<tr\b.*?</tr>", re.S),
    re.compile(r"<t[hd]\b"),
)


def label_cells(page: str) -> str:
    """The page with data-of, the head of its column, at every cell of its tables but matrices and lists of facts.

    page: HTML whose tables hold no tables. Heads are text that is escaped already.
    """
    return TABLE.sub(lambda table: _labelled(table[0]), page)


def _labelled(table: str) -> str:
    head, rest = table.split("</thead>", 1)
    names = [re.sub(r"<[^>]+>", "", text).strip() for text in HEAD.findall(head)]

    def row(found: re.Match[str]) -> str:
        at = iter(names)
        return CELL.sub(lambda cell: f'{cell[0]} data-of="{next(at, "")}"', found[0])

    return f"{head}</thead>{ROW.sub(row, rest)}"
