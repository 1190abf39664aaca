"""The table and the page of a reproduced table: paper, here, interval, verdict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.config import to_dict
from foveate.files import write_text
from foveate.report.page import render

MARKS = {"read": "", "memory": " (m)", "expected": " (e)"}
LEGEND = (
    "(m): half remembered, not looked up. (e): no figure of the paper, but what is expected at this size.",
    "An interval is 95 %, of Student's t over paired seeds, or as the row says. Verdicts: docs/papers.md.",
)


def table_text(found: Mapping[str, Any]) -> list[str]:
    """The result as Markdown lines, from results.json."""
    head = ["row", "paper", "here", "95 % interval", "n", "verdict"]
    lines = [f"# {found['name']}: {found['verdict']}", "", found["claim"], f"{found['paper']}.", "", found["power"]]
    lines += [found["how"], ""] if found["how"] else [""]
    lines += grid([head, *(cells(row) for row in found["rows"])])
    notes = [f"- {row['label']}: {row['note']}" for row in found["rows"] if row["note"]]
    notes += [
        f"- {row['label']}: about {row['seeds_to_settle']} seeds would settle it at this scatter"
        for row in found["rows"]
        if row["seeds_to_settle"]
    ]
    notes += [
        f"- {arm['label']}: {arm['failed']} trainings broke off ({arm['why']})"
        for arm in found["arms"]
        if arm["failed"]
    ]
    lines += ["", *notes] if notes else []
    if found["arms"]:
        lines += ["", *grid([["arm", found["measure"], "params", "MACs"], *(arm_cells(a) for a in found["arms"])])]
    lines += ["", f"The paper's scale: {found['published_scale']}."]
    lines += [f"Others: {found['critique']}"] if found["critique"] else []
    return [*lines, *LEGEND, f"At full size: {found['full_command']}"]


def cells(row: Mapping[str, Any]) -> list[str]:
    """One row of the table: signed where it is a difference."""
    p = row["published"]
    paper = "not found" if p["value"] is None else f"{number(p['value'])} {p['unit']}{MARKS[p['marked']]}"
    here = "-" if row["here"] is None else f"{number(row['here'])} {row['unit']}"
    return [
        row["label"].replace("|", "\\|"),
        paper,
        here,
        interval(row["interval"]),
        str(row["n"]),
        row["verdict"],
    ]


def arm_cells(arm: Mapping[str, Any]) -> list[str]:
    """An arm: mean and values by seed, parameters, multiply-adds."""
    good = [v for v in arm["values"] if v is not None]
    mean = f"{sum(good) / len(good):.4g} ({', '.join(f'{v:.4g}' for v in good)})" if good else "-"
    return [arm["label"].replace("|", "\\|"), mean, f"{arm['params']:,}", f"{arm['macs']:,}"]


def number(value: float) -> str:
    """Signed, three digits or two decimals."""
    return f"{value + 0.0:+.2f}" if 0.1 <= abs(value) < 1e4 or value == 0 else f"{value:+.3g}"


def interval(pair: Sequence[float] | None) -> str:
    """ "-0.10 to +1.20"."""
    return "" if pair is None else f"{number(pair[0])} to {number(pair[1])}"


def grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table of equal widths, the first column to the left."""
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        padded = (c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (w - 1)}{':' if i else '-'}" for i, w in enumerate(widths)]
    return [line(rows[0]), f"| {' | '.join(rule)} |", *map(line, rows[1:])]


def write_page(folder: Path, found: Mapping[str, Any]) -> None:
    """report.html of a run folder."""
    view = {
        "r": to_dict(found),
        "rows": [
            dict(zip(("row", "paper", "here", "interval", "n", "verdict"), cells(r), strict=True))
            for r in found["rows"]
        ],
        "arms": [dict(zip(("arm", "value", "params", "macs"), arm_cells(a), strict=True)) for a in found["arms"]],
        "whiskers": whiskers(found["rows"]),
        "legend": LEGEND,
    }
    write_text(folder / "report.html", render("reproduction.html.j2", view))


def whiskers(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Where on a line from its lowest to its highest number a row's interval, value, paper and 0 stand, in percent."""
    found = []
    for row in rows:
        if row["here"] is None or row["interval"] is None:
            continue
        marks = [0.0, row["here"], *row["interval"]]
        marks += [] if row["published"]["value"] is None else [row["published"]["value"]]
        low, span = min(marks), (max(marks) - min(marks)) or 1.0

        def at(value: float | None, low: float = low, span: float = span) -> float | None:
            return None if value is None else round(4 + 92 * (value - low) / span, 2)

        left, right = at(row["interval"][0]), at(row["interval"][1])
        found.append(
            {
                "label": row["label"],
                "zero": at(0.0),
                "here": at(row["here"]),
                "paper": at(row["published"]["value"]),
                "left": left,
                "width": round((right or 0.0) - (left or 0.0), 2),
            }
        )
    return found
