"""How a recipe follows the data."""

import math

import pytest

from foveate.recipes import RECIPES
from foveate.recipes.adapt import Facts, adapt, mirrored_differs

BASE = RECIPES["baseline"]


def facts(pictures, classes=("cat", "dog"), **more):
    share = pictures // len(classes)
    return Facts(tuple(classes), (pictures - share * (len(classes) - 1), *[share] * (len(classes) - 1)), **more)


@pytest.mark.parametrize(("pictures", "batch"), [(4, 8), (48, 8), (100, 12), (300, 37), (512, 64), (9000, 64)])
def test_an_epoch_has_steps(pictures, batch):
    recipe, reasons = adapt(BASE, facts(pictures))
    assert recipe.batch == batch
    assert recipe.optim.lr == pytest.approx(BASE.optim.lr * math.sqrt(batch / 64))
    assert any("batch" in line for line in reasons) == (batch < 64)


def test_what_the_user_set_stays():
    recipe, reasons = adapt(BASE, facts(40, "0123456789"), ("batch", "epochs", "augment.flip", "augment.crop"))
    assert recipe == BASE and not reasons
    assert adapt(BASE, facts(40), ("optim.lr",))[0].optim.lr == BASE.optim.lr


def test_few_pictures_from_scratch_get_more_epochs_and_published_weights_do_not():
    assert adapt(BASE, facts(16))[0].epochs == 200
    assert adapt(BASE, facts(5000))[0].epochs == BASE.epochs
    tuned = adapt(RECIPES["finetune"], facts(16, published=True))[0]
    assert tuned.epochs == RECIPES["finetune"].epochs and tuned.batch == 8


@pytest.mark.parametrize(
    "classes",
    [
        list("0123456789"),
        list("abc"),
        ["digit_3", "digit_4"],
        ["seven", "eight"],
        ["Letter-A", "Letter-B"],
        ["turn left", "turn right", "stop"],
        ["arrow_up", "other"],
        ["А", "Б", "В"],
    ],
)
def test_signs_and_sides_are_not_mirrored(classes):
    recipe, reasons = adapt(BASE, facts(2000, classes))
    assert not recipe.augment.flip and recipe.augment.crop == 0.7
    assert any("mirrored" in line for line in reasons)


@pytest.mark.parametrize(
    "classes",
    [
        ["cat", "dog"],
        ["bright", "dark"],
        ["sparrow", "crow"],
        ["leftover", "meal"],
        [str(i) for i in range(100)],
        ["a"],
    ],
)
def test_other_classes_are(classes):
    assert mirrored_differs(classes) == ""
    assert adapt(BASE, facts(2000, classes))[0].augment == BASE.augment


def test_grey_pictures_get_no_coloured_light():
    assert adapt(RECIPES["bag_of_tricks"], facts(90000, grey=True))[0].augment.lighting == 0.0
    assert RECIPES["bag_of_tricks"].augment.lighting > 0


def test_imbalance_leaves_out_empty_classes():
    assert Facts(("a", "b", "c"), (50, 0, 5)).imbalance == 10.0
    assert Facts(("a",), (0,)).imbalance == 1.0
