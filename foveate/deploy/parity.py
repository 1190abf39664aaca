"""Parity: the exported file must say what the model says, picture by picture, or it is not kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from foveate.config import replace
from foveate.data.preprocess import Preprocess, normalise, prepare, sized
from foveate.deploy.runtime import Session
from foveate.errors import DataError, FoveateError

# Of the largest logit, or of 1 where all are smaller.
NET_TOLERANCE = 1e-4  # both sides given equal bytes: float32 sums in another order
PICTURE_TOLERANCE = 5e-2  # each side resizing by itself: single bytes differ by a level, measured 0.4 %
BATCH = 16


@dataclass(frozen=True)
class Parity:
    """How far an exported file and its model agree on n pictures."""

    n: int
    top1_agreement: float  # share; where the model's two best are nearer than the tolerance, either is right
    max_abs_diff: float  # of logits, each side given the picture and resizing it itself
    net_abs_diff: float  # of logits, both sides given the same bytes of the right size: the export of the network alone
    max_abs_logit: float  # of the model, at least 1: what the tolerances refer to


@torch.inference_mode()
def check_parity(model: nn.Module, preprocess: Preprocess, session: Session, pictures: Sequence[np.ndarray]) -> Parity:
    """Compare on decoded pictures uint8 (H, W, 3) of any sizes. The model runs in eval mode; its mode is put back."""
    if not pictures:
        raise DataError("parity: no pictures; give at least one")
    was_training = model.training
    model.eval()
    try:
        parts = [pictures[i : i + BATCH] for i in range(0, len(pictures), BATCH)]
        expected = np.concatenate(
            [torch_logits(model, preprocess, [prepare(p, preprocess) for p in part]) for part in parts]
        )
        got = np.concatenate([session.run(p[None]) for p in pictures])
        same = [np.stack([after_resize(p, preprocess) for p in part]) for part in parts]
        net = max(
            float(np.abs(session.run(x) - torch_logits(model, preprocess, [prepare(p, preprocess) for p in x])).max())
            for x in same
        )
    finally:
        model.train(was_training)
    scale = max(1.0, float(np.abs(expected).max()))
    chosen = expected[np.arange(len(expected)), got.argmax(1)]
    agreement = float((expected.max(1) - chosen <= PICTURE_TOLERANCE * scale).mean())
    return Parity(len(pictures), agreement, float(np.abs(got - expected).max()), net, scale)


def require_parity(p: Parity) -> None:
    """FoveateError unless every picture gets the model's class and both differences are within their tolerance."""
    limit = NET_TOLERANCE * p.max_abs_logit
    if not p.net_abs_diff <= limit:  # written so that NaN fails, too
        raise FoveateError(f"the exported network's logits differ by {p.net_abs_diff:.2g}; at most {limit:.2g} is kept")
    limit = PICTURE_TOLERANCE * p.max_abs_logit
    if not p.max_abs_diff <= limit:
        raise FoveateError(f"the exported file's logits differ by {p.max_abs_diff:.2g}; at most {limit:.2g} is kept")
    if p.top1_agreement < 1:
        raise FoveateError(f"the exported file gives {1 - p.top1_agreement:.1%} of {p.n} pictures another class")


@dataclass(frozen=True)
class Agreement:
    """How often a file of lower precision and its model say the same, each given the picture at its own size."""

    n: int
    top1_agreement: float
    accuracy: float | None  # of the file; None: no labels
    drop: float | None  # the model's accuracy minus the file's
    max_abs_diff: float  # of logits


@torch.inference_mode()
def check_agreement(
    model: nn.Module,
    preprocess: Preprocess,
    session: Session,
    pictures: Sequence[np.ndarray],
    labels: np.ndarray | None = None,
) -> Agreement:
    """Compare on decoded pictures uint8 (H, W, 3) of any sizes; labels int64 (N,) where they are known."""
    if not len(pictures):
        raise DataError("agreement: no pictures; give at least one")
    was_training = model.training
    model.eval()
    try:
        expected = np.concatenate([torch_logits(model, preprocess, [prepare(p, preprocess)]) for p in pictures])
        got = np.concatenate([session.run(p[None]) for p in pictures])
    finally:
        model.train(was_training)
    sound, mine, theirs = np.isfinite(got).all(1), expected.argmax(1), got.argmax(1)
    accuracy = None if labels is None else float((sound & (theirs == labels)).mean())
    drop = None if accuracy is None else float((mine == labels).mean()) - accuracy
    agreement = float((sound & (mine == theirs)).mean())
    return Agreement(len(pictures), agreement, accuracy, drop, float(np.abs(got - expected).max()))


def require_agreement(a: Agreement, max_drop: float) -> None:
    """FoveateError unless the accuracy falls by at most max_drop (a share), or, where there are no labels, at least
    1 - max_drop of the pictures keep their class."""
    if a.drop is not None and not a.drop <= max_drop + 1e-9:
        lost = f"loses {100 * a.drop:.1f} points of accuracy on {a.n} pictures"
        raise FoveateError(f"the exported file {lost}; at most {100 * max_drop:g} are allowed (--max-drop)")
    if a.drop is None and not a.top1_agreement >= 1 - max_drop - 1e-9:
        kept = f"keeps the class of {a.top1_agreement:.1%} of {a.n} pictures"
        raise FoveateError(f"the exported file {kept}; at least {1 - max_drop:.1%} are needed (--max-drop)")


def torch_logits(model: nn.Module, preprocess: Preprocess, prepared: Sequence[np.ndarray]) -> np.ndarray:
    """Logits float32 (N, K) of prepared pictures uint8 (R, R, 3), on the model's device."""
    device = next(model.parameters()).device
    batch = torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2).contiguous().to(device)
    logits: np.ndarray = model(normalise(batch, preprocess)).float().cpu().numpy()
    return logits


def after_resize(picture: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """The picture squashed to the size that the resize step gives, uint8 (S, S, 3): resizing it is then a no-op."""
    side = sized(preprocess)
    return prepare(picture, replace(preprocess, fit="squash", resolution=side, resize=side))
