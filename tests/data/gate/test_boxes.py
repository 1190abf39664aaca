"""Data sets of boxes are said to be so; classes that are only named like them stay classes."""

import pytest
from folders import found, grow, question


@pytest.mark.parametrize(
    ("words", "where", "kind"),
    [
        (("JPEGImages:3", *(f"Annotations/{i}.xml" for i in range(3))), "Annotations", "VOC"),
        (("B/JPEGImages:3", *(f"B/Annotations/{i}.xml" for i in range(3)), "code/a.py"), "B/Annotations", "VOC"),
        (("images:3", *(f"labels/{i}.txt" for i in range(3))), "labels", "YOLO"),
        (("train/images:3", *(f"train/labels/{i}.txt" for i in range(3)), "valid/images:2"), "train/labels", "YOLO"),
        (("images/train:3", "images/val:2", *(f"labels/train/{i}.txt" for i in range(3)), "labels/val/0.txt"), "labels",
         "YOLO"),
        (("train2017:3", "val2017:2", "annotations/instances_train2017.json"), "annotations", "COCO"),
        (("train:3", "train/_annotations.coco.json", "test:2"), "train/_annotations.coco.json", "COCO"),
    ],
)  # fmt: skip
def test_a_data_set_of_boxes_is_named(words, where, kind, tmp_path):
    line = question(grow(tmp_path / "d", *words))
    assert f"{where} holds boxes of {kind}" in line and "whole pictures" in line


@pytest.mark.parametrize(
    "words",
    [
        ("boxes:3", "cans:4", "boxes/0.xml"),
        ("boxes:3", "photos:3", "boxes/readme.txt"),
        ("cat:3", "dog:3", "labels/other.txt"),
        ("cat:3", "dog:3", "cat/0.txt", "dog/0.xml"),  # a caption beside a picture
    ],
)
def test_classes_stay_classes(words, tmp_path):
    assert sum(found(grow(tmp_path / "d", *words))[""].values()) >= 6
