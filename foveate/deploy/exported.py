"""Prediction with a model folder or an exported file, ONNX or OpenVINO: the same calls, the same answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.preprocess import Preprocess
from foveate.deploy import classifier
from foveate.deploy.classifier import Classifier, Picture, answers, pixels_of
from foveate.deploy.runtime import Session
from foveate.deploy.targets import open_exported


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
        return answers(self, pictures, top)

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
