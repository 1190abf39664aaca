"""Pooled features of many pictures in onnxruntime: the same numbers as torch, three to four times cheaper on a CPU."""

import numpy as np
import torch
from torch import nn

from foveate.config import replace
from foveate.data.load import Pictures
from foveate.data.preprocess import Preprocess
from foveate.deploy.export import export_for_timing
from foveate.deploy.runtime import Session, open_session

BATCH = 16


class Pooled(nn.Module):
    """The mean over positions of a network's last feature map: what its linear classifier sees."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, 3, H, W) -> (N, num_features)
        features: torch.Tensor = self.model.forward_features(x)  # type: ignore[operator]  # every zoo module has it
        return features.mean((2, 3))


def feature_session(model: nn.Module, preprocess: Preprocess, threads: int) -> Session:
    """A session that turns prepared pictures into features; its resizing does nothing at that size."""
    as_is = replace(preprocess, fit="squash", resize=preprocess.resolution)
    return open_session(export_for_timing(Pooled(model), as_is, BATCH), threads)


def features(session: Session, pictures: Pictures) -> np.ndarray:
    """Features of all pictures in order: float32 (N, C). Pictures are prepared as for evaluation."""
    parts = []
    for item in pictures.in_order(BATCH):
        x = item.pictures.permute(0, 2, 3, 1).numpy()  # (n, R, R, 3), n <= BATCH
        n = len(x)
        if n < BATCH:
            x = np.concatenate((x, np.zeros((BATCH - n, *x.shape[1:]), np.uint8)))
        parts.append(session.run(np.ascontiguousarray(x))[:n])
    return np.concatenate(parts)
