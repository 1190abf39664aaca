"""Evaluation: logits of a split. What is read off them: measures.py."""

import numpy as np
import torch
from torch import nn

from foveate.data.load import Pictures
from foveate.data.preprocess import Preprocess, normalise
from foveate.train import ranks
from foveate.train.measures import accuracy as accuracy
from foveate.train.measures import calibration_error as calibration_error
from foveate.train.measures import cross_entropy as cross_entropy
from foveate.train.measures import log_softmax as log_softmax
from foveate.train.measures import metrics as metrics
from foveate.train.views import Viewer, averaged


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    pictures: Pictures,
    preprocess: Preprocess,
    *,
    batch: int = 64,
    nhwc: bool = True,
    only: np.ndarray | None = None,
    views: str | Viewer = "one",
) -> np.ndarray:
    """Logits of all pictures in order: float32 (N, K). The model is put in eval mode and runs in float32.

    only: the positions that are wanted, in place of all. views: a name of VIEWS (train/views.py), or what makes them;
    averaged.
    """
    model.eval()
    device = next(model.parameters()).device
    layout = torch.channels_last if nhwc else torch.contiguous_format
    parts = []
    for item in pictures.in_order(batch, only=only):
        x = normalise(item.pictures.to(device), preprocess).contiguous(memory_format=layout)
        parts.append(averaged(model, x, views).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def shared_logits(
    model: nn.Module, pictures: Pictures, preprocess: Preprocess, *, views: str | Viewer = "one"
) -> np.ndarray:
    """predict_logits by all processes, each its share: the logits of all pictures, in order, on every rank."""
    if ranks.world() == 1:
        return predict_logits(model, pictures, preprocess, views=views)
    ranks.take_buffers(model)
    mine = ranks.dealt(np.arange(len(pictures)))
    return ranks.gathered(predict_logits(model, pictures, preprocess, only=mine, views=views), len(pictures))


def labels_of(pictures: Pictures) -> np.ndarray:
    """The labels of the pictures that are used, in order: int64 (N,)."""
    return pictures.labels.numpy()[pictures.keep]
