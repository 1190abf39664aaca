"""The form of the arithmetic follows from network, size and processor, never from a stopwatch."""

import itertools
import time

import pytest
import torch

from foveate.config import replace
from foveate.events import silent
from foveate.runs.complete import read_plan
from foveate.runs.plan import prepare
from foveate.runs.training import train_in
from foveate.train import form
from foveate.train.form import depthwise_share, settle
from foveate.train.recipe import Recipe
from foveate.zoo import variant
from foveate.zoo.tensors import read_tensors

CPU = torch.device("cpu")


def chosen(name, size, **fields):
    recipe = settle(variant(name), Recipe(**fields), size, CPU)
    return recipe.precision, recipe.layout


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    ("name", "size", "saves"),
    [
        ("resnet20_cifar", 32, True),
        ("resnet50", 64, True),
        ("resnext29_8x64d_cifar", 32, True),  # groups of many channels
        ("resnet20_cifar", 8, False),  # light
        ("mobilenet_v2", 96, False),
        ("ghostnet_100", 96, False),
        ("efficientnet_lite0", 128, False),
    ],
)
def test_bf16_where_the_processor_has_it_and_the_network_gains(name, size, saves, native, monkeypatch):
    monkeypatch.setattr(form, "has_bf16", lambda device: native)
    assert chosen(name, size) == ("bf16" if native and saves else "fp32", "nhwc")


def test_what_a_recipe_names_stays(monkeypatch):
    monkeypatch.setattr(form, "has_bf16", lambda device: True)
    recipe = Recipe(precision="fp32", layout="nchw", threads=3)
    assert settle(variant("resnet50"), recipe, 64, CPU) == recipe
    assert chosen("resnet20_cifar", 8, precision="bf16") == ("bf16", "nhwc")


def test_a_small_step_takes_one_thread_and_a_large_one_all(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    net = variant("resnet20_cifar")
    assert settle(net, Recipe(batch=8), 8, CPU).threads == 1
    assert settle(net, Recipe(batch=64), 32, CPU).threads == 4
    assert settle(net, Recipe(batch=64, parts=16), 32, CPU).threads == 1  # 4 pictures at once
    assert settle(net, Recipe(batch=8, threads=2), 8, CPU).threads == 2


def test_shares_of_depthwise_convolutions():
    assert depthwise_share(variant("resnet18")) == 0
    assert depthwise_share(variant("resnext50_32x4d")) == 0
    assert depthwise_share(variant("mobilenetv1_100")) == pytest.approx(13 / 27)


def test_a_stopwatch_that_lies_changes_no_weight(tmp_path, monkeypatch):
    """Two runs in one process: one where whatever is timed first looks quicker, one where it looks slower."""
    plan, dataset = prepare("digits", "resnet20_cifar", recipe="cifar_standard", overrides=("epochs=1", "batch=256"))
    weights = []
    for power in (2.0, 0.5):
        readings = itertools.count(1)
        with monkeypatch.context() as patch:
            for clock in ("perf_counter", "process_time"):
                patch.setattr(time, clock, lambda n=readings, power=power: next(n) ** power)
            folder = tmp_path / str(power)
            folder.mkdir()
            trained = train_in(folder, plan, dataset, silent)
        recipe = read_plan(folder).recipe  # the form is on record
        assert (
            recipe == trained.plan.recipe
            and recipe.layout == "nhwc"
            and recipe.threads > 0
            and recipe.precision != "auto"
        )
        weights.append(read_tensors(folder / "best" / "model.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_the_form_is_of_the_network_that_is_asked_about(monkeypatch):
    monkeypatch.setattr(form, "has_bf16", lambda device: True)
    wide = replace(variant("resnet20_cifar"), in_chans=1)
    assert settle(wide, Recipe(), 32, CPU).precision == "bf16"
