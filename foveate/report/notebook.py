"""A value in a notebook: a small table of names and texts."""

import html
from collections.abc import Mapping

from foveate.errors import printable


def html_table(rows: Mapping[str, str]) -> str:
    """Rows of a name and a text as an HTML table; every text is escaped, however it came."""

    def cell(text: str) -> str:
        return html.escape(printable(text))

    lines = (f"<tr><th style='text-align:left'>{cell(k)}</th><td style='text-align:left'>{cell(v)}</td></tr>"
             for k, v in rows.items())  # fmt: skip
    return f"<table>{''.join(lines)}</table>"
