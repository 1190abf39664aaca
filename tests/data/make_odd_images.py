"""Makes every odd picture of the tests when they run. `ODD` names them; no picture is kept in the repository."""

import base64
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from odd_writers import chunk, exif, interlaced, jpeg, png, png_rows, saved, stored, tiff, zeros
from PIL import Image


@dataclass(frozen=True)
class Odd:
    """One odd file: its bytes, and either the reason of refusal or the pixels (within a tolerance) and the notes."""

    make: Callable[[], bytes]
    reason: str | None = None
    pixels: np.ndarray | None = None
    tolerance: int = 0
    notes: tuple[str, ...] = ()


ODD: dict[str, Odd] = {}


def good(name: str, make: Callable[[], bytes], pixels: np.ndarray, notes: str = "", tolerance: int = 0) -> None:
    ODD[name] = Odd(make, pixels=pixels, notes=tuple(sorted(notes.split())), tolerance=tolerance)


def bad(name: str, reason: str, make: Callable[[], bytes]) -> None:
    ODD[name] = Odd(make, reason=reason)


def make_all(folder: Path) -> dict[str, Path]:
    """Write every odd file into the folder; name -> path."""
    for name, odd in ODD.items():
        (folder / name).write_bytes(odd.make())
    return {name: folder / name for name in ODD}


# the true pixels: a smooth picture, 24 x 40, and what the rules make of it

Y, X = np.mgrid[:24, :40]
RGB = np.stack([X * 6, Y * 10, 120 + X * 2 - Y], -1).astype(np.uint8)
GREY = RGB[..., 0]
ALPHA = (X * 6.5).astype(np.uint8)
WHITE = np.array([255, 255, 255])


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Exact blending, rounded: (a * c + (255 - a) * 255) / 255."""
    a = alpha[..., None].astype(np.int64)
    return ((a * rgb + (255 - a) * WHITE + 127) // 255).astype(np.uint8)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, -1)


# plain files of every format

good("plain.jpg", lambda: jpeg(RGB), RGB, tolerance=6)
good("progressive.jpg", lambda: jpeg(RGB, progressive=True), RGB, tolerance=6)
good("grey.jpg", lambda: jpeg(GREY), grey(GREY), "grey", tolerance=3)
good("plain.png", lambda: saved(RGB, "PNG"), RGB)
good("plain.webp", lambda: saved(RGB, "WEBP", lossless=True), RGB)
good("lossy.webp", lambda: saved(RGB, "WEBP", quality=95), RGB, tolerance=24)
good("plain.bmp", lambda: saved(RGB, "BMP"), RGB)
good("plain.tiff", lambda: saved(RGB, "TIFF"), RGB)
good("grey.gif", lambda: saved(GREY, "GIF"), grey(GREY), "palette")

# row 12: too large, tiny, bombs

bad("50k.png", "too_large", lambda: png(50_000, 50_000, 1, 0, zeros(50_000 * 6_251)))
bad("120mpx.png", "too_large", lambda: png(12_000, 10_000, 8, 0, zeros(12_001 * 10_000)))
bad("long.png", "too_large", lambda: png(1, 100_000, 8, 0, zeros(200_000)))
bad("thin.png", "too_large", lambda: png(10, 10_000, 8, 0, zeros(110_000)))
bad("zero.png", "empty", lambda: png(0, 0, 8, 0, zlib.compress(b"")))
bad("zero.jpg", "empty", lambda: patched_jpeg_size(0, 0))
bad("huge.jpg", "too_large", lambda: patched_jpeg_size(65_000, 65_000))
bad(
    "huge.gif",
    "too_large",
    lambda: saved(GREY, "GIF").replace(struct.pack("<HH", 40, 24), struct.pack("<HH", 65_000, 65_000), 1),
)
bad("huge.webp", "too_large", lambda: b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\x3f" * 2 + bytes(8))
bad(
    "huge.bmp",
    "too_large",
    lambda: saved(RGB, "BMP").replace(struct.pack("<ii", 40, 24), struct.pack("<ii", 60_000, 60_000), 1),
)
bad("huge.tiff", "too_large", lambda: tiff(GREY, {256: (60_000,), 257: (60_000,)}))
bad("huge_tile.tiff", "unreadable", lambda: tiff(GREY, {322: (60_000,), 323: (60_000,), 324: (8,), 325: (960,)}))
bad("scans.jpg", "too_large", lambda: many_scans(1_000))
good("1x1.png", lambda: saved(RGB[:1, :1], "PNG"), RGB[:1, :1], "tiny")
good("text_bomb.png", lambda: png(40, 24, 8, 2, png_rows(RGB), chunk(b"zTXt", b"k\0\0" + zeros(2**30))), RGB)
good("icc_bomb.png", lambda: png(40, 24, 8, 2, png_rows(RGB), chunk(b"iCCP", b"k\0\0" + zeros(2**30))), RGB, "icc")
good("long_text.png", lambda: png(40, 24, 8, 2, png_rows(RGB), chunk(b"tEXt", b"k\0" + bytes(2**24))), RGB)
good("10000_frames.gif", lambda: many_frames(10_000), grey(GREY), "animated palette")
good("1000_pages.tiff", lambda: tiff(RGB, {}, pages=1000), RGB, "animated")


def patched_jpeg_size(width: int, height: int) -> bytes:
    return jpeg(RGB).replace(struct.pack(">HH", 24, 40), struct.pack(">HH", height, width), 1)


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = jpeg(RGB, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def many_frames(count: int) -> bytes:
    data = saved(GREY, "GIF")
    start = 13 + (3 << (data[10] & 7) + 1)
    return data[:start] + data[start:-1] * count + b";"


# row 13: colours and depths

INK = np.concatenate(
    [255 - RGB, (Y * 4)[..., None].astype(np.uint8)], -1
)  # cyan, magenta, yellow, black; 255 is full ink
PRINTED = ((255 - INK[..., :3].astype(np.int64)) * (255 - INK[..., 3:]) / 255).round().astype(np.uint8)


def ycck() -> bytes:
    """A JPEG of type YCCK: Pillow's CMYK file with the Adobe transform set to 2 and the colours turned beforehand."""
    ycc = np.asarray(Image.fromarray(INK[..., :3]).convert("YCbCr"))
    turned = np.concatenate([255 - ycc, INK[..., 3:]], -1)  # Pillow stores 255 - x
    data = bytearray(jpeg(Image.fromarray(turned, "CMYK")))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


# 16 x 16, written with libjpeg-turbo's arithmetic coder
ARITHMETIC = (
    "/9j/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsN"
    "FBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/yQARCAAQABADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIR"
    "AxEAPwD/AN4Gp7rfXMXHJ443imuyLjWF1IjZrQUlLC/wT4q/INZBWinf4/ioRsYlyv/Z"
)
AY, AX = np.mgrid[:16, :16]
good("cmyk.jpg", lambda: jpeg(Image.fromarray(INK, "CMYK")), PRINTED, "cmyk", tolerance=6)
good("ycck.jpg", ycck, PRINTED, "cmyk", tolerance=6)
good(
    "arithmetic.jpg", lambda: base64.b64decode(ARITHMETIC), np.stack([AX * 16, AY * 16, AX * 0 + 128], -1), tolerance=12
)
good("cmyk.tiff", lambda: saved(Image.fromarray(INK, "CMYK"), "TIFF"), PRINTED, "cmyk", tolerance=1)

PALETTE = RGB.reshape(-1, 3)[::4][:240]
INDEX = ((X * 7 + Y * 11) % 240).astype(np.uint8)
PLTE, SEE_THROUGH = chunk(b"PLTE", PALETTE.tobytes()), chunk(b"tRNS", bytes(range(240)))
good("palette.png", lambda: png(40, 24, 8, 3, png_rows(INDEX), PLTE), PALETTE[INDEX], "palette")
good(
    "palette_alpha.png",
    lambda: png(40, 24, 8, 3, png_rows(INDEX), PLTE, SEE_THROUGH),
    over_white(PALETTE[INDEX], INDEX),
    "alpha palette",
)
good("palette.bmp", lambda: saved(paletted(), "BMP"), PALETTE[INDEX], "palette")
good("palette.tiff", lambda: saved(paletted(), "TIFF"), PALETTE[INDEX], "palette")
good("palette.gif", lambda: saved(paletted(), "GIF", optimize=False), PALETTE[INDEX], "palette")
good(
    "transparent.gif",
    lambda: saved(paletted(), "GIF", transparency=7, optimize=False),
    np.where((INDEX == 7)[..., None], 255, PALETTE[INDEX]),
    "alpha palette",
)


def paletted() -> Image.Image:
    image = Image.frombytes("P", (40, 24), INDEX.tobytes())
    image.putpalette(PALETTE.tobytes())
    return image


RGBA, LA = np.dstack([RGB, ALPHA]), np.dstack([GREY, ALPHA])
WIDE = (X * 1_600 + Y * 37).astype(np.uint16)
WIDE_RGB = np.stack([WIDE, WIDE[::-1], WIDE[:, ::-1]], -1)
SCALED = np.round(WIDE / 257).astype(np.uint8)
BITS = ((X // 3 + Y // 3) % 2).astype(np.uint8)
FOUR = ((X + Y) % 16).astype(np.uint8)
good("rgba.png", lambda: saved(RGBA, "PNG"), over_white(RGB, ALPHA), "alpha")
good("la.png", lambda: saved(Image.fromarray(LA, "LA"), "PNG"), over_white(grey(GREY), ALPHA), "alpha grey")
good("rgba.webp", lambda: saved(RGBA, "WEBP", lossless=True, exact=True), over_white(RGB, ALPHA), "alpha")
good("rgba.tiff", lambda: saved(RGBA, "TIFF"), over_white(RGB, ALPHA), "alpha")
good("rgba.bmp", lambda: bmp_alpha(), over_white(RGB, ALPHA), "alpha")
good("one_bit.png", lambda: png(40, 24, 1, 0, png_rows(np.packbits(BITS, 1))), grey(BITS * 255), "grey")
good(
    "one_bit.tiff",
    lambda: saved(Image.fromarray(BITS * 255).convert("1"), "TIFF", compression="group4"),
    grey(BITS * 255),
    "grey",
)
good("four_bit.png", lambda: png(40, 24, 4, 0, png_rows(FOUR[:, ::2] << 4 | FOUR[:, 1::2])), grey(FOUR * 17), "grey")
good(
    "four_bit_key.png",
    lambda: png(40, 24, 4, 0, png_rows(FOUR[:, ::2] << 4 | FOUR[:, 1::2]), chunk(b"tRNS", b"\0\x03")),
    grey(np.where(FOUR == 3, 255, FOUR * 17)),
    "alpha grey",
)
good(
    "rgb_key.png",
    lambda: png(40, 24, 8, 2, png_rows(RGB), chunk(b"tRNS", struct.pack(">HHH", *RGB[5, 7]))),
    np.where((RGB[5, 7] == RGB).all(-1)[..., None], 255, RGB),
    "alpha",
)
good("grey16.png", lambda: png(40, 24, 16, 0, png_rows(WIDE)), grey(SCALED), "16bit grey")
good(
    "grey16_key.png",
    lambda: png(40, 24, 16, 0, png_rows(WIDE), chunk(b"tRNS", struct.pack(">H", WIDE[3, 9]))),
    grey(np.where(WIDE[3, 9] == WIDE, 255, SCALED)),
    "16bit alpha grey",
)
good("rgb16.png", lambda: png(40, 24, 16, 2, png_rows(WIDE_RGB)), WIDE_RGB >> 8, "16bit")
good("grey16.tiff", lambda: saved(WIDE, "TIFF"), grey(SCALED), "16bit grey")
good("grey16_lzw.tiff", lambda: saved(WIDE, "TIFF", compression="tiff_lzw"), grey(SCALED), "16bit grey")
good("grey16_motorola.tiff", lambda: tiff(WIDE, {}, order=">"), grey(SCALED), "16bit grey")
good("grey16_white_is_0.tiff", lambda: tiff(WIDE, {262: (0,)}), grey(255 - SCALED), "16bit grey")
good("rgb16.tiff", lambda: tiff(WIDE_RGB, {}), WIDE_RGB >> 8, "16bit")
good("big.tiff", lambda: tiff(RGB, {}, big=True), RGB)
good("lzw.tiff", lambda: saved(RGB, "TIFF", compression="tiff_lzw"), RGB)
good("jpeg.tiff", lambda: saved(RGB, "TIFF", compression="jpeg", quality=95), RGB, tolerance=12)
UNIT = ((X + Y) / 62).astype(np.float32)
good("float_unit.tiff", lambda: saved(UNIT, "TIFF"), grey(np.rint(UNIT * 255)), "float grey")
good("float_255.tiff", lambda: saved(UNIT * 254.6, "TIFF"), grey(np.rint(UNIT * np.float32(254.6))), "float grey")
good("int32.tiff", lambda: saved(WIDE.astype(np.int32), "TIFF"), grey(SCALED), "grey")
bad("float_wild.tiff", "range", lambda: saved(UNIT * 1e6 - 3, "TIFF"))
bad("float_nan.tiff", "range", lambda: saved(np.where(UNIT > 0.5, np.float32("nan"), UNIT), "TIFF"))
bad("int32_wild.tiff", "range", lambda: saved(WIDE.astype(np.int32) * 1000, "TIFF"))
bad("rle.bmp", "format", lambda: saved(paletted(), "BMP")[:30] + b"\x01" + saved(paletted(), "BMP")[31:])
good("icc.jpg", lambda: jpeg(RGB, icc_profile=bytes(400)), RGB, "icc", tolerance=6)
good("icc.png", lambda: saved(RGB, "PNG", icc_profile=bytes(400)), RGB, "icc")


def bmp_alpha() -> bytes:
    """A 32-bit BMP of version 4 with channel masks, rows from the top."""
    rows = RGBA[..., [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, 40, -24, 1, 32, 3, len(rows), 0, 0, 0, 0) + masks + bytes(52)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head)) + head + rows


# row 14: orientation

for n in range(1, 9):
    noted = "not_upright" if n > 1 else ""
    good(f"exif_{n}.jpg", lambda n=n: jpeg(stored(RGB, n), exif=exif(n)), RGB, noted, tolerance=6)
    good(f"exif_{n}.png", lambda n=n: saved(stored(RGB, n), "PNG", exif=exif(n)), RGB, noted)
good("exif_6.webp", lambda: saved(stored(RGB, 6), "WEBP", lossless=True, exif=exif(6)), RGB, "not_upright")
good("exif_6.tiff", lambda: tiff(stored(RGB, 6), {274: (6,)}), RGB, "not_upright")
good("exif_9.tiff", lambda: tiff(RGB, {274: (9,)}), RGB, "bad_exif")
good("exif_0.jpg", lambda: jpeg(RGB, exif=exif(0)), RGB, "bad_exif", tolerance=6)
good("broken_exif.jpg", lambda: jpeg(RGB, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), RGB, "bad_exif", tolerance=6)
good(
    "loop_exif.jpg",
    lambda: jpeg(RGB, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(99)),
    RGB,
    "bad_exif",
    tolerance=6,
)
good("junk_exif.png", lambda: png(40, 24, 8, 2, png_rows(RGB), chunk(b"eXIf", b"junk")), RGB, "bad_exif")

# row 15: names that lie, and formats that are never opened

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(canary) run\nshowpage\n"
good("gif.png", lambda: saved(GREY, "GIF"), grey(GREY), "palette wrong_extension")
good("png.jpg", lambda: saved(RGB, "PNG"), RGB, "wrong_extension")
good("no_extension", lambda: saved(RGB, "PNG"), RGB)
bad("eps.jpg", "format", lambda: EPS)
bad("eps_binary.jpg", "format", lambda: struct.pack("<IIIIIIIH", 0xC6D3D0C5, 30, len(EPS), 0, 0, 0, 0, 0xFFFF) + EPS)
bad("ps.jpg", "format", lambda: b"%!PS\nshowpage\n")
bad("svg.jpg", "format", lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
bad("pdf.jpg", "format", lambda: b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n")
bad("heic.jpg", "format", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
bad("psd.jpg", "format", lambda: b"8BPS\0\x01" + bytes(99))

# row 11: cut off, empty, not a picture, damaged

bad("empty.jpg", "empty", lambda: b"")
bad("text.jpg", "format", lambda: b"just some words\n")
bad("page.jpg", "format", lambda: b"<!DOCTYPE html><html><body>404</body></html>")
bad("random.jpg", "format", lambda: np.random.default_rng(0).bytes(5_000))
bad("damaged.png", "unreadable", lambda: flipped(saved(RGB, "PNG"), 70))
bad("half_the_rows.png", "truncated", lambda: png(40, 24, 8, 2, png_rows(RGB[:12])))
bad("half_the_rows_1_bit.png", "truncated", lambda: png(40, 24, 1, 0, png_rows(np.packbits(BITS, 1)[:12])))
bad("half_the_rows_16_bit.png", "truncated", lambda: png(40, 24, 16, 0, png_rows(WIDE[:12])))
bad("half_the_rows_palette.png", "truncated", lambda: png(40, 24, 8, 3, png_rows(INDEX[:12]), PLTE))
bad("half_the_rows_alpha.png", "truncated", lambda: png(40, 24, 8, 6, png_rows(RGBA[:12])))
bad("last_pass_missing.png", "truncated", lambda: interlaced(RGB, 6))
bad("ends_early.gif", "truncated", lambda: short_gif())
good("interlaced.png", lambda: interlaced(RGB), RGB)
good("black.png", lambda: saved(RGB * 0, "PNG"), RGB * 0)
good("black_1_bit.png", lambda: png(40, 24, 1, 0, png_rows(np.packbits(BITS * 0, 1))), RGB * 0, "grey")
good("black_16_bit.png", lambda: png(40, 24, 16, 0, png_rows(WIDE * 0)), RGB * 0, "16bit grey")
good("small_frame.gif", lambda: gif_screen(50, 30), np.pad(grey(GREY), ((0, 6), (0, 10), (0, 0))), "palette")
good("frame_beyond.gif", lambda: gif_screen(9, 9), grey(GREY), "palette")
good("black.gif", lambda: saved(GREY * 0, "GIF"), RGB * 0, "palette")
good("clear.png", lambda: saved(RGBA * 0, "PNG"), RGB * 0 + 255, "alpha")
bad("no_end.png", "truncated", lambda: saved(RGB, "PNG")[:-12])
bad("missing_strips.tiff", "truncated", lambda: tiff(RGB, {278: (4,)}))
bad("twelve_bits.jpg", "format", lambda: jpeg(RGB).replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"))
bad("two_channels.jpg", "format", lambda: jpeg(RGB).replace(b"\0\x18\0\x28\x03", b"\0\x18\0\x28\x02"))
good("junk_behind.jpg", lambda: jpeg(RGB) + b"appended by a phone" * 9, RGB, tolerance=6)
good("two_pictures.jpg", lambda: mpo(), RGB, tolerance=6)
good(
    "apng.png",
    lambda: saved(RGB, "PNG", save_all=True, append_images=[Image.fromarray(RGB[::-1].copy())]),
    RGB,
    "animated",
)
good(
    "animated.webp",
    lambda: saved(RGB, "WEBP", save_all=True, append_images=[Image.fromarray(RGB[::-1].copy())], lossless=True),
    RGB,
    "animated",
)


def mpo() -> bytes:
    return saved(
        RGB, "MPO", save_all=True, append_images=[Image.fromarray(RGB[::-1].copy())], quality=95, subsampling=0
    )


def gif_screen(width: int, height: int) -> bytes:
    """The grey GIF with another screen size; its frame stays 40 x 24."""
    return saved(GREY, "GIF").replace(struct.pack("<HH", 40, 24), struct.pack("<HH", width, height), 1)


def short_gif() -> bytes:
    """A GIF whose only codes are: clear, one pixel, end."""
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", 40, 24, 0x80, 0, 0)
        + bytes(3)
        + b"\xff" * 3
        + b",\0\0\0\0"
        + (struct.pack("<HHBB", 40, 24, 0, 2) + b"\x02" + bytes([0b01_001_100, 0b1]) + b"\0;")
    )


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
