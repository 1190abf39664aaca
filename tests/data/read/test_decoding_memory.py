"""Memory of decoding: told from the header, never more than told, shared by all threads, refused beyond the limit."""

import io
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from foveate.data.read.decode import decode, opened
from foveate.data.read.fast import cut
from foveate.data.read.formats import BadImage, Limits, look, probe
from foveate.data.read.memory import USUAL, Turns, bytes_needed, reduction
from foveate.data.read.reader import DEFAULT_LIMITS

SIDE = 1600  # pixels: far above the bands in which pictures are converted


def webp(width: int, height: int, *, alpha: bool) -> bytes:
    """A lossless WebP of one colour and any size in a few bytes: a code of one symbol needs no bits for a pixel."""
    data = bytearray(saved("RGBA" if alpha else "RGB", 16, "WEBP", lossless=True))
    assert data[12:16] == b"VP8L"
    data[21:25] = ((width - 1) | (height - 1) << 14 | alpha << 28).to_bytes(4, "little")
    return bytes(data)


def saved(mode: str, side: int, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, kind, **options)
    return file.getvalue()


EXIF = Image.Exif()
EXIF[274] = 6
WHOLE = {"strip_size": 2**31 - 1}  # one strip
FILES = {
    "baseline.jpg": ("RGB", "JPEG", {}),
    "grey.jpg": ("L", "JPEG", {}),
    "cmyk.jpg": ("CMYK", "JPEG", {}),
    "progressive.jpg": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "progressive_420.jpg": ("RGB", "JPEG", {"progressive": True, "subsampling": 2}),
    "turned.jpg": ("RGB", "JPEG", {"exif": EXIF}),
    "black.png": ("RGB", "PNG", {}),
    "alpha.png": ("RGBA", "PNG", {}),
    "grey_alpha.png": ("LA", "PNG", {}),
    "16_bit.png": ("I;16", "PNG", {}),
    "palette.gif": ("P", "GIF", {}),
    "transparent.gif": ("P", "GIF", {"transparency": 0}),
    "plain.bmp": ("RGB", "BMP", {}),
    "lzw.tiff": ("RGB", "TIFF", {"compression": "tiff_lzw", **WHOLE}),
    "float.tiff": ("F", "TIFF", {"compression": "tiff_lzw", **WHOLE}),
    "jpeg.tiff": ("RGB", "TIFF", {"compression": "jpeg", **WHOLE}),
    "fax.tiff": ("1", "TIFF", {"compression": "group4", **WHOLE}),
    "cmyk.tiff": ("CMYK", "TIFF", {"compression": "packbits"}),
    "lossy.webp": ("RGB", "WEBP", {"method": 0}),
    "lossless.webp": ("RGBA", "WEBP", {"method": 0, "lossless": True, "quality": 0}),
}
MEASURE = """
import json, resource, sys
from foveate.data.read.decode import decode
from foveate.data.read.formats import look
from foveate.data.read.memory import bytes_needed
from foveate.data.read.reader import Limits
from foveate.data.gate.check import check
limits, found = Limits(max_bytes=2**40), {}
for path in sys.argv[1:]:
    with open("/proc/self/clear_refs", "w") as file:  # the peak begins anew
        file.write("5")
    rss = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in open("/proc/self/status") if "kB" in line}
    header, size = look(path, limits)
    decode(path, limits)
    peak = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in open("/proc/self/status") if "kB" in line}
    found[path] = bytes_needed(header, size), peak["VmHWM"] - rss["VmRSS"]
print(json.dumps(found))
"""


def test_no_kind_of_file_takes_more_memory_than_its_header_tells(tmp_path):
    for name, (mode, kind, options) in FILES.items():
        (tmp_path / name).write_bytes(saved(mode, SIDE, kind, **options))
    paths = [str(tmp_path / name) for name in FILES]
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for path, (told, taken) in found.items():
        assert taken <= told, path
        assert told <= 20 * 2**20 + 2.2 * max(taken, 7 * SIDE * SIDE), path  # and it is not told without a reason


@pytest.mark.parametrize(
    "data",
    [
        webp(16_000, 6_200, alpha=True),
        webp(6_200, 16_000, alpha=False),
        b"GIF89a" + (9_999).to_bytes(2, "little") * 2 + b"\x80\0\0\0\0\0\xff\xff\xff"
        b"!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;",
    ],
    ids=["webp", "webp_upright", "gif"],
)
def test_a_small_file_with_a_large_canvas_is_refused_from_its_header(data):
    header, _ = look(data, DEFAULT_LIMITS)
    assert header.width * header.height <= DEFAULT_LIMITS.max_pixels  # the number of pixels is allowed
    before = time.process_time()
    for read in (probe, decode):
        with pytest.raises(BadImage, match=r"take [\d,]+ MB to decode; at most 470: shrink it or raise") as caught:
            read(data)
        assert caught.value.reason == "too_large"
    assert time.process_time() - before < 0.5


def test_the_limit_can_be_raised(odd_images):
    small = Limits(max_bytes=2**20)
    for name in ("rgba.webp", "plain.png", "transparent.gif"):
        with pytest.raises(BadImage, match="MB to decode"):
            decode(odd_images[name], small)
        assert decode(odd_images[name], Limits(max_bytes=2**25)).size
    assert decode(webp(700, 500, alpha=True), Limits(max_bytes=2**25)).shape == (500, 700, 3)


def test_a_jpeg_over_the_limit_comes_at_a_fraction_of_its_size():
    data, turned = saved("RGB", 2048, "JPEG"), saved("RGB", 2048, "JPEG", exif=EXIF)
    whole, half, quarter = (bytes_needed(probe(data), len(data), n) for n in (1, 2, 4))
    for most, side in ((whole, 2048), (whole - 1, 1024), (half, 1024), (half - 1, 512), (quarter, 512)):
        assert decode(data, Limits(max_bytes=most)).shape == (side, side, 3)
        small = cut(data, (0.5,) * 4, 100, 1.0, limits=Limits(max_bytes=most))
        assert small.shape == (3, 100, 100)
    assert decode(turned, Limits(max_bytes=whole)).shape == (1024, 1024, 3)  # turning it takes a copy
    with pytest.raises(BadImage, match="MB to decode"):
        decode(data, Limits(max_bytes=2**20))


def test_photographs_of_a_hundred_megapixels_are_read():
    for kind in ("baseline.jpg", "grey.jpg", "cmyk.jpg", "turned.jpg"):
        mode, _, options = FILES[kind]
        small = probe(saved(mode, 16, "JPEG", **options))
        large = small.__class__(**{**vars(small), "width": 12_000, "height": 8_300})
        assert reduction(large, 40_000_000, DEFAULT_LIMITS) in (1, 2)


def test_a_progressive_jpeg_keeps_all_its_coefficients_whatever_the_fraction():
    header = probe(saved("RGB", 64, "JPEG", progressive=True, subsampling=0))
    assert 2 * 3 * 64 * 64 <= header.scratch <= 2 * 3 * 96 * 96
    assert probe(saved("RGB", 64, "JPEG")).scratch == 0
    assert probe(saved("RGB", 64, "JPEG", progressive=True, subsampling=2)).scratch < header.scratch * 0.7


def test_large_pictures_wait_for_each_other_and_small_ones_do_not():
    turns, most = Turns(), 3 * USUAL
    held, seen, enough = [], [], threading.Event()

    def hold(needed: int) -> None:
        with turns.hold(needed, most):
            held.append(needed)
            seen.append(sum(held))
            enough.wait(0.02)
            held.remove(needed)

    threads = [threading.Thread(target=hold, args=(2 * USUAL,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    with turns.hold(USUAL, most):  # at once
        pass
    for thread in threads:
        thread.join(20)
    assert len(seen) == 6 and max(seen) == 2 * USUAL
    assert turns.taken == 0


def test_a_picture_larger_than_all_may_be_alone():
    turns = Turns()
    with turns.hold(10 * USUAL, USUAL):
        assert turns.taken == 10 * USUAL
    assert turns.taken == 0


def test_the_turn_is_given_back_when_the_block_fails(odd_images, monkeypatch):
    turns = Turns()
    monkeypatch.setattr("foveate.data.read.decode.TURNS", turns)
    monkeypatch.setattr("foveate.data.read.memory.USUAL", 0)
    with pytest.raises(ZeroDivisionError), opened(odd_images["plain.png"]) as image:
        assert image.mode == "RGB" and turns.taken > 0
        1 / 0  # noqa: B018
    with pytest.raises(BadImage):
        decode(odd_images["plain.jpg"].read_bytes()[:-300])
    assert turns.taken == 0


MANY = """
import sys
from foveate.data.gate.check import check
from foveate.data.read import memory
from foveate.data.read.reader import Limits
memory.USUAL = 0
status = lambda key: next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))
check(sys.argv[1], threads=4, limits=Limits(max_bytes=1))  # its imports
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
report = check(sys.argv[1], threads=4, limits=Limits(max_bytes=int(sys.argv[2])))
refused = [f.reason for f in report.findings if f.kind == "too_large"]
assert len(refused) == 8, refused
assert len(report.items) == 8
print(status("VmHWM") - before)
"""


def test_a_check_decodes_large_pictures_one_after_another_and_refuses_larger_ones(tmp_path):
    for i in range(8):
        folder = tmp_path / "photos" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(saved("RGBA", 2_000 + i, "PNG", compress_level=1))
        (folder / f"{i}.webp").write_bytes(webp(16_000, 6_100 + i, alpha=True))
    most = bytes_needed(probe(folder / "7.png"), 2**20)
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path / "photos"), str(most)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * most  # of 8 that are opened by 4 threads; what malloc keeps of threads counts, too


def test_a_picture_far_longer_than_wide_is_resized_where_the_crop_is_only(monkeypatch):
    from foveate.data import preprocess

    pixels = np.random.default_rng(0).integers(0, 256, (40, 4_000, 3), dtype=np.uint8)
    for p in (preprocess.Preprocess(resolution=32, resize=48), preprocess.Preprocess(resolution=24, resize=24)):
        for picture in (pixels, pixels.transpose(1, 0, 2).copy()):
            whole = preprocess.prepare(picture, p)
            monkeypatch.setattr(preprocess, "MAX_BETWEEN", 1)
            cut = preprocess.prepare(picture, p)
            monkeypatch.undo()
            assert np.abs(whole.astype(int) - cut).max() <= 2
