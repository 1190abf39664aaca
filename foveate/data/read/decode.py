"""Picture file -> uint8 RGB pixels, upright and whole, or BadImage. The rules for odd pictures are in docs/pictures.md.

Pillow decodes, but only with the class of the format that was found, and from a copy of the file without its metadata.
So no other decoder and no metadata parser ever sees the bytes, and Pillow's global settings and warnings play no part.
"""

import contextlib
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from foveate.data.read.formats import BadImage, Source, examine, look, open_picture, shown
from foveate.data.read.headers import gif_first_frame, jpeg_segments, png_chunks
from foveate.data.read.memory import TURNS, bytes_needed, reduction
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
    with opened(source, limits, background, need) as image:
        return pixels_of(image)


def decode_image(
    source: Source, limits: Limits = DEFAULT_LIMITS, background: Colour = (255, 255, 255), need: Need | None = None
) -> Image.Image:
    """decode() without the copy into an array: an RGB image of Pillow."""
    with _decoded(source, limits, background, need) as image:
        return image


@contextlib.contextmanager
def opened(
    source: Source, limits: Limits = DEFAULT_LIMITS, background: Colour = (255, 255, 255), need: Need | None = None
) -> Iterator[Image.Image]:
    """decode_image() for as long as the block: its memory counts among that of all threads until the block ends.

    Use it to shrink a picture: a large one of another thread waits for it. The image is closed behind the block; inside
    it no other is opened.
    """
    with _decoded(source, limits, background, need) as image:
        try:
            yield image
        finally:
            image.close()


@contextlib.contextmanager
def _decoded(source: Source, limits: Limits, background: Colour, need: Need | None) -> Iterator[Image.Image]:
    """An RGB image, which keeps its turn for as long as the block."""
    with refusals(source):
        header, size = look(source, limits)
        reduced = reduction(header, size, limits)
    wanted = bytes_needed(header, size, max(reduced, _jpeg_fraction(header, need)))
    with TURNS.hold(wanted, limits.max_bytes):
        with refusals(source):
            data = read_bytes(source, limits)
            if examine(Reader(data), limits) != header or len(data) > size:
                raise Refused("unreadable", "the file changed while it was read")
            data = lean(data, header, limits)  # from here on the file as it was is gone
            image = upright(data, header, background, need, reduced)
            del data
        yield image


def pixels_of(image: Image.Image) -> np.ndarray:
    """An RGB image as uint8 (H, W, 3), copied by bands: Pillow's own way holds it three times."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, bottom in _bands(image):
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _bands(image: Image.Image) -> Iterator[tuple[int, int]]:
    """(top, bottom) of bands of about a quarter of a million pixels."""
    step = max(1, 2**18 // image.width)
    return ((top, min(top + step, image.height)) for top in range(0, image.height, step))


def _jpeg_fraction(header: Header, need: Need | None) -> int:
    """8, 4, 2 or 1: the fraction at which a JPEG is decoded where not every pixel is needed."""
    if header.format != "JPEG" or need is None:
        return 1
    width, height = need(header.width, header.height)
    most = min(header.width // max(width, 1), header.height // max(height, 1))
    return next(n for n in (8, 4, 2, 1) if n <= max(most, 1))


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


def lean(data: bytes, header: Header, limits: Limits) -> bytes:
    """The file with only what its pixels need."""
    match header.format:
        case "JPEG":
            return lean_jpeg(data, limits).data
        case "PNG":
            return _lean_png(data, limits)
        case "GIF":
            return _lean_gif(data, limits)
        case "TIFF":
            return _lean_tiff(data)
    return data


def upright(data: bytes, header: Header, background: Colour, need: Need | None = None, reduced: int = 1) -> Image.Image:
    """The picture of a lean file whose header is known: RGB and upright. Raises Refused, or what the decoder raises.

    reduced: a JPEG comes at 1/reduced of its size, or less where need says so.
    """
    image = _load(data, header, need, reduced)
    if image.mode != "RGB" or "transparency" in image.info:
        image = _to_rgb(image, header, background)
    return image if header.orientation == 1 else image.transpose(_UPRIGHT[header.orientation])


def _load(data: bytes, header: Header, need: Need | None, reduced: int) -> Image.Image:
    """All pixels as stored, decoded."""
    if header.format == "NETPBM":
        return netpbm_pixels(data, header)
    if header.format == "AVIF" and not features.check("avif"):
        raise Refused("format", "an AVIF, which this Pillow can not decode; install another, or save it as PNG")
    image = _DECODERS[header.format](BytesIO(data))
    stored = (header.height, header.width) if header.orientation >= 5 else (header.width, header.height)
    if image.size != stored:
        raise Refused("unreadable", f"the header says {stored} pixels, the decoder {image.size}; leave it out")
    if header.format == "JPEG" and (need is not None or reduced > 1):
        width, height = need(header.width, header.height) if need else (header.width, header.height)
        width, height = min(width, header.width // reduced), min(height, header.height // reduced)
        image.draft(None, (height, width) if header.orientation >= 5 else (width, height))
    if header.format == "TIFF":
        image.im = Image.new(image.mode, stored).im  # else Pillow applies its own global pixel limit, which warns
    if header.format == "WEBP":
        return _webp(image)
    image.load()
    if header.format in ("PNG", "GIF"):
        _check_whole(image, _DECODERS[header.format](BytesIO(data)))
    return image


def _webp(image: Any) -> Image.Image:
    """The first frame of an opened WebP. Pillow's load would keep the two canvases of libwebp beside its own."""
    pixels, _ = image._decoder.get_next() or (None, 0)
    image._decoder = None
    if pixels is None:
        raise Refused("unreadable", "the decoder gives no picture; copy it again or leave it out")
    return Image.frombytes(image.mode, image.size, pixels, "raw", image.rawmode)


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
    left, first, right, last = box or (0, 0, *image.size)
    for top, bottom in _bands(image):
        band = left, max(top, first), right, min(bottom, last)
        if band[1] < band[3] and again.crop(band).tobytes() != image.crop(band).tobytes():
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
    gap = bytes(-len(data) % 8)
    # the field in the file's first bytes that says where the directory is
    start, layout = (8, "Q") if d.big else (4, "I")
    offset = struct.pack(d.order + layout, len(data) + len(gap))
    count = struct.pack(d.order + ("Q" if d.big else "H"), len(entries))
    rest = memoryview(data)[start + len(offset) :]
    return b"".join((data[:start], offset, rest, gap, count, *entries, bytes(len(offset))))


def _to_rgb(image: Image.Image, header: Header, background: Colour) -> Image.Image:
    """Any mode as RGB: 16 bits and floats scaled, transparent pixels over the background. By bands, for memory."""
    clear = image.info.get("transparency")
    if clear is not None and header.format == "PNG" and image.mode in ("L", "RGB"):
        image.info["transparency"] = _as_8bit(clear, header.bits)
    scale = _scale(image, header.bits) if image.mode == "F" or image.mode.startswith("I") else None
    # of a TIFF; 0 is white
    turned = header.format == "TIFF" and image.tag_v2.get(262) == 0  # type: ignore[attr-defined]
    canvas = Image.new("RGB", image.size, background)
    for top, bottom in _bands(image):
        band = image.crop((0, top, image.width, bottom))
        rgb, opaque = _of_grey(band, scale, turned, clear) if scale else _of_colour(band, clear is not None)
        canvas.paste(rgb, (0, top), opaque)
    return canvas


def _of_grey(
    image: Image.Image, scale: Callable[[np.ndarray], np.ndarray], turned: bool, clear: Any
) -> tuple[Image.Image, Image.Image | None]:
    """(RGB, what is not transparent or None) of grey samples of more than 8 bits."""
    grey = scale(np.asarray(image))
    rgb = Image.fromarray(255 - grey if turned else grey).convert("RGB")
    if clear is None:
        return rgb, None
    return rgb, Image.fromarray(np.where(np.asarray(image) == clear, np.uint8(0), np.uint8(255)))


def _of_colour(image: Image.Image, clear: bool) -> tuple[Image.Image, Image.Image | None]:
    """(RGB, what is not transparent or None) of samples of 8 bits. clear: there is a transparent colour."""
    mode = image.mode
    if mode in ("LA", "La", "PA", "RGBA") or clear:
        whole = image.convert("LA").convert("RGBA") if mode == "La" else image.convert("RGBA")
        return whole.convert("RGB"), whole.getchannel("A")
    if mode in ("1", "L", "P", "CMYK", "YCbCr"):
        return image.convert("RGB"), None
    raise Refused("format", f"colours of mode {mode}; convert it to RGB")


def _as_8bit(clear: int | Colour, bits: int) -> int | Colour:
    """The colour that a PNG names as transparent, in the 8 bits to which Pillow brings the samples."""
    if isinstance(clear, tuple):
        return clear if bits == 8 else (clear[0] >> 8, clear[1] >> 8, clear[2] >> 8)
    return clear * 255 // (2**bits - 1)


def _scale(image: Image.Image, bits: int) -> Callable[[np.ndarray], np.ndarray]:
    """How grey samples of 12, 16 or 32 bits, or floats, become uint8. Nothing is clipped, nothing stretched to fit."""
    bands = (np.asarray(image.crop((0, top, image.width, bottom))) for top, bottom in _bands(image))
    ends = [(band.min(), band.max()) for band in bands]
    low, high = np.min([low for low, _ in ends]), np.max([high for _, high in ends])  # a NaN wins
    if low.dtype.kind == "f":
        if not (low >= 0 and high <= 255):  # a NaN is refused, too
            text = f"float samples from {low} to {high}; expected 0 to 1, or 0 to 255: scale them and save as PNG"
            raise Refused("range", text)
        return lambda samples: np.rint(samples * 255 if high <= 1 else samples).astype(np.uint8)
    top = 2 ** min(bits, 16) - 1
    if low < 0 or high > top:
        raise Refused("range", f"samples from {low} to {high}; expected 0 to {top}: scale them and save as PNG")
    return lambda samples: ((samples.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
