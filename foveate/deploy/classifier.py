"""Classifier: a model folder, opened for prediction. Pictures go through the one decode and the one preprocessing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from torch import nn

from foveate.data.preprocess import Preprocess, at_resolution, needed, normalise, prepare
from foveate.data.read.decode import opened
from foveate.deploy import effort
from foveate.deploy.answer import Answer, Scores
from foveate.deploy.export import WithFeatures
from foveate.deploy.parity import torch_logits
from foveate.deploy.predictor import P, Picture, answers, full_answers, pixels_of, require_finite
from foveate.errors import WeightsError
from foveate.train.artefact import ModelCard, load_model
from foveate.train.trusted import PLAIN, Trust

if TYPE_CHECKING:
    pass

BATCH = 32


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
    def predict(self, pictures: "list[P] | tuple[P, ...]", top: int = 5) -> list[Scores]: ...
    @overload
    def predict(self, pictures: Picture, top: int = 5) -> Scores: ...
    def predict(self, pictures: "Picture | list[P] | tuple[P, ...]", top: int = 5) -> Scores | list[Scores]:
        """The `top` most likely classes with their probabilities (0 to 1, of logits scaled on validation), best first.

        pictures: one picture, or a list or tuple of them. A picture is a path, the bytes of a file, an array uint8
        (H, W, 3) of RGB or (H, W) of grey, or a PIL image; any size.
        Returns [(label, probability), ...] for one picture, and a list of such lists for several.
        Raises BadImage (a DataError) naming a picture that can not be decoded, ConfigError where top is below 1,
        WeightsError where the model answers NaN or infinity.

            fv.load("runs/photos-1/best").predict("cat.jpg")   # [("cat", 0.97), ("dog", 0.02), ...]
        """
        return answers(self, pictures, top)

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

    def predict_logits(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Logits float32 (N, K) of N pictures, in float32 on the model's device, 32 at a time."""
        if not pictures:
            return np.zeros((0, len(self.classes)), np.float32)
        return np.concatenate([self._logits(part) for part in self._batches(pictures)])

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

    def _batches(self, pictures: Sequence[Picture]) -> Iterator[list[np.ndarray]]:
        for start in range(0, len(pictures), BATCH):
            yield [prepared(p, self.preprocess) for p in pictures[start : start + BATCH]]


@torch.inference_mode()
def torch_outputs(model: nn.Module, preprocess: Preprocess, ready: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """All outputs of a network that has several, float32, of prepared pictures uint8 (R, R, 3), on its device."""
    device = next(model.parameters()).device
    batch = torch.from_numpy(np.stack(ready)).permute(0, 3, 1, 2).contiguous().to(device)
    return tuple(value.float().cpu().numpy() for value in model(normalise(batch, preprocess)))


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
