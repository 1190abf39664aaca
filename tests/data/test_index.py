"""The index against folders and tables as people really have them. Rows 17, 18, 19 and 21 of the reliability sheet."""

import os
import socket
import unicodedata

import numpy as np
import pytest
from PIL import Image

from foveate.data.gate.layout import read_folder
from foveate.data.index import changed, open_data
from foveate.errors import ConfigError, DataError
from foveate.files import write_text

ODD_NAMES = (
    "עברית.png",  # right to left
    "😀👩‍🚀.png",
    "new\nline.png",
    'quo"te.png',
    "com,ma.png",
    "-dash.png",
    " spaces .png",
    "=cmd|' C calc'!A0.png",
    "CON.png",
    "caf\udce9.png",  # a byte that is not UTF-8
    "<script>alert(1)<!-- .png",
    "x" * 240 + ".png",
)


def picture(path, seed=0, size=(12, 10)):
    """A PNG of noise; another seed gives other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def tree(root, counts, start=0):
    """counts: {"train/cat": 3} -> root/train/cat/0.png ..., every picture another one."""
    seed = start
    for folder, n in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            seed += 1
            picture(root / folder / f"{i}.png", seed)
    return root


def names(split, root):
    return [os.path.relpath(p, root) for p in split.paths]


# ---- layouts


def test_a_folder_of_splits_opens_with_classes_in_text_order(tmp_path):
    tree(
        tmp_path,
        {"train/dog": 2, "train/Zebra": 2, "train/cat": 2, "val/cat": 1, "val/dog": 1, "val/Zebra": 1, "test/cat": 1},
    )
    data = open_data(tmp_path)
    assert data.classes == ("Zebra", "cat", "dog")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 6, "val": 3, "test": 1}
    assert names(data.splits["val"], tmp_path) == ["val/Zebra/0.png", "val/cat/0.png", "val/dog/0.png"]
    assert data.splits["val"].labels == (0, 1, 2)


@pytest.mark.parametrize("name", ["val", "validation", "valid", "eval", "Val"])
def test_the_validation_folder_may_have_any_usual_name(tmp_path, name):
    tree(tmp_path, {"train/a": 2, "train/b": 2, f"{name}/a": 1, f"{name}/b": 1, "test/a": 1, "test/b": 1})
    assert len(open_data(tmp_path).splits["val"]) == 2


def test_two_names_of_the_same_split_are_refused(tmp_path):
    tree(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 1, "valid/b": 1})
    with pytest.raises(DataError, match="val and valid are the same split"):
        open_data(tmp_path)


def test_flat_class_folders_are_cut_with_the_seed(tmp_path):
    tree(tmp_path, {"a": 20, "b": 10})
    one, again, other = open_data(tmp_path), open_data(tmp_path), open_data(tmp_path, seed=1)
    assert {name: len(split) for name, split in one.splits.items()} == {"train": 24, "val": 3, "test": 3}
    assert one.splits["test"].paths == again.splits["test"].paths and one.fingerprint == again.fingerprint
    assert one.splits["test"].paths != other.splits["test"].paths and one.fingerprint != other.fingerprint
    assert any("seed 0" in note for note in one.notes)


def test_a_class_called_train_without_folders_in_it_is_a_class(tmp_path):
    tree(tmp_path, {"bus": 5, "train": 5})
    assert open_data(tmp_path).classes == ("bus", "train")


def test_a_missing_split_is_cut_from_train_and_a_given_one_is_kept(tmp_path):
    tree(tmp_path, {"train/a": 20, "train/b": 20, "test/a": 3, "test/b": 3})
    data = open_data(tmp_path, val=0.25)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 30, "val": 10, "test": 6}
    assert all("/train/" in path for path in data.splits["val"].paths)


def test_without_need_of_a_test_split_none_is_cut(tmp_path):
    tree(tmp_path, {"train/a": 10, "train/b": 10})
    assert set(open_data(tmp_path, need_test=False).splits) == {"train", "val"}


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ({}, "no class folders"),
        ({"test/a": 1, "a": 1}, "train/ is missing"),
        ({"train": 1, "val": 1}, "no class folders"),
        ({"photos/a": 1, "photos/b": 1}, "did you mean .*photos"),
        ({"train/a": 2}, "one class"),
        ({"train/a": 0, "train/b": 0}, "no pictures"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused_in_one_line(tmp_path, folders, said):
    tree(tmp_path, folders)
    with pytest.raises(DataError, match=said) as error:
        open_data(tmp_path)
    assert "\n" not in str(error.value) and error.value.exit_code == 3


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    write_text(tmp_path / "data.zip", "PK")
    with pytest.raises(DataError, match="unpack"):
        open_data(tmp_path / "data.zip")
    with pytest.raises(DataError, match="no such folder"):
        open_data(tmp_path / "nowhere")


@pytest.mark.parametrize("shares", [{"val": -0.1}, {"val": 0.95}, {"val": 0.6, "test": 0.6}, {"bad_files": "drop"}])
def test_shares_and_rules_outside_their_range_are_config_errors(tmp_path, shares):
    with pytest.raises(ConfigError):
        open_data(tmp_path, **shares)


# ---- classes (row 18)


def test_splits_are_mapped_by_name_not_by_position(tmp_path):
    tree(tmp_path, {"train/a": 2, "train/b": 2, "train/c": 2, "val/c": 1, "test/b": 1})
    data = open_data(tmp_path)
    assert data.splits["val"].labels == (2,) and data.splits["test"].labels == (1,)
    assert any('"a" has no picture in val' in note for note in data.notes)


def test_a_class_that_only_val_has_is_refused_by_name_with_the_near_one(tmp_path):
    tree(tmp_path, {"train/cat": 2, "train/dog": 2, "val/cat": 1, "val/dgo": 1})
    with pytest.raises(DataError, match=r'val has the class "dgo".*did you mean dog'):
        open_data(tmp_path)


def test_an_empty_class_folder_in_train_is_left_out_with_a_note(tmp_path):
    tree(tmp_path, {"train/a": 5, "train/b": 5, "train/empty": 0, "val/a": 1, "val/b": 1, "test/a": 1, "test/b": 1})
    data = open_data(tmp_path)
    assert data.classes == ("a", "b") and any("train/empty" in note for note in data.notes)


def test_a_class_that_is_empty_in_train_but_full_in_val_is_refused(tmp_path):
    tree(tmp_path, {"train/a": 2, "train/b": 2, "train/c": 0, "val/c": 1})
    with pytest.raises(DataError, match='"c"'):
        open_data(tmp_path)


def test_a_class_of_one_picture_stays_in_train_with_a_note(tmp_path):
    tree(tmp_path, {"a": 10, "b": 10, "rare": 1})
    data = open_data(tmp_path)
    assert [data.splits[s].labels.count(2) for s in ("train", "val", "test")] == [1, 0, 0]
    assert any('"rare" has one picture' in note for note in data.notes)


def test_classes_that_are_too_small_to_be_cut_are_refused(tmp_path):
    tree(tmp_path, {"a": 1, "b": 1})
    with pytest.raises(DataError, match="too few"):
        open_data(tmp_path)


def test_hidden_and_system_files_are_ignored(tmp_path):
    tree(
        tmp_path,
        {"train/a": 3, "train/b": 3, "train/.hidden": 2, "__MACOSX/train/a": 2, ".git/x": 1, "train/@eaDir": 1},
    )
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", ".x.png"):
        write_text(tmp_path / "train" / "a" / name, "x")
    data = open_data(tmp_path, val=0, test=0)
    assert data.classes == ("a", "b") and len(data.splits["train"]) == 6
    assert data.notes == ("hidden and system files, ignored: .git, __MACOSX, train/.hidden and 6 more",)


# ---- links, special files (row 17)


def test_every_file_is_counted_once_and_nothing_special_is_opened(tmp_path):
    root, outside = tmp_path / "data", tmp_path / "outside"
    tree(root, {"a": 4, "b": 4})
    picture(outside / "secret.png", 99)
    (root / "a" / "loop").symlink_to(root / "a", target_is_directory=True)
    (root / "b" / "up").symlink_to("..", target_is_directory=True)
    (root / "a" / "self").symlink_to("self")
    (root / "a" / "out.png").symlink_to(outside / "secret.png")
    (root / "b" / "outdir").symlink_to(outside, target_is_directory=True)
    (root / "a" / "twin.png").symlink_to("0.png")
    (root / "a" / "gone.png").symlink_to("nowhere.png")
    os.link(root / "a" / "1.png", root / "a" / "hard.png")
    os.mkfifo(root / "a" / "pipe.png")
    (root / "b" / "null.png").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(root / "b" / "door.png"))
        listing = read_folder(root)
        for link in ("a/out.png", "b/outdir"):  # they stop training
            (root / link).unlink()
        data = open_data(root, val=0, test=0, bad_files="skip")  # would hang for ever on the FIFO if it were opened
    assert names(data.splits["train"], root) == [f"{c}/{i}.png" for c in "ab" for i in range(4)]
    found = sorted((n.kind, os.path.relpath(n.path, root)) for n in listing.notices)
    assert found == [
        ("loop", "a/loop"),
        ("loop", "a/self"),
        ("loop", "b/up"),
        ("outside", "a/out.png"),
        ("outside", "b/outdir"),
        ("same_file", "a/hard.png"),
        ("same_file", "a/twin.png"),
        ("special", "a/pipe.png"),
        ("special", "b/door.png"),
        ("special", "b/null.png"),
    ]
    assert [os.path.relpath(path, root) for path, _ in listing.missing] == ["a/gone.png"]
    assert len(data.notes) == 4  # the bad file, and one line for each kind


def test_a_loop_of_links_between_two_folders_ends(tmp_path):
    tree(tmp_path, {"a": 20, "b": 20})
    (tmp_path / "a" / "b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "a").symlink_to(tmp_path / "a")
    assert len(read_folder(tmp_path).items) == 40  # ImageFolder finds 1,640 where a link leads to its own folder


def test_links_into_a_pool_inside_the_folder_are_followed(tmp_path):
    tree(tmp_path, {"pool": 6, "train/a": 0, "train/b": 0})
    for i in range(6):
        (tmp_path / "train" / "ab"[i % 2] / f"{i}.png").symlink_to(tmp_path / "pool" / f"{i}.png")
    (tmp_path / "train" / "c").symlink_to(tmp_path / ".store", target_is_directory=True)
    tree(tmp_path, {".store": 2}, start=50)
    data = open_data(tmp_path, val=0, test=0)
    assert data.classes == ("a", "b", "c") and len(data.splits["train"]) == 8


def test_a_train_folder_that_is_a_link_to_outside_is_told(tmp_path):
    tree(tmp_path / "disk", {"a": 2, "b": 2})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(tmp_path / "disk", target_is_directory=True)
    with pytest.raises(DataError, match=r"1 link leads outside the folder \(train; .*--follow-links"):
        open_data(tmp_path / "data")


def test_the_same_file_in_two_splits_by_hard_link_counts_once_and_is_told_as_a_leak(tmp_path):
    tree(tmp_path, {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
    os.link(tmp_path / "train/a/0.png", tmp_path / "val/a/copy.png")
    data = open_data(tmp_path, test=0)
    assert len(data.splits["val"]) == 2 and any("two splits: val/a/copy.png" in note for note in data.notes)


def test_ten_levels_and_long_names_belong_to_the_first_folder(tmp_path):
    deep = "/".join(f"{i}" * 100 for i in range(10))
    tree(tmp_path, {f"a/{deep}": 3, "b": 3})
    data = open_data(tmp_path, val=0, test=0)
    assert data.classes == ("a", "b") and len(data.splits["train"]) == 6
    assert all(np.asarray(Image.open(path)).size for path in data.splits["train"].paths)


def test_a_folder_that_can_not_be_read_is_an_error_that_names_it(tmp_path, monkeypatch):
    tree(tmp_path, {"a": 2, "b": 2, "b/locked": 1})
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"locked: .*permission denied"):
        open_data(tmp_path)


# ---- names (row 19)


def test_odd_file_and_class_names_are_plain_names(tmp_path):
    for i, name in enumerate(ODD_NAMES):
        picture(tmp_path / "a" / name, i)
        picture(tmp_path / name.removesuffix(".png") / "0.png", 100 + i)
    data = open_data(tmp_path, val=0, test=0)
    assert set(data.classes) == {"a", *(n.removesuffix(".png") for n in ODD_NAMES)}
    assert {os.path.basename(p) for p in data.splits["train"].paths if "/a/" in p} == set(ODD_NAMES)
    for note in data.notes:
        note.encode("utf-8")
        assert note.isprintable()


def test_class_names_that_look_the_same_are_refused_with_both_spellings(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    tree(tmp_path, {f"train/{composed}": 2, "train/b": 2, f"val/{decomposed}": 1})
    with pytest.raises(DataError, match=r"'cafe\\u0301' and 'caf\\xe9' look the same"):
        open_data(tmp_path)


def test_class_names_that_differ_in_case_only_are_told(tmp_path):
    tree(tmp_path, {"Cat": 3, "cat": 3})
    data = open_data(tmp_path, val=0, test=0)
    assert data.classes == ("Cat", "cat") and any("differ in case only" in note for note in data.notes)


def test_an_error_about_an_odd_name_is_one_printable_line(tmp_path):
    tree(tmp_path, {"train/a": 2, "train/b": 2, "val/new\nline\x1b[31m\u202e\udcff": 1})
    with pytest.raises(DataError) as error:
        open_data(tmp_path)
    assert str(error.value).isprintable() and "new\\nline\\x1b[31m\\u202e\\xff" in str(error.value)


# ---- files that are no pictures


def bad_tree(root):
    tree(root, {"a": 4, "b": 4})
    write_text(root / "a" / "text.jpg", "no picture")
    (root / "b" / "zero.png").touch()
    (root / "a" / "cut.png").write_bytes((root / "a" / "0.png").read_bytes()[:20])
    write_text(root / "b" / "phone.HEIC", "????ftypheic")
    return root


def test_bad_files_stop_with_their_names_and_how_to_go_on(tmp_path):
    with pytest.raises(DataError) as error:
        open_data(bad_tree(tmp_path))
    text = str(error.value)
    assert "\n" not in text and text.startswith(
        "4 of 12 files can not be used: a/cut.png (truncated); a/text.jpg (format); "
    )
    assert "and 1 more" in text and "--bad-files skip" in text and f"foveate data check {tmp_path}" in text


def test_bad_files_are_left_out_and_listed_when_asked(tmp_path):
    data = open_data(bad_tree(tmp_path), val=0, test=0, bad_files="skip")
    assert len(data.splits["train"]) == 8
    assert [(os.path.relpath(p, tmp_path), r.split(":")[0]) for p, r in data.left_out] == [
        ("a/cut.png", "truncated"),
        ("a/text.jpg", "format"),
        ("b/phone.HEIC", "format"),
        ("b/zero.png", "empty"),
    ]
    assert any("4 bad files left out" in note for note in data.notes)


def test_files_that_claim_nothing_are_ignored_and_counted_but_a_picture_needs_no_extension(tmp_path):
    tree(tmp_path, {"a": 2, "b": 2})
    for name in ("notes.txt", "labels.json", "empty.md"):
        write_text(tmp_path / "a" / name, "" if name == "empty.md" else "x")
    (tmp_path / "b" / "0.png").rename(tmp_path / "b" / "0a1b2c")
    data = open_data(tmp_path, val=0, test=0)
    assert len(data.splits["train"]) == 4 and "3 files that are no pictures ignored" in data.notes


def test_above_the_header_limit_headers_are_not_read_but_empty_files_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.data.gate.screen.HEADER_LIMIT", 3)
    monkeypatch.setattr("foveate.data.index.HEADER_LIMIT", 3)
    tree(tmp_path, {"a": 4, "b": 4})
    write_text(tmp_path / "a" / "text.jpg", "no picture")
    write_text(tmp_path / "a" / "readme", "no picture")
    data = open_data(tmp_path, val=0, test=0)
    assert len(data.splits["train"]) == 9 and any("headers not read" in note for note in data.notes)
    (tmp_path / "a" / "zero.png").touch()
    with pytest.raises(DataError, match=r"zero.png"):
        open_data(tmp_path)


# ---- tables


def table(tmp_path, text, counts=None):
    tree(tmp_path, counts or {"x": 6})
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_table_opens_with_paths_relative_to_its_folder(tmp_path):
    rows = "\n".join(f"x/{i}.png,{'cat' if i % 2 else 'dog'},{'train' if i < 4 else 'valid'}" for i in range(6))
    data = open_data(table(tmp_path, "\ufeffPath,Label,split\n" + rows), test=0)
    assert data.classes == ("cat", "dog") and data.root == str(tmp_path) and data.name == "list"
    assert names(data.splits["val"], tmp_path) == ["x/4.png", "x/5.png"] and data.splits["val"].labels == (1, 0)


def test_a_table_without_splits_is_cut_with_its_groups_together(tmp_path):
    rows = "\n".join(f"x/{i}.png,{'cat' if i % 2 else 'dog'},p{i // 4}" for i in range(40))
    data = open_data(table(tmp_path, "path,label,group\n" + rows, {"x": 40}), val=0.2, test=0.2)
    groups = {name: set(split.groups) for name, split in data.splits.items()}
    assert all(len(g) for g in groups.values()) and sum(map(len, groups.values())) == 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'no column "path"'),
        ("path\nx/0.png", 'no column "label"'),
        ("path:label\nx/0.png:a", "line 1 has: path:label"),
        ("path,label,label\nx/0.png,a,b", "two columns"),
        ("path,label,split\nx/0.png,a,trian", 'line 2: unknown split "trian"; did you mean train'),
        ("path,label,split\nx/0.png,a,train\nx/1.png,b,", "line 3: no split, but line 2"),
        ("path,label\nx/0.png,a\nx/1.png,b\nx/../x/0.png,b", "line 4: .*line 2 too"),
        ("path,label\nx/0.png,a\nx/1.png", "line 3: 1 cells; expected 2"),
        ("path,label\nx/0.png,", "line 2: the label is empty"),
        (",label\n,a", 'no column "path"'),
        ("path,label\nx/0.png,a\nx/9.png,b\nx/1.png,b", r"missing"),
        ('path,label\n"x/0.png,a', "not CSV"),
        (b"path,label\nx/0.png,a\x00b\nx/1.png\x00,b", "line 2: a NUL byte"),
        ("path,label\nx/0.png,a\nx,b", "missing"),
    ],
)
def test_a_faulty_table_is_refused_in_one_line(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as error:
        open_data(table(tmp_path, text))
    assert "\n" not in str(error.value)


def test_missing_files_of_a_table_are_named_with_their_lines_and_can_be_left_out(tmp_path):
    text = "path,label\n" + "\n".join(f"x/{i}.png,{'ab'[i % 2]}" for i in range(7))
    path = table(tmp_path, text)
    with pytest.raises(DataError, match=r"1 of 7 files can not be used: x/6.png \(missing\)"):
        open_data(path)
    data = open_data(path, val=0, test=0, bad_files="skip")
    assert data.left_out == ((str(tmp_path / "x" / "6.png"), "missing: line 8: no such file"),)


def test_a_row_that_is_no_picture_is_a_bad_file_whatever_its_name(tmp_path):
    write_text(tmp_path / "notes.txt", "x")
    with pytest.raises(DataError, match=r"notes.txt"):
        open_data(table(tmp_path, "path,label\nx/0.png,a\nx/1.png,b\nnotes.txt,b"))


def test_a_fifo_in_a_table_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe.png"):
        open_data(table(tmp_path, "path,label\nx/0.png,a\nx/1.png,b\npipe.png,b"))


# ---- built-in data


def test_digits_are_the_scans_of_scikit_learn_stratified_with_the_seed():
    from sklearn.datasets import load_digits

    data, source = open_data("digits", seed=3), load_digits()
    assert data.classes == tuple("0123456789") and data.left_out == ()
    assert sum(map(len, data.splits.values())) == 1797 and abs(len(data.splits["test"]) - 180) <= 5
    seen = []
    for split in data.splits.values():
        assert split.pixels.shape == (len(split), 8, 8, 3) and split.pixels.dtype == np.uint8
        index = [int(path.removeprefix("digits/")) for path in split.paths]
        seen += index
        assert np.array_equal(source.target[index], split.labels)
        assert np.abs(split.pixels[..., 1] - source.images[index] * 255 / 16).max() <= 0.5
        share = np.bincount(split.labels, minlength=10) / len(split)
        assert np.abs(share - np.bincount(source.target) / 1797).max() < 0.01
    assert sorted(seen) == list(range(1797))
    assert open_data("digits", seed=3).fingerprint == data.fingerprint != open_data("digits", seed=4).fingerprint


# ---- changes (row 21)


def test_a_file_that_was_removed_or_changed_after_indexing_is_named(tmp_path):
    tree(tmp_path, {"a": 4, "b": 4})
    data = open_data(tmp_path, val=0, test=0)
    train = data.splits["train"]
    assert changed(train) == []
    (tmp_path / "a" / "1.png").unlink()
    picture(tmp_path / "b" / "2.png", 77, size=(13, 10))
    os.utime(tmp_path / "b" / "3.png", ns=(1, 1))
    assert changed(train) == [(train.paths[1], "gone"), (train.paths[6], "changed"), (train.paths[7], "changed")]
    assert changed(train, [0, 1]) == [(train.paths[1], "gone")]


def test_an_added_file_gives_another_fingerprint_and_another_place_does_not(tmp_path):
    tree(tmp_path / "one", {"a": 6, "b": 6})
    before = open_data(tmp_path / "one").fingerprint
    (tmp_path / "one").rename(tmp_path / "two")
    assert open_data(tmp_path / "two").fingerprint == before
    picture(tmp_path / "two" / "a" / "new.png", 99)
    assert open_data(tmp_path / "two").fingerprint != before
