"""Whether a training step can be taken, and how long it takes."""

import pytest
import torch

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.train.probe import check_step, time_step
from foveate.train.recipe import Recipe
from foveate.zoo import variant

CPU = torch.device("cpu")


@pytest.mark.parametrize("in_chans", [1, 3])
def test_a_step_is_timed_and_the_process_left_as_it_was(in_chans):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads, recipe = torch.get_num_threads(), Recipe(batch=4, precision="fp32", layout="nhwc", threads=1)
    assert time_step(replace(variant("resnet20_cifar"), in_chans=in_chans), recipe, 16, CPU, repeats=1) > 0
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


def test_channels_last_takes_a_step_on_every_network():
    """Also where a strided 1x1 convolution of few channels would meet a fault of oneDNN: layers.conv.safeguard."""
    config = variant("resnet20_cifar_conv")
    first, *others = config.stages
    narrow = replace(config, stem_widths=(8,), stages=(replace(first, width=8), *others))
    for net in (config, narrow):
        assert time_step(net, Recipe(batch=4, precision="fp32", layout="nhwc", threads=1), 56, CPU, repeats=1) > 0


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
