"""Decoding: the written rule for every odd picture, whole pictures only, and BadImage for everything else."""

import hashlib
import os
import random
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from foveate.data.read import decode as room
from foveate.data.read.decode import decode
from foveate.data.read.formats import BadImage, Limits, probe
from foveate.errors import ConfigError

GOLDEN = {  # SHA-256 of shape and pixels, the first 8 digits
    "plain.png": "12c5c438",
    "plain.webp": "12c5c438",
    "plain.bmp": "12c5c438",
    "plain.tiff": "12c5c438",
    "grey.gif": "940d9bb8",
    "1x1.png": "9106a14f",
    "text_bomb.png": "12c5c438",
    "icc_bomb.png": "12c5c438",
    "long_text.png": "12c5c438",
    "10000_frames.gif": "940d9bb8",
    "1000_pages.tiff": "12c5c438",
    "palette.png": "24eefe11",
    "palette_alpha.png": "44cdad98",
    "palette.bmp": "24eefe11",
    "palette.tiff": "24eefe11",
    "palette.gif": "24eefe11",
    "transparent.gif": "9fd30fbd",
    "rgba.png": "a86ce172",
    "la.png": "d2b48cb9",
    "rgba.webp": "a86ce172",
    "rgba.tiff": "a86ce172",
    "rgba.bmp": "a86ce172",
    "one_bit.png": "07f1a814",
    "one_bit.tiff": "07f1a814",
    "four_bit.png": "a07a47bc",
    "four_bit_key.png": "2aec2dcb",
    "rgb_key.png": "9c86ac0f",
    "grey16.png": "3d4a83d3",
    "grey16_key.png": "48855af0",
    "rgb16.png": "d3464808",
    "grey16.tiff": "3d4a83d3",
    "grey16_lzw.tiff": "3d4a83d3",
    "grey16_motorola.tiff": "3d4a83d3",
    "grey16_white_is_0.tiff": "e1a8f575",
    "rgb16.tiff": "d3464808",
    "big.tiff": "12c5c438",
    "lzw.tiff": "12c5c438",
    "float_unit.tiff": "e206741f",
    "float_255.tiff": "1c3b3666",
    "int32.tiff": "3d4a83d3",
    "icc.png": "12c5c438",
    "exif_1.png": "12c5c438",
    "exif_2.png": "12c5c438",
    "exif_3.png": "12c5c438",
    "exif_4.png": "12c5c438",
    "exif_5.png": "12c5c438",
    "exif_6.png": "12c5c438",
    "exif_7.png": "12c5c438",
    "exif_8.png": "12c5c438",
    "exif_6.webp": "12c5c438",
    "exif_6.tiff": "12c5c438",
    "exif_9.tiff": "12c5c438",
    "junk_exif.png": "12c5c438",
    "gif.png": "940d9bb8",
    "png.jpg": "12c5c438",
    "no_extension": "12c5c438",
    "interlaced.png": "12c5c438",
    "black.png": "5dae954e",
    "black_1_bit.png": "5dae954e",
    "black_16_bit.png": "5dae954e",
    "black.gif": "5dae954e",
    "clear.png": "971dc630",
    "apng.png": "12c5c438",
    "animated.webp": "12c5c438",
    "small_frame.gif": "5c1d8395",
    "frame_beyond.gif": "940d9bb8",
}


def test_a_good_file_gives_the_pixels_of_its_rule(good_name, odd_images, odd_table):
    pixels, odd = decode(odd_images[good_name]), odd_table[good_name]
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
    assert pixels.shape == odd.pixels.shape
    assert np.abs(pixels.astype(int) - odd.pixels.astype(int)).max() <= odd.tolerance


def test_the_pixels_of_lossless_files_never_change(odd_images, odd_table):
    lossless = [name for name, odd in odd_table.items() if odd.reason is None and odd.tolerance == 0]
    found = {}
    for name in lossless:
        pixels = decode(odd_images[name])
        found[name] = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:8]
    assert found == GOLDEN


def test_a_bad_file_is_refused_with_its_reason(bad_name, odd_images, odd_table):
    with pytest.raises(BadImage) as caught:
        decode(odd_images[bad_name])
    assert caught.value.reason == odd_table[bad_name].reason
    assert caught.value.path == str(odd_images[bad_name])
    assert "\n" not in str(caught.value)


CUT = ["plain.jpg", "progressive.jpg", "exif_6.jpg", "arithmetic.jpg", "plain.png", "palette_alpha.png", "plain.webp"]
CUT += ["lossy.webp", "exif_6.webp", "plain.bmp", "plain.tiff", "big.tiff", "lzw.tiff", "jpeg.tiff", "palette.tiff"]
CUT += ["grey.gif", "transparent.gif"]


@pytest.mark.parametrize("name", CUT)
def test_a_file_cut_off_at_any_byte_is_refused(name, odd_images, capfd):
    whole = odd_images[name].read_bytes()
    for length in {*range(0, len(whole), 1 + len(whole) // 300), *range(len(whole) - 40, len(whole))}:
        with pytest.raises(BadImage):
            decode(whole[:length])


def test_a_cut_is_found_by_the_header_probe_too(odd_images):
    for name in CUT:
        whole = odd_images[name].read_bytes()
        for share in (0.01, 0.25, 0.5, 0.99):
            with pytest.raises(BadImage):
                probe(whole[: int(len(whole) * share)])


def test_orientation_is_what_pillow_shows(odd_images):
    for name in [f"exif_{n}.{kind}" for n in range(1, 9) for kind in ("jpg", "png")] + ["exif_6.webp", "exif_6.tiff"]:
        with Image.open(odd_images[name]) as image:
            np.testing.assert_array_equal(decode(odd_images[name]), ImageOps.exif_transpose(image).convert("RGB"))


def test_common_files_are_decoded_as_pillow_decodes_them(odd_images):
    names = [
        "plain.jpg",
        "progressive.jpg",
        "grey.jpg",
        "cmyk.jpg",
        "ycck.jpg",
        "arithmetic.jpg",
        "icc.jpg",
        "plain.png",
    ]
    for name in [*names, "palette.png", "lossy.webp", "palette.gif", "palette.bmp", "jpeg.tiff", "one_bit.tiff"]:
        with Image.open(odd_images[name]) as image:
            np.testing.assert_array_equal(decode(odd_images[name]), image.convert("RGB"))


def test_sixteen_bits_agree_with_torchvision_to_one_level(odd_images):
    from torchvision.io import ImageReadMode, decode_image, read_file

    for name in ("grey16.png", "rgb16.png"):
        wide = decode_image(read_file(str(odd_images[name])), mode=ImageReadMode.RGB).numpy().transpose(1, 2, 0)
        assert wide.dtype == np.uint16
        assert np.abs(decode(odd_images[name]) - np.round(wide / 257)).max() <= 1


def test_transparent_pixels_show_the_background(odd_images):
    with Image.open(odd_images["rgba.png"]) as image:
        rgba = np.asarray(image).astype(int)
    alpha, colour = rgba[..., 3:], np.array([10, 200, 30])
    expected = (alpha * rgba[..., :3] + (255 - alpha) * colour + 127) // 255
    np.testing.assert_array_equal(decode(odd_images["rgba.png"], background=(10, 200, 30)), expected)


def test_bytes_are_decoded_as_files_are(odd_images):
    np.testing.assert_array_equal(decode(odd_images["plain.jpg"].read_bytes()), decode(str(odd_images["plain.jpg"])))


def test_limits_are_the_callers(odd_images):
    with pytest.raises(BadImage, match="at most 900"):
        decode(odd_images["plain.jpg"], Limits(max_pixels=900))
    with pytest.raises(BadImage, match="more than 2 scans"):
        decode(odd_images["progressive.jpg"], Limits(max_scans=2))


def test_pillows_own_pixel_limit_plays_no_part(odd_images, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)  # a warning from Pillow would be an error here
    for name in ("plain.jpg", "plain.png", "plain.bmp", "plain.tiff", "lzw.tiff", "grey.gif"):
        assert decode(odd_images[name]).shape == (24, 40, 3)


def test_pillow_set_to_accept_half_pictures_is_refused(odd_images, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ConfigError, match="set it to False"):
        decode(odd_images["plain.jpg"])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("image file is truncated\n(3 bytes)"), "truncated"),
        (SyntaxError("x"), "unreadable"),
        (struct.error("x"), "unreadable"),
        (RuntimeError(), "unreadable"),
        (RecursionError("x"), "unreadable"),
        (UserWarning("x"), "unreadable"),
        (MemoryError(), "too_large"),
    ],
)
def test_any_error_of_the_decoder_is_a_bad_image(error, reason, odd_images, monkeypatch):
    def broken(_: object) -> object:
        raise error

    monkeypatch.setitem(room._DECODERS, "JPEG", broken)
    with pytest.raises(BadImage) as caught:
        decode(odd_images["plain.jpg"])
    assert caught.value.reason == reason
    assert str(caught.value).startswith(str(odd_images["plain.jpg"])) and "\n" not in str(caught.value)


def test_a_decoder_that_sees_another_size_is_not_believed(odd_images, monkeypatch):
    other = room._DECODERS["PNG"]
    monkeypatch.setitem(room._DECODERS, "JPEG", lambda _: other(BytesIO(odd_images["1x1.png"].read_bytes())))
    with pytest.raises(BadImage, match="the header says"):
        decode(odd_images["plain.jpg"])


def test_no_file_stays_open(odd_images):
    before = len(os.listdir("/proc/self/fd"))
    for path in odd_images.values():
        try:
            decode(path)
        except BadImage:
            continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_threads_see_the_same_pixels(odd_images, odd_table):
    names = [name for name, odd in odd_table.items() if odd.reason is None]
    alone = [decode(odd_images[name]) for name in names]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for one, other in zip(alone, pool.map(lambda name: decode(odd_images[name]), names), strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_common_jpeg_costs_little_more_than_pillow_alone(tmp_path):
    draw = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(draw).resize((520, 400), Image.Resampling.BICUBIC).save(path, quality=90)

    def plain() -> np.ndarray:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))

    np.testing.assert_array_equal(plain(), decode(path))
    times = {plain: [], decode: []}  # of the processor, by turns: other jobs on it do not count
    for _ in range(40):
        for call in times:
            start = time.process_time()
            call() if call is plain else call(path)
            times[call].append(time.process_time() - start)
    assert min(times[decode]) < 1.25 * min(times[plain])


def mutated(data: bytes, draw: random.Random) -> bytes:
    """A few bytes flipped, cut out, put in or overwritten, mostly in the first 200."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 2, 8))):
        place = draw.randrange(min(len(out), draw.choice((200, len(out)))))
        kind = draw.randrange(4)
        if kind == 0:
            out[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del out[place : place + draw.randrange(1, 20)]
        elif kind == 2:
            out[place:place] = draw.randbytes(draw.randrange(1, 20))
        else:
            out[place : place + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xd9"))
        if len(out) < 8:
            break
    return bytes(out)


def test_300_damaged_files_give_a_bad_image_or_pixels(odd_images, capfd):
    draw = random.Random(0)
    corpus = sorted(path for path in odd_images.values() if 100 < path.stat().st_size < 20_000)
    limits = Limits(max_pixels=200_000)
    seen = {"pixels": 0, "refused": 0}
    for _ in range(300):
        data = mutated(draw.choice(corpus).read_bytes(), draw)
        try:
            header = probe(data, limits)
        except BadImage:
            header = None
        try:
            pixels = decode(data, limits)
        except BadImage:
            seen["refused"] += 1
        else:
            seen["pixels"] += 1
            assert pixels.shape == (header.height, header.width, 3)
    assert min(seen.values()) > 30
