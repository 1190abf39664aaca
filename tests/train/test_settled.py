"""Running statistics that have not settled are found and taken anew; those that have, and frozen ones, stay."""

import numpy as np
import pytest
import torch
from torch import nn

from foveate.data.index import Split
from foveate.data.load import evaluation_pictures, training_pictures
from foveate.data.preprocess import Preprocess
from foveate.train.recipe import Augment, Recipe
from foveate.train.settled import AUGMENTED, PLAIN, RUNNING, TOLERANCE, disagreement, settle_statistics

P = Preprocess(resolution=8, resize=8, fit="squash")
RECIPE = Recipe(batch=8, augment=Augment(flip=False, shift=0.1))


class Net(nn.Module):
    """A norm that decides everything: classes differ by how bright a channel is."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 3)
        nn.init.eye_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        return self.fc(self.norm(x).mean((2, 3)))


def split(n=24, seed=0):
    rng = np.random.default_rng(seed)
    labels = tuple(int(i % 3) for i in range(n))
    pixels = rng.integers(0, 40, (n, 8, 8, 3), dtype=np.uint8)
    for i, label in enumerate(labels):
        pixels[i, :, :, label] += 150
    return Split(tuple(f"p/{i}" for i in range(n)), labels, pixels)


def settled(model, kept=(), training=None):
    data = split() if training is None else training
    pictures = training_pictures(data, 8).load(), evaluation_pictures(split(9, 1), P).load()
    return settle_statistics(model, kept, model, *pictures, P, RECIPE, 3)


def test_statistics_that_are_far_off_are_taken_anew_and_the_network_is_right():
    model = Net()
    model.norm.running_mean.fill_(50.0)
    model.norm.running_mean[0] = -50.0
    found = settled(model)
    assert found.statistics in (PLAIN, AUGMENTED)
    assert (found.logits.argmax(1).numpy() == np.array(split(9, 1).labels)).all()
    again = settled(model)
    assert again.statistics == RUNNING and torch.equal(again.logits, found.logits)


def test_the_lowest_validation_loss_decides():
    model = Net()
    settled(model)
    with torch.no_grad():  # unsettled, and better: the same order of channels, with larger differences
        model.norm.running_var.mul_(0.05)
    kept = model.norm.running_var.clone()
    assert settled(model).statistics == RUNNING
    assert torch.equal(model.norm.running_var, kept)


def test_frozen_statistics_stay():
    model = Net()
    model.norm.running_mean.fill_(50.0)
    assert settled(model, kept=[model.norm]).statistics == RUNNING
    assert (model.norm.running_mean == 50.0).all()


@pytest.mark.parametrize("model", [nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), Net()])
def test_one_picture_or_no_norm_leaves_all_as_it_is(model):
    training = split(1) if isinstance(model, Net) else None
    assert settled(model, training=training).statistics == RUNNING


def test_statistics_that_are_not_finite_are_replaced():
    model = Net()
    model.norm.running_var.fill_(float("inf"))
    assert settled(model).statistics != RUNNING
    assert torch.isfinite(model.norm.running_var).all()


def test_disagreement_is_the_shift_in_deviations_or_the_ratio_of_variances_and_changes_nothing():
    x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = Net()
    assert disagreement(model, [model.norm], x) < TOLERANCE
    model.norm.running_var.fill_(np.e)
    assert disagreement(model, [model.norm], x) == pytest.approx(1.0, abs=0.05)
    model.norm.running_var.fill_(1.0)
    model.norm.running_mean.fill_(2.0)
    assert disagreement(model, [model.norm], x) == pytest.approx(2.0, abs=0.1)
    assert (model.norm.running_mean == 2.0).all() and int(model.norm.num_batches_tracked) == 0
