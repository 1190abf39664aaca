"""Picture file -> uint8 RGB pixels, upright and whole, or BadImage. The rules for odd pictures are in docs/pictures.md.

Pillow decodes, but only with the class of the format that was found, and from a copy of the file without its metadata.
So no other decoder and no metadata parser ever sees the bytes, and Pillow's global settings and warnings play no part.
"""

import contextlib
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from foveate.data.read.formats import BadImage, Source, examine, open_picture, shown
from foveate.data.read.headers import gif_first_frame, jpeg_segments, png_chunks
from foveate.data.read.netpbm import netpbm_pixels
from foveate.data.read.reader import DEFAULT_LIMITS, Header, Limits, Reader, Refused
from foveate.data.read.tiff import PIXEL_TAGS, tiff_directory
from foveate.errors import ConfigError

Colour = tuple[int, int, int]
Need = Callable[[int, int], tuple[int, int]]  # (width, height) of a picture -> the least of both that will do

_DECODERS: dict[str, Callable[[BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "GIF": GifImageFile,
    "AVIF": AvifImageFile,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG_NEEDED = {0xE0, 0xEE, *range(0xC0, 0xE0)}  # of the metadata only JFIF and Adobe say how colours are stored
_PNG_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def decode(
    source: Source, limits: Limits = DEFAULT_LIMITS, background: Colour = (255, 255, 255), need: Need | None = None
) -> np.ndarray:
    """The pixels of a picture file: uint8 (H, W, 3) RGB, upright; BadImage where not every pixel can be had.

    source: path, or the bytes of a file. background: what shows through transparent pixels.
    need: None for all pixels. Else a JPEG comes at 1/2, 1/4 or 1/8 of its size (sides rounded up) where both sides are
    then still as long as need(width, height) says: less work for large photographs, and other pixels.
    """
    return np.array(decode_image(source, limits, background, need))


def decode_image(
    source: Source, limits: Limits = DEFAULT_LIMITS, background: Colour = (255, 255, 255), need: Need | None = None
) -> Image.Image:
    """decode() without the copy into an array: an RGB image of Pillow."""
    with refusals(source):
        data = read_bytes(source, limits)
        return upright(data, examine(Reader(data), limits), limits, background, need)


@contextlib.contextmanager
def refusals(source: Source) -> Iterator[None]:
    """Whatever goes wrong with a file inside the block becomes BadImage with its name."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ConfigError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on and gives half-grey pictures; set it to False")
    try:
        yield
    except Refused as refused:
        raise BadImage(shown(source), refused.reason, refused.detail) from None
    except MemoryError:
        raise BadImage(shown(source), "too_large", "not enough memory to decode it; lower Limits.max_pixels") from None
    except Exception as error:  # decoders raise what they like: OSError, SyntaxError, RuntimeError, ...
        text = " ".join(str(error).split()) or type(error).__name__
        reason = "truncated" if "truncated" in text.lower() else "unreadable"
        raise BadImage(shown(source), reason, f"can not be decoded ({text}); copy it again or leave it out") from error


def read_bytes(source: Source, limits: Limits) -> bytes:
    """The bytes of a file that may be opened."""
    if isinstance(source, bytes):
        return source
    with open_picture(source, limits) as file:
        return file.readall() or b""


def upright(data: bytes, header: Header, limits: Limits, background: Colour, need: Need | None = None) -> Image.Image:
    """The picture of a file whose header is known: RGB and upright. Raises Refused, or what the decoder raises."""
    image = _load(data, header, limits, need)
    if image.mode != "RGB" or "transparency" in image.info:
        image = _to_rgb(image, header, background)
    return image if header.orientation == 1 else image.transpose(_UPRIGHT[header.orientation])


def _load(data: bytes, header: Header, limits: Limits, need: Need | None) -> Image.Image:
    """All pixels as stored, decoded."""
    match header.format:
        case "JPEG":
            data = lean_jpeg(data, limits).data
        case "PNG":
            data = _lean_png(data, limits)
        case "GIF":
            data = _lean_gif(data, limits)
        case "TIFF":
            data = _lean_tiff(data)
        case "NETPBM":
            return netpbm_pixels(data, header)
        case "AVIF" if not features.check("avif"):
            raise Refused("format", "an AVIF, which this Pillow can not decode; install another, or save it as PNG")
    image = _DECODERS[header.format](BytesIO(data))
    stored = (header.height, header.width) if header.orientation >= 5 else (header.width, header.height)
    if image.size != stored:
        raise Refused("unreadable", f"the header says {stored} pixels, the decoder {image.size}; leave it out")
    if header.format == "JPEG" and need is not None:
        width, height = need(header.width, header.height)
        image.draft(None, (height, width) if header.orientation >= 5 else (width, height))
    if header.format == "TIFF":
        image.im = Image.new(image.mode, stored).im  # else Pillow applies its own global pixel limit, which warns
    image.load()
    if header.format in ("PNG", "GIF"):
        _check_whole(image, _DECODERS[header.format](BytesIO(data)))
    return image


def _check_whole(image: Image.Image, again: ImageFile.ImageFile) -> None:
    """Refuse a PNG or GIF whose data end early. Pillow silently leaves the rest 0; on a canvas of ones it shows.

    Rows are decoded from the top unless interlaced, so only a last row of zeros is a reason to look.
    """
    _, box, _, args = again.tile[0]
    interlaced = args[1] if isinstance(args, tuple) else "interlace" in again.info  # GIF, PNG
    if not interlaced and any(image.crop((0, image.height - 1, *image.size)).tobytes()):
        return
    again.im = Image.new(image.mode, image.size, (255,) * len(image.getbands())).im
    again.load()
    if again.crop(box).tobytes() != image.crop(box).tobytes():
        raise Refused("truncated", "the data end before the picture does; copy it again")


class LeanJpeg(NamedTuple):
    """The bytes of a JPEG that its pixels need.

    plain: nothing in it is read differently by different decoders, and nothing behind any of its rows could still be a
    reason to refuse it: segments without gaps, then one sequential scan with no marker but restarts, then the end.
    frame: where in data the header of the frame is; its height, two bytes, follows 5 bytes later.
    """

    data: bytes
    plain: bool
    frame: int

    def upper(self, rows: int) -> bytearray:
        """A copy that says that it is only so many rows high: decoders then stop there. Only of a plain one."""
        copy = bytearray(self.data)
        copy[self.frame + 5 : self.frame + 7] = rows.to_bytes(2, "big")
        return copy


def lean_jpeg(data: bytes, limits: Limits) -> LeanJpeg:
    """The JPEG without EXIF, ICC, XMP, thumbnails, comments and the index of further pictures."""
    parts, kept, end, frame, tidy = [], 2, 2, 0, data.endswith(b"\xff\xd9")
    channels = scanned = b""
    for marker, start, after in jpeg_segments(Reader(data), limits):
        # Pillow reads 12 bytes of what it knows of JFIF and Adobe segments, libjpeg less of short ones
        tidy = tidy and start == end and (marker not in (0xE0, 0xEE) or after - start >= 16)
        end = after
        if marker not in _JPEG_NEEDED:
            parts.append(data[kept:start])
            kept = end
        if marker in (0xC0, 0xC1):  # sequential frames, Huffman-coded
            channels = data[start + 9 : start + 10]
            frame = 2 + sum(map(len, parts)) + start - kept
        elif marker == 0xDA:
            scanned = data[start + 4 : start + 5]
    coded = np.frombuffer(data, np.uint8)[end:]
    at = (coded[:-1] == 0xFF) & (coded[1:] != 0)  # FF 00 is a coded byte FF
    # where the end is the only one there is nothing to look up, which takes longer than to find it
    markers = coded[-1:] if tidy and np.count_nonzero(at) == 1 else coded[1:][at]
    if np.count_nonzero(markers == 0xDA) >= limits.max_scans:  # besides the first scan, which is before `end`
        raise Refused("too_large", f"a JPEG of more than {limits.max_scans} scans; save it anew")
    between = markers[:-1]  # the last one is the end, where the file is tidy
    tidy = tidy and len(markers) > 0 and not np.any((between < 0xD0) | (between > 0xD7))  # D0 to D7: restarts
    plain = tidy and len(channels) == 1 and scanned == channels
    return LeanJpeg(b"".join((b"\xff\xd8", *parts, data[kept:])) if parts else data, plain, frame)


def _lean_png(data: bytes, limits: Limits) -> bytes:
    """The PNG with only the chunks that hold pixels. Their checksums must be right; Pillow skips those of IDAT."""
    view, parts = memoryview(data), [memoryview(data)[:8]]
    for kind, start, length in png_chunks(Reader(data), limits):
        if kind in _PNG_NEEDED:
            end = start + length
            if zlib.crc32(view[start - 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
                text = f"damaged: wrong checksum of {kind.decode()} at byte {start:,}; copy it again"
                raise Refused("unreadable", text)
            parts.append(view[start - 8 : end + 4])
    return b"".join(parts)


def _lean_gif(data: bytes, limits: Limits) -> bytes:
    """The GIF with its first frame only, and the screen large enough for it."""
    frame = gif_first_frame(Reader(data), limits)
    control = bytearray(data[frame.control : frame.control + 8] if frame.control else b"")
    if control:
        control[3] &= 1  # how the frame is disposed of later does not matter
    screen = data[:6] + struct.pack("<HH", *frame.size) + data[10 : frame.screen_end]
    return b"".join((screen, control, data[frame.start : frame.end], b";"))


def _lean_tiff(data: bytes) -> bytes:
    """The TIFF with a directory of its own at the end, which holds only the tags that the pixels need."""
    d = tiff_directory(Reader(data))
    entries = [d.entries[tag] for tag in sorted(PIXEL_TAGS & d.entries.keys())]
    data += bytes(-len(data) % 8)
    # the field in the file's first bytes that says where the directory is
    start, layout = (8, "Q") if d.big else (4, "I")
    offset = struct.pack(d.order + layout, len(data))
    count = struct.pack(d.order + ("Q" if d.big else "H"), len(entries))
    return b"".join((data[:start], offset, data[start + len(offset) :], count, *entries, bytes(len(offset))))


def _to_rgb(image: Image.Image, header: Header, background: Colour) -> Image.Image:
    """Any mode as RGB: 16 bits and floats scaled, transparent pixels over the background."""
    mode, clear = image.mode, image.info.get("transparency")
    if mode == "F" or mode.startswith("I"):
        grey = _scaled(np.asarray(image), header.bits)
        if header.format == "TIFF" and image.tag_v2.get(262) == 0:  # type: ignore[attr-defined]  # white is zero
            grey = 255 - grey
        rgb = Image.fromarray(grey).convert("RGB")
        if clear is None:
            return rgb
        opaque = Image.fromarray(np.where(np.asarray(image) == clear, np.uint8(0), np.uint8(255)))
    elif mode in ("LA", "La", "PA", "RGBA") or clear is not None:
        if clear is not None and header.format == "PNG" and mode in ("L", "RGB"):
            image.info["transparency"] = _as_8bit(clear, header.bits)
        whole = image.convert("LA").convert("RGBA") if mode == "La" else image.convert("RGBA")
        rgb, opaque = whole.convert("RGB"), whole.getchannel("A")
    elif mode in ("1", "L", "P", "CMYK", "YCbCr"):
        return image.convert("RGB")
    else:
        raise Refused("format", f"colours of mode {mode}; convert it to RGB")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(rgb, mask=opaque)
    return canvas


def _as_8bit(clear: int | Colour, bits: int) -> int | Colour:
    """The colour that a PNG names as transparent, in the 8 bits to which Pillow brings the samples."""
    if isinstance(clear, tuple):
        return clear if bits == 8 else (clear[0] >> 8, clear[1] >> 8, clear[2] >> 8)
    return clear * 255 // (2**bits - 1)


def _scaled(samples: np.ndarray, bits: int) -> np.ndarray:
    """Grey samples of 12, 16 or 32 bits, or floats, as uint8. Nothing is clipped and nothing is stretched to fit."""
    low, high = samples.min(), samples.max()
    if samples.dtype.kind == "f":
        if not (low >= 0 and high <= 255):  # a NaN is refused, too
            text = f"float samples from {low} to {high}; expected 0 to 1, or 0 to 255: scale them and save as PNG"
            raise Refused("range", text)
        return np.rint(samples * 255 if high <= 1 else samples).astype(np.uint8)
    top = 2 ** min(bits, 16) - 1
    if low < 0 or high > top:
        raise Refused("range", f"samples from {low} to {high}; expected 0 to {top}: scale them and save as PNG")
    return ((samples.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
