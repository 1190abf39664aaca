"""The named recipes and which pictures call for which."""

import numpy as np
import pytest
from PIL import Image

from foveate.config import from_json, override, to_json
from foveate.data.index import open_data
from foveate.data.preprocess import Preprocess
from foveate.errors import BudgetError, ConfigError
from foveate.recipes import RECIPES
from foveate.runs.defaults import recipe_name
from foveate.runs.plan import apply_edits, prepare
from foveate.runs.plan import apply_test_options as as_tested
from foveate.train.check import checked
from foveate.train.recipe import Recipe
from foveate.zoo import variant


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_sound(name):
    assert checked(RECIPES[name]) is RECIPES[name]


def test_strikes_back_is_what_its_table_says():
    a1, a2, a3 = (RECIPES[f"resnet_strikes_back_a{i}"] for i in (1, 2, 3))
    table = [(r.epochs, r.optim.lr, r.optim.weight_decay, r.mix.mixup, r.loss.smoothing) for r in (a1, a2, a3)]
    assert table == [(600, 5e-3, 0.01, 0.2, 0.1), (300, 5e-3, 0.02, 0.1, 0.0), (100, 8e-3, 0.02, 0.1, 0.0)]
    assert [r.augment.repeats for r in (a1, a2, a3)] == [3, 3, 1] and a3.resolution == 160
    assert a1.schedule.final * a1.optim.lr == pytest.approx(1e-6)


def test_a_recipe_edits_only_fields_that_the_family_has():
    edits = ("drop_path=0.05", "zero_gamma=true")
    assert (apply_edits(variant("resnet18"), edits).drop_path, apply_edits(variant("resnet18"), edits).zero_gamma) == (
        0.05,
        True,
    )
    assert apply_edits(variant("vgg11"), edits) == variant("vgg11")


def test_the_test_crop_is_the_recipes():
    p = as_tested(Preprocess(resolution=224, resize=256), Recipe(test_crop=0.95))
    assert (p.resolution, p.resize) == (224, 236)
    p = as_tested(Preprocess(resolution=224, resize=256), Recipe(test_resolution=288))
    assert (p.resolution, p.resize) == (288, 329)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name):
    again = from_json(Recipe, to_json(RECIPES[name]))
    assert again == RECIPES[name] and hash(again) == hash(RECIPES[name])


def test_a_misspelt_key_names_the_near_one():
    with pytest.raises(ConfigError, match="did you mean"):
        override(Recipe(), ["optim.lrr=0.1"])


def test_numbers_are_bounded_and_integers_become_floats_where_meant():
    assert override(Recipe(), ["optim.lr=1"]).optim.lr == 1.0
    wrong = (
        "init=kaimin",
        "epochs=0",
        "loss.smoothing=1.5",
        "optim.name=adam",
        "ema=nan",
        "batch=many",
        "parts=200",
        "edits=['x']",
    )
    for text in (*wrong, "schedule.kind=cosin", "schedule.kind=step(evry=3)", "loss.name=bce(threshold=2)"):
        with pytest.raises(ConfigError):
            checked(override(Recipe(), [text]))


def folder(tmp_path, size, grey):
    rng = np.random.default_rng(0)
    for i in range(24):
        path = tmp_path / f"{size}{grey}" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (size, size, 1 if grey else 3), dtype=np.uint8)
        Image.fromarray(np.broadcast_to(pixels, (size, size, 3)).copy()).save(path)
    return open_data(tmp_path / f"{size}{grey}")


def test_pictures_choose_their_recipe(tmp_path):
    assert recipe_name(open_data("digits"), None) == "small_pictures"
    assert recipe_name(folder(tmp_path, 32, True), None) == "small_pictures"
    assert recipe_name(folder(tmp_path, 32, False), None) == "cifar_standard"
    assert recipe_name(folder(tmp_path, 100, True), None) == "baseline"
    assert recipe_name(folder(tmp_path, 100, False), "lite") == "finetune"


def test_an_automatic_batch_follows_the_free_memory(monkeypatch):
    def batch(free, *changes):
        monkeypatch.setattr("foveate.runs.plan.free_bytes", lambda: free)
        changes = ("batch=auto", *changes)
        return prepare("digits", "resnet20_cifar", recipe="small_pictures", overrides=changes)[0].recipe.batch

    assert batch(8 * 2**30) == 88  # a sixteenth of 1,439 training pictures, in multiples of 8
    few = batch(2**27)
    assert 8 <= few < 88 and few % 8 == 0
    assert batch(2**27, "parts=2") > few
    with pytest.raises(BudgetError, match="do not hold the training step of a single picture"):
        batch(2**20)
