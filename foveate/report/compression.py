"""The steps of foveate compress in a run's report: a row each, and a plot of accuracy against multiply-adds.

A candidate of the report is a step where it says which (`step`); docs/report.md has the other fields.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from foveate.report.plots import ACCENT, LINE, MUTED, _axes, _style, _svg


def step_rows(candidates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The steps in order, each with its shares of the original's cost and the points of test accuracy lost."""
    steps = sorted((c for c in candidates if c.get("step") is not None), key=lambda c: int(c["step"]))
    if not steps:
        return []
    first = steps[0]
    rows = []
    for c in steps:
        shares = {
            f"{key}_share": c[key] / first[key] if c.get(key) and first.get(key) else None
            for key in ("macs", "params", "latency_ms", "size_bytes")
        }
        known = c.get("test_accuracy") is not None and first.get("test_accuracy") is not None
        lost = 100 * (first["test_accuracy"] - c["test_accuracy"]) if known else None
        rows.append({**c, **shares, "lost": lost})
    return rows


def steps_svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """Test accuracy (%) with its 95 % interval against multiply-adds (M), the steps joined; "" for fewer than two."""
    points = [c for c in rows if c.get("test_accuracy") is not None and c.get("macs")]
    if len(points) < 2:
        return ""
    with _style("steps"):
        figure, axes = _axes(9.6, 3.2, left=0.6, right=0.2)
        x = [c["macs"] / 1e6 for c in points]
        y = [100 * c["test_accuracy"] for c in points]
        axes.plot(x, y, color=LINE, lw=1.4, zorder=1)
        for c, at, value in zip(points, x, y, strict=True):
            colour = ACCENT if c.get("chosen") else MUTED
            low, high = (c.get("test_interval") or (None, None))[:2]
            if low is not None and high is not None:
                axes.plot([at, at], [100 * low, 100 * high], color=colour, lw=1.4, alpha=0.7)
            axes.plot([at], [value], "o", color=colour, ms=8 if c.get("chosen") else 5)
            axes.annotate(str(c["step"]), (at, value), (5, 5), textcoords="offset points", color=colour)
        axes.set_xlim(0, 1.06 * max(x))
        axes.set_xlabel("multiply-adds of one picture (M)", color=MUTED)
        axes.set_ylabel("test accuracy (%)", color=MUTED)
        return _svg(figure, "steps", "Test accuracy against multiply-adds of every step")
