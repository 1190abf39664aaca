"""How far the answers of a finished model hold: fitted on its validation pictures, told on its test pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from foveate.data.index import Dataset, subset
from foveate.data.load import Pictures, evaluation_pictures
from foveate.data.preprocess import normalise
from foveate.deploy.export import WithFeatures, has_features
from foveate.deploy.trust_graph import FEATURES, LOGITS
from foveate.events import Listener, StageEvent, silent
from foveate.runs.plan import Plan
from foveate.runs.setup import read
from foveate.train.evaluate import labels_of, predict_logits
from foveate.train.intervals import wilson
from foveate.train.trusted import PLAIN, Known, Trust, limit_of
from foveate.trust.fit import FEWEST, fit_trust
from foveate.trust.scores import binned, confidences, coverage_risk, scores_of
from foveate.trust.strangers import know

if TYPE_CHECKING:
    from foveate.deploy.runtime import Session

KNOWN = 600  # training pictures whose features are kept, at most; more of them hardly tell strangers better
JUDGED = 4000  # validation pictures that are looked at, at most
KEEP, COVERAGE = 0.95, 0.95  # what reports tell
POINTS = 60  # of the curve of coverage and risk
BATCH = 32


class Fitted(NamedTuple):
    """What is kept of a model's answers."""

    trust: Trust
    known: Known | None


@dataclass(frozen=True)
class TrustPart:
    """The part "trust" of result.json: errors before and after the scaling on the pictures of the test."""

    kind: str
    temperature: float
    fitted_on: int  # validation pictures
    note: str
    split: str
    n: int
    ece: float
    ece_before: float
    ece_interval: tuple[float, float]  # basic bootstrap, 95 %
    ece_null: tuple[float, float]  # mean and 95 % quantile that perfectly calibrated answers would show
    brier: float
    brier_before: float
    reliability: Sequence[Mapping[str, float]]  # bins: n, confidence, accuracy
    reliability_before: Sequence[Mapping[str, float]]
    curve: Sequence[tuple[float, float]]  # (share kept, accuracy of what is kept), least strange first
    keep: Mapping[str, Any] | None  # {share, kept, accuracy, interval, n}: of "unknown" at that share; None: no limits
    sets: Mapping[str, Any] | None  # {share, held, interval, mean_size}


def features_of(
    model: nn.Module, pictures: Pictures, plan: Plan, only: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """(logits (N, K), features (N, D)) of pictures as evaluation sees them; None for a model without last maps."""
    if not has_features(model):
        return predict_logits(model, pictures, plan.preprocess, only=only), None
    net, device = WithFeatures(model).eval(), next(model.parameters()).device
    found = []
    with torch.no_grad():
        for item in pictures.in_order(BATCH, only=only):
            x = normalise(item.pictures.to(device), plan.preprocess).contiguous(memory_format=torch.channels_last)
            found.append([value.float().cpu().numpy() for value in net(x)])
    logits, features = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return logits, features


def fit_model(model: nn.Module, dataset: Dataset, val: Pictures, plan: Plan, listener: Listener = silent) -> Fitted:
    """From the validation pictures, and at most KNOWN training pictures, each class in its share."""
    judged = spread(labels_of(val), JUDGED)
    logits, features = features_of(model, val, plan, judged)
    known = None
    if features is not None and len(val) >= FEWEST:
        listener(StageEvent("  how far answers hold: features of training pictures"))
        split = dataset.splits["train"]
        picks = spread(np.array(split.labels), KNOWN)
        pictures = read(evaluation_pictures(subset(split, picks), plan.preprocess), plan.bad_files, silent)
        found = features_of(model, pictures, plan)[1]
        known = know(found) if found is not None and np.isfinite(found).all() else None
    return Fitted(*fit_trust(logits, labels_of(val)[judged], features, known))


def fit_session(session: "Session", val: Pictures, known: Known | None) -> Fitted:
    """The same for an exported file in its own precision, through the file; known: of the float model."""
    logits, features = session_outputs(session, val)
    return Fitted(*fit_trust(logits, labels_of(val), features, known if features is not None else None))


def session_outputs(session: "Session", pictures: Pictures) -> tuple[np.ndarray, np.ndarray | None]:
    """(logits, features or None) of pictures as an exported file sees them: decoded, of any size."""
    from foveate.data.read.decode import decode

    split = pictures.split
    names = [LOGITS, FEATURES] if FEATURES in session.outputs else [LOGITS]
    raw = (split.pixels[i] if split.pixels is not None else decode(split.paths[i]) for i in pictures.keep)
    found = [session.answer(picture[None], names) for picture in raw]
    logits = np.concatenate([row[LOGITS] for row in found])
    return logits, np.concatenate([row[FEATURES] for row in found]) if FEATURES in names else None


def spread(labels: np.ndarray, at_most: int) -> np.ndarray:
    """At most so many positions, each class in its share, spread evenly over its pictures; ascending."""
    if len(labels) <= at_most:
        return np.arange(len(labels))
    order = np.argsort(labels, kind="stable")
    return np.sort(order[np.linspace(0, len(order) - 1, at_most).round().astype(int)])


def make_trust_part(
    fitted: Fitted, logits: np.ndarray, features: np.ndarray | None, labels: np.ndarray, split: str
) -> TrustPart:
    """What the report tells, from logits (N, K), features (N, D) and labels (N,) of the pictures of the test."""
    trust, known = fitted
    p = trust.probabilities(logits)
    c, h = confidences(p, labels)
    strange = known.strangeness(features, c) if known is not None and features is not None else None
    share, risk = coverage_risk(c if strange is None else -strange, h)
    picks = np.unique(np.linspace(0, len(h) - 1, min(POINTS, len(h))).round().astype(int))
    scores = scores_of(logits, labels, trust)
    return TrustPart(
        kind=trust.kind,
        temperature=trust.temperature,
        fitted_on=trust.pictures,
        note=trust.note,
        split=split,
        n=len(labels),
        ece=scores["ece"],
        ece_before=scores["ece_before"],
        ece_interval=tuple(scores["ece_interval"]),
        ece_null=tuple(scores["ece_null"]),
        brier=scores["brier"],
        brier_before=scores["brier_before"],
        reliability=bins_of(c, h),
        reliability_before=bins_of(*confidences(PLAIN.probabilities(logits), labels)),
        curve=[(float(share[i]), float(1 - risk[i])) for i in picks],
        keep=kept_facts(trust, strange, h),
        sets=set_facts(trust, p, labels),
    )


def bins_of(c: np.ndarray, h: np.ndarray) -> list[dict[str, float]]:
    """Bins of confidence as rows."""
    found = binned(c, h)
    rows = zip(found.count, found.confidence, found.accuracy, strict=True)
    return [{"n": int(n), "confidence": float(a), "accuracy": float(b)} for n, a, b in rows]


def kept_facts(trust: Trust, strange: np.ndarray | None, h: np.ndarray) -> dict[str, Any] | None:
    """What `--keep` at KEEP does to these pictures."""
    if strange is None or not trust.keep:
        return None
    limit = limit_of(trust.keep, KEEP, "keep")
    kept = strange <= limit
    n, right = int(kept.sum()), int(h[kept].sum())
    facts = {"share": KEEP, "limit": limit, "kept": n / len(h), "n": n}
    return facts | {"accuracy": right / n if n else None, "interval": list(wilson(right, n)) if n else None}


def set_facts(trust: Trust, p: np.ndarray, labels: np.ndarray) -> dict[str, Any] | None:
    """How often a set at COVERAGE holds the right class, and how large it is."""
    if not trust.sets:
        return None
    inside = 1 - p <= limit_of(trust.sets, COVERAGE, "set")
    inside[np.arange(len(p)), p.argmax(1)] = True
    held = int(inside[np.arange(len(p)), labels].sum())
    facts = {"share": COVERAGE, "held": held / len(p), "interval": list(wilson(held, len(p)))}
    return facts | {"mean_size": float(inside.sum(1).mean())}
