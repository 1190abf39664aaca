"""Links that lead out of the data: they stop training with their names, or are followed when asked."""

import os

import pytest
from folders import grow, picture_bytes, question

from foveate.data.gate.check import check
from foveate.data.gate.layout import read_folder
from foveate.data.gate.walk import pictures_below
from foveate.data.index import open_data
from foveate.errors import DataError


@pytest.fixture
def store(tmp_path):
    """Pictures of three classes outside of the data."""
    return grow(tmp_path / "store", "ant:4", "bee:4", "cat:4")


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def counted(root, **options):
    """class -> pictures with --follow-links."""
    data = open_data(root, val=0, test=0, follow_links=True, **options)
    train = data.splits["train"]
    return {name: train.labels.count(i) for i, name in enumerate(data.classes)}


def test_links_to_files_stop_with_their_names_and_are_taken_when_asked(tmp_path, store):
    root = tmp_path / "data"
    for name in ("ant", "bee", "cat"):
        for i in range(4):
            link(root / name / f"{i}.png", f"../../store/{name}/{i}.png")
    line = question(root)
    assert line.startswith("X: 12 links lead outside the folder (ant/0.png, ant/1.png, ant/2.png and 9 more; the first")
    assert str(store / "ant" / "0.png") in line and "--follow-links" in line
    report = check(root)
    assert report.refusal.replace(str(root), "X") == line and report.count("error") >= 12 and not report.good()
    assert counted(root) == {"ant": 4, "bee": 4, "cat": 4}
    assert check(root, follow_links=True).refusal is None


@pytest.mark.parametrize(
    ("own", "lost"),
    [
        (("ant:4", "bee:4"), "cat"),
        (("train/ant:4", "train/bee:4"), "train/cat"),
        (("train/ant:4", "train/bee:4", "train/cat:1"), "val"),
        (("train/ant:4", "train/bee:4"), "Testing"),
        (("test/ant:4", "test/bee:4"), "train"),
        (("ant:4", "bee:4"), "bee/more"),
        (("train/ant:4", "train/bee:4", "val/ant:1"), "val/bee"),
    ],
)
def test_one_folder_that_is_a_link_stops_the_whole(tmp_path, store, own, lost):
    root = grow(tmp_path / "data", *own)
    link(root / lost, store / "cat" if lost.count("/") or lost == "cat" else store)
    assert question(root).startswith(f"X: 1 link leads outside the folder ({lost}; it leads to {store}")
    assert "--follow-links" in question(root)
    taken = read_folder(root, follow_links=True)
    assert any(item.path.startswith(str(root / lost)) for item in taken.items) and not taken.missing


def test_a_link_that_is_no_data_stops_nothing(tmp_path, store):
    root = grow(tmp_path / "data", "train/ant:4", "train/bee:4", "test/ant:1", "test/bee:1")
    grow(tmp_path, "notes.txt")
    link(root / "models", store)
    link(root / "readme.txt", tmp_path / "notes.txt")
    link(root / "train" / "ant" / "readme.txt", tmp_path / "notes.txt")
    link(root / "train" / "ant" / "gone.txt", "nowhere.txt")
    data = open_data(root, val=0)
    assert len(data.splits["train"]) == 8 and any("outside the classes" in note for note in data.notes)


@pytest.mark.parametrize("follow", [False, True])
def test_devices_and_loops_stay_refused(tmp_path, follow):
    root = grow(tmp_path / "data", "ant:2", "bee:2")
    link(root / "ant" / "zero.png", "/dev/zero")
    link(root / "ant" / "round.png", "round.png")
    link(root / "bee" / "up", tmp_path)  # holds the data
    link(root / "bee" / "all", "/")
    os.mkfifo(tmp_path / "pipe")
    link(root / "bee" / "pipe.png", tmp_path / "pipe")
    data = open_data(root, val=0, test=0, follow_links=follow)
    kinds = sorted(n.kind for n in read_folder(root, follow).notices)
    assert len(data.splits["train"]) == 4 and kinds == ["loop", "loop", "loop", "special", "special"]


def test_two_outside_folders_that_link_to_each_other_end(tmp_path):
    root = grow(tmp_path / "data", "ant:2", "bee:2")
    grow(tmp_path / "one", "x:3")
    link(root / "ant" / "one", tmp_path / "one")
    link(tmp_path / "one" / "two", tmp_path / "two")
    grow(tmp_path / "two", "y:1")
    link(tmp_path / "two" / "one", tmp_path / "one")
    link(tmp_path / "two" / "data", root)
    assert len(read_folder(root, follow_links=True).items) == 2 + 2 + 3 + 1


def test_a_file_counts_once_by_whatever_links(tmp_path, store):
    root = grow(tmp_path / "data", "bee:2")
    for name in ("one.png", "two.png"):
        link(root / "ant" / name, store / "ant" / "0.png")
    link(root / "ant" / "three.png", store / "ant" / "3.png")
    os.link(store / "ant" / "3.png", root / "ant" / "hard.png")
    assert counted(root) == {"ant": 2, "bee": 2}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("../.git/annex/objects/ab/SHA256E-s1--ab.png", "git annex get"),
        ("../.dvc/cache/files/md5/ab/cd", "dvc pull"),
        ("/gone/1.png", "which is not there"),
    ],
)
def test_a_picture_whose_link_leads_nowhere_is_a_bad_file(tmp_path, target, said):
    root = grow(tmp_path / "data", "ant:3", "bee:3")
    link(root / "ant" / "lost.png", target)
    assert "1 of 7 files can not be used: ant/lost.png (broken_link)" in question(root)
    (finding,) = check(root).findings
    assert finding.kind == "broken_link" and finding.severity == "error" and said in finding.reason
    data = open_data(root, val=0, test=0, bad_files="skip")
    assert [path for path, _ in data.left_out] == [str(root / "ant" / "lost.png")]


def cache(tmp_path, kind):
    """A data folder whose pictures are links into a cache, as three tools make them: (folder, where they lead)."""
    root = tmp_path / "repo" / "data"
    for number, (name, i) in enumerate((n, i) for n in ("ant", "bee") for i in range(3)):
        key = f"{number:02x}{'ab' * 15}"
        places = {
            "dvc": (root / name / f"{i}.png", tmp_path / "repo/.dvc/cache/files/md5" / key[:2] / key[2:]),
            "annex": (
                root / name / f"{i}.png",
                tmp_path / f"repo/.git/annex/objects/{key[:3]}/{key}/SHA256E-{key}.png",
            ),
            "hub": (tmp_path / f"hub/snapshots/1a2b/{name}/{i}.png", tmp_path / "hub" / "blobs" / key),
        }
        path, target = places[kind]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture_bytes(number))
        link(path, os.path.relpath(target, path.parent))
    return tmp_path / "hub/snapshots/1a2b" if kind == "hub" else root


@pytest.mark.parametrize("kind", ["dvc", "annex", "hub"])
def test_caches_that_are_made_of_links_are_taken_when_asked(tmp_path, kind):
    root = cache(tmp_path, kind)
    assert "6 links lead outside the folder" in question(root)
    assert counted(root) == {"ant": 3, "bee": 3}
    assert len(pictures_below(root, follow_links=True).items) == 6


def test_the_folder_of_a_hubs_cache_is_a_question(tmp_path):
    cache(tmp_path, "hub")
    assert "did you mean X/snapshots/1a2b with --follow-links?" in question(tmp_path / "hub")


def test_links_that_were_saved_as_text_stop_too(tmp_path, store):
    root = grow(tmp_path / "data", "ant:3", "bee:3")
    (root / "cat").write_text("../store/cat")
    assert "cat: a link to ../store/cat that was saved as text" in question(root)
    assert check(root).count("error") == 1
    (root / "cat").write_text("../store/nobody")
    assert open_data(root, val=0, test=0).classes == ("ant", "bee")


def test_the_fingerprint_does_not_depend_on_where_links_lead(tmp_path, store):
    root = tmp_path / "data"
    for name in ("ant", "bee"):
        link(root / name, store / name)
    first = open_data(root, follow_links=True).fingerprint
    store.rename(tmp_path / "elsewhere")
    for name in ("ant", "bee"):
        (root / name).unlink()
        link(root / name, tmp_path / "elsewhere" / name)
    assert open_data(root, follow_links=True).fingerprint == first
    with pytest.raises(DataError, match="2 links lead outside"):
        open_data(root)
