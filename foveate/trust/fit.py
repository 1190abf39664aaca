"""Everything that a model folder keeps of how far its answers hold, fitted on validation logits and features."""

import dataclasses

import numpy as np

from foveate.train.familiarity import Familiarity
from foveate.train.trusted import Known, Trust
from foveate.trust.calibration import NONE, PRIOR, fit_scaling, fit_temperature
from foveate.trust.conformal import fit_threshold
from foveate.trust.strangers import thinned

FEWEST = 20  # validation pictures, below which there are no limits: 19 are what a set of 95 % takes
SHARES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, *(round(0.9 + i / 100, 2) for i in range(10)))  # that limits are kept for


def fit_trust(
    logits: np.ndarray, labels: np.ndarray, features: np.ndarray | None = None, known: Known | None = None
) -> tuple[Trust, Known | None]:
    """From logits (n, K), labels (n,) and features (n, D) of validation pictures, and known training features (know()).

    With fewer than FEWEST pictures a temperature alone, held near 1 by its prior; without features no limits for
    "unknown". What was left out is said in `note`.
    """
    n = len(labels)
    if n < 2 or not np.isfinite(logits).all():
        why = f"{n} validation pictures" if n < 2 else "validation logits that are not finite"
        return Trust(pictures=n, note=f"{why}: nothing was fitted"), None
    if n < FEWEST:
        found = fit_temperature(logits, labels, PRIOR)
        note = f'{n} validation pictures: a temperature alone; limits for "unknown" and sets want {FEWEST}'
        return Trust(found.kind, found.scale, found.shift, n, note=note), None  # type: ignore[arg-type]
    scaling = fit_scaling(logits, labels)
    note = "" if scaling is not NONE else "no temperature makes these answers likelier: logits as they are"
    trust = Trust(scaling.kind, scaling.scale, scaling.shift, n, note=note)  # type: ignore[arg-type]
    p = trust.probabilities(logits)
    limits = ((share, fit_threshold(p, labels, share)) for share in SHARES)
    trust = dataclasses.replace(trust, sets=tuple((share, q if np.isfinite(q) else None) for share, q in limits))
    if features is None or known is None:
        return dataclasses.replace(trust, note=(note + '; no features: no "unknown"').lstrip("; ")), None
    distances, confidence = known.distance(features), p.max(1)
    usual = Familiarity.fit(distances, confidence)
    known = dataclasses.replace(known, distances=thinned(usual.distances), doubts=thinned(usual.doubts))
    known = dataclasses.replace(known, sums=thinned(np.sort(known.usual.evidence(distances, confidence))))
    return dataclasses.replace(trust, keep=keep_table(known, distances, confidence)), known


def keep_table(known: Known, distances: np.ndarray, confidence: np.ndarray) -> tuple[tuple[float, float | None], ...]:
    """(share, strangeness that this share of the validation pictures does not pass), for all SHARES."""
    return tuple((share, known.usual.limit(distances, confidence, share)) for share in SHARES)
