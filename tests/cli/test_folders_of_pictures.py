"""What every command says of a folder of pictures: the same files, the same first line, the same refusal."""

import inspect
import json
import os

import numpy as np
import pytest
from PIL import Image

from foveate.cli import COMMANDS, data, main
from foveate.cli.predict import paths
from foveate.data.gate.check import check
from foveate.data.gate.inside import inside
from foveate.data.index import open_data
from foveate.errors import DataError
from foveate.report.progress import line
from foveate.runs.run import announce


@pytest.fixture
def run(capsys):
    """Run a command in this process: (exit code, stdout, stderr)."""

    def call(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def tree(root, counts, copies=False):
    seed = 0
    for folder, n in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            seed += 1
            pixels = np.random.default_rng(i if copies else seed).integers(0, 256, (12, 12, 3), np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{i}.png")
    return root


def test_the_check_begins_with_a_sentence_that_can_be_objected_to(run, tmp_path):
    tree(tmp_path / "a", {"ant": 8, "bee": 6, "cat": 7})
    code, out, _ = run("data", "check", tmp_path / "a")
    assert code == 0 and out.splitlines()[0] == "3 classes: ant 8, bee 6, cat 7"
    tree(tmp_path / "b", {"Training/ant": 4, "Training/bee": 4, "Testing/ant": 1, "Testing/bee": 2})
    first, second = run("data", "check", tmp_path / "b")[1].splitlines()[:2]
    assert first == "2 classes: ant 5, bee 6" and second == f"{tmp_path / 'b'}: 11 pictures, train 8, test 3"


def test_many_classes_are_cut_to_the_first_and_a_range(tmp_path):
    tree(tmp_path, {f"c{i:02d}": 1 + i % 3 for i in range(15)})
    named = "c00 1, c01 2, c02 3, c03 1, c04 2, c05 3, c06 1, c07 2"
    assert check(tmp_path).sentence() == f"15 classes: {named}, ... 7 more (1 to 3 pictures each)"


def test_training_says_the_same_sentence_first_and_warns(tmp_path):
    root = tree(tmp_path, {"animals/ant": 5, "animals/bee": 5, "vehicles/car": 5, "vehicles/bus": 5})
    said = []
    announce(open_data(root), lambda event: said.append(line(event)))
    assert said[0] == check(root).sentence() == "2 classes: animals 10, vehicles 10"
    assert said[1].endswith("2 classes") and said[2].startswith("warning: the pictures of animals, vehicles lie one")


REFUSED = {
    "two pictures": {"ant": 1, "bee": 1},
    "one class": {"ant": 8},
    "no train": {"Testing/ant": 3, "Testing/bee": 3},
    "loose splits": {"Training": 3, "Testing": 3},
    "wrapped": {"Dataset/ant": 3, "Dataset/bee": 3},
    "unknown class": {"train/ant": 8, "train/bee": 8, "val/eel": 2},
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_check_refuses_what_training_refuses_with_the_same_line(run, tmp_path, case):
    root = tree(tmp_path / "data", REFUSED[case])
    with pytest.raises(DataError) as error:
        open_data(root)
    code, out, err = run("data", "check", root)
    assert code == 3 and f"error: {error.value}" in (out + err).splitlines()
    assert run("data", "split", root, "--out", tmp_path / "x.csv")[::2] == (3, f"error: {error.value}\n")


def test_the_check_refuses_bad_files_with_the_line_of_training(run, tmp_path):
    root = tree(tmp_path, {"ant": 8, "bee": 8})
    (root / "ant" / "cut.png").write_bytes((root / "ant" / "0.png").read_bytes()[:40])
    with pytest.raises(DataError) as error:
        open_data(root)
    answer = json.loads(run("data", "check", root, "--json")[1])
    assert answer["refusal"] == str(error.value) and answer["good"] is False


@pytest.mark.parametrize(("strict", "code", "good"), [((), 0, True), (("--strict",), 3, False)])
def test_good_and_the_exit_code_agree(run, tmp_path, strict, code, good):
    counts = {"train/cat": 4, "train/dog": 4, "test/cat": 2, "test/dog": 2}
    root = tree(tmp_path / "dup", counts, copies=True)
    got, out, _ = run("data", "check", root, "--json", "--out", tmp_path / "report.json", *strict)
    answer = json.loads(out)
    assert (got, answer["good"]) == (code, good) and answer["counts"]["warning"] > 0
    assert json.loads((tmp_path / "report.json").read_text())["good"] is good


@pytest.mark.parametrize("strict", [(), ("--strict",)])
def test_clean_data_are_good_by_both(run, tmp_path, strict):
    root = tree(tmp_path, {"train/cat": 4, "train/dog": 4, "val/cat": 1, "val/dog": 1, "test/cat": 2, "test/dog": 2})
    code, out, _ = run("data", "check", root, "--json", *strict)
    assert code == 0 and json.loads(out)["good"] is True


def test_every_command_that_reads_data_can_follow_links():
    commands = {name: module.command for name, module in COMMANDS.items() if name not in ("models", "new", "serve")}
    commands |= {"check": data.check_command, "split": data.split_command}
    assert all("follow_links" in inspect.signature(command).parameters for command in commands.values())


# ---- the same walk everywhere


def odd_tree(root):
    """Pictures with and without endings, and everything that is left out."""
    tree(root, {"ant": 3, "bee/deep/er": 3, "$RECYCLE.BIN": 1, "ant/.hidden": 1, "bee/lost+found": 1, "@eaDir": 1})
    (root / "ant" / "0.png").rename(root / "ant" / "0a1b2c")
    (root / "ant" / "notes.txt").write_text("x")
    (root / "ant" / ".DS_Store").write_text("x")
    os.mkfifo(root / "bee" / "pipe.png")
    os.link(root / "ant" / "1.png", root / "ant" / "again.png")
    (root / "bee" / "up").symlink_to("..")
    return root


def test_predict_walks_a_folder_as_training_does(tmp_path):
    root = odd_tree(tmp_path)
    trained = {path for split in open_data(root, val=0, test=0).splits.values() for path in split.paths}
    assert set(inside(str(root))) == trained == {item.path for item in check(root).items} and len(trained) == 6


def test_predict_says_what_it_left_out_as_the_check_does(tmp_path):
    from collections import Counter

    root, told = odd_tree(tmp_path), Counter()
    list(paths([str(root)], told=told))
    report = Counter(finding.kind for finding in check(root).findings)
    assert told == {kind: report[kind] for kind in ("hidden", "special", "same_file", "loop", "no_picture")}
    assert told["hidden"] == 5


def test_predict_stops_for_links_outside_or_follows_them(tmp_path):
    tree(tmp_path / "store", {"ant": 2})
    root = tree(tmp_path / "data", {"bee": 2})
    (root / "ant").symlink_to(tmp_path / "store" / "ant")
    with pytest.raises(DataError, match=r"1 link leads outside the folder \(ant; .*--follow-links"):
        inside(str(root))
    assert len(inside(str(root), follow_links=True)) == 4
    (root / "bee" / "gone.png").symlink_to("nowhere.png")
    assert str(root / "bee" / "gone.png") in inside(str(root), follow_links=True)


@pytest.mark.parametrize("name", [".lock", ".owner"])
def test_a_folder_with_nothing_but_a_lock_has_no_pictures_for_predict(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(DataError, match="no pictures in this folder"):
        inside(str(tmp_path))


def test_following_links_is_recorded_in_the_plan(tmp_path):
    from foveate.config import from_dict, parse_json, to_json
    from foveate.runs.plan import Plan, prepare

    tree(tmp_path / "store", {"ant": 12})
    root = tree(tmp_path / "data", {"bee": 12})
    (root / "ant").symlink_to(tmp_path / "store" / "ant")
    with pytest.raises(DataError, match="--follow-links"):
        prepare(root, "resnet20_cifar")
    plan, found = prepare(root, "resnet20_cifar", follow_links=True)
    again = from_dict(Plan, parse_json(to_json(plan).encode(), "recipe.json"))
    assert again.follow_links and found.classes == ("ant", "bee")
    assert (
        open_data(again.data, seed=again.recipe.seed, follow_links=again.follow_links).fingerprint == plan.fingerprint
    )
