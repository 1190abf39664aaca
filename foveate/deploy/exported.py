"""Prediction with a model folder or an exported file, ONNX or OpenVINO: the same calls, the same answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, overload

import numpy as np

from foveate.data.preprocess import Preprocess, framed, needed
from foveate.data.read.decode import opened
from foveate.data.read.decode import pixels_of as decoded
from foveate.deploy.answer import Answer, Scores
from foveate.deploy.effort import check_resolution, warn
from foveate.deploy.predictor import (
    BATCH,
    P,
    Picture,
    about,
    answers,
    folder_answers,
    full_answers,
    listed,
    pixels_of,
    require_finite,
)
from foveate.deploy.runtime import Session, open_session
from foveate.deploy.trust_graph import LOGITS, STRANGENESS
from foveate.errors import ConfigError
from foveate.report.notebook import html_table
from foveate.train.trusted import Trust

if TYPE_CHECKING:
    from torch import nn

    from foveate.deploy.classifier import Classifier

HUB = "hf-hub:"
MAX_PIXELS = 8 * 2**20  # of a picture that goes to the file as it is


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
    def predict(self, pictures: "list[P] | tuple[P, ...]", top: int = 5, batch: int = BATCH) -> list[Scores]: ...
    @overload
    def predict(self, pictures: Picture, top: int = 5, batch: int = BATCH) -> Scores: ...
    def predict(
        self, pictures: "Picture | list[P] | tuple[P, ...]", top: int = 5, batch: int = BATCH
    ) -> Scores | list[Scores]:
        """The `top` most likely classes with their probabilities, as Classifier.predict says."""
        return answers(self, pictures, top, batch)

    def predict_folder(self, folder: str | Path, top: int = 5, batch: int = BATCH) -> dict[str, Scores]:
        """predict() of every picture below a folder, by path, as Classifier.predict_folder says."""
        return folder_answers(self, folder, top, batch)

    def predict_proba(self, pictures: "Picture | list[P] | tuple[P, ...]", batch: int = BATCH) -> np.ndarray:
        """Probabilities float64 (n, classes) in the order of `classes`, as Classifier.predict_proba says."""
        return self.trust.probabilities(self.predict_logits(listed(pictures), batch))

    def features(self, pictures: "Picture | list[P] | tuple[P, ...]", batch: int = BATCH) -> np.ndarray:
        """ConfigError: a file answers classes only. The model folder beside it gives features."""
        raise ConfigError("features: an exported file gives none; open the model folder that it was made from")

    @property
    def module(self) -> "nn.Module":
        """ConfigError: a file holds no torch module. The model folder beside it does."""
        raise ConfigError("module: an exported file holds no torch module; open the model folder that it was made from")

    def to_onnx(self, path: str | Path) -> Path:
        """ConfigError: it is an exported file."""
        raise ConfigError(f"to_onnx: {path}: this is an exported file already; copy it, or open its model folder")

    def _repr_html_(self) -> str:
        return html_table({"model": f"exported file, {self.session.size_bytes:,} bytes", **about(self)})

    @property
    def trust(self) -> Trust:
        """What the file knows of its answers."""
        return self.session.trust

    @overload
    def answer(
        self,
        pictures: "list[P] | tuple[P, ...]",
        top: int = 1,
        keep: float | None = None,
        coverage: float | None = None,
    ) -> list[Answer]: ...
    @overload
    def answer(
        self, pictures: Picture, top: int = 1, keep: float | None = None, coverage: float | None = None
    ) -> Answer: ...
    def answer(
        self,
        pictures: "Picture | list[P] | tuple[P, ...]",
        top: int = 1,
        keep: float | None = None,
        coverage: float | None = None,
    ) -> Answer | list[Answer]:
        """predict() with "unknown" and sets of classes, as Classifier.answer says."""
        return full_answers(self, pictures, top, keep, coverage)

    def predict_logits(self, pictures: Sequence[Picture], batch: int = BATCH) -> np.ndarray:
        """Logits float32 (N, K) of N pictures, one at a time whatever `batch` says: each may have its own size."""
        if batch < 1:
            raise ConfigError(f"batch = {batch}: at least 1")
        rows = [self.session.run(self._pixels(picture)) for picture in pictures]
        logits = np.concatenate(rows) if rows else np.zeros((0, len(self.classes)), np.float32)
        require_finite(logits, self.preprocess, "the file")
        return logits

    def predict_strangeness(self, pictures: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray | None]:
        """(logits (N, K), strangeness (N,)) of N pictures; None where the file does not answer it."""
        if STRANGENESS not in self.session.outputs or not pictures:
            return self.predict_logits(pictures), None
        rows = [self.session.answer(self._pixels(picture), (LOGITS, STRANGENESS)) for picture in pictures]
        logits = np.concatenate([row[LOGITS] for row in rows])
        require_finite(logits, self.preprocess, "the file")
        return logits, np.concatenate([row[STRANGENESS] for row in rows])

    def _pixels(self, picture: Picture) -> np.ndarray:
        """uint8 (1, H, W, 3). A large picture is shrunk here, as the file would: it would hold it several times."""
        if isinstance(picture, (str, Path, bytes)):
            with opened(picture, background=self.preprocess.background, need=needed(self.preprocess)) as image:
                large = image.width * image.height > MAX_PIXELS
                pixels = framed(image, self.preprocess) if large else decoded(image)
        else:
            pixels = pixels_of(picture, self.preprocess)
            pixels = framed(pixels, self.preprocess) if pixels.size > 3 * MAX_PIXELS else pixels
        return pixels[None]


def load_exported(path: str | Path, threads: int = 1, resolution: int | None = None) -> Exported:
    """Open a .onnx or .xml file that foveate exported. WeightsError for anything else.

    resolution: the pixels that it has; one above 1024 is opened only where they are named.
    """
    session = _open(path, threads)
    own = session.preprocess.resolution
    if resolution not in (None, own):
        raise ConfigError(f"{path}: resolution = {resolution}: an exported file keeps its own, {own}; export it again")
    check_resolution(session.preprocess, path, named=resolution is not None)
    return Exported(session)


def _open(path: str | Path, threads: int) -> Session:
    """ONNX without torch; the rest by its target."""
    if Path(path).suffix.lower() == ".onnx":
        return open_session(Path(path), threads)
    from foveate.deploy.targets import open_exported

    return open_exported(path, threads)


class HasFolder(Protocol):
    """A finished run, as fit and train return it."""

    @property
    def folder(self) -> Path: ...


def load(
    source: str | Path | HasFolder, *, resolution: int | None = None, tell: Callable[[str], None] = warn
) -> "Classifier | Exported":
    """Open what predicts: a run or its folder (then its best/), a model folder, an exported .onnx or .xml file, or
    "hf-hub:ORG/NAME[@REVISION]".

    All answer predict(pictures, top=5), predict_proba, features and classes, and have preprocess, a transform. Nothing
    that is opened can run code. The network is asked for an hf-hub: address and for nothing else.
    resolution: pixels in place of the model's own; a model that wants over 1024, or 500 G multiply-adds a picture, is
    opened only where they are named. tell: hears what a picture costs where that is much; else a warning.
    Raises WeightsError where it is neither, or damaged; the message says what to open instead.

        model = fv.load("runs/photos-1")
        model.predict(["cat.jpg", "dog.jpg"], top=1)   # [[("cat", 0.97)], [("dog", 0.91)]]
    """
    if isinstance(source, str) and source.startswith(HUB):
        from foveate.deploy import classifier
        from foveate.zoo.hub import hub_folder

        return classifier.load(hub_folder(source), resolution=resolution, tell=tell)
    place = Path(source) if isinstance(source, (str, Path)) else source.folder
    if place.suffix.lower() in (".onnx", ".xml") and not place.is_dir():
        return load_exported(place, resolution=resolution)
    from foveate.deploy import classifier  # a model folder needs torch, an exported file does not

    return classifier.load(classifier.find_folder(place), resolution=resolution, tell=tell)
