"""Preprocess: the one definition of how a picture becomes a network's input, as data. Stored in every model folder."""

from typing import Annotated, Literal

from pydantic import Field

from foveate.config import Pixels, Positive, record
from foveate.errors import ConfigError

Mean = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Byte = Annotated[int, Field(ge=0, le=255)]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@record
class Preprocess:
    """decode -> upright (EXIF) -> RGB -> resize -> crop, squash or letterbox -> (x / 255 - mean) / std.

    fit "crop": the short side becomes `resize` pixels (the long side by the same factor, rounded down), then the centre
    resolution x resolution is cut out. "squash": both sides become `resolution`. "letterbox": the long side becomes `resolution`,
    the rest is filled with `fill`.
    Resizing is PIL's antialiased kernel on uint8, so that every runtime can give the same bytes.
    """

    resolution: Pixels = 224
    resize: Pixels = 256  # only for "crop"
    fit: Literal["crop", "squash", "letterbox"] = "crop"
    kernel: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[Mean, Mean, Mean] = IMAGENET_MEAN
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD
    fill: Byte = 114  # grey of the letterbox bars
    background: tuple[Byte, Byte, Byte] = (255, 255, 255)  # what shows through transparent pixels

    def __post_init__(self) -> None:
        if self.fit == "crop" and self.resize < self.resolution:
            raise ConfigError(f"Preprocess.resize = {self.resize}: at least the resolution, {self.resolution}")
