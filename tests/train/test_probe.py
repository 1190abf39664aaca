"""The three-step probe."""

import pytest
import torch

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.train import probe as module
from foveate.train.probe import Timing, candidates, check_step, probe, settle
from foveate.train.recipe import Recipe
from foveate.zoo import variant

CPU = torch.device("cpu")


def test_it_times_every_form_and_leaves_the_random_numbers_as_they_were():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    timings = probe(variant("resnet20_cifar"), Recipe(batch=4, precision="fp32"), 16, CPU)
    assert torch.equal(torch.rand(3), expected)
    assert {(t.precision, t.layout) for t in timings} == {("fp32", "nchw"), ("fp32", "nhwc")}
    assert {t.threads for t in timings} == {1, torch.get_num_threads()}
    assert all(t.image_s > 0 for t in timings)


def test_another_form_must_win_clearly(monkeypatch):
    def timed(seconds):
        return lambda *_: [Timing("fp32", "nchw", 2, 1.0), Timing("fp32", "nhwc", 1, seconds)]

    for seconds, layout, threads in ((0.95, "nchw", 2), (0.85, "nhwc", 1)):
        monkeypatch.setattr(module, "probe", timed(seconds))
        recipe, _ = settle(variant("resnet20_cifar"), Recipe(), 16, CPU)
        assert (recipe.precision, recipe.layout, recipe.threads) == ("fp32", layout, threads)


def test_a_recipe_that_names_its_form_is_not_probed():
    recipe = Recipe(precision="bf16", layout="nhwc", threads=1)
    assert settle(variant("resnet20_cifar"), recipe, 16, CPU) == (recipe, [])


def test_channels_last_is_tried_on_every_network():
    """Also where a strided 1x1 convolution of few channels would meet a fault of oneDNN: layers.conv.safeguard."""
    config = variant("resnet20_cifar_conv")
    first, *others = config.stages
    narrow = replace(config, stem_widths=(8,), stages=(replace(first, width=8), *others))
    assert {layout for _, layout, _ in candidates(CPU, Recipe(precision="fp32"))} == {"nchw", "nhwc"}
    for net in (config, narrow):
        timings = probe(net, Recipe(batch=4, precision="fp32", layout="nhwc", threads=1), 56, CPU, repeats=1)
        assert [(t.layout, t.image_s > 0) for t in timings] == [("nhwc", True)]


def test_a_network_of_other_channels_is_probed_with_as_many():
    grey = replace(variant("resnet20_cifar"), in_chans=1)
    assert len(probe(grey, Recipe(batch=2, precision="fp32", layout="nchw", threads=1), 16, CPU)) == 1


def test_what_can_not_take_a_step_is_refused_in_one_line():
    net = variant("resnet18")
    check_step(net, Recipe(batch=1))
    check_step(net, Recipe(batch=2, resolution=32))
    check_step(replace(net, in_chans=1), Recipe())
    with pytest.raises(ConfigError, match="in_chans = 4: expected 3"):
        check_step(replace(net, in_chans=4), Recipe())
    with pytest.raises(ConfigError, match=r"batch = 1: .*take 2 pictures or more"):  # its last map has one position
        check_step(net, Recipe(batch=1, resolution=32))
    check_step(net, Recipe(batch=1, resolution=32, frozen_norms=True))
