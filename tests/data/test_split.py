"""Cutting splits: shares, groups, equal files, tiny classes, and lists that read back. Rows 18 and 19."""

import csv
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from foveate.cli.data import app
from foveate.data.holdout import alike, hold_out, units
from foveate.data.index import open_data
from foveate.data.split import write_split_csv
from foveate.errors import ConfigError, DataError

SHARES = {"val": 0.1, "test": 0.2}


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)).save(path, "PNG")


def folder(root, counts):
    seed = 0
    for name, n in counts.items():
        for i in range(n):
            picture(root / name / f"{i}.png", seed := seed + 1)
    return root


def test_every_class_keeps_its_share_as_in_scikit_learn():
    from sklearn.model_selection import StratifiedShuffleSplit

    rng = np.random.default_rng(0)
    labels = rng.choice(5, 1000, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    ours = np.array(hold_out(labels.tolist(), range(1000), {"test": 0.2}, 0))
    _, theirs = next(StratifiedShuffleSplit(1, test_size=0.2, random_state=0).split(labels, labels))
    assert np.abs(np.bincount(labels[ours == "test"]) - np.bincount(labels[theirs])).max() <= 1


def test_the_split_depends_on_the_seed_alone():
    labels = [i % 3 for i in range(90)]
    assert hold_out(labels, range(90), SHARES, 5) == hold_out(labels, range(90), SHARES, 5)
    assert hold_out(labels, range(90), SHARES, 5) != hold_out(labels, range(90), SHARES, 6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), min_size=1, max_size=80), st.integers(0, 99))
def test_groups_are_never_torn_and_every_class_has_pictures_in_train(samples, seed):
    labels, group = [label for label, _ in samples], [g for _, g in samples]
    unit = units(len(samples), alike([f"g{g}" for g in group]))
    splits = hold_out(labels, unit, SHARES, seed)
    assert all(len({s for s, g in zip(splits, group, strict=True) if g == one}) == 1 for one in set(group))
    assert {label for label, s in zip(labels, splits, strict=True) if s == "train"} == set(labels)


def test_groups_of_uneven_size_still_give_about_the_share():
    rng = np.random.default_rng(1)
    group = rng.geometric(0.03, 2000)  # 1 to a few dozen pictures each
    labels = (group % 4).tolist()
    splits = np.array(hold_out(labels, group.tolist(), SHARES, 0))
    assert abs((splits == "val").mean() - 0.1) < 0.02 and abs((splits == "test").mean() - 0.2) < 0.02


@pytest.mark.parametrize(("n", "expected"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (10, (7, 1, 2))])
def test_a_small_class_is_held_out_only_when_it_has_a_picture_for_every_split(n, expected):
    splits = hold_out([0] * n, range(n), SHARES, 0)
    assert tuple(splits.count(s) for s in ("train", "val", "test")) == expected


def test_units_join_through_chains():
    assert units(6, [[0, 3], [3, 5], [1, 2]]) == [0, 1, 1, 0, 4, 0]


def test_files_with_the_same_bytes_stay_in_one_split(tmp_path):
    folder(tmp_path, {"a": 30, "b": 30})
    for i in range(10):
        data = (tmp_path / "a" / f"{i}.png").read_bytes()
        for k in range(3):
            (tmp_path / "a" / f"copy-{i}-{k}.png").write_bytes(data)
    for seed in range(3):
        splits = open_data(tmp_path, seed=seed).splits
        place = {os.path.relpath(p, tmp_path): s for s, split in splits.items() for p in split.paths}
        assert all(place[f"a/copy-{i}-{k}.png"] == place[f"a/{i}.png"] for i in range(10) for k in range(3))


def test_a_regular_expression_on_the_names_makes_groups(tmp_path):
    for i in range(60):
        picture(tmp_path / "ab"[i % 2] / f"patient{i // 6}_{i}.png", i)
    data = open_data(tmp_path, val=0.2, test=0.2, group_by=r"(patient\d+)_")
    groups = [set(split.groups) for split in data.splits.values()]
    assert len(groups) == 3 and sum(map(len, groups)) == len(set.union(*groups)) == 10


def test_a_regular_expression_that_finds_nothing_or_is_none_is_refused(tmp_path):
    folder(tmp_path, {"a": 3, "b": 3})
    with pytest.raises(DataError, match=r"finds no group in a/0.png"):
        open_data(tmp_path, group_by="patient")
    with pytest.raises(ConfigError, match="not a regular expression"):
        open_data(tmp_path, group_by="(")


def test_a_group_in_two_given_splits_is_told(tmp_path):
    folder(tmp_path, {"x": 4})
    rows = "x/0.png,a,train,p1\nx/1.png,b,train,p2\nx/2.png,a,val,p1\nx/3.png,b,val,p3\n"
    (tmp_path / "list.csv").write_text("path,label,split,group\n" + rows)
    assert any("the same group in two splits: p1" in note for note in open_data(tmp_path / "list.csv", test=0).notes)


# ---- split lists


ODD = (
    "עברית",
    "😀",
    "new\nline",
    "re\rturn",
    'quo"te',
    "com,ma",
    "-dash",
    " space ",
    "=1+1",
    "'=quoted",
    "''-twice",
    "'plain",
    "@sum",
    "+4",
    "＝wide",
    "\ttab",
    "caf\udce9",
    "\ufeffbom",
    "a\\b",
)


def test_a_split_list_reads_back_as_the_same_data_whatever_the_names(tmp_path):
    for i, name in enumerate(ODD):
        for k in range(4):
            picture(tmp_path / "data" / name / f"{name}{k}.png", 10 * i + k)
    data = open_data(tmp_path / "data", seed=1)
    for place in (tmp_path / "data", tmp_path / "lists" / "deep"):
        place.mkdir(parents=True, exist_ok=True)
        write_split_csv(data, place / "split.csv")
        again = open_data(place / "split.csv", seed=9)
        assert again.classes == data.classes
        for name, split in data.splits.items():
            assert sorted(zip(split.paths, split.labels, strict=True)) == sorted(
                zip(again.splits[name].paths, again.splits[name].labels, strict=True)
            )


def test_no_cell_of_a_split_list_is_a_formula(tmp_path):
    for i, name in enumerate(("=1+1", "@sum", "\ttab", "'=quoted", "plain")):
        for k in range(4):
            picture(tmp_path / "data" / name / f"{name}{k}.png", 10 * i + k)
    data = open_data(tmp_path / "data", group_by=r"([^/]+\d)\.png")
    write_split_csv(data, tmp_path / "data" / "split.csv")
    with open(tmp_path / "data" / "split.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert all(cell[:1] not in "=+-@\t\r" for cell in row.values() if cell), row
    assert {row["label"] for row in rows} == {"'=1+1", "'@sum", "'\ttab", "''=quoted", "plain"}
    assert all(row["path"].startswith("./") == (row["label"] != "plain") for row in rows)


def test_an_apostrophe_before_a_formula_is_no_part_of_a_label(tmp_path):
    for name in "abcd":
        picture(tmp_path / f"{name}.png", ord(name))
    (tmp_path / "list.csv").write_text(
        "path,label,split\na.png,'=x,train\nb.png,'y,train\nc.png,''=x,train\nd.png,=x,train\n"
    )
    data = open_data(tmp_path / "list.csv", val=0, test=0)
    assert data.classes == ("'=x", "'y", "=x")


def test_a_split_list_keeps_groups_and_is_plain_csv(tmp_path):
    for i in range(40):
        picture(tmp_path / "ab"[i % 2] / f"p{i // 4}-{i}.png", i)
    data = open_data(tmp_path, group_by=r"(p\d+)-", test=0)
    write_split_csv(data, tmp_path / "split.csv")
    with open(tmp_path / "split.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "split", "group"] and len(rows) == 40
    assert all(row["path"].split("/")[1].startswith(row["group"] + "-") for row in rows)
    again = open_data(tmp_path / "split.csv", test=0)
    assert {n: sorted(s.groups) for n, s in again.splits.items()} == {
        n: sorted(s.groups) for n, s in data.splits.items()
    }


def test_the_list_of_built_in_data_holds_its_names(tmp_path):
    write_split_csv(open_data("digits"), tmp_path / "split.csv")
    text = (tmp_path / "split.csv").read_bytes().decode()
    assert text.startswith("path,label,split\r\ndigits/") and text.count("\n") == 1798


# ---- the command


def test_the_command_writes_a_list_that_opens_and_moves_nothing(tmp_path):
    folder(tmp_path / "data", {"a": 20, "b": 20})
    before = sorted(p for p in (tmp_path / "data").rglob("*"))
    out = tmp_path / "split.csv"
    result = CliRunner().invoke(
        app, ["split", str(tmp_path / "data"), "--val", "0.2", "--test", "0", "--out", str(out)]
    )
    assert result.exit_code == 0 and "train 32, val 8" in result.stdout
    assert {n: len(s) for n, s in open_data(out, test=0).splits.items()} == {"train": 32, "val": 8}
    assert sorted(p for p in (tmp_path / "data").rglob("*")) == before


def test_the_command_refuses_a_list_that_is_no_csv(tmp_path):
    result = CliRunner().invoke(app, ["split", str(tmp_path), "--out", "split.txt"])
    assert isinstance(result.exception, ConfigError) and ".csv" in str(result.exception)
