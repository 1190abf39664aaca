"""Preprocess: the one definition of how a picture becomes a network's input, as data. Stored in every model folder."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from foveate.config import Pixels, override, record, replace
from foveate.data.picture import Picture, as_pixels
from foveate.errors import ConfigError, DataError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Mean = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Byte = Annotated[int, Field(ge=0, le=255)]
# far below the step of a byte, 1 / 255: what is smaller only makes numbers overflow
Std = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)]
MAX_BETWEEN = 32 * 2**20  # pixels of a picture between its two resizes; 128 MB
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601, as Pillow's mode L


@record
class Preprocess:
    """decode -> upright (EXIF) -> RGB -> resize -> crop, squash or letterbox -> (x / 255 - mean) / std.

    One mean and one std: a network of one channel. The luminance of x is taken first (LUMINANCE), not rounded; of a
    grey picture it is the picture.

    fit "crop": the short side becomes `resize` pixels (the long side by the same factor, rounded down), then the centre
    resolution x resolution is cut out. "squash": both sides become `resolution`. "letterbox": the long side becomes
    `resolution`, the rest is filled with `fill`.
    Resizing is PIL's antialiased kernel on uint8, so that every runtime can give the same bytes.
    """

    resolution: Pixels = 224
    resize: Pixels = 256  # only for "crop"
    fit: Literal["crop", "squash", "letterbox"] = "crop"
    kernel: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[Mean, Mean, Mean] | tuple[Mean] = IMAGENET_MEAN
    std: tuple[Std, Std, Std] | tuple[Std] = IMAGENET_STD
    fill: Byte = 114  # grey of the letterbox bars
    background: tuple[Byte, Byte, Byte] = (255, 255, 255)  # what shows through transparent pixels
    # "scaled": a JPEG file is decoded at 1/2, 1/4 or 1/8 of its size where that is still as large as after the resize
    decode: Literal["exact", "scaled"] = "exact"

    def __post_init__(self) -> None:
        if self.fit == "crop" and self.resize < self.resolution:
            raise ConfigError(f"Preprocess.resize = {self.resize}: at least the resolution, {self.resolution}")
        if len(self.mean) != len(self.std):
            raise ConfigError(f"Preprocess.mean has {len(self.mean)} numbers and std {len(self.std)}: as many")

    @property
    def channels(self) -> int:
        """Of the network's input: 3, or 1 for grey."""
        return len(self.mean)

    def __call__(self, picture: Picture) -> "torch.Tensor":
        """A transform as torchvision has them: one picture in any form -> the network's input, float32 (C, R, R)."""
        import torch

        pixels = prepare(as_pixels(picture, self.background, needed(self)), self)
        return normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous(), self)[0]


def resized_size(width: int, height: int, p: Preprocess) -> tuple[int, int]:
    """(width, height) in pixels after the resize. Integer arithmetic, the same as torchvision's Resize for "crop"."""
    if p.fit == "squash":
        return p.resolution, p.resolution
    if p.fit == "crop":
        r = p.resize
        return (r, r * height // width) if width <= height else (r * width // height, r)
    r = p.resolution
    return (r, max(1, r * height // width)) if width >= height else (max(1, r * width // height), r)


def needed(p: Preprocess) -> Callable[[int, int], tuple[int, int]] | None:
    """For decode: how many pixels a file of (width, height) has to give at least; None: all of them."""
    return (lambda width, height: resized_size(width, height, p)) if p.decode == "scaled" else None


def crop_box(width: int, height: int, p: Preprocess) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the input in the resized picture. Below 0 for "letterbox": bars are added.

    Half pixels go to the even neighbour, as in torchvision's CenterCrop.
    """
    left, top = _half(width - p.resolution), _half(height - p.resolution)
    return left, top, left + p.resolution, top + p.resolution


def _half(n: int) -> int:
    """n / 2, half to even."""
    return n // 2 + (n // 2 & n & 1)


def prepare(picture: "np.ndarray | Image", p: Preprocess) -> np.ndarray:
    """A decoded picture as the network sees it: uint8 (R, R, 3), resized and cut as Preprocess says.

    picture: uint8 (H, W, 3), or an RGB image of Pillow.
    With fit "crop" the bytes equal torchvision's Resize(antialias) and CenterCrop on a PIL image, but for some tall
    narrow pictures, of which newer Pillow resizes the height first.
    """
    from PIL import Image

    if isinstance(picture, np.ndarray):
        _check(picture)
        picture = Image.fromarray(picture)
    kernel = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[p.kernel]
    width, height = resized_size(*picture.size, p)
    box = crop_box(width, height, p)
    if p.fit == "crop" and width * max(picture.height, height) > MAX_BETWEEN:
        # far longer than wide: only what the crop shows is resized, to the same bytes but for rounding
        x, y = picture.width / width, picture.height / height
        seen = picture.resize((p.resolution, picture.height), kernel, (box[0] * x, 0, box[2] * x, picture.height))
        return np.array(seen.resize((p.resolution, p.resolution), kernel, (0, box[1] * y, p.resolution, box[3] * y)))
    # width first, then height, as onnxruntime does it; one call leaves the order to the Pillow version
    image = picture.resize((width, picture.height), kernel).resize((width, height), kernel)
    if p.fit == "letterbox":
        canvas = Image.new("RGB", (p.resolution, p.resolution), (p.fill, p.fill, p.fill))
        canvas.paste(image, (-box[0], -box[1]))
        return np.array(canvas)
    return np.array(image.crop(box))


def framed(picture: "np.ndarray | Image", p: Preprocess) -> np.ndarray:
    """A decoded picture of any size as uint8 (S, S, 3), S of sized(): the resize step leaves it as it is, and the crop
    takes out of it exactly the bytes that prepare() gives."""
    seen = prepare(picture, p)
    if p.fit != "crop":
        return seen
    side = sized(p)
    left, top, right, bottom = crop_box(side, side, p)
    made = np.zeros((side, side, 3), np.uint8)
    made[top:bottom, left:right] = seen
    return made


def sized(p: Preprocess) -> int:
    """Side in pixels of a square picture that the resize step leaves as it is."""
    return p.resize if p.fit == "crop" else p.resolution


def _check(pixels: np.ndarray) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise DataError(f"pixels {pixels.dtype} {pixels.shape}: expected uint8 (H, W, 3), as decode gives")


def normalise(batch: "torch.Tensor", p: Preprocess) -> "torch.Tensor":
    """(x / 255 - mean) / std: uint8 (N, 3, R, R) -> float32 (N, p.channels, R, R), device and memory format kept."""
    return normalise_unit(batch / 255, p)  # uint8 divides to float32


def normalise_unit(x: "torch.Tensor", p: Preprocess) -> "torch.Tensor":
    """(x - mean) / std of float pictures (N, 3, R, R) from 0 to 1. The steps and so the bits are torchvision's."""
    x = luminance(x) if p.channels == 1 else x
    mean, std = x.new_tensor(p.mean).view(-1, 1, 1), x.new_tensor(p.std).view(-1, 1, 1)
    return (x - mean).div_(std)


def normalise_own(x: "torch.Tensor", p: Preprocess) -> "torch.Tensor":
    """normalise_unit in place where the channels stay, to the same bits: for pictures that nobody else will look at."""
    if p.channels == 1:
        return normalise_unit(x, p)
    mean, std, last = x.new_tensor(p.mean), x.new_tensor(p.std), x.permute(0, 2, 3, 1)
    if last.is_contiguous():  # rows of all colours: three numbers at a time are slow
        last.flatten(0, 1).flatten(1).sub_(mean.repeat(x.shape[3])).div_(std.repeat(x.shape[3]))
        return x
    return x.sub_(mean.view(3, 1, 1)).div_(std.view(3, 1, 1))


def luminance(x: "torch.Tensor") -> "torch.Tensor":
    """Float pictures (N, 3, H, W) -> (N, 1, H, W), the brightness."""
    return (x * x.new_tensor(LUMINANCE).view(3, 1, 1)).sum(1, keepdim=True)


def grey(p: Preprocess) -> Preprocess:
    """The preprocessing for a network of one channel: the mean of the luminance, and the mean of the deviations."""
    if p.channels == 1:
        return p
    mean = round(sum(w * m for w, m in zip(LUMINANCE, p.mean, strict=True)), 4)
    return replace(p, mean=(mean,), std=(round(sum(p.std) / 3, 4),))


def at_resolution(p: Preprocess, size: int) -> Preprocess:
    """The same preprocessing at another resolution; a centre crop keeps the same share of the picture."""
    resize = max(size, round(p.resize * size / p.resolution)) if p.fit == "crop" else size
    return replace(p, resolution=size, resize=resize)


def with_change(p: Preprocess, text: str) -> Preprocess:
    """One "key=value"; a new resolution takes its resize along."""
    key, _, value = text.partition("=")
    return at_resolution(p, int(value)) if key == "resolution" and value.isdigit() else override(p, [text])
