"""Classifier: a model folder, opened for prediction. Pictures go through the one decode and the one preprocessing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar, overload

import numpy as np
import torch
from torch import nn

from foveate.data.preprocess import Preprocess, at_resolution, needed, normalise, prepare
from foveate.data.read.decode import decode, opened
from foveate.deploy import effort
from foveate.deploy.answer import Answer, Scores, answer_rows, check_asked, ranked
from foveate.deploy.export import WithFeatures
from foveate.deploy.parity import torch_logits
from foveate.errors import ConfigError, DataError, WeightsError
from foveate.train.artefact import ModelCard, load_model
from foveate.train.trusted import PLAIN, Trust

if TYPE_CHECKING:
    from PIL.Image import Image

Picture: TypeAlias = "str | Path | bytes | np.ndarray | Image"
P = TypeVar("P", bound=Picture)
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


class Predictor(Protocol):
    """What predicts: a model folder or an exported file, opened."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def trust(self) -> Trust: ...
    def predict_logits(self, pictures: Sequence[Picture]) -> np.ndarray: ...
    def predict_strangeness(self, pictures: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray | None]: ...


def answers(model: Predictor, pictures: "Picture | list[P] | tuple[P, ...]", top: int) -> Scores | list[Scores]:
    """The `top` most likely classes of one picture, or of each of a list, by model.predict_logits and model.classes."""
    if top < 1:
        raise ConfigError(f"top = {top}: at least 1")
    if isinstance(pictures, (list, tuple)):
        return [ranked(row, model.classes, top, model.trust) for row in model.predict_logits(pictures)]
    return ranked(model.predict_logits([pictures])[0], model.classes, top, model.trust)


def full_answers(
    model: Predictor,
    pictures: "Picture | list[P] | tuple[P, ...]",
    top: int,
    keep: float | None,
    coverage: float | None,
) -> Answer | list[Answer]:
    """An Answer for one picture, or for each of a list. The shares are looked at before a picture is read."""
    check_asked(model.trust, top, keep, coverage)
    several = isinstance(pictures, (list, tuple))
    logits, strangeness = model.predict_strangeness(list(pictures) if several else [pictures])  # type: ignore[list-item,arg-type]
    rows = answer_rows(logits, strangeness, model.classes, model.trust, top=top, keep=keep, coverage=coverage)
    return rows if several else rows[0]


@torch.inference_mode()
def torch_outputs(model: nn.Module, preprocess: Preprocess, ready: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """All outputs of a network that has several, float32, of prepared pictures uint8 (R, R, 3), on its device."""
    device = next(model.parameters()).device
    batch = torch.from_numpy(np.stack(ready)).permute(0, 3, 1, 2).contiguous().to(device)
    return tuple(value.float().cpu().numpy() for value in model(normalise(batch, preprocess)))


def require_finite(logits: np.ndarray, preprocess: Preprocess, what: str) -> None:
    """WeightsError where answers are NaN or infinite: no class is then more likely than another."""
    if np.isfinite(logits).all():
        return
    bad = np.flatnonzero(~np.isfinite(logits).all(1))
    std = ", ".join(f"{v:g}" for v in preprocess.std)
    raise WeightsError(
        f"{what} answers NaN or infinity for {len(bad):,} of {len(logits):,} pictures: its numbers overflow; its"
        f" weights or its preprocessing (std {std}) are damaged: train or export it again"
    )


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


def pixels_of(picture: Picture, preprocess: Preprocess = Preprocess()) -> np.ndarray:  # noqa: B008  # a frozen record
    """Any form of picture as uint8 (H, W, 3), RGB, upright."""
    if isinstance(picture, (str, Path, bytes)):
        return decode(picture, background=preprocess.background, need=needed(preprocess))
    if isinstance(picture, np.ndarray):
        if picture.dtype == np.uint8 and picture.ndim == 2:
            picture = np.repeat(picture[:, :, None], 3, axis=2)
        return picture  # prepare refuses what is not uint8 (H, W, 3)
    from PIL import Image, ImageOps

    if not isinstance(picture, Image.Image):
        raise DataError(f"a picture of type {type(picture).__name__}; expected a path, bytes, an array or a PIL image")
    try:
        stored = _storable(ImageOps.exif_transpose(picture))
        file = BytesIO()  # as a file, so that one set of rules decodes every mode
        if stored.mode == "F":
            stored.save(file, "TIFF")
        else:
            stored.save(file, "PNG", compress_level=1)
    except (OSError, ValueError, TypeError, SystemError, SyntaxError) as error:  # Pillow decodes an opened file here
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"a PIL image of mode {picture.mode} can not be read ({text}); convert it to RGB") from None
    return decode(file.getvalue(), background=preprocess.background)


def _storable(picture: "Image") -> "Image":
    """A PIL image in a mode that PNG or TIFF can hold, by the rules of docs/pictures.md."""
    from PIL import Image

    mode = picture.mode
    if mode in ("1", "L", "LA", "P", "RGB", "RGBA", "F"):
        return picture
    if mode == "I" or mode.startswith("I;16"):
        samples = np.asarray(picture)
        if samples.size and (samples.min() < 0 or samples.max() > 65_535):
            found = f"samples from {samples.min()} to {samples.max()}"
            raise DataError(f"a PIL image of mode {mode} with {found}; expected 0 to 65535: scale them")
        return Image.fromarray(samples.astype(np.uint16))
    if mode in ("PA", "RGBa"):
        return picture.convert("RGBA")
    if mode == "La":
        return picture.convert("LA")
    if mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
        return picture.convert("RGB")
    raise DataError(f'a PIL image of mode {mode}, whose colours are not read; convert it: picture.convert("RGB")')
