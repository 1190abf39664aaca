"""Classifier: a model folder, opened for prediction. Pictures go through the one decode and the one preprocessing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import nn

from foveate.data.preprocess import Preprocess, at_resolution, needed, normalise, prepare
from foveate.data.read.decode import opened
from foveate.deploy import effort
from foveate.deploy.answer import Answer, Scores
from foveate.deploy.compare import generated
from foveate.deploy.export import WithFeatures, export_trusted, has_features
from foveate.deploy.parity import check_parity, require_parity, torch_logits
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
from foveate.deploy.runtime import open_session
from foveate.errors import ConfigError, WeightsError
from foveate.files import write_bytes
from foveate.report.notebook import html_table
from foveate.train.artefact import ModelCard, load_model
from foveate.train.trusted import PLAIN, Trust


@dataclass(frozen=True)
class Classifier:
    """A trained model with its class names and preprocessing. Made by load()."""

    model: nn.Module  # in eval mode
    card: ModelCard

    def __repr__(self) -> str:
        name = self.card.provenance.get("model") or type(self.model).__name__
        return f"<Classifier {name}, {len(self.classes)} classes, {self.preprocess.resolution} px>"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.card.classes

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes the network's input."""
        return self.card.preprocess

    @overload
    def predict(self, pictures: "list[P] | tuple[P, ...]", top: int = 5, batch: int = BATCH) -> list[Scores]: ...
    @overload
    def predict(self, pictures: Picture, top: int = 5, batch: int = BATCH) -> Scores: ...
    def predict(
        self, pictures: "Picture | list[P] | tuple[P, ...]", top: int = 5, batch: int = BATCH
    ) -> Scores | list[Scores]:
        """The `top` most likely classes with their probabilities (0 to 1, of logits scaled on validation), best first.

        pictures: one picture, a list or tuple of them, or a folder. A picture is a path, the bytes of a file, an array
        uint8 (H, W, 3) of RGB or (H, W) of grey, a tensor (3, H, W) uint8 or float from 0 to 1, or a PIL image; any
        size. batch: pictures that the network sees at a time; the answers do not depend on it.
        Returns [(label, probability), ...] for one picture, and a list of such lists for several. A folder gives a
        list too, in the order of the names; predict_folder tells the names with it, and type checkers know its result.
        Raises BadImage (a DataError) naming a picture that can not be decoded, ConfigError where top or batch is below
        1, WeightsError where the model answers NaN or infinity.

            fv.load("runs/photos-1/best").predict("cat.jpg")   # [("cat", 0.97), ("dog", 0.02), ...]
        """
        return answers(self, pictures, top, batch)

    def predict_folder(self, folder: str | Path, top: int = 5, batch: int = BATCH) -> dict[str, Scores]:
        """predict() of every picture below a folder, by its path, in the order of the paths.

        Raises DataError where the folder holds no picture, and what predict raises.
        """
        return folder_answers(self, folder, top, batch)

    def predict_proba(self, pictures: "Picture | list[P] | tuple[P, ...]", batch: int = BATCH) -> np.ndarray:
        """Probabilities float64 (n, classes) in the order of `classes`, rows sum to 1. One picture is n = 1.

        pictures, batch, errors: as in predict.

            model.predict_proba(["cat.jpg", "dog.jpg"]).shape   # (2, 10)
        """
        return self.trust.probabilities(self.predict_logits(listed(pictures), batch))

    def features(self, pictures: "Picture | list[P] | tuple[P, ...]", batch: int = BATCH) -> np.ndarray:
        """What the network saw, float32 (n, d): the mean over positions of its last map, before the classifier.

        Near vectors are alike pictures; compare them by their angle. pictures, batch: as in predict.
        ConfigError for a model that has no such map (a classical pipeline, a fusion); else what predict raises.
        """
        if not has_features(self.model):
            raise ConfigError(f"{type(self.model).__name__} has no map of features; expected one network of the zoo")
        net, seen = WithFeatures(self.model), listed(pictures)
        parts = [torch_outputs(net, self.preprocess, part)[1] for part in self._batches(seen, batch)]
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    @property
    def module(self) -> nn.Module:
        """The network, in eval mode: float32 (N, C, R, R) as `preprocess` gives it -> logits (N, classes)."""
        return self.model

    def to_onnx(self, path: str | Path) -> Path:
        """Write the model as one ONNX file with its preprocessing, and return the path.

        path: ends with .onnx, in a folder that exists. The file is compared with the model on generated pictures first;
        `foveate.export` does more: int8, OpenVINO, your own pictures.
        Raises ConfigError for another path, FoveateError where the file does not answer as the model does.
        """
        place = Path(path)
        if place.suffix.lower() != ".onnx" or not place.parent.is_dir():
            raise ConfigError(f"to_onnx: {place}: expected a name that ends with .onnx in a folder that exists")
        data = export_trusted(self.model, self.preprocess, self.classes, self.card.trust, self.card.known)
        require_parity(check_parity(self.model, self.preprocess, open_session(data), generated(16)))
        write_bytes(place, data)
        return place

    def _repr_html_(self) -> str:
        c = self.card
        shown = {"model": str(c.provenance.get("model") or type(self.model).__name__), **about(self)}
        for m in c.metrics:
            span = "" if m.low is None or m.high is None else f" ({m.low:.4g} to {m.high:.4g})"
            shown[f"{m.name} {m.split}".strip()] = f"{m.value:.4g}{span}" + (f", n = {m.n:,}" if m.n else "")
        return html_table(shown)

    @property
    def trust(self) -> Trust:
        """What the model knows of its answers; PLAIN where its folder says nothing."""
        return self.card.trust or PLAIN

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
        """predict() with more: label, probability, top, unknown, set and strangeness, as attributes.

        keep: such a share of pictures like the validation ones is not called unknown, 0.5 to 0.99. coverage: how often
        the set of classes is to hold the right one.
        Raises what predict raises, and ConfigError for a share that the model was not fitted for.

            fv.load("runs/photos-1/best").answer("cat.jpg", keep=0.95).unknown   # False
        """
        return full_answers(self, pictures, top, keep, coverage)

    def predict_logits(self, pictures: Sequence[Picture], batch: int = BATCH) -> np.ndarray:
        """Logits float32 (N, K) of N pictures, in float32 on the model's device, `batch` at a time."""
        if not pictures:
            return np.zeros((0, len(self.classes)), np.float32)
        return np.concatenate([self._logits(part) for part in self._batches(pictures, batch)])

    def predict_strangeness(self, pictures: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray | None]:
        """(logits (N, K), strangeness (N,)) of N pictures; None where no features are known (trust.md)."""
        if self.card.known is None or not pictures:
            return self.predict_logits(pictures), None
        net, found = WithFeatures(self.model), []
        for part in self._batches(pictures):
            logits, features = torch_outputs(net, self.preprocess, part)
            require_finite(logits, self.preprocess, "the model")
            confidence = self.trust.probabilities(logits).max(1)
            found.append((logits, self.card.known.strangeness(features, confidence)))
        return np.concatenate([z for z, _ in found]), np.concatenate([s for _, s in found])

    @torch.inference_mode()
    def _logits(self, part: Sequence[np.ndarray]) -> np.ndarray:
        logits = torch_logits(self.model, self.preprocess, part)
        require_finite(logits, self.preprocess, "the model")
        return logits

    def _batches(self, pictures: Sequence[Picture], batch: int = BATCH) -> Iterator[list[np.ndarray]]:
        if batch < 1:
            raise ConfigError(f"batch = {batch}: at least 1")
        for start in range(0, len(pictures), batch):
            yield [prepared(p, self.preprocess) for p in pictures[start : start + batch]]


@torch.inference_mode()
def torch_outputs(model: nn.Module, preprocess: Preprocess, ready: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """All outputs of a network that has several, float32, of prepared pictures uint8 (R, R, 3), on its device."""
    device = next(model.parameters()).device
    batch = torch.from_numpy(np.stack(ready)).permute(0, 3, 1, 2).contiguous().to(device)
    return tuple(value.float().cpu().numpy() for value in model(normalise(batch, preprocess)))


def find_folder(source: str | Path) -> Path:
    """The model folder: itself, or best/ of a run folder."""
    place = Path(source)
    inner = place / "best"
    return inner if not (place / "config.json").is_file() and (inner / "config.json").is_file() else place


def load(folder: str | Path, *, resolution: int | None = None, tell: Callable[[str], None] = effort.warn) -> Classifier:
    """Open a model folder (config.json + model.safetensors), such as runs/NAME/best.

    resolution: pixels in place of the model's own; above 1024 a model is opened only where it is named. tell: hears
    what a picture costs where that is much.
    WeightsError where there is no such folder or it is no model folder; load_model says what else is refused.
    """
    path = Path(folder)
    if not path.exists():
        raise WeightsError(f"{path}: no such folder; expected a model folder, such as runs/NAME/best")
    if not path.is_dir():
        raise WeightsError(f"{path}: a file; expected the model folder that holds it")
    if not (path / "config.json").is_file():
        inner = path / "best"
        hint = f"did you mean {inner}?" if (inner / "config.json").is_file() else "it holds no config.json"
        raise WeightsError(f"{path}: not a model folder; {hint}")
    model, card = load_model(path)
    if resolution is not None:
        card = replace(card, preprocess=at_resolution(card.preprocess, resolution))
    named = resolution is not None
    effort.check_effort(model, card.architecture, card.preprocess, str(path), named=named, tell=tell)
    return Classifier(model, card)


def prepared(picture: Picture, preprocess: Preprocess) -> np.ndarray:
    """Any form of picture as the network sees it: uint8 (R, R, 3). A file is shrunk before the next one is decoded."""
    if isinstance(picture, (str, Path, bytes)):
        with opened(picture, background=preprocess.background, need=needed(preprocess)) as image:
            return prepare(image, preprocess)
    return prepare(pixels_of(picture, preprocess), preprocess)
