"""The pictures of the run report: SVG plots (matplotlib) and JPEG thumbnails, all as text that goes inside the page.

Colours are drawn as marks that become the page's CSS variables, so that the plots follow light and dark mode.
"""

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.report.units import milliseconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, ACCENT, BAD, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", ACCENT: "accent", BAD: "bad", PAPER: "paper"}
FONT_PT = 8.5
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in points


def frontier_svg(candidates: Sequence[Mapping[str, Any]], budget_ms: float | None) -> str:
    """Validation accuracy (%) against latency (ms); "" when fewer than one candidate has both.

    Raced candidates are points with interval bars, those only measured are ticks on the latency axis, the chosen one is
    larger and in the accent colour, and a step line joins the best accuracy reached up to each latency.
    """
    timed = [c for c in candidates if (c.get("latency_ms") or 0) > 0]
    raced = sorted((c for c in timed if c.get("val_accuracy") is not None), key=lambda c: float(c["latency_ms"]))
    if not raced:
        return ""
    with _style("frontier"):
        figure, axes = _axes(9.6, 4.3, left=0.6, right=0.2)
        _limits(axes, timed, raced, budget_ms)
        rug = [c["latency_ms"] for c in timed if c.get("val_accuracy") is None]
        axes.plot(rug, [0.0] * len(rug), "|", color=MUTED, ms=9, mew=1.3, transform=axes.get_xaxis_transform())
        best = np.maximum.accumulate([100 * c["val_accuracy"] for c in raced])
        axes.step([c["latency_ms"] for c in raced], best, where="post", color=ACCENT, lw=1.2, alpha=0.45, zorder=1)
        if budget_ms:
            axes.axvspan(budget_ms, axes.get_xlim()[1], color=BAD, alpha=0.06, lw=0)
            axes.axvline(budget_ms, color=BAD, lw=1.1, ls=(0, (4, 3)))
        for c in raced:
            _point(axes, c)
        _place_labels(axes, raced, budget_ms)
        axes.set_xlabel("latency of one picture (ms, median)", color=MUTED)
        axes.set_ylabel("validation accuracy (%)", color=MUTED)
        axes.set_yticks([y for y in axes.get_yticks() if axes.get_ylim()[0] <= y <= 100])
        return _svg(figure, "frontier", "Validation accuracy against latency of every candidate")


def curves_svg(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Up to two plots, loss and accuracy (%), against the epoch or, where it is finer, the optimiser step."""
    from matplotlib.ticker import MaxNLocator

    key = max(("epoch", "step"), key=lambda k: len({c[k] for c in curves if c.get(k) is not None}))
    points = [c for c in curves if c.get(key) is not None]
    points = points[:: math.ceil(len(points) / 400)] + points[-1:] if len(points) > 400 else points
    plots = []
    for name, unit, series in (
        ("loss", 1, {"loss": ("training", ACCENT)}),
        ("accuracy", 100, {"train_accuracy": ("training", MUTED), "val_accuracy": ("validation", ACCENT)}),
    ):
        lines = {k: [(c[key], unit * c[k]) for c in points if c.get(k) is not None] for k in series}
        if max(map(len, lines.values())) < 2:  # a point is no curve
            continue
        with _style(f"curve-{name}"):
            figure, axes = _axes(4.7, 2.7, left=0.52, right=0.72)
            for k, line in lines.items():
                if line:
                    colour = series[k][1]
                    x, y = zip(*line, strict=True)
                    axes.plot(x, y, color=colour, lw=1.5, marker="o" if len(line) < 13 else "", ms=3)
            _end_labels(axes, {k: v[-1] for k, v in lines.items() if v}, series)
            axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
            axes.set_xlabel(key, color=MUTED)
            axes.set_ylabel("accuracy (%)" if unit == 100 else "loss", color=MUTED)
            plots.append(_svg(figure, f"curve-{name}", f"{name} during training"))
    return plots


def thumbnail(pixels: np.ndarray, side: int = 160) -> str:
    """A picture, uint8 (H, W, 3), as a JPEG data URI of at most side x side px; tiny ones are enlarged unsmoothed."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    longest = max(image.size)
    if longest * 2 <= side:
        factor = side // longest
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    else:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=82, optimize=True)
    return data_uri(buffer.getvalue(), "jpeg")


def data_uri(image: bytes, kind: str) -> str:
    """The bytes of an image file as an address that holds them; kind: "jpeg", "png"."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _style(name: str) -> Any:
    """Settings that hold while one plot is drawn: real text, no mathematics in labels, the same ids every time."""
    import matplotlib

    return matplotlib.rc_context(
        {
            "svg.hashsalt": name,
            "svg.fonttype": "none",
            "text.parse_math": False,
            "font.family": ["sans-serif"],
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": FONT_PT,
            "path.simplify": True,
        }
    )


def _axes(width_in: float, height_in: float, *, left: float, right: float) -> tuple["Figure", "Axes"]:
    """A figure with one plain pair of axes; margins in inches."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(width_in, height_in), dpi=72, facecolor="none")
    width, height = 1 - (left + right) / width_in, 1 - 0.68 / height_in
    axes = figure.add_axes((left / width_in, 0.5 / height_in, width, height), facecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(which="both", color=LINE, labelcolor=MUTED, length=3)
    axes.grid(axis="y", color=LINE, lw=0.7)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return figure, axes


def _limits(
    axes: "Axes", timed: Sequence[Mapping[str, Any]], raced: Sequence[Mapping[str, Any]], budget_ms: float | None
) -> None:
    """Axis ranges with room for the labels; latency is logarithmic where it spans more than a factor of six."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    xs = [c["latency_ms"] for c in timed] + ([budget_ms] if budget_ms else [])
    low, high = min(xs), max(xs)
    if high > 6 * low:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(low / 1.25, high * 1.35)
    else:
        pad = (high - low) or 0.5 * high
        axes.set_xlim(max(0.0, low - 0.08 * pad), high + 0.14 * pad)
    ys = [100 * y for c in raced for y in (c["val_accuracy"], *_interval(c))]
    pad = max(2.0, 0.1 * (max(ys) - min(ys)))
    axes.set_ylim(max(-2.0, min(ys) - pad), min(101.5, max(ys) + pad))


def _interval(candidate: Mapping[str, Any]) -> Sequence[float]:
    interval = candidate.get("val_interval") or ()
    return interval if len(interval) == 2 and None not in interval else ()


def _point(axes: "Axes", c: Mapping[str, Any]) -> None:
    """One raced candidate: interval bar, spread of the latency, and the point (hollow when it is over the budget)."""
    x, y, chosen = c["latency_ms"], 100 * c["val_accuracy"], bool(c.get("chosen"))
    colour = ACCENT if chosen else MUTED
    if _interval(c):
        low, high = _interval(c)
        axes.plot(
            [x, x], [100 * low, 100 * high], color=colour, lw=2.0 if chosen else 1.2, alpha=0.7, solid_capstyle="round"
        )
    if c.get("latency_p10_ms") and c.get("latency_p90_ms"):
        axes.plot([c["latency_p10_ms"], c["latency_p90_ms"]], [y, y], color=colour, lw=1.0, alpha=0.5)
    fill = PAPER if c.get("fits") is False else colour
    axes.plot([x], [y], "o", ms=9 if chosen else 6, mfc=fill, mec=colour if fill == PAPER else PAPER, mew=1.2, zorder=5)


def _place_labels(axes: "Axes", raced: Sequence[Mapping[str, Any]], budget_ms: float | None) -> None:
    """Write each name at the first free place around its point, the chosen one first. A name without room is left out
    (the table has it). Text widths are estimated, because the reader's font is not known."""
    frame = axes.get_window_extent()
    at = axes.transData.transform
    points = [at((c["latency_ms"], 100 * c["val_accuracy"])).tolist() for c in raced]
    hard: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    soft: list[Box] = []
    for c in raced:
        if _interval(c):
            (x, low), (_, high) = (at((c["latency_ms"], 100 * y)) for y in _interval(c))
            soft.append((x - 1.5, low, x + 1.5, high))
    if budget_ms:
        hard += _budget_label(axes, budget_ms)
    order = sorted(range(len(raced)), key=lambda i: (not raced[i].get("chosen"), -raced[i]["val_accuracy"]))
    for i in order:
        text, chosen = _label(raced[i]), bool(raced[i].get("chosen"))
        own = [b for j, b in enumerate(hard) if j != i]
        spots = [_spot(points[i], _width(text) * (1.08 if chosen else 1), dx, dy) for dx, dy in _AROUND]
        inside = [
            b
            for b in spots
            if frame.x0 + 2 < b[0] and b[2] < frame.x1 + 8 and frame.y0 + 6 < b[1] and b[3] < frame.y1 + 6
        ]
        free = next((b for b in inside if not _hits(b, own + soft)), None) or next(
            (b for b in inside if not _hits(b, own)), None
        )
        if free:
            hard.append(free)
            axes.annotate(
                text,
                (free[0], (free[1] + free[3]) / 2),
                xycoords="figure points",
                va="center_baseline",
                color=ACCENT if chosen else INK,
                weight="bold" if chosen else "normal",
            )


def _budget_label(axes: "Axes", budget_ms: float) -> list[Box]:
    """Name the budget line at its top; returns the places of the line and its label."""
    frame, x = axes.get_window_extent(), float(axes.transData.transform((budget_ms, 0))[0])
    text = f"budget {milliseconds(budget_ms, exact=True)}"
    width = _width(text) + 6
    left = x if x + width < frame.x1 else x - width
    axes.annotate(text, (left + 4, frame.y1 - 4), xycoords="figure points", va="top", color=BAD)
    return [(left, frame.y1 - 14, left + width, frame.y1), (x - 1, frame.y0, x + 1, frame.y1)]


_AROUND = [(1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 2), (-1, 2), (1, -2), (-1, -2)]


def _label(c: Mapping[str, Any]) -> str:
    """Name and resolution in ASCII: the plot's own font need not have every letter."""
    text = f"{c.get('model', '')} {c['resolution']}" if c.get("resolution") else str(c.get("model", ""))
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= 40 else text[:37] + "..."


def _width(text: str) -> float:
    return 0.56 * FONT_PT * len(text)


def _spot(point: Sequence[float], width: float, dx: int, dy: int) -> Box:
    """The box of a label whose nearest edge lies beside its point: dx left, over or right; dy in steps of one line."""
    x = point[0] + (7 if dx > 0 else -7 - width if dx < 0 else -width / 2)
    y = point[1] + dy * (FONT_PT + 2 if dx else FONT_PT + 4)
    return x, y - FONT_PT / 2 - 1, x + width, y + FONT_PT / 2 + 1


def _hits(box: Box, others: Sequence[Box]) -> bool:
    return any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in others)


def _end_labels(axes: "Axes", ends: Mapping[str, tuple[float, float]], series: Mapping[str, tuple[str, str]]) -> None:
    """Name each line at its end, at the right of the frame, moved apart where two would touch."""
    frame = axes.get_window_extent()
    axes.autoscale_view()  # otherwise the ranges are set only when the figure is drawn
    below = -math.inf
    for k in sorted(ends, key=lambda k: ends[k][1]):
        label, colour = series[k]
        y = max(float(axes.transData.transform(ends[k])[1]), below + FONT_PT + 2)
        below = y
        axes.annotate(
            label, (frame.x1 + 3, y), xycoords="figure points", va="center", color=colour, annotation_clip=False
        )


def _svg(figure: "Figure", name: str, title: str) -> str:
    """The figure as an svg element for an HTML page: own ids, no metadata, no fixed size, colours as CSS variables."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    svg = re.sub(r"^<svg[^>]*>", f'<svg {view[0]} role="img" aria-label="{title}">', svg)
    svg = (
        svg.replace('xlink:href="#', 'href="#').replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    )
    svg = svg.replace(' id="', f' id="{name}-')
    for mark, variable in VARIABLES.items():
        svg = svg.replace(mark, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", svg)
