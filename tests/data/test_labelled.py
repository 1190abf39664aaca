"""foveate.data.labelled: which pictures a model is judged on."""

import numpy as np
import pytest
from PIL import Image

from foveate.data.index import open_data
from foveate.data.labelled import open_labelled, split_of
from foveate.errors import ConfigError, DataError


def tree(root, counts):
    seed = 0
    for folder, n in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(n):
            seed += 1
            pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{i}.png")
    return root


def told(found):
    return found.split, len(found.samples), found.classes


@pytest.mark.parametrize(
    ("counts", "split", "expected"),
    [
        ({"ant": 15, "bee": 15}, None, ("all", 30, ("ant", "bee"))),
        ({"ant": 5}, None, ("all", 5, ("ant",))),
        ({"test/ant": 3, "test/bee": 4}, None, ("test", 7, ("ant", "bee"))),
        ({"test/ant": 3}, None, ("test", 3, ("ant",))),
        ({"Testing/ant": 3, "Testing/bee": 1}, "test", ("test", 4, ("ant", "bee"))),
        ({"val/ant": 2, "val/bee": 2, "test/ant": 3}, "validation", ("val", 4, ("ant", "bee"))),
        ({"val/ant": 2, "val/bee": 2, "test/ant": 3}, None, ("test", 3, ("ant",))),
        ({"val/ant": 2, "val/bee": 2, "test/ant": 3}, "all", ("all", 7, ("ant", "bee"))),
        ({"val/ant": 2, "val/bee": 2}, None, ("all", 4, ("ant", "bee"))),
        ({"train/ant": 5, "train/bee": 5, "test/ant": 1, "test/bee": 1}, None, ("test", 2, ("ant", "bee"))),
        ({"train/ant": 5, "train/bee": 5, "test/ant": 1, "test/bee": 1}, "Training", ("train", 10, ("ant", "bee"))),
        ({"ant": 20, "bee": 20}, "test", ("test", 4, ("ant", "bee"))),
    ],
)
def test_the_pictures_that_are_judged(tmp_path, counts, split, expected):
    assert told(open_labelled(tree(tmp_path / "data", counts), split)) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("path,label,split\nant/0.png,ant,test\nbee/0.png,bee,test\n", ("test", 2, ("ant", "bee"))),
        ("path,label,split\nant/0.png,ant,val\nbee/0.png,bee,test\n", ("test", 1, ("bee",))),
        ("path,label\nant/0.png,ant\nant/1.png,ant\n", ("all", 2, ("ant",))),
    ],
)
def test_a_table_needs_no_rows_of_train(tmp_path, rows, expected):
    tree(tmp_path / "d", {"ant": 2, "bee": 2})
    (tmp_path / "d" / "all.csv").write_text(rows)
    assert told(open_labelled(tmp_path / "d" / "all.csv")) == expected


def test_of_the_data_that_a_model_learned_from_only_the_held_out_part_counts(tmp_path):
    root = tree(tmp_path / "photos", {"ant": 20, "bee": 20})
    made = open_data(root, seed=7)
    found = open_labelled(root, trained_on=made.fingerprint, seeds=[7])
    assert found.samples.paths == made.splits["test"].paths and "held out of training" in found.what
    everything = open_labelled(root, "all", trained_on=made.fingerprint, seeds=[7])
    assert len(everything.samples) == 40 and "learned from" in everything.what
    other = open_labelled(tree(tmp_path / "others", {"ant": 4, "bee": 3}), trained_on=made.fingerprint, seeds=[7])
    assert told(other) == ("all", 7, ("ant", "bee"))


def test_a_split_that_is_not_there_and_a_word_that_is_none(tmp_path):
    root = tree(tmp_path / "d", {"test/ant": 2, "test/bee": 2})
    with pytest.raises(DataError, match='no split "val"; there is test'):
        open_labelled(root, "valid")
    with pytest.raises(ConfigError, match="did you mean test"):
        split_of("tset")
    assert [split_of(word) for word in ("eval", "Testing", "ALL", "valid")] == ["val", "test", "all", "val"]


def test_bad_files_stop_or_are_told(tmp_path):
    root = tree(tmp_path / "d", {"ant": 2, "bee": 2})
    (root / "ant" / "0.png").write_bytes((root / "ant" / "0.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"1 of 4 files can not be used: ant/0.png"):
        open_labelled(root)
    found = open_labelled(root, bad_files="skip")
    assert len(found.samples) == 3 and any("1 bad files left out" in note for note in found.notes)


def test_digits_are_judged_on_their_test_split_or_all():
    assert len(open_labelled("digits", "all").samples) == 1797
    assert open_labelled("digits").samples.paths == open_data("digits").splits["test"].paths
