"""The built-in photographs: what is in the package, and that it opens like a folder."""

import os
from collections import Counter

import pytest

from foveate.data.builtin import BUILT_IN, CLOTHES
from foveate.data.gate.check import check
from foveate.data.index import open_data
from foveate.errors import DataError


def test_clothes_are_fixed_splits_of_eight_balanced_classes():
    data = open_data("clothes")
    assert data.name == "clothes" and data.classes == tuple(sorted(data.classes)) and len(data.classes) == 8
    for split, count in {"train": 32, "val": 6, "test": 12}.items():
        assert set(Counter(data.splits[split].labels).values()) == {count}
    assert open_data("clothes", seed=7).fingerprint == data.fingerprint
    assert sum(entry.stat().st_size for entry in CLOTHES.rglob("*.jpg")) < 4e6  # what the wheel grows by


def test_the_photographs_have_nothing_to_be_said_against():
    report = check("clothes")
    assert report.findings == () and report.files == 400


def test_a_folder_of_that_name_is_said_not_to_be_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("clothes")
    assert any("./clothes" in note for note in open_data("clothes").notes)
    with pytest.raises(DataError):
        open_data("./clothes")


def test_an_unknown_name_is_told_what_is_built_in():
    with pytest.raises(DataError, match=", ".join(BUILT_IN)):
        open_data("clothing")
