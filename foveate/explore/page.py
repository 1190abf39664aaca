"""report.html of a search: frontier, search curve, the winner as a table and a picture, what the search cost."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from foveate.explore.blueprint import Part
from foveate.report import render


def page(
    title: str,
    headline: str,
    about: str,
    said: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    zoo: Sequence[Mapping[str, Any]],
    valued: str,
    found: Sequence[Part],
    choices: Mapping[str, Any],
    curve: bytes,
    diagram: bytes,
) -> str:
    """The page as one file of HTML. rows, zoo: name, value, latency_ms, macs, params, fits, chosen; curve and diagram:
    PNG.
    """
    view = {
        "title": title,
        "headline": headline,
        "about": about,
        "said": said,
        "rows": rows,
        "zoo": zoo,
        "valued": valued,
        "parts": found,
        "choices": choices,
        "curve": inlined(curve),
        "diagram": inlined(diagram),
    }
    return render("search.html.j2", view)


def inlined(png: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
