"""What predicts, without torch: any form of picture as pixels, and answers from logits."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np

from foveate.data.preprocess import Preprocess, needed
from foveate.data.read.decode import decode
from foveate.deploy.answer import Answer, Scores, answer_rows, check_asked, ranked
from foveate.errors import ConfigError, DataError, WeightsError
from foveate.train.trusted import Trust

if TYPE_CHECKING:
    from PIL.Image import Image

Picture: TypeAlias = "str | Path | bytes | np.ndarray | Image"
P = TypeVar("P", bound=Picture)


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
