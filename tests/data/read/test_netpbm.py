"""Netpbm, AVIF, and the files that only stand for a picture."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from foveate.data.index import open_data
from foveate.data.read.decode import decode
from foveate.data.read.formats import BadImage, probe
from foveate.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (5, 11, 3), np.uint8)
GREY = RGB[..., 0]
DEEP = np.random.default_rng(1).integers(0, 65536, (4, 3), np.uint16)
BITS = RGB[..., 1] > 127


def as_text(samples):
    return " ".join(map(str, samples.ravel())).encode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P6\n11 5\n255\n" + RGB.tobytes(), RGB),
        (b"P6 # made by hand\n# two\n11\t5 255\n" + RGB.tobytes(), RGB),
        (b"P5\n11 5\n255\n" + GREY.tobytes(), GREY),
        (b"P5\n11 5\n255\n" + GREY.tobytes() + b"more", GREY),
        (b"P5\n11 5\n15\n" + (GREY // 16).tobytes(), GREY // 16 * 17),
        (b"P5\n3 4\n65535\n" + DEEP.astype(">u2").tobytes(), np.rint(DEEP / 257)),
        (b"P5\n3 4\n4095\n" + (DEEP // 16).astype(">u2").tobytes(), np.rint(DEEP // 16 * 255.0 / 4095)),
        (b"P6\n11 5\n65535\n" + (RGB.astype(">u2") * 257).tobytes(), RGB),
        (b"P4\n11 5\n" + np.packbits(~BITS, axis=1).tobytes(), BITS * 255),
        (b"P1\n11 5\n" + as_text((~BITS).astype(int)), BITS * 255),
        (b"P1\n11 5\n" + as_text((~BITS).astype(int)).replace(b" ", b""), BITS * 255),
        (b"P2\n11 5\n255\n" + as_text(GREY), GREY),
        (b"P2\n3 4\n65535\n# noise\n" + as_text(DEEP).replace(b" ", b" # next\r\n", 1), np.rint(DEEP / 257)),
        (b"P3\n11 5\n255\n" + as_text(RGB).replace(b" ", b"\n"), RGB),
    ],
)
def test_netpbm_gives_the_pixels_of_its_numbers(data, expected):
    expected = np.asarray(expected).astype(np.uint8)
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, 2)
    assert np.array_equal(decode(data), expected)
    header = probe(data)
    assert (header.format, header.height, header.width) == ("NETPBM", *expected.shape[:2])


@pytest.mark.parametrize("kind", ["1", "L", "RGB"])
def test_netpbm_of_pillow_reads_as_its_png(kind):
    image, files = Image.fromarray(RGB).convert(kind), (BytesIO(), BytesIO())
    image.save(files[0], "PPM")
    image.save(files[1], "PNG")
    assert np.array_equal(decode(files[0].getvalue()), decode(files[1].getvalue()))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"P6\n11 5\n255\n" + RGB.tobytes()[:-1], "truncated"),
        (b"P4\n11 5\n" + bytes(9), "truncated"),
        (b"P2\n2 2\n255\n1 2 345", "truncated"),
        (b"P2\n2 2\n255\n1 2 3 256", "range"),
        (b"P5\n2 2\n15\n\1\2\3\x10", "range"),
        (b"P2\n2 2\n255\n1 2 -3 4", "unreadable"),
        (b"P1\n2 2\n1 2 0 1", "range"),
        (b"P5\n2 2\n70000\n" + bytes(8), "unreadable"),
        (b"P5\n2 2\n0\n" + bytes(8), "unreadable"),
        (b"P5\n0 2\n255\n" + bytes(8), "empty"),
        (b"P5\n99999 99999\n255\n" + bytes(8), "too_large"),
        (b"P5 notes on the fifth patient", "format"),
        (b"P7\nWIDTH 2\nHEIGHT 2\n", "format"),
        (b"Pf\n2 2\n-1.0\n" + bytes(16), "format"),
    ],
)
def test_netpbm_is_refused_whole(data, reason):
    with pytest.raises(BadImage) as error:
        decode(data)
    assert error.value.reason == reason and "\n" not in str(error.value)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_read_upright_and_refused_where_it_is_cut(orientation):
    ramp = np.zeros((24, 40, 3), np.uint8)
    ramp[:12, :20], ramp[12:, 20:] = (255, 0, 0), (0, 0, 255)
    exif, file = Image.Exif(), BytesIO()
    exif[274] = orientation
    image = Image.fromarray(ramp).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 254 if orientation > 4 else 255))
    image.save(file, "AVIF", exif=exif, quality=90)
    png, exif = BytesIO(), Image.Exif()  # Pillow takes the orientation out of what it saved
    exif[274] = orientation
    Image.fromarray(ramp).save(png, "PNG", exif=exif)
    header, pixels = probe(file.getvalue()), decode(file.getvalue())
    assert header.format == "AVIF" and header.orientation == orientation
    assert ("alpha" in header.notes) == (orientation > 4)
    assert pixels.shape == (header.height, header.width, 3)
    assert np.abs(pixels.astype(int) - decode(png.getvalue())).mean() < 8
    for end in range(0, len(file.getvalue()), 41):
        with pytest.raises(BadImage):
            decode(file.getvalue()[:end])


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        (LFS, "lfs_pointer", "git lfs pull"),
        (b"version http://git-media.io/v/2\noid sha256:0\n", "lfs_pointer", "git lfs pull"),
        (b"/annex/objects/SHA256E-s31390--f50d.jpg\n", "annex_pointer", "git annex get"),
        (b"../.git/annex/objects/xW/q1/SHA256E-s1--f5.jpg", "annex_pointer", "git annex get"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "format", "HEIC.*pillow-heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heix" + bytes(99), "format", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41" + bytes(99), "format", "video"),
    ],
)
def test_what_only_stands_for_a_picture_is_named(data, reason, said):
    with pytest.raises(BadImage, match=said) as error:
        probe(data)
    assert error.value.reason == reason


def test_a_folder_of_pointers_says_how_to_fetch_the_pictures(tmp_path):
    for name in ("a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(LFS + name.encode())
    with pytest.raises(DataError, match=r"4 files are git LFS pointers.*a/0.jpg.*git lfs pull"):
        open_data(tmp_path)
