"""Parity: the exported file must say what the model says, picture by picture, or it is not kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from foveate.config import replace
from foveate.data.preprocess import Preprocess, normalise, prepare
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


def sized(preprocess: Preprocess) -> int:
    """Side in pixels of a square picture that the resize step leaves as it is."""
    return preprocess.resize if preprocess.fit == "crop" else preprocess.resolution
