"""The data gate on pieces of two real photos, damaged, copied and misplaced. Rows 17 to 20 of the reliability sheet."""

import csv
import io
import json
import os
import random

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from foveate.cli.data import app
from foveate.data.gate.check import check
from foveate.data.gate.near import MAX_RMS, MAX_SHARE, contrasts, near_groups, thumbnail
from foveate.data.gate.report import as_csv, as_data, as_text
from foveate.data.read.kinds import KINDS
from foveate.errors import ConfigError, DataError

SIZE = (160, 120)


@pytest.fixture(scope="module")
def crops():
    """24 different pieces of two photos, as PIL images."""
    from sklearn.datasets import load_sample_images

    rng = random.Random(0)
    pieces = []
    for photo in map(Image.fromarray, load_sample_images().images):
        for column in range(4):
            for row in range(3):
                x, y = 160 * column, 130 * row + rng.randrange(8)
                pieces.append(photo.crop((x, y, x + SIZE[0], y + SIZE[1])))
    return pieces


@pytest.fixture
def data(tmp_path, crops):
    """A clean data set: train/a, train/b with 6 pictures each, val and test with 2 each."""
    root, left = tmp_path / "data", iter(crops)
    for folder, n in {"train": 6, "val": 2, "test": 2}.items():
        for label in "ab":
            (root / folder / label).mkdir(parents=True)
            for i in range(n):
                next(left).save(root / folder / label / f"{i}.png")
    return root


def found(root, *kinds, **options):
    """{kind: [paths, ...]} of the report, only these kinds where some are named."""
    table = {}
    for finding in check(root, **options).findings:
        if not kinds or finding.kind in kinds:
            table.setdefault(finding.kind, []).append(finding.paths)
    return table


def run(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_a_clean_data_set_has_no_findings(data):
    report = check(data)
    assert report.findings == () and report.files == 20 and report.good(strict=True)
    assert report.pictures == {"train": {"a": 6, "b": 6}, "val": {"a": 2, "b": 2}, "test": {"a": 2, "b": 2}}
    assert run(data, "--strict").exit_code == 0


# ---- files


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.99])
def test_a_truncated_jpeg_is_an_error_that_names_the_file(data, crops, share):
    whole = io.BytesIO()
    crops[0].save(whole, "JPEG", quality=90)
    (data / "train" / "a" / "cut.jpg").write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
    report = check(data)
    assert [(f.severity, f.paths) for f in report.findings] == [("error", ("train/a/cut.jpg",))]
    assert report.findings[0].kind in ("truncated", "unreadable") and not report.good()


def test_every_odd_file_is_told_with_its_kind(data, crops):
    a, photo = data / "train" / "a", crops[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    crops[20].save(a / "turned.jpg", exif=exif, quality=95)
    crops[21].convert("CMYK").save(a / "cmyk.jpg")
    crops[22].save(a / "named.gif", "PNG")
    deep = np.asarray(crops[23].convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(a / "deep.png")
    photo.rotate(90).save(a / "moves.gif", save_all=True, append_images=[crops[1]], duration=50)
    clear = crops[2].transpose(Image.Transpose.FLIP_TOP_BOTTOM).convert("RGBA")
    clear.putalpha(200)
    clear.save(a / "clear.png")
    photo.resize((5, 5)).save(a / "tiny.png")
    Image.new("RGB", (50, 50), "red").save(a / "red.png")
    (a / "text.jpg").write_text("no picture")
    (a / "zero.jpg").touch()
    (a / "noise.jpg").write_bytes(random.Random(0).randbytes(500))
    (a / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n")
    (a / "notes.txt").write_text("notes")
    (a / ".DS_Store").write_text("x")
    (data / "train" / "readme.md").write_text("x")
    table = found(data)
    table.pop("palette")
    table.pop("near_duplicate", None)
    assert {kind: [p[0].rpartition("/")[2] for p in paths] for kind, paths in table.items()} == {
        "format": ["noise.jpg", "script.eps", "text.jpg"],
        "empty": ["zero.jpg"],
        "wrong_extension": ["named.gif"],
        "animated": ["moves.gif"],
        "tiny": ["tiny.png"],
        "flat": ["red.png"],
        "not_upright": ["turned.jpg"],
        "16bit": ["deep.png"],
        "cmyk": ["cmyk.jpg"],
        "alpha": ["clear.png"],
        "stray": ["readme.md"],
        "no_picture": ["notes.txt"],
        "hidden": [".DS_Store"],
    }


def test_links_and_special_files_are_told_and_never_opened(data, tmp_path):
    (data / "train" / "a" / "up").symlink_to("..", target_is_directory=True)
    (data / "train" / "a" / "out.png").symlink_to(tmp_path / "far.png")
    (tmp_path / "far.png").touch()
    os.mkfifo(data / "train" / "b" / "pipe.png")
    os.link(data / "train" / "a" / "0.png", data / "val" / "a" / "hard.png")
    assert found(data) == {
        "leak": [("train/a/0.png", "val/a/hard.png")],
        "loop": [("train/a/up",)],
        "outside": [("train/a/out.png",)],
        "special": [("train/b/pipe.png",)],
    }
    assert "1 link leads outside the folder (train/a/out.png; it leads to" in check(data).refusal


# ---- the same picture twice (row 20)


def variant(picture, kind, path):
    if kind == "the same bytes":
        picture.save(path.with_suffix(".png"))
    elif kind == "re-encoded":
        picture.save(path.with_suffix(".jpg"), quality=40)
    elif kind == "smaller":
        picture.resize((61, 47), Image.Resampling.LANCZOS).save(path.with_suffix(".png"))
    elif kind == "larger":
        picture.resize((400, 300), Image.Resampling.BICUBIC).save(path.with_suffix(".webp"), quality=80)
    elif kind == "mirrored":
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path.with_suffix(".png"))
    elif kind == "mirrored, smaller and re-encoded":
        small = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((80, 60))
        small.save(path.with_suffix(".jpg"), quality=70)


KINDS_OF_COPY = ("the same bytes", "re-encoded", "smaller", "larger", "mirrored", "mirrored, smaller and re-encoded")


@pytest.mark.parametrize("kind", KINDS_OF_COPY)
def test_the_same_picture_in_train_and_val_is_a_leak_with_its_pair(data, crops, kind):
    for i in (0, 3, 7):  # 0 to 5 are train/a, 6 to 11 train/b
        variant(crops[i], kind, data / "val" / "ab"[i // 6] / f"copy{i}")
    report = check(data)
    assert {f.kind for f in report.findings} == {"leak"} and len(report.findings) == 3
    pairs = [sorted(os.path.splitext(p)[0] for p in f.paths) for f in report.findings]
    assert pairs == [["train/a/0", "val/a/copy0"], ["train/a/3", "val/a/copy3"], ["train/b/1", "val/b/copy7"]]
    assert report.good() and not report.good(strict=True)
    assert run(data).exit_code == 0 and run(data, "--strict").exit_code == 3


@pytest.mark.parametrize("kind", KINDS_OF_COPY)
def test_the_same_picture_under_two_labels_is_told_with_both(data, crops, kind):
    variant(crops[2], kind, data / "train" / "b" / "copy")
    (finding,) = check(data).findings
    assert (
        finding.kind == "two_labels" and finding.reason.endswith("as a and b") and finding.paths[0] == "train/a/2.png"
    )


@pytest.mark.parametrize("kind", KINDS_OF_COPY)
def test_a_copy_beside_its_original_is_a_duplicate(data, crops, kind):
    variant(crops[2], kind, data / "train" / "a" / "copy")
    (finding,) = check(data).findings
    assert finding.kind == ("exact_duplicate" if kind == "the same bytes" else "near_duplicate")


def test_copies_of_copies_are_one_group(data, crops):
    for kind in KINDS_OF_COPY:
        variant(crops[4], kind, data / "train" / "a" / f"copy {kind}")
    table = found(data)
    assert set(table) == {"exact_duplicate", "near_duplicate"} and len(table["near_duplicate"]) == 1
    assert len(table["near_duplicate"][0]) == 7


def test_different_pictures_are_no_duplicates(crops):
    from sklearn.datasets import load_digits

    scans = [np.repeat((image * 15.9).astype(np.uint8)[..., None], 3, 2) for image in load_digits().images]
    assert near_groups(np.stack([thumbnail(np.asarray(c)) for c in crops])) == []
    assert near_groups(np.stack([thumbnail(s) for s in scans])) == []


def test_the_groups_are_those_of_comparing_all_pairs():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (150, 4, 4, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    base[:50] = (base[:50] // 2 + base[:50, :, ::-1] // 2 + 1) // 4  # symmetric and dim
    width = rng.choice([1, 4, 8, 9, 12], 150)[:, None, None, None]  # some copies are near enough, some are not
    copies = np.clip(base + np.rint(rng.uniform(-1, 1, base.shape) * width), 0, 255).astype(np.uint8)
    copies[::2] = copies[::2, :, ::-1]
    thumbs = np.concatenate([base, copies])
    limit = np.minimum(MAX_RMS, MAX_SHARE * contrasts(thumbs))
    pairs = set()
    for i, one in enumerate(thumbs.astype(float)):
        for other in (thumbs[i + 1 :], thumbs[i + 1 :, :, ::-1]):
            rms = np.sqrt(((one - other) ** 2).mean(axis=(1, 2, 3)))
            pairs |= {(i, i + 1 + j) for j in np.flatnonzero(rms <= np.minimum(limit[i], limit[i + 1 :]))}
    assert 50 < len(pairs) < 140 and all(j == i + 150 for i, j in pairs)
    assert sorted(map(tuple, near_groups(thumbs))) == sorted(pairs)


def test_many_frames_of_a_still_camera_are_one_group():
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (16, 16, 3))
    frames = np.clip(scene + rng.integers(-2, 3, (1500, 16, 16, 3)), 0, 255).astype(np.uint8)
    assert near_groups(frames) == [list(range(1500))]


def test_pictures_of_one_colour_are_no_duplicates_of_each_other():
    plain = np.arange(40, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2).repeat(3, 3)
    assert near_groups(plain) == [] and near_groups(plain[:1]) == [] and near_groups(plain[:0]) == []


def test_the_clean_list_has_no_bad_and_no_double_pictures_and_keeps_those_of_the_test_split(data, crops, tmp_path):
    variant(crops[0], "the same bytes", data / "test" / "a" / "copy0")
    variant(crops[1], "mirrored", data / "train" / "a" / "copy1")
    variant(crops[2], "re-encoded", data / "train" / "b" / "copy2")
    (data / "train" / "a" / "text.jpg").write_text("x")
    result = run(data, "--clean", tmp_path / "clean.csv")
    assert result.exit_code == 3 and "19 pictures left, 4 double ones dropped" in result.stderr
    again = check(tmp_path / "clean.csv")
    assert again.good(strict=True) and again.pictures["train"] == {"a": 4, "b": 6} and again.pictures["test"]["a"] == 3


# ---- classes


def test_classes_that_differ_between_splits_are_told(data, crops):
    for place, picture in (("val/c", 20), ("train/one", 21)):
        (data / place).mkdir()
        crops[picture].save(data / place / "0.png")
    (data / "train" / "empty").mkdir()
    table = found(data)
    assert table == {
        "unknown_class": [("val/c",)],
        "missing_class": [("test/one",), ("val/one",)],
        "one_image": [("one",)],
        "empty_class": [("train/empty",)],
    }
    assert run(data).exit_code == 3


def test_classes_of_very_different_size_are_told_with_the_ratio(tmp_path):
    rng = np.random.default_rng(0)
    for label, n in (("many", 30), ("few", 3)):
        (tmp_path / label).mkdir()
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).save(tmp_path / label / f"{i}.png")
    report = check(tmp_path)
    assert report.imbalance == 10.0 and [f.kind for f in report.findings] == ["imbalance"]


def test_a_table_is_checked_with_its_missing_files_and_torn_groups(data):
    rows = [f"train/{c}/{i}.png,{c},train,p{i}" for c in "ab" for i in range(3)]
    rows += ["val/a/0.png,a,val,p1", "val/b/0.png,b,val,p7", "gone.png,a,val,p9"]
    (data / "list.csv").write_text("\n".join(["path,label,split,group", *rows]))
    assert found(data / "list.csv") == {"missing": [("gone.png",)], "group_leak": [()]}


def test_a_folder_that_is_no_data_set_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no class folders"):
        check(tmp_path)


def test_built_in_data_has_nothing_to_check():
    with pytest.raises(ConfigError, match="built in"):
        check("digits")


# ---- the report


def test_the_report_does_not_depend_on_the_number_of_threads(data, crops):
    for i in range(8):
        variant(crops[i], "mirrored", data / "val" / "a" / f"copy{i}")
        (data / "train" / "b" / f"bad{i}.jpg").write_text(str(i))
    one, four = check(data, threads=1), check(data, threads=4)
    assert one.findings == four.findings and len(one.findings) >= 16


def test_progress_counts_up_to_all_files(data):
    calls = []
    check(data, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (20, 20)


def test_the_json_has_a_stable_schema(data):
    (data / "train" / "a" / "text.jpg").write_text("x")
    result = run(data, "--json")
    value = json.loads(result.stdout)
    assert result.exit_code == 3 and value["schema"] == "foveate.data.gate.check/1"
    keys = "schema source good files pictures imbalance counts kinds findings wall_s summary refusal"
    assert list(value) == keys.split() and value["files"] == 21 and value["good"] is False
    assert value["counts"] == {"error": 1, "warning": 0, "info": 0}
    (finding,) = value["findings"]
    assert list(finding) == ["kind", "severity", "paths", "reason"] and finding["paths"] == ["train/a/text.jpg"]
    assert set(value["kinds"]["format"]) == {"severity", "title", "fix", "count"}


def test_the_text_shows_the_first_names_of_each_kind_or_all(data):
    for i in range(25):
        (data / "train" / "a" / f"text{i:02d}.jpg").write_text("x")
    short, whole = run(data).stdout, run(data, "--all").stdout
    assert "text19.jpg" in short and "text20.jpg" not in short and "and 5 more" in short and "text24.jpg" in whole
    assert "convert to JPEG" in short and "25 errors, 0 warnings" in short


NASTY = (
    "new\nline",
    "esc\x1b[31m",
    "caf\udce9",
    "\u202egnp",
    "=1+1",
    "-x",
    "com,ma",
    'quo"te',
    "<b>",
    "😀",
    "עברית",
    "\x9b2J",
    "c\r",
)


def test_every_form_of_the_report_is_safe_to_print_whatever_the_names(data, tmp_path):
    for name in NASTY:
        (data / "train" / "a" / f"{name}.jpg").write_text(name.encode("utf-8", "replace").decode())
    report = check(data)
    for text in (as_text(report, None), as_csv(report).replace("\r\n", "\n"), json.dumps(as_data(report), indent=1)):
        text.encode("utf-8")
        assert all(line.isprintable() for line in text.split("\n"))
    assert len(as_text(report, None).splitlines()) == 8 + len(NASTY)
    paths = {p for f in as_data(report)["findings"] for p in f["paths"]}
    assert paths == {f"train/a/{n}.jpg".replace("\udce9", "\\xe9") for n in NASTY}
    for row in csv.reader(io.StringIO(as_csv(report), newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)
    for suffix in (".json", ".csv", ".txt"):
        out = tmp_path / f"report{suffix}"
        assert run(data, "--out", out).exit_code == 3
        assert "text" not in out.read_text(encoding="utf-8")[:1] and len(out.read_bytes()) > 500


def test_a_name_that_is_a_formula_is_no_formula_in_the_csv(tmp_path):
    for i, label in enumerate(("=cmd", "@b")):
        (tmp_path / label).mkdir()
        (tmp_path / label / f"{i}.png").write_text("x")
    rows = list(csv.reader(io.StringIO(as_csv(check(tmp_path)))))
    assert rows[0] == ["kind", "severity", "path", "reason", "group"]
    assert {row[2] for row in rows[1:]} == {"'=cmd/0.png", "'@b/1.png", "", "'=cmd", "'@b"}


def test_every_kind_says_what_it_is_and_what_to_do():
    for kind, (severity, title, fix) in KINDS.items():
        assert severity in ("error", "warning", "info") and title and fix and kind == kind.lower()
