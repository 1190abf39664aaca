"""The gate: which files count as pictures, what the header probe says, and what it costs."""

import io
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foveate.data.read import formats
from foveate.data.read.formats import BadImage, Limits, probe, shown

# what only decoding can find; every other odd file is refused by its header
ONLY_DECODING = {"scans.jpg", "damaged.png", "last_pass_missing.png", "ends_early.gif"}


def only_decoding(name: str) -> bool:
    return name in ONLY_DECODING or name.startswith(("half_the_rows", "float_", "int32_"))


def test_the_header_tells_size_and_notes(good_name, odd_images, odd_table):
    header, odd = probe(odd_images[good_name]), odd_table[good_name]
    assert (header.height, header.width) == odd.pixels.shape[:2]
    assert header.notes == odd.notes


def test_a_bad_file_is_refused_by_its_header(bad_name, odd_images, odd_table):
    if only_decoding(bad_name):
        assert probe(odd_images[bad_name]).width == 40
        return
    with pytest.raises(BadImage) as caught:
        probe(odd_images[bad_name])
    assert caught.value.reason == odd_table[bad_name].reason
    assert str(caught.value).startswith(f"{odd_images[bad_name]}: ")
    assert "\n" not in str(caught.value)


def test_every_reason_and_note_is_explained_in_the_docs(odd_table):
    text = (Path(__file__).parents[3] / "docs" / "pictures.md").read_text()
    for odd in odd_table.values():
        for code in (odd.reason, *odd.notes):
            assert code is None or f"`{code}`" in text


def test_bytes_are_probed_as_files_are(odd_images):
    for name in ("plain.jpg", "palette.png", "exif_6.webp", "lzw.tiff", "palette.gif", "rgba.bmp"):
        assert probe(odd_images[name].read_bytes()) == probe(odd_images[name])


def test_a_header_says_what_the_file_is(odd_images):
    header = probe(odd_images["exif_6.jpg"])
    assert (header.format, header.mode, header.bits, header.frames, header.orientation) == ("JPEG", "RGB", 8, 1, 6)
    assert probe(odd_images["grey16.png"]).bits == 16
    assert probe(odd_images["10000_frames.gif"]).frames == 2  # two or more


def test_limits_are_the_callers(odd_images):
    assert probe(odd_images["120mpx.png"], Limits(max_pixels=200_000_000, max_bytes=2**30)).width == 12_000
    assert probe(odd_images["thin.png"], Limits(max_ratio=1000)).height == 10_000
    for limits in (Limits(max_pixels=900, max_bytes=2**30), Limits(max_side=39), Limits(max_file_bytes=50)):
        with pytest.raises(BadImage, match="at most") as caught:
            probe(odd_images["plain.jpg"], limits)
        assert caught.value.reason == "too_large"


def test_the_probe_reads_a_few_kilobytes(odd_images, tmp_path, monkeypatch):
    read = []

    class Counted(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            read.append(len(data))
            return data

    big = odd_images["plain.jpg"].read_bytes()[:-2] + bytes(4_000_000) + b"\xff\xd9"
    (tmp_path / "big.jpg").write_bytes(big)
    monkeypatch.setattr(formats, "FileIO", Counted)
    probe(tmp_path / "big.jpg")
    assert sum(read) < 20_000


def test_a_probe_takes_about_a_millisecond(odd_images):
    for name in ("plain.jpg", "exif_6.jpg", "plain.png", "plain.webp", "lzw.tiff", "10000_frames.gif"):
        times = []
        for _ in range(9):
            start = time.perf_counter()
            probe(odd_images[name])
            times.append(time.perf_counter() - start)
        assert min(times) < 0.002, name


def test_a_pipe_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(BadImage, match="not a regular file"):
        probe(tmp_path / "pipe.jpg")


@pytest.mark.parametrize("name", [".", "missing.jpg", "a\0b.jpg"])
def test_what_can_not_be_opened_is_a_bad_image(name, tmp_path):
    with pytest.raises(BadImage) as caught:
        probe(f"{tmp_path}/{name}")
    assert caught.value.reason == "unreadable"


def test_names_are_shown_on_one_line_with_odd_bytes_escaped(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9\n\xc3\xa9.jpg"
    Path(os.fsdecode(path)).write_bytes(b"x")
    with pytest.raises(BadImage) as caught:
        probe(os.fsdecode(path))
    assert caught.value.path.endswith("/caf\\xe9\\né.jpg")
    str(caught.value).encode()  # can be printed and written
    assert shown("\ud800") == "\\ud800"


def test_the_error_survives_the_trip_from_a_worker():
    error = pickle.loads(pickle.dumps(BadImage("a.jpg", "truncated", "cut off")))
    assert (error.path, error.reason, str(error)) == ("a.jpg", "truncated", "a.jpg: cut off")


CHILD = """
import json, resource, sys, time
from foveate.data.read.decode import decode
from foveate.data.read.formats import BadImage, probe
decode(sys.argv[1]); out = {}
for path in sys.argv[2:]:
    for call in (probe, decode):
        base, start, reason = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), None
        try: call(path)
        except BadImage as error: reason = error.reason
        took = time.process_time() - start
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
        out[path.rsplit("/")[-1] + " " + call.__name__] = [reason, took, grown / 1024]
print(json.dumps(out))
"""


def in_child(code: str, *paths: Path) -> dict:
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_bombs_are_refused_in_50_ms_and_50_mb(odd_images):
    names = [
        "50k.png",
        "120mpx.png",
        "long.png",
        "huge.jpg",
        "huge.gif",
        "huge.webp",
        "huge.bmp",
        "huge.tiff",
        "zero.png",
    ]
    costs = in_child(CHILD, odd_images["plain.jpg"], *(odd_images[name] for name in names))
    assert odd_images["50k.png"].stat().st_size < 400_000
    for what, (reason, seconds, megabytes) in costs.items():
        assert reason in ("too_large", "empty"), what
        assert seconds < 0.05, what
        assert megabytes < 50, what


def test_long_files_with_a_small_picture_cost_no_more_than_that_picture(odd_images):
    names = ["10000_frames.gif", "1000_pages.tiff", "text_bomb.png", "icc_bomb.png", "1x1.png"]
    costs = in_child(CHILD, odd_images["plain.jpg"], *(odd_images[name] for name in names))
    for what, (reason, seconds, megabytes) in costs.items():
        assert reason is None, what
        assert seconds < 0.1, what
        assert megabytes < 50, what


AUDIT = """
import json, sys
from foveate.data.read.decode import decode
from foveate.data.read.formats import BadImage, probe
decode(sys.argv[1]); events = []
watched = ("subprocess", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "socket", "import", "ctypes")
sys.addaudithook(lambda event, args: events.append([event, str(args[0])]) if event.startswith(watched) else None)
for path in sys.argv[2:]:
    for call in (probe, decode):
        try: call(path)
        except BadImage: pass
quiet, loaded = list(events), sorted(m for m in sys.modules if m.startswith("PIL.") and m.endswith("ImagePlugin"))
import subprocess; subprocess.run(["true"])
print(json.dumps({"events": quiet, "control": events[len(quiet):], "loaded": loaded}))
"""


def test_postscript_and_its_kin_start_no_process(odd_images):
    names = ["eps.jpg", "eps_binary.jpg", "ps.jpg", "svg.jpg", "pdf.jpg", "heic.jpg", "psd.jpg", "gif.png", "png.jpg"]
    seen = in_child(AUDIT, odd_images["plain.jpg"], *(odd_images[name] for name in names))
    assert seen["events"] == []
    assert "subprocess.Popen" in [event for event, _ in seen["control"]]  # the hook does see processes
    allowed = {f"PIL.{name}ImagePlugin" for name in ("Avif", "Bmp", "Gif", "Jpeg", "Png", "Tiff", "WebP")}
    assert set(seen["loaded"]) == allowed
