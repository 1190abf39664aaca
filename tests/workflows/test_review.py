"""data review and data diff: planted faults are found, lists are written as decided, no picture is touched."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from foveate.cli import main
from foveate.data.index import open_data

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200)}


def draw(seed: int, colour: tuple[int, int, int]) -> Image.Image:
    """A picture of a colour with a pattern of its own, 96 x 72."""
    rng = np.random.default_rng(seed)
    total = np.zeros((72, 96, 3))
    for cells in (4, 9, 18, 36):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(noise.resize((96, 72), Image.Resampling.BICUBIC), float) - 127
    return Image.fromarray(np.clip(np.array(colour) + total * 0.35, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Three colours, 12 train and 4 test each; a red one among the blue, a cropped and a mirrored copy, a dark one."""
    root = tmp_path_factory.mktemp("data") / "photos"
    seed = 0
    for split, n in (("train", 12), ("test", 4)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                draw(seed := seed + 1, colour).save(root / split / name / f"{i:02d}.png")
    draw(1000, COLOURS["red"]).save(root / "train" / "blue" / "wrong.png")
    with Image.open(root / "test" / "green" / "02.png") as image:
        image.crop((3, 3, 93, 69)).save(root / "train" / "green" / "leak.png")
    with Image.open(root / "train" / "red" / "05.png") as image:
        ImageOps.mirror(image).save(root / "train" / "red" / "mirrored.png")
    Image.fromarray(np.full((72, 96, 3), 3, np.uint8)).save(root / "train" / "green" / "dark.png")
    (root / "train" / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    return root


def state(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def reviewed(photos: Path, tmp_path_factory, request) -> tuple[dict, Path]:
    """(what --json says, the folder). Outlines judge: no weights are looked for."""
    patch = pytest.MonkeyPatch()
    patch.setattr("foveate.workflows.review.features.LITE", "resnet18")  # which has no such weights
    request.addfinalizer(patch.undo)
    from foveate.workflows.review.run import review

    before = state(photos)
    out = tmp_path_factory.mktemp("out") / "review"
    found = review(photos, out=out)
    assert state(photos) == before
    return json.loads((out / "review.json").read_text()) | {"folder": found["folder"]}, out


def test_planted_faults_are_found(reviewed):
    found, _ = reviewed
    first = found["suspects"][0]
    assert first["path"] == "train/blue/wrong.png"
    assert (first["label"], first["suggested"]) == ("blue", "red")
    scores = [row["score"] for row in found["suspects"]]
    assert scores == sorted(scores, reverse=True)
    assert ["test/green/02.png", "train/green/leak.png"] in [sorted(row["paths"]) for row in found["leaks"]]
    pairs = [sorted(row["paths"]) for row in found["near_duplicates"]]
    assert ["train/red/05.png", "train/red/mirrored.png"] in pairs
    assert all(0 < row["similarity"] <= 1 for row in found["near_duplicates"])
    assert {"path": "train/green/dark.png", "kind": "dark"}.items() <= next(
        row for row in found["outliers"] if row["kind"] == "dark"
    ).items()
    assert [row["path"] for row in found["left_out"]] == ["train/red/broken.png"]
    assert found["pictures"] == 52
    assert found["fingerprint"]


def test_what_to_label_next_leaves_out_what_is_doubtful(reviewed):
    found, _ = reviewed
    names = [row["path"] for row in found["next_to_label"]]
    assert names
    assert not {"train/blue/wrong.png", "train/green/dark.png", "train/red/mirrored.png"} & set(names)
    assert all(len(row["between"]) == 2 for row in found["next_to_label"])


def test_the_page_is_one_file_without_addresses_or_places_of_this_machine(reviewed, photos: Path):
    _, out = reviewed
    page = (out / "review.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert str(photos) not in page
    assert "train/blue/wrong.png" in page
    assert page.count("<img") >= 5
    assert page.count("<select") == page.count('aria-label="Decision for')
    assert str(photos) not in (out / "review.json").read_text()


def test_tables_open_in_a_spreadsheet(reviewed):
    found, out = reviewed
    rows = list(csv.DictReader((out / "suspects.csv").read_text("utf-8").splitlines()))
    assert [row["path"] for row in rows] == [row["path"] for row in found["suspects"]]
    assert {"outliers.csv", "near_duplicates.csv", "next_to_label.csv", "decisions.csv"} <= {
        p.name for p in out.iterdir()
    }


def test_decisions_make_a_new_list_and_touch_no_picture(photos: Path, tmp_path: Path, capsys):
    before = state(photos)
    decisions = tmp_path / "decisions.csv"
    decisions.write_text(
        "path,label,suggested,decision\ntrain/blue/wrong.png,blue,red,relabel\ntrain/green/dark.png,green,red,drop\n"
        "train/red/00.png,red,blue,keep\ntrain/red/01.png,red,blue,\n"
    )
    new = tmp_path / "new.csv"
    assert main(["data", "review", str(photos), "--apply", str(decisions), "--clean", str(new), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["done"] == {"keep": 1, "relabel": 1, "drop": 1}
    assert state(photos) == before
    held = {
        Path(path).name: dataset.classes[split.labels[i]]
        for dataset in [open_data(new)]
        for split in dataset.splits.values()
        for i, path in enumerate(split.paths)
    }
    assert held["wrong.png"] == "red"
    assert "dark.png" not in held
    assert main(["data", "diff", str(photos), str(new), "--json"]) == 0
    changed = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in changed["removed"]] == ["train/green/dark.png"]
    assert [(row["path"], row["was"], row["to"]) for row in changed["relabelled"]] == [
        ("train/blue/wrong.png", "blue", "red")
    ]
    assert changed["added"] == changed["changed"] == changed["renamed"] == []
    assert changed["a"]["fingerprint"] != changed["b"]["fingerprint"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("path,decision\ntrain/red/00.png,burn\n", 3, "line 2"),
        ("path,decision\nnowhere.png,drop\n", 3, "nowhere.png"),
        ("path,decision\ntrain/red/00.png,relabel\n", 3, "new_label"),
        ("name,what\na,b\n", 3, "path,label,suggested,decision"),
        ("path,label,suggested,decision\ntrain/red/00.png,red,blue,\n", 3, "no row has a decision"),
        (None, 2, "no such file"),
    ],
)
def test_decisions_that_can_not_be_obeyed_are_one_line(photos, tmp_path, capsys, text, code, said):
    file = tmp_path / "decisions.csv"
    if text is not None:
        file.write_text(text)
    assert main(["data", "review", str(photos), "--apply", str(file), "--clean", str(tmp_path / "n.csv")]) == code
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not (tmp_path / "n.csv").exists()


def test_a_clean_list_keeps_one_of_each_set_that_in_test_first(reviewed, photos: Path):
    from foveate.workflows.review.lists import without_copies
    from foveate.workflows.review.look import hold

    items, gone = without_copies(hold(photos), reviewed[0]["near_duplicates"])
    assert gone == ["train/green/leak.png", "train/red/mirrored.png"]
    assert len(items) == 50


def test_five_pictures_are_reviewed_and_what_can_not_be_said_is(tmp_path: Path, capsys):
    for i, name in enumerate(("a", "a", "a", "b", "b")):
        (tmp_path / "few" / name).mkdir(parents=True, exist_ok=True)
        draw(i, COLOURS["red" if name == "a" else "blue"]).resize((40, 30)).save(tmp_path / "few" / name / f"{i}.png")
    assert main(["data", "review", str(tmp_path / "few"), "--out", str(tmp_path / "o"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pictures"] == 5
    assert found["outliers"] == []
    assert any("5 pictures say little" in line for line in found["can_not_say"])
    assert any("one label a picture" in line for line in found["can_not_say"])
    assert {"suspects", "near_duplicates", "outliers", "next_to_label"} <= set(found)


def test_refusals_have_their_exit_codes(tmp_path: Path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    assert main(["data", "review", str(tmp_path / "empty")]) == 3
    assert main(["data", "review", str(tmp_path / "none")]) == 3
    assert main(["data", "review", "digits", "--out", str(tmp_path / "full")]) == 2
    assert main(["data", "review", "digits", "--clean", str(tmp_path / "d.csv")]) == 2
    assert main(["data", "review", "clothes", "--clean", str(tmp_path / "d.txt")]) == 2
    assert main(["data", "review", "clothes", "--model", str(tmp_path / "none")]) == 2
    assert main(["data", "review", "clothes", "--apply", str(tmp_path / "x.csv")]) == 2
    assert not (tmp_path / "runs").exists()
    assert all(line.startswith("error: ") for line in capsys.readouterr().err.splitlines())


def test_diff_tells_what_was_added_renamed_changed_and_relabelled(tmp_path: Path, capsys):
    old, new = tmp_path / "old", tmp_path / "new"
    for root in (old, new):
        for name in ("a", "b"):
            (root / name).mkdir(parents=True)
            for i in range(4):
                draw(10 * (name == "b") + i, COLOURS["red"]).resize((32, 24)).save(root / name / f"{i}.png")
    (new / "a" / "3.png").rename(new / "b" / "moved.png")
    (new / "b" / "0.png").rename(new / "b" / "zero.png")
    draw(99, COLOURS["blue"]).save(new / "b" / "1.png")
    draw(77, COLOURS["green"]).save(new / "a" / "added.png")
    (new / "b" / "2.png").unlink()
    assert main(["data", "diff", str(old), str(new), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in found["added"]] == ["a/added.png"]
    assert [row["path"] for row in found["removed"]] == ["b/2.png"]
    assert [(row["from"], row["path"], row["was"], row["to"]) for row in found["relabelled"]] == [
        ("a/3.png", "b/moved.png", "a", "b")
    ]
    assert [(row["from"], row["path"]) for row in found["renamed"]] == [("b/0.png", "b/zero.png")]
    assert [row["path"] for row in found["changed"]] == ["b/1.png"]
    assert found["unchanged"] == 4
    assert found["same"] is False
    assert main(["data", "diff", str(old), str(old)]) == 0
    assert "the same 8 pictures" in capsys.readouterr().out


def test_diff_knows_what_a_run_has_seen(tmp_path: Path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    for name in ("a", "b"):
        (data / name).mkdir(parents=True)
        for i in range(20):
            draw(i, COLOURS["red"]).resize((16, 12)).save(data / name / f"{name}{i}.png")
    run.mkdir()
    seen = open_data(data, seed=3)
    recipe = {"data": str(data), "recipe": {"seed": 3}, "fingerprint": seen.fingerprint}
    (run / "recipe.json").write_text(json.dumps(recipe))
    assert main(["data", "diff", str(run), str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] is True
    draw(50, COLOURS["blue"]).save(data / "a" / "more.png")
    assert main(["data", "diff", str(run), str(data), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["a"]["fingerprint"] == seen.fingerprint
    assert "has changed since this run" in said.err
