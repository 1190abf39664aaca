"""The page and the tables of an analysis, from its analysis.json."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.files import cell as csv_text
from foveate.files import write_text
from foveate.report.page import render
from foveate.report.plots import ACCENT, BAD, MUTED, _axes, _style, _svg, thumbnail

TITLES = {
    "curvature": "Curvature",
    "sphere": "On the sphere",
    "features": "Features",
    "gates": "Gates",
    "robustness": "Robustness",
    "redundancy": "Redundancy",
}
TABLES = {  # part -> the list of rows that becomes PART.csv
    "curvature": "by_batch",
    "sphere": "groups",
    "features": "stages",
    "gates": "gates",
    "robustness": "corruptions",
}


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture uint8 (H, W, 3), its class, and masks (h, w) from 0 to 1 by the name of their gate."""

    pixels: np.ndarray
    label: str
    masks: Mapping[str, np.ndarray]


def write_analysis(folder: Path, found: Mapping[str, Any], drawn: Sequence[Drawn] = ()) -> None:
    """report.html, and a CSV file of each part that has rows, in the run folder."""
    from markupsafe import Markup

    for part, key in TABLES.items():
        rows = (found.get(part) or {}).get(key)
        if rows:
            write_text(folder / f"{part}.csv", table(rows))
    present = {part: title for part, title in TITLES.items() if part in found}
    view = {
        "title": found.get("model", "network"),
        "r": found,
        "sections": present,
        "plots": {part: [Markup(svg) for svg in plots_of(part, found[part])] for part in present},
        "rows": {part: shown_rows(part, found) for part in present},
        "masks": [
            {
                "src": thumbnail(d.pixels, 96),
                "label": d.label,
                "masks": [overlaid(d.pixels, m) for m in d.masks.values()],
            }
            for d in drawn
        ],
        "mask_names": list(drawn[0].masks) if drawn else [],
    }
    write_text(folder / "report.html", render("analysis.html.j2", view))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, plain columns only."""
    columns = [k for k, v in rows[0].items() if not isinstance(v, (list, dict))]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: csv_text(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows)
    return stream.getvalue()


def shown_rows(part: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a part on the page: names of columns, and cells as text; the network beside it on its own lines."""
    rows = [dict(row) for row in (found[part].get(TABLES.get(part, "")) or [])]
    other = ((found.get("beside") or {}).get(part) or {}).get(TABLES.get(part, "")) or []
    if other:
        rows = [{"network": found["model"], **row} for row in rows]
        rows += [{"network": found["beside"].get("model"), **row} for row in other]
    if part == "redundancy":
        rows = [{**layer, "tau": tau} for tau, at in (found[part].get("rates") or {}).items() for layer in at["layers"]]
    columns = [k for k, v in rows[0].items() if not isinstance(v, (list, dict))] if rows else []
    return {"columns": columns, "cells": [[cell(row.get(c)) for c in columns] for row in rows]}


def cell(value: Any) -> str:
    """A value as text: four digits, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def plots_of(part: str, found: Mapping[str, Any]) -> list[str]:
    """The plots of a part as SVG; none of one that could not be."""
    if "reason" in found:
        return []
    if part == "curvature":
        return [density_svg(found["density"]), *batches_svg(found["by_batch"])]
    if part == "sphere" and found["runs"]:
        return [sweep_svg(found["runs"])]
    if part == "gates":
        return [figure_svg(name, rows, found["classes"]) for name, rows in found["figure"].items()]
    if part == "robustness" and found["corruptions"]:
        return [severity_svg(found["corruptions"], found["clean"]["accuracy"])]
    return []


def density_svg(density: Mapping[str, Sequence[float]]) -> str:
    """Share of eigenvalues by their value, the share on a log scale."""
    with _style("density"):
        figure, axes = _axes(4.7, 2.7, left=0.6, right=0.3)
        axes.semilogy(density["at"], np.maximum(density["share"], 1e-12), color=ACCENT, lw=1.3)
        axes.set_ylim(bottom=max(1e-8, max(density["share"]) * 1e-7))
        axes.set_xlabel("eigenvalue of the Hessian", color=MUTED)
        axes.set_ylabel("density", color=MUTED)
        return _svg(figure, "density", "Spectral density of the Hessian")


def batches_svg(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Measured and predicted: the top eigenvalue, and the largest rate, by batch."""
    if len(rows) < 2:
        return []
    plots = []
    for name, label, keys in (
        ("top", "largest eigenvalue", ("top", "predicted_top")),
        ("rate", "largest rate of SGD", ("sgd_rate", "predicted_sgd_rate")),
    ):
        with _style(f"batch-{name}"):
            figure, axes = _axes(4.7, 2.7, left=0.6, right=0.9)
            for key, colour, shape in ((keys[0], ACCENT, "o-"), (keys[1], MUTED, "s--")):
                line = [(r["batch"], r[key]) for r in rows if r.get(key)]
                if line:
                    axes.loglog(*zip(*line, strict=True), shape, color=colour, lw=1.3, ms=4)
                    axes.annotate(
                        "measured" if key == keys[0] else "predicted",
                        line[-1],
                        xytext=(5, 4 if key == keys[0] else -8),
                        textcoords="offset points",
                        color=colour,
                    )
            axes.set_xlabel("batch", color=MUTED)
            axes.set_ylabel(label, color=MUTED)
            plots.append(_svg(figure, f"batch-{name}", f"{label} by batch, measured and predicted"))
    return plots


def sweep_svg(runs: Sequence[Mapping[str, Any]]) -> str:
    """Loss by epoch of every effective rate, coloured by regime."""
    colours = {"convergence": ACCENT, "equilibrium": MUTED, "divergence": BAD}
    with _style("sweep"):
        figure, axes = _axes(9.6, 3.6, left=0.6, right=1.4)
        for run in runs:
            losses = [v for v in run["losses"] if v]
            if losses:
                axes.semilogy(range(1, len(losses) + 1), losses, color=colours[run["regime"]], lw=1.2)
                axes.annotate(
                    f"{run['elr']:.2g}",
                    (len(losses), losses[-1]),
                    xytext=(4, 0),
                    textcoords="offset points",
                    color=colours[run["regime"]],
                    va="center",
                )
        axes.set_xlabel("epoch", color=MUTED)
        axes.set_ylabel("training loss", color=MUTED)
        return _svg(figure, "sweep", "Training loss at fixed effective rates")


def figure_svg(name: str, rows: Sequence[Sequence[float | None]], classes: Sequence[str]) -> str:
    """Activation of every channel of a gate for a few classes."""
    mark = "gate-" + "".join(c if c.isalnum() else "-" for c in name)
    with _style(mark):
        figure, axes = _axes(4.7, 2.7, left=0.6, right=0.3)
        for row, colour in zip(rows, (ACCENT, MUTED, BAD), strict=False):
            axes.plot([np.nan if v is None else v for v in row], color=colour, lw=0.9)
        axes.set_xlabel(f"channel of {ascii_of(name)}", color=MUTED)
        axes.set_ylabel(f"activation, {len(rows)} classes", color=MUTED)
        return _svg(figure, mark, "Activation of a gate by class")


def severity_svg(rows: Sequence[Mapping[str, Any]], clean: float) -> str:
    """Accuracy by severity of every corruption."""
    shades = {"noise": ACCENT, "blur": MUTED, "jpeg": BAD, "contrast": ACCENT}
    dashed = {"contrast": "--"}
    with _style("severity"):
        figure, axes = _axes(9.6, 3.2, left=0.6, right=0.9)
        for kind in dict.fromkeys(row["kind"] for row in rows):
            line = [100 * clean, *(100 * row["accuracy"] for row in rows if row["kind"] == kind)]
            axes.plot(range(len(line)), line, dashed.get(kind, "-"), color=shades.get(kind, MUTED), lw=1.3)
            axes.annotate(
                kind,
                (len(line) - 1, line[-1]),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                color=shades.get(kind, MUTED),
            )
        axes.set_xlabel("severity (0: as it is)", color=MUTED)
        axes.set_ylabel("accuracy (%)", color=MUTED)
        return _svg(figure, "severity", "Accuracy by severity of corruptions")


def ascii_of(text: str) -> str:
    """Text that the plot's font can show."""
    return text.encode("ascii", "backslashreplace").decode()


def overlaid(pixels: np.ndarray, mask: np.ndarray) -> str:
    """A picture as bright as its mask, as a data URI."""
    from PIL import Image

    rows = (np.clip(mask, 0, 1) * 255).astype(np.uint8)
    size = (pixels.shape[1], pixels.shape[0])
    light = np.asarray(Image.fromarray(rows).resize(size, Image.Resampling.BILINEAR), np.float32)[..., None] / 255
    return thumbnail((pixels * (0.15 + 0.85 * light)).astype(np.uint8), 96)
