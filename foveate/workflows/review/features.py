"""What pictures are described by: ImageNet features where their weights are installed, a model's own, or outlines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from foveate.config import replace
from foveate.data.preprocess import Preprocess, prepare
from foveate.errors import ConfigError

LITE = "efficientnet_lite0"
TINY = 48  # pixels of the short side below which an ImageNet network sees little, and pixels are as good
SIDE, CELL, TURNS = 64, 8, 9  # of the outlines: pixels, pixels of a cell, directions


@dataclass(frozen=True)
class Describer:
    """prepare: an RGB image -> what describe takes. describe: a list of these -> float32 (n, D). what: in words."""

    what: str
    prepare: Callable[[Image.Image], np.ndarray]
    describe: Callable[[Sequence[np.ndarray]], np.ndarray]


def describer(model: str | Path | None, short_side: int, threads: int = 1) -> Describer:
    """Features of the model's network where one is given; else of EfficientNet-Lite0 where its weights are installed
    and the pictures are not tiny; else outlines.
    """
    if model is not None:
        from foveate.train.artefact import load_model

        network, card = load_model(model)
        name = card.provenance.get("model") or card.architecture.family
        return _network(network, card.preprocess, f"features of the model's own network ({name})", threads)
    if short_side < TINY:
        return Describer(f"outlines and grey values (pictures below {TINY} px)", outlines, np.stack)
    try:
        from foveate.zoo import create_model
        from foveate.zoo.weights import weights_info

        network = create_model(LITE, weights="lite").eval()
    except ConfigError:
        return Describer(
            "outlines and grey values (better: pip install 'foveate[lite]', or --model)", outlines, np.stack
        )
    preprocess = replace(Preprocess(), **weights_info(network.config, "lite"))
    return _network(network, preprocess, f"ImageNet features of {LITE}", threads)


def _network(network, preprocess: Preprocess, what: str, threads: int) -> Describer:  # type: ignore[no-untyped-def]
    from foveate.deploy.features import BATCH, feature_session

    session = feature_session(network, preprocess, threads)

    def describe(prepared: Sequence[np.ndarray]) -> np.ndarray:
        parts = []
        for start in range(0, len(prepared), BATCH):
            x = np.stack(prepared[start : start + BATCH])
            n = len(x)
            x = np.concatenate((x, np.zeros((BATCH - n, *x.shape[1:]), np.uint8)))
            parts.append(session.run(np.ascontiguousarray(x))[:n])
        return np.concatenate(parts)

    return Describer(what, lambda image: prepare(image, preprocess), describe)


def outlines(image: Image.Image) -> np.ndarray:
    """Grey values of 16 x 16 and histograms of gradient directions, and colours of 4 x 4: float32 (880,)."""
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32) / 255
    grey = small.mean(2)
    down, across = np.gradient(grey)
    strength, turn = np.hypot(across, down), np.mod(np.arctan2(down, across), np.pi) / np.pi * TURNS
    cells = SIDE // CELL
    place = (np.arange(SIDE) // CELL)[:, None] * cells + (np.arange(SIDE) // CELL)[None]
    low = np.floor(turn).astype(int) % TURNS
    part = turn - np.floor(turn)
    histogram = np.zeros((cells * cells, TURNS), np.float32)
    np.add.at(histogram, (place, low), strength * (1 - part))
    np.add.at(histogram, (place, (low + 1) % TURNS), strength * part)
    histogram /= np.sqrt(np.square(histogram).sum(1, keepdims=True)) + 0.1
    coarse = grey.reshape(16, 4, 16, 4).mean((1, 3))
    coarse = (coarse - coarse.mean()) / (coarse.std() + 0.02)
    colour = small.reshape(4, 16, 4, 16, 3).mean((1, 3))
    blocks = (histogram, 0.15 * coarse, colour)
    return np.concatenate([block.ravel() / np.sqrt(block.size) * 8 for block in blocks]).astype(np.float32)
