"""Pictures of a report: the worst mistakes, pair by pair, and right answers of every class, each with its heat map."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foveate.report.plots import thumbnail

MISTAKES = 24
SAMPLES = 24  # right answers that are shown, at most; with more classes than that none is


@dataclass(frozen=True)
class Shown:
    """A classified picture. pixels: uint8 (H, W, 3); probability: that of the predicted class, 0 to 1.

    heat: pixels of the same shape with what spoke for the answer in colour; None: without.
    """

    path: str
    pixels: np.ndarray
    true: str
    predicted: str
    probability: float
    heat: np.ndarray | None = None


def gallery_view(shown: Sequence[Shown], visible: Callable[[str], str]) -> dict[str, Any]:
    """What the templates see: "mistakes", "samples", and "opens", where the first mistake of a pair of classes is.

    Mistakes: the MISTAKES surest ones; those of a pair stand together, pairs in the order of their surest one.
    """
    wrong = sorted((s for s in shown if s.true != s.predicted), key=lambda s: -s.probability)[:MISTAKES]
    right = [s for s in shown if s.true == s.predicted]
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for s in wrong:
        groups.setdefault((visible(s.true), visible(s.predicted)), []).append(_figure(s, visible))
    opens = {pair: f"pair-{number}" for number, pair in enumerate(groups)}
    mistakes = [
        {**m, "id": opens[pair] if i == 0 else ""} for pair, group in groups.items() for i, m in enumerate(group)
    ]
    return {"mistakes": mistakes, "samples": [_figure(s, visible) for s in right[:SAMPLES]], "opens": opens}


def _figure(s: Shown, visible: Callable[[str], str]) -> Mapping[str, Any]:
    return {
        "src": thumbnail(s.pixels),
        "heat": None if s.heat is None else thumbnail(s.heat),
        "probability": float(s.probability),
        **{key: visible(getattr(s, key)) for key in ("path", "true", "predicted")},
    }
