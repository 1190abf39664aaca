"""Training pictures cut while they are read: decode no more of a file than its crop needs, and resize only the crop.

A random resized crop of `size` pixels needs no more pixels than that. So a large JPEG is decoded at 1/2, 1/4 or 1/8 of
its size where the crop then still has `size` pixels a side (libjpeg leaves out the high frequencies of each 8 x 8
block); where it has not, at full size. The crop is the one that augment takes from the stored square for the same
random numbers, but it comes from the picture itself: no squashed copy of the picture stands between them.

Files are refused exactly as decode refuses them. simplejpeg decodes: by libjpeg-turbo, with the same bytes as Pillow's,
written once instead of three times. Pillow has the last word on every file that it does not like.
"""

import math
from collections.abc import Sequence

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from PIL import Image

from foveate.data.read.decode import Colour, LeanJpeg, lean, lean_jpeg, read_bytes, refusals, upright
from foveate.data.read.formats import Source, examine, look
from foveate.data.read.memory import TURNS, bytes_needed, reduction
from foveate.data.read.reader import DEFAULT_LIMITS, Header, Limits, Reader, Refused
from foveate.errors import ConfigError

Share = tuple[float, float, float, float]  # left, top, right, bottom of a box as shares of width and height
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def crop_share(u: Sequence[float], aspect: float, crop: float, shift: float = 0.0) -> Share:
    """The box of a random resized crop: area in [crop, 1], aspect 3/4 to 4/3; the box that augment takes.

    u: four uniform numbers: area, aspect, place across, place down. aspect: width / height of the picture. A box that
    is too long for the picture is cut to fit. crop 0: the centre square, moved by at most `shift` of the picture.
    """
    if crop > 0:
        area = crop + (1 - crop) * u[0]
        ratio = math.exp((2 * u[1] - 1) * math.log(4 / 3)) / aspect
    else:
        area, ratio = min(aspect, 1 / aspect), 1 / aspect
    width, height = min(math.sqrt(area * ratio), 1.0), min(math.sqrt(area / ratio), 1.0)
    moving = 1.0 if crop > 0 else min(1.0, 2 * shift)
    left = (1 - width) * (0.5 + (u[2] - 0.5) * moving)
    top = (1 - height) * (0.5 + (u[3] - 0.5) * moving)
    return left, top, left + width, top + height


def crop_pixels(share: Share, width: int, height: int) -> Box:
    """The box in whole pixels of a picture of this size: at least one each way, inside the picture."""
    left, right = min(round(share[0] * width), width - 1), round(share[2] * width)
    top, bottom = min(round(share[1] * height), height - 1), round(share[3] * height)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def cut(
    source: Source | np.ndarray,
    u: Sequence[float],
    size: int,
    crop: float,
    shift: float = 0.0,
    *,
    side: int = 0,
    limits: Limits = DEFAULT_LIMITS,
    background: Colour = (255, 255, 255),
) -> torch.Tensor:
    """The random crop of a picture file (or of pixels, uint8 (H, W, 3)): uint8 (3, size, size), antialiased bilinear.

    u, crop, shift: see crop_share. side: a JPEG is also decoded at a fraction that has `side` pixels each way, however
    small the crop: as many as a stored square holds. 0: only at one that leaves the crop `size` of them.
    Raises BadImage exactly where decode raises it, whatever the crop.
    """
    if size < 1 or not 0 <= crop <= 1:
        raise ConfigError(f"cut(size={size}, crop={crop}): expected a size of 1 or more and a crop from 0 to 1")
    if isinstance(source, np.ndarray):
        height, width = source.shape[:2]
        box = crop_pixels(crop_share(u, width / height, crop, shift), width, height)
        return _resized(torch.from_numpy(source), box, size)
    with refusals(source):
        header, length = look(source, limits)
        reduced = reduction(header, length, limits)
        share = crop_share(u, header.width / header.height, crop, shift)

        def need(width: int, height: int) -> tuple[int, int]:
            return _need(share, size, side, width, height)

        fraction = max(reduced, _fraction(header, *need(header.width, header.height)) if header.format == "JPEG" else 1)
        with TURNS.hold(bytes_needed(header, length, fraction), limits.max_bytes):
            data = read_bytes(source, limits)
            if examine(Reader(data), limits) != header or len(data) > length:
                raise Refused("unreadable", "the file changed while it was read")
            if header.format == "JPEG" and header.orientation == 1 and header.mode in ("L", "RGB"):
                plain = lean_jpeg(data, limits)
                pixels = _of_jpeg(plain, header, share, size, fraction) if plain.plain else None
                if pixels is not None:
                    return pixels
            data = lean(data, header, limits)
            image = upright(data, header, background, need, reduced)
            return _cropped(image, crop_pixels(share, *image.size), size)


def _fraction(header: Header, width: int, height: int) -> int:
    """8, 4, 2 or 1: the fraction at which a JPEG still has that many pixels each way."""
    return next(n for n in (8, 4, 2, 1) if n <= max(1, min(header.width // width, header.height // height)))


def _need(share: Share, size: int, side: int, width: int, height: int) -> tuple[int, int]:
    """How large a picture must be at least (width, height) for `size` pixels each way in its crop, or `side` in all."""
    left, top, right, bottom = crop_pixels(share, width, height)
    across, down = math.ceil(size * width / (right - left)), math.ceil(size * height / (bottom - top))
    return (min(across, side), min(down, side)) if side else (across, down)


def shrunk(image: Image.Image, size: int) -> torch.Tensor:
    """A whole RGB picture squashed: uint8 (3, size, size), by the kernel that cut uses."""
    return _cropped(image, (0, 0, image.width, image.height), size)


def _of_jpeg(lean: LeanJpeg, header: Header, share: Share, size: int, scale: int) -> torch.Tensor | None:
    """cut for a plain, upright, grey or RGB JPEG, decoded at 1/scale. None: decode it the common way, which also says
    what is wrong.

    Rows below the crop are not decoded: the decoder gets a header that ends there, two rows on, for colours that are
    stored at half or a quarter of the rows are smoothed across.
    """
    box = crop_pixels(share, -(-header.width // scale), -(-header.height // scale))
    rows = min(header.height, (box[3] + 2) * scale)
    sides = -(-rows // scale), -(-header.width // scale)
    try:  # not strict: as Pillow, it goes on where libjpeg only warns, here of bytes that are left over
        pixels = simplejpeg.decode_jpeg(lean.upper(rows), min_height=sides[0], min_width=sides[1], strict=False)
    except ValueError:
        return None
    return _resized(torch.from_numpy(pixels), box, size) if pixels.shape == (*sides, 3) else None


def _cropped(image: Image.Image, box: Box, size: int) -> torch.Tensor:
    """A box of a picture as uint8 (3, size, size)."""
    image = image.crop(box)
    image = image if image.mode == "RGB" else image.convert("RGB")
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)
    return _resized(pixels, (0, 0, image.width, image.height), size)


def _resized(pixels: torch.Tensor, box: Box, size: int) -> torch.Tensor:
    """A box of uint8 (H, W, 3) as uint8 (3, size, size)."""
    left, top, right, bottom = box
    # a batch of one whose strides say "channels last" in full: else torch copies it to another layout first
    part = pixels[None].permute(0, 3, 1, 2)[:, :, top:bottom, left:right]
    return F.interpolate(part, (size, size), mode="bilinear", antialias=True)[0]
