"""foveate.runs.evaluate: what was judged is told, classes go by name."""

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.cli.eval import lines
from foveate.config import replace
from foveate.data.preprocess import Preprocess
from foveate.errors import ConfigError, DataError
from foveate.files import write_folder, write_text
from foveate.runs.evaluate import evaluate_model, wider
from foveate.train.artefact import ModelCard, model_files
from foveate.zoo import build, variant


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = replace(variant("resnet20_cifar"), num_classes=3)
    card = ModelCard(config, ("cat", "bee", "ant"), Preprocess(resolution=16, resize=16), {"fingerprint": "0" * 64})
    folder = tmp_path_factory.mktemp("run") / "best"
    write_folder(folder, model_files(card, build(config).state_dict()))
    return folder


def tree(root, counts):
    for seed, (folder, n) in enumerate(counts.items()):
        (root / folder).mkdir(parents=True)
        for i in range(n):
            pixels = np.random.default_rng(100 * seed + i).integers(0, 256, (9, 9, 3), np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{i}.ppm")
    return root


def test_a_plain_folder_is_judged_whole_and_absent_classes_are_told(model, tmp_path):
    found = evaluate_model(model, tree(tmp_path / "data", {"ant": 15, "bee": 14}))
    assert found["judged"] == "judged 29 pictures of 2 classes: all of data (bee 14, ant 15)"
    assert (found["n"], found["split"], found["classes_missing"]) == (29, "all", ["cat"])
    assert {row["class"]: row["n"] for row in found["per_class"]} == {"cat": 0, "bee": 14, "ant": 15}
    assert lines(found)[:2] == [found["judged"], "no picture of cat: the accuracy says nothing of it"]


def test_test_alone_with_one_class_is_judged(model, tmp_path):
    found = evaluate_model(model, tree(tmp_path / "data", {"test/bee": 1}))
    assert found["judged"] == "judged 1 picture of 1 class: test of data (bee 1)" and found["split"] == "test"


def test_classes_that_the_model_does_not_know_are_named(model, tmp_path):
    with pytest.raises(DataError, match="classes ants, bees are not among the model's 3; did you mean ant"):
        evaluate_model(model, tree(tmp_path / "data", {"ants": 2, "bees": 2, "cat": 2}))


def test_the_place_of_the_run_that_has_changed_since_is_told(model, tmp_path):
    data = tree(tmp_path / "data", {"ant": 2, "bee": 2, "cat": 2})
    write_text(model.parent / "recipe.json", f'{{"data": "{data}"}}')
    assert "has changed since" in evaluate_model(model, data)["notes"][0]
    other = tree(tmp_path / "other", {"ant": 2, "bee": 2})
    assert evaluate_model(model, other)["notes"] == []


def test_ten_crops_are_cut_from_the_resized_picture_and_need_room(model, tmp_path):
    folder = tree(tmp_path / "data", {"ant": 3, "bee": 3})
    whole, views = wider(Preprocess(resolution=16, resize=20), 10, "one")
    assert (whole.resolution, whole.resize) == (20, 20)
    assert [seen.shape[2:] for _, seen in views(torch.zeros(1, 3, 20, 20))] == [(16, 16)] * 10
    assert wider(whole, 1, "mirror") == (whole, "mirror")
    for crops, seen, said in ((10, "one", "no corners"), (3, "one", "expected 1 or 10"), (10, "mirror", "--views")):
        with pytest.raises(ConfigError, match=said):
            evaluate_model(model, folder, crops=crops, views=seen)
    config = replace(variant("resnet20_cifar"), num_classes=3)
    card = ModelCard(config, ("cat", "bee", "ant"), Preprocess(resolution=16, resize=20), {"fingerprint": "0" * 64})
    write_folder(tmp_path / "wide", model_files(card, build(config).state_dict()))
    assert evaluate_model(tmp_path / "wide", folder, crops=10)["crops"] == 10
