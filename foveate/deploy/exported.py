"""Prediction with a model folder or an exported file, ONNX or OpenVINO: the same calls, the same answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.preprocess import Preprocess
from foveate.deploy import classifier
from foveate.deploy.classifier import Classifier, Picture, Scores, pixels_of
from foveate.deploy.runtime import Session
from foveate.deploy.targets import open_exported
from foveate.errors import ConfigError


@dataclass(frozen=True)
class Exported:
    """An opened file that predicts like a Classifier. Made by load_exported()."""

    session: Session

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.session.classes

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes the network's input; it is part of the file."""
        return self.session.preprocess

    def predict(self, pictures: "Picture | Sequence[Picture]", top: int = 5) -> Any:
        """The `top` most likely classes with their probabilities, as Classifier.predict says."""
        if top < 1:
            raise ConfigError(f"top = {top}: at least 1")
        if isinstance(pictures, (list, tuple)):
            return [ranked(row, self.classes, top) for row in self.predict_logits(pictures)]
        one: Any = pictures
        return ranked(self.predict_logits([one])[0], self.classes, top)

    def predict_logits(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Logits float32 (N, K) of N pictures, one at a time: each may have its own size."""
        rows = [self.session.run(pixels_of(picture, self.preprocess)[None]) for picture in pictures]
        return np.concatenate(rows) if rows else np.zeros((0, len(self.classes)), np.float32)


def load_exported(path: str | Path, threads: int = 1) -> Exported:
    """Open a .onnx or .xml file that foveate exported. WeightsError for anything else."""
    return Exported(open_exported(path, threads))


def load(path: str | Path) -> "Classifier | Exported":
    """Open what predicts: a model folder such as runs/NAME/best, or an exported .onnx or .xml file.

    WeightsError where it is neither; load_exported and classifier.load say what is refused.
    """
    place = Path(path)
    if place.suffix.lower() in (".onnx", ".xml") and not place.is_dir():
        return load_exported(place)
    return classifier.load(place)


def ranked(logits: np.ndarray, classes: Sequence[str], top: int) -> Scores:
    """[(label, softmax probability), ...], best first; ties keep the order of the classes."""
    z = logits.astype(np.float64)
    shares = np.exp(z - z.max())
    shares /= shares.sum()
    return [(classes[i], float(shares[i])) for i in np.argsort(-shares, kind="stable")[:top]]
