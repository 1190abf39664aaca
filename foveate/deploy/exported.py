"""Prediction with a model folder or an exported file, ONNX or OpenVINO: the same calls, the same answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from foveate.data.preprocess import Preprocess
from foveate.deploy import classifier
from foveate.deploy.classifier import Classifier, P, Picture, Scores, answers, pixels_of
from foveate.deploy.runtime import Session
from foveate.deploy.targets import open_exported


@dataclass(frozen=True)
class Exported:
    """An opened file that predicts like a Classifier. Made by load_exported()."""

    session: Session

    def __repr__(self) -> str:
        size, side = self.session.size_bytes, self.preprocess.resolution
        return f"<Exported file, {size:,} bytes, {len(self.classes)} classes, {side} px>"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.session.classes

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes the network's input; it is part of the file."""
        return self.session.preprocess

    @overload
    def predict(self, pictures: "list[P] | tuple[P, ...]", top: int = 5) -> list[Scores]: ...
    @overload
    def predict(self, pictures: Picture, top: int = 5) -> Scores: ...
    def predict(self, pictures: "Picture | list[P] | tuple[P, ...]", top: int = 5) -> Scores | list[Scores]:
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

    Both answer predict(pictures, top=5) and predict_logits(pictures), and have classes and preprocess. Nothing that is
    opened can run code. Raises WeightsError where it is neither, or damaged; the message says what to open instead.

        model = fv.load("runs/photos-1/best")
        model.predict(["cat.jpg", "dog.jpg"], top=1)   # [[("cat", 0.97)], [("dog", 0.91)]]
    """
    place = Path(path)
    if place.suffix.lower() in (".onnx", ".xml") and not place.is_dir():
        return load_exported(place)
    return classifier.load(place)
