"""The pictures that a report shows: the surest mistakes and a right answer of every class, each with its heat map."""

import os

import numpy as np
import torch
from torch import nn

from foveate.data.gate.walk import below
from foveate.data.load import Pictures
from foveate.data.preprocess import Preprocess, normalise
from foveate.report.gallery import MISTAKES, SAMPLES, Shown
from foveate.train.evaluate import labels_of, log_softmax
from foveate.trust.heat import heat
from foveate.trust.overlay import overlay

BATCH = 16
LEAST_CELLS = 3  # a map with fewer a side does not say where


def shown_pictures(
    model: nn.Module,
    root: str,
    pictures: Pictures,
    logits: np.ndarray,
    classes: tuple[str, ...],
    preprocess: Preprocess,
) -> list[Shown]:
    """The wrong answers that were most certain and, of each class (SAMPLES at most), the right answer of middle
    certainty, as the network saw them. root: of the data, below which their names are told. logits: (N, K) of the
    pictures; the maps are those of the model, whatever said the answers.
    """
    labels, sure = labels_of(pictures), np.exp(log_softmax(logits))
    guess = sure.argmax(1)
    chosen = choose(labels, guess, sure.max(1), len(classes))
    if not len(chosen):
        return []
    pixels = np.concatenate([item.pictures.numpy() for item in pictures.in_order(BATCH, only=chosen)])
    maps = heat_maps(model, pictures, chosen, preprocess)
    paths, keep = pictures.split.paths, pictures.keep
    return [
        Shown(
            path=below(root, paths[keep[i]]) if root and os.path.isabs(paths[keep[i]]) else paths[keep[i]],
            pixels=pixels[j].transpose(1, 2, 0),
            true=classes[labels[i]],
            predicted=classes[guess[i]],
            probability=float(sure[i, guess[i]]),
            heat=None if maps is None else maps[j],
        )
        for j, i in enumerate(chosen)
    ]


def choose(labels: np.ndarray, guess: np.ndarray, sure: np.ndarray, classes: int) -> np.ndarray:
    """Places of the pictures that are shown: mistakes, the surest first, then a right answer a class."""
    wrong = np.flatnonzero(guess != labels)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    middle = []
    for c in range(classes if classes <= SAMPLES else 0):
        right = np.flatnonzero((labels == c) & (guess == c))
        middle += right[np.argsort(sure[right], kind="stable")][len(right) // 2 :][:1].tolist()
    return np.concatenate((wrong, middle)).astype(int)


def heat_maps(model: nn.Module, pictures: Pictures, chosen: np.ndarray, preprocess: Preprocess) -> np.ndarray | None:
    """uint8 (N, R, R, 3): what spoke for the answers laid on the pictures; None where the network has no maps, or maps
    that are too coarse.
    """
    if not hasattr(model, "forward_features"):
        return None
    device, found = next(model.parameters()).device, []
    for item in pictures.in_order(BATCH, only=chosen):
        x = normalise(item.pictures.to(device), preprocess).contiguous(memory_format=torch.channels_last)
        values = heat(model, x).values[:, None].float()
        if min(values.shape[2:]) < LEAST_CELLS or not bool(torch.isfinite(values).all()):
            return None
        size = item.pictures.shape[2:]
        laid = nn.functional.interpolate(values, size=size, mode="bilinear", align_corners=False)[:, 0].cpu().numpy()
        seen = np.ones(tuple(size), bool)
        found += [
            overlay(picture.numpy().transpose(1, 2, 0), one, seen)
            for picture, one in zip(item.pictures, laid, strict=True)
        ]
    return np.stack(found)
