"""What predicts, without torch: any form of picture as pixels, and answers from logits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from foveate.data.gate.inside import inside
from foveate.data.picture import Picture as Picture
from foveate.data.picture import as_pixels
from foveate.data.preprocess import Preprocess, needed
from foveate.deploy.answer import Answer, Scores, answer_rows, check_asked, ranked
from foveate.errors import ConfigError, DataError, WeightsError, printable
from foveate.train.trusted import Trust

P = TypeVar("P", bound=Picture)
BATCH = 32


class Predictor(Protocol):
    """What predicts: a model folder or an exported file, opened."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def trust(self) -> Trust: ...
    @property
    def preprocess(self) -> Preprocess: ...
    def predict_logits(self, pictures: Sequence[Picture], batch: int = BATCH) -> np.ndarray: ...
    def predict_strangeness(self, pictures: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray | None]: ...


def is_folder(picture: object) -> bool:
    """Whether it is the path of a folder."""
    return isinstance(picture, (str, Path)) and Path(picture).is_dir()


def listed(pictures: "Picture | list[P] | tuple[P, ...]") -> list[Picture]:
    """One picture, several, or those below a folder, as a list."""
    if isinstance(pictures, (list, tuple)):
        return list(pictures)
    if isinstance(pictures, (str, Path)) and is_folder(pictures):
        return list(inside(str(pictures)))
    return [pictures]


def answers(
    model: Predictor, pictures: "Picture | list[P] | tuple[P, ...]", top: int, batch: int = BATCH
) -> Scores | list[Scores]:
    """The `top` most likely classes of one picture, or of each of a list, by model.predict_logits and model.classes."""
    if top < 1:
        raise ConfigError(f"top = {top}: at least 1")
    logits = model.predict_logits(listed(pictures), batch)
    rows = [ranked(row, model.classes, top, model.trust) for row in logits]
    return rows if isinstance(pictures, (list, tuple)) or is_folder(pictures) else rows[0]


def folder_answers(model: Predictor, folder: str | Path, top: int, batch: int = BATCH) -> dict[str, Scores]:
    """The answers of every picture below a folder, by path."""
    if not is_folder(folder):
        raise DataError(f"{folder}: no such folder; expected a folder of pictures")
    if top < 1:
        raise ConfigError(f"top = {top}: at least 1")
    found = inside(str(folder))
    logits = model.predict_logits(found, batch)
    return {path: ranked(row, model.classes, top, model.trust) for path, row in zip(found, logits, strict=True)}


def about(model: Predictor) -> dict[str, str]:
    """What every model says of itself, in short words."""
    names = ", ".join(map(printable, model.classes[:8])) + (", ..." if len(model.classes) > 8 else "")
    return {"classes": f"{len(model.classes):,}: {names}", "input": f"{model.preprocess.resolution} px, square"}


def full_answers(
    model: Predictor,
    pictures: "Picture | list[P] | tuple[P, ...]",
    top: int,
    keep: float | None,
    coverage: float | None,
) -> Answer | list[Answer]:
    """An Answer for one picture, or for each of a list. The shares are looked at before a picture is read."""
    check_asked(model.trust, top, keep, coverage)
    several = isinstance(pictures, (list, tuple)) or is_folder(pictures)
    logits, strangeness = model.predict_strangeness(listed(pictures))
    rows = answer_rows(logits, strangeness, model.classes, model.trust, top=top, keep=keep, coverage=coverage)
    return rows if several else rows[0]


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


def pixels_of(picture: Picture, preprocess: Preprocess = Preprocess()) -> np.ndarray:  # noqa: B008  # a frozen record
    """Any form of picture as uint8 (H, W, 3), RGB, upright."""
    return as_pixels(picture, preprocess.background, needed(preprocess))
