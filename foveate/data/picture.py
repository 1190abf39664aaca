"""A picture in any form that people hold it in, as pixels: a path, a file's bytes, an array, a tensor, a PIL image."""

import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from foveate.data.read.decode import decode
from foveate.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Picture: TypeAlias = "str | Path | bytes | np.ndarray | Image | Tensor"
WHITE = (255, 255, 255)


def as_pixels(
    picture: Picture,
    background: tuple[int, int, int] = WHITE,
    need: Callable[[int, int], tuple[int, int]] | None = None,
) -> np.ndarray:
    """Any form of picture as uint8 (H, W, 3), RGB, upright. A grey array (H, W) becomes three equal channels.

    A tensor is as torchvision has it: (3, H, W), (1, H, W) or (H, W), uint8 or float from 0 to 1.
    background: what shows through transparent pixels. need: see decode. An array of another form goes through as it is:
    prepare refuses it. DataError for anything else, BadImage for a file that can not be decoded.
    """
    if isinstance(picture, (str, Path, bytes)):
        return decode(picture, background=background, need=need)
    torch = sys.modules.get("torch")  # who holds a tensor has loaded it
    if torch is not None and isinstance(picture, torch.Tensor):
        picture = tensor_pixels(picture)
    if isinstance(picture, np.ndarray):
        if picture.dtype == np.uint8 and picture.ndim == 2:
            picture = np.repeat(picture[:, :, None], 3, axis=2)
        return picture
    from PIL import Image, ImageOps

    if not isinstance(picture, Image.Image):
        kind = type(picture).__name__
        raise DataError(f"a picture of type {kind}; expected a path, bytes, an array, a tensor or a PIL image")
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
    return decode(file.getvalue(), background=background)


def tensor_pixels(picture: "Tensor") -> np.ndarray:
    """A tensor (3, H, W), (1, H, W) or (H, W), uint8 or float from 0 to 1, as uint8 (H, W, 3) or (H, W)."""
    shape = tuple(picture.shape)
    if picture.ndim == 4:
        raise DataError(f"a tensor {shape}: several pictures; give list(tensor)")
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and shape[0] not in (1, 3)):
        raise DataError(f"a tensor {shape}: expected (3, H, W), (1, H, W) or (H, W), channels first")
    x = picture.detach().cpu()
    if x.is_floating_point():
        low, high = (float(x.min()), float(x.max())) if x.numel() else (0.0, 0.0)
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            found = f"values from {low:g} to {high:g}"
            raise DataError(f"a float tensor with {found}; expected 0 to 1, before any mean and std")
        x = (x.float() * 255).round().clamp(0, 255)
    elif str(x.dtype) != "torch.uint8":
        raise DataError(f"a tensor of {x.dtype}; expected uint8, or float from 0 to 1")
    pixels: np.ndarray = x.numpy().astype(np.uint8)
    if pixels.ndim == 2:
        return pixels
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


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
