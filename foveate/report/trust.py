"""How far the answers of a run hold, for its report: sentences, a reliability plot, accuracy by share kept."""

from collections.abc import Mapping, Sequence
from typing import Any

from foveate.report.plots import ACCENT, LINE, MUTED, _axes, _style, _svg
from foveate.report.units import percent


def trust_view(trust: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates see of the part "trust" of a result: sentences and plots; empty where there is none."""
    if trust.get("ece") is None:
        return {"trust_lines": [], "trust_plots": []}
    return {
        "trust_lines": [*calibration_lines(trust), *kept_lines(trust)],
        "trust_plots": [svg for svg in (reliability_svg(trust), kept_svg(trust)) if svg],
    }


def calibration_lines(trust: Mapping[str, Any]) -> list[str]:
    """How the probabilities were scaled, and their errors before and after, beside what perfect answers would show."""
    how = {
        "temperature": f"Probabilities are softmax(logits / {trust['temperature']:.3g}), a temperature",
        "vector": "Logits are scaled and shifted class by class,",
    }.get(str(trust.get("kind")))
    on = f"fitted on {trust.get('fitted_on') or 0:,} validation pictures"
    lines = [f"{how} {on}." if how else "Probabilities are the softmax of the logits as they are."]
    if trust.get("note"):
        lines.append(f"{str(trust['note'])[:1].upper()}{str(trust['note'])[1:]}.")
    text = f"Calibration error on {trust['n']:,} {trust.get('split') or 'test'} pictures: {trust['ece']:.3f}"
    if trust.get("ece_interval"):
        text += " (95% interval {:.3f} to {:.3f})".format(*trust["ece_interval"])
    text += f", {trust['ece_before']:.3f} before scaling."
    if trust.get("ece_null"):
        mean, most = trust["ece_null"]
        text += f" On so many pictures perfectly calibrated answers show {mean:.3f} on average and up to {most:.3f}."
    lines.append(text)
    if trust["ece"] > trust["ece_before"]:
        lines.append("Scaling makes the answers likelier on validation, and this error no smaller.")
    lines.append(f"Brier score {trust['brier']:.3f}, {trust['brier_before']:.3f} before (0 is best).")
    return lines


def kept_lines(trust: Mapping[str, Any]) -> list[str]:
    """What --keep and --set give on these pictures."""
    lines, keep, sets = [], trust.get("keep") or {}, trust.get("sets") or {}
    if keep.get("accuracy") is not None:
        low, high = keep["interval"]
        lines.append(
            f"predict --keep {keep['share']:g} answers {percent(keep['kept'])} % of these pictures and says unknown "
            f"of the rest; {percent(keep['accuracy'])} % of those are right ({percent(low)} to {percent(high)} %)."
        )
    if sets.get("held") is not None:
        low, high = sets["interval"]
        lines.append(
            f"predict --set {sets['share']:g} names {sets['mean_size']:.2f} classes a picture on average; the right "
            f"one is among them for {percent(sets['held'])} % ({percent(low)} to {percent(high)} %)."
        )
    return lines


def reliability_svg(trust: Mapping[str, Any]) -> str:
    """Accuracy (%) against confidence (%) of every bin, before and after scaling; on the line they are equal."""
    if not trust.get("reliability"):
        return ""
    with _style("reliability"):
        figure, axes = _axes(4.7, 3.4, left=0.52, right=0.2)
        axes.plot([0, 100], [0, 100], color=LINE, lw=1.2)
        series = (("before", trust.get("reliability_before") or [], MUTED), ("after", trust["reliability"], ACCENT))
        for at, (name, rows, colour) in enumerate(series):
            most = max((row["n"] for row in rows), default=1)
            x, y = ([100 * row[key] for row in rows] for key in ("confidence", "accuracy"))
            axes.plot(x, y, color=colour, lw=1.0, alpha=0.6)
            axes.scatter(x, y, s=[8 + 60 * row["n"] / most for row in rows], color=colour, lw=0, zorder=3)
            axes.annotate(name, (0.03, 0.95 - 0.08 * at), xycoords="axes fraction", va="top", color=colour)
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 102)
        axes.set_xlabel("probability of the answer (%)", color=MUTED)
        axes.set_ylabel("accuracy (%)", color=MUTED)
        return _svg(figure, "reliability", "Accuracy against probability, before and after scaling")


def kept_svg(trust: Mapping[str, Any]) -> str:
    """Accuracy (%) of what is answered against the share answered (%), the strangest pictures left out first."""
    curve: Sequence[Sequence[float]] = trust.get("curve") or []
    if len(curve) < 2:
        return ""
    with _style("kept"):
        figure, axes = _axes(4.7, 3.4, left=0.52, right=0.2)
        axes.plot([100 * a for a, _ in curve], [100 * b for _, b in curve], color=ACCENT, lw=1.5)
        keep = trust.get("keep") or {}
        if keep.get("accuracy") is not None:
            x, y = 100 * keep["kept"], 100 * keep["accuracy"]
            axes.plot([x], [y], "o", color=ACCENT, ms=7)
            axes.annotate(f"--keep {keep['share']:g}", (x - 2, y), va="bottom", ha="right", color=ACCENT)
        axes.set_xlim(0, 102)
        low = min(100 * b for a, b in curve if a >= 0.1)
        axes.set_ylim(max(0.0, low - 5), 101.5)
        axes.set_xlabel("share answered (%), the least strange first", color=MUTED)
        axes.set_ylabel("accuracy of the answers (%)", color=MUTED)
        return _svg(figure, "kept", "Accuracy of the answers against the share answered")
