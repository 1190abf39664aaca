"""The report of a run: a self-contained HTML page and a Markdown summary, made from one JSON-able dict.

The dict is also stored as result.json in the run folder; docs/report.md says what each part of the report means.
Parts that are absent are left out and unknown keys are ignored. The same input gives the same bytes.
"""

import math
import numbers
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.files import write_text
from foveate.report.compression import step_rows, steps_svg
from foveate.report.gallery import Shown, gallery_view
from foveate.report.narrow import label_cells
from foveate.report.places import roots_of, without_roots
from foveate.report.plots import curves_svg, frontier_svg
from foveate.report.trust import trust_view
from foveate.report.units import count, duration, milliseconds, percent, size

if TYPE_CHECKING:
    from jinja2 import Environment

MATRIX_CLASSES = 30  # a larger confusion matrix can not be read; the worst pairs are listed instead
SECTIONS = {
    "baselines": "Against simpler ways",
    "race": "Accuracy against latency",
    "training": "Training",
    "classes": "Classes",
    "trust": "How far the answers hold",
    "confusion": "Confusion",
    "mistakes": "Worst mistakes",
    "samples": "Right answers",
    "cost": "Cost",
    "data": "Data",
    "latency": "Latency",
    "reproduce": "How to reproduce",
    "meaning": "What the numbers mean",
}


def write_report(folder: str | Path, result: Mapping[str, Any], shown: Sequence[Shown] = ()) -> Path:
    """Write folder/report.html and folder/report.md and return the path of the page.

    result: the schema in docs/report.md, every part optional. shown: pictures with their answers; of wrong ones the 24
    surest are taken. Names of folders that tell of the machine are left out: what lies in them keeps its name.
    """
    folder = Path(folder)
    view = report_view(without_roots(result, roots_of(folder, result.get("command"))), shown)
    write_text(folder / "report.md", render("report.md.j2", view))
    write_text(folder / "report.html", render("report.html.j2", view))
    return folder / "report.html"


def render(template: str, view: Mapping[str, Any]) -> str:
    """Fill a template. The page escapes everything; the Markdown template uses the md filter."""
    text = str(_templates().get_template(template).render(view))
    return label_cells(text) if template.endswith(".html.j2") else text


@cache
def _templates() -> "Environment":
    """The compiled templates; made once, because compiling takes as long as all the rest of a report."""
    from jinja2 import ChainableUndefined, Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("foveate.report", "templates"),
        autoescape=lambda name: name is None or not name.endswith(".md.j2"),
        undefined=ChainableUndefined,
        finalize=lambda value: "–" if value is None else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    forms: dict[str, Callable[[float], str]]
    forms = {"percent": percents, "ms": milliseconds, "size": size, "count": count, "duration": duration}
    environment.filters.update({name: dashed(form) for name, form in forms.items()} | {"md": markdown, "day": day})
    return environment


def dashed(form: Callable[[float], str]) -> Callable[[Any], str]:
    """A form of numbers for templates: what is no number is a dash."""
    return lambda value: form(value) if isinstance(value, (int, float)) else "–"


def day(moment: str) -> str:
    """2026-01-02T03:04:05+00:00 -> "2 January 2026, 03:04 UTC"; what is no such moment stays as it is."""
    try:
        found = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    zone = found.tzname() or ""
    return f"{found.day} {found:%B %Y, %H:%M} {zone}".rstrip()


def percents(fraction: float) -> str:
    """0.931 -> "93.1 %"."""
    return f"{percent(fraction)} %"


def report_view(result: Mapping[str, Any], shown: Sequence[Shown] = ()) -> dict[str, Any]:
    """What the templates see: the cleaned result and everything that is derived from it."""
    from markupsafe import Markup

    r = clean(result)
    candidates = sorted(r.get("candidates") or [], key=_race_order)
    chosen: Mapping[str, Any] = next((c for c in candidates if c.get("chosen")), {})
    test, budget = r.get("test") or {}, r.get("budget") or {}
    latency, cost, training = r.get("latency") or {}, r.get("cost") or {}, r.get("training") or {}
    pictures = gallery_view(shown, visible)
    view: dict[str, Any] = {
        "r": r,
        "title": r.get("title") or "run",
        "raced": [c for c in candidates if c.get("val_accuracy") is not None],
        "measured": [c for c in candidates if c.get("val_accuracy") is None],
        "rivals": _rivals(candidates, chosen),
        "steps": step_rows(candidates),
        "steps_plot": Markup(steps_svg(step_rows(candidates))),
        "headline": headline(r, chosen),
        "tiles": _tiles(
            test, {**chosen, **_known(cost), "latency_ms": latency.get("median_ms") or chosen.get("latency_ms")}, budget
        ),
        "frontier": Markup(frontier_svg(candidates, budget.get("max_latency_ms"))),
        "curves": [Markup(svg) for svg in curves_svg(training.get("curves") or [])],
        "alternatives": [
            {"what": a.get("what"), "val_accuracy": a.get("val_accuracy"), "rest": _rest(a)}
            for a in r.get("alternatives") or []
        ],
        "recipe": list(_flat(training.get("recipe") or {})),
        "classes": sorted(test.get("per_class") or [], key=_worst_first),
        "counts": _counts(r.get("data") or {}),
        "mistakes": pictures["mistakes"],
        "samples": pictures["samples"],
        **_confusion(test, r.get("data") or {}, pictures["opens"]),
        **trust_view(r.get("trust") or {}),
    }
    view["trust_plots"] = [Markup(svg) for svg in view["trust_plots"]]
    present = {
        "baselines": r.get("baselines"),
        "race": candidates,
        "training": training or r.get("alternatives"),
        "classes": view["classes"],
        "trust": view["trust_lines"],
        "confusion": view["pairs"] or view["matrix"],
        "mistakes": pictures["mistakes"],
        "samples": pictures["samples"],
        "cost": cost,
        "data": r.get("data"),
        "latency": latency or r.get("parity"),
        "reproduce": any(r.get(k) is not None for k in ("command", "seed", "version", "environment")),
        "meaning": test or candidates or latency or cost,
    }
    return view | {"sections": {k: title for k, title in SECTIONS.items() if present[k]}}


def headline(r: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    """One sentence: which model, how often it is right and on how many pictures, how fast, how large."""
    test, latency, cost = (r.get(k) or {} for k in ("test", "latency", "cost"))
    resolution = chosen.get("resolution") or cost.get("resolution")
    clauses = []
    if test.get("accuracy") is not None:
        between = _between(test)
        interval = f" (95% interval {between})" if between else ""
        pictures = f"{test['n']:,} {_split(test)} pictures" if test.get("n") else f"the {_split(test)} pictures"
        clauses.append(f"classifies {percents(test['accuracy'])} of {pictures} correctly{interval}")
    if (latency_ms := latency.get("median_ms") or chosen.get("latency_ms")) is not None:
        batch = latency.get("batch") or 1
        clauses.append(f"takes {milliseconds(latency_ms)} a {'picture' if batch == 1 else f'batch of {batch}'}")
    if (size_bytes := cost.get("size_bytes") or chosen.get("size_bytes")) is not None:
        clauses.append(f"is {size(size_bytes)} large")
    if (macs := cost.get("macs") or chosen.get("macs")) is not None:
        clauses.append(f"does {count(macs)} multiply-adds")
    if not clauses:
        return "Nothing was measured in this run."
    name = str(chosen.get("model") or r.get("title") or "The model") + (f" at {resolution} px" if resolution else "")
    return f"{name} {', '.join(clauses[:-1])}{' and ' if len(clauses) > 1 else ''}{clauses[-1]}."


def _between(test: Mapping[str, Any]) -> str:
    """The interval of the test accuracy, "" where there is none."""
    low, high = (test.get("interval") or (None, None))[:2]
    return f"{percent(low)} to {percents(high)}" if low is not None and high is not None else ""


def _split(test: Mapping[str, Any]) -> str:
    return str(test.get("split") or "test")


def _tiles(test: Mapping[str, Any], final: Mapping[str, Any], budget: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The four large numbers, each with what it is compared to."""
    tiles: list[dict[str, Any]] = []
    if test.get("accuracy") is not None:
        tiles.append(
            {
                "label": f"{_split(test)} accuracy",
                "value": percents(test["accuracy"]),
                "note": _between(test),
                "over": False,
            }
        )
    for label, key, limit_key, form in (
        ("latency", "latency_ms", "max_latency_ms", milliseconds),
        ("size", "size_bytes", "max_size_bytes", size),
        ("multiply-adds", "macs", "max_macs", count),
    ):
        value, limit = final.get(key), budget.get(limit_key)
        if value is not None:
            over = limit is not None and value > limit
            note = "no budget given"
            if limit is not None:
                note = f"{'over' if over else 'within'} the budget of {form(limit, exact=True)}"
            tiles.append({"label": label, "value": form(value), "note": note, "over": over})
    return tiles


def _race_order(c: Mapping[str, Any]) -> tuple[bool, float, float]:
    accuracy = c.get("val_accuracy")
    return not c.get("chosen"), -accuracy if accuracy is not None else 1.0, c.get("latency_ms") or math.inf


def _rivals(candidates: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> int:
    """How many other candidates within the budget have an interval that reaches the accuracy of the chosen one."""
    if chosen.get("val_accuracy") is None:
        return 0
    reach = [
        (c.get("val_interval") or [0, 0])[-1] or 0
        for c in candidates
        if not c.get("chosen") and c.get("fits") is not False
    ]
    return sum(high >= chosen["val_accuracy"] for high in reach)


def _worst_first(row: Mapping[str, Any]) -> tuple[float, int, str]:
    accuracy = row.get("accuracy")
    return 2.0 if accuracy is None else accuracy, -(row.get("n") or 0), str(row.get("class"))


def _confusion(
    test: Mapping[str, Any], data: Mapping[str, Any], opens: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    """The shaded matrix (true classes down, predicted across; None over 30 classes) and the worst confused pairs.

    opens: where the pictures of a pair of classes are on the page.
    """
    counts = test.get("confusion") or []
    names = data.get("classes") or [row.get("class") for row in test.get("per_class") or []]
    if len(names) != len(counts):
        names = [str(i) for i in range(len(counts))]
    rows, pairs = [], []
    for i, row in enumerate(counts):
        total = sum(row) or 1
        cells = [
            {
                "n": n,
                "right": i == j,
                "shade": round(0.1 + 0.6 * n / total, 2) if n else 0,
                "opens": opens.get((names[i], names[j])),
            }
            for j, n in enumerate(row)
        ]
        rows.append({"name": names[i], "cells": cells})
        pairs += [(n, n / total, names[i], names[j]) for j, n in enumerate(row) if i != j and n]
    pairs.sort(key=lambda p: (-p[0], -p[1]))
    small = len(counts) <= MATRIX_CLASSES
    shown = [] if len(counts) < 3 else pairs[: 10 if small else 30]
    return {
        "matrix": {"names": names, "rows": rows} if counts and small else None,
        "pairs": [
            dict(zip(("n", "share", "true", "predicted"), p, strict=True)) | {"opens": opens.get((p[2], p[3]))}
            for p in shown
        ],
    }


def _counts(data: Mapping[str, Any]) -> dict[str, Any]:
    """Pictures per class and split, classes in the model's order."""
    counts: Mapping[str, Mapping[str, int]] = data.get("counts") or {}
    splits = [s for s in ("train", "val", "test") if s in counts] + sorted(set(counts) - {"train", "val", "test"})
    classes = data.get("classes") or sorted({name for split in counts.values() for name in split})
    rows = [(name, [counts[s].get(name, 0) for s in splits]) for name in classes] if counts else []
    return {"splits": splits, "rows": rows}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", str(value))]
    return rows


def _rest(alternative: Mapping[str, Any]) -> str:
    """The other numbers of something that was tried, each in the unit that its name tells."""
    forms: dict[str, Callable[[float], str]]
    forms = {"ms": milliseconds, "bytes": size, "s": duration, "accuracy": percents, "macs": count, "params": count}
    parts = []
    for key, value in alternative.items():
        if value is not None and key not in ("what", "val_accuracy"):
            words = key.split("_")
            form = forms.get(words[-1])
            label = " ".join(words[:-1] if words[-1] in ("ms", "bytes", "s") else words)
            parts.append(f"{label} {dashed(form)(value) if form else value}")
    return ", ".join(parts)


def _known(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in mapping.items() if v is not None}


def clean(value: Any) -> Any:
    """A copy that is safe to show: text made visible, numbers plain, NaN and infinity as None."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(str(k)): clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(v) for v in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return visible(str(value))


def visible(text: str) -> str:
    r"""Text without characters that hide, reorder or break it: newline becomes \n, a right-to-left override \u202e, and
    a byte of a name that is not UTF-8 \xff. Letters of every script, emoji and spaces stay."""

    def one(c: str) -> str:
        if c.isprintable() or c == "\u200d" or unicodedata.category(c) == "Zs":
            return c
        return f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else ascii(c)[1:-1]

    return text if text.isprintable() else "".join(map(one, text))


def markdown(value: Any) -> str:
    """Text for a Markdown line or table cell: nothing in it is markup."""
    text = visible(str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|~#$!])|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", lambda m: "\\" + m[0], text)
