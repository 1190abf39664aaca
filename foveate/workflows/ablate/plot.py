"""The plot of an ablation: a mean, an interval and the seeds of every difference."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, LINE, ACCENT = "#222222", "#777777", "#dddddd", "#0b62c4"


def plot(found: Mapping[str, Any]) -> bytes | None:
    """Differences in percentage points with their 95 % intervals and every seed's own, as a PNG; None without any."""
    rows = [row for row in found["rows"] if row["difference"]]
    if not rows:
        return None
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.family": ["DejaVu Sans"], "font.size": 9, "text.parse_math": False}):
        figure = Figure(figsize=(7.2, 1.15 + 0.36 * len(rows)), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=MUTED, lw=1)
        for y, row in enumerate(rows):
            _whisker(axes, y, row["difference"])
        axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(LINE)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", color=LINE, labelcolor=MUTED)
        axes.grid(axis="x", color=LINE, lw=0.7)
        axes.set_axisbelow(True)
        against = "the row above" if found["kind"] == "cumulative" else f'"{rows[0]["reference"]}"'
        axes.set_xlabel(f"{found['split']} accuracy minus that of {against} (percentage points)", color=MUTED)
        seeds = len(found["seeds"])
        interval = "mean, 95 % interval, one dot a seed" if seeds > 1 else "one seed"
        axes.set_title(
            f"{found['model']} on {found['data']} ({seeds} seed{'s' if seeds > 1 else ''}: {interval})",
            loc="left",
            fontsize=9,
            color=INK,
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _whisker(axes: "Axes", y: int, d: Mapping[str, Any]) -> None:
    """One row: seeds as small dots, the interval as a bar, the mean as a point; accent where the interval leaves 0."""
    sure = d["low"] is not None and (d["low"] > 0 or d["high"] < 0)
    colour = ACCENT if sure else INK
    if d["n"] > 1:
        axes.plot([100 * v for v in d["values"]], [y + 0.2] * d["n"], "o", ms=2.5, color=MUTED, alpha=0.6, mew=0)
    if d["low"] is not None:
        axes.plot([100 * d["low"], 100 * d["high"]], [y, y], color=colour, lw=1.8, solid_capstyle="round")
    axes.plot([100 * d["mean"]], [y], "o", ms=6, color=colour)
