"""The Ghost module as a convolution unit, against the tables of arXiv:1911.11907."""

import pytest
import torch

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.layers import CONVS, Layers
from foveate.layers.ghost import Ghost, ghost
from foveate.zoo.families import resnet, vgg

# ratio s, kernel d of the cheap operation -> millions of weights and of multiply-adds (cut, not rounded), VGG-16 for
# CIFAR-10 with a hidden layer of 512: tables 3 and 4
VGG16 = {
    (1, 3): (15.0, 313),
    (2, 1): (7.6, 157),
    (2, 3): (7.7, 158),
    (2, 5): (7.7, 160),
    (2, 7): (7.7, 163),
    (3, 3): (5.2, 107),
    (4, 3): (4.0, 80),
    (5, 3): (3.3, 65),
}


@pytest.fixture
def slot(monkeypatch):
    """The unit in the table of convolutions."""
    monkeypatch.setitem(CONVS, "ghost", ghost)


def params(module):
    return sum(p.numel() for p in module.parameters())


def counts(module, side):
    """Parameters, and multiply-adds of convolutions and linear layers for one picture."""
    macs = []
    for m in module.modules():
        if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)):
            m.register_forward_hook(lambda m, _, y: macs.append(y.numel() * m.weight.numel() // len(m.weight)))
    module.eval()(torch.empty(1, 3, side, side, device="meta"))
    return params(module), sum(macs)


@pytest.mark.parametrize(
    ("c_in", "c_out", "kernel", "ratio", "count"),
    [
        (64, 64, 3, 2, 18_720),
        (64, 64, 3, 4, 9_648),
        (256, 256, 3, 2, 296_064),
        (256, 256, 1, 2, 33_920),
        (16, 24, 1, 2, 300),
    ],
)
def test_weights_are_those_of_the_formula(c_in, c_out, kernel, ratio, count):
    unit = ghost(c_in, c_out, kernel, ratio=ratio)
    m = c_out // ratio
    assert params(unit) == count == m * c_in * kernel**2 + m * (ratio - 1) * 9


def test_maps_beyond_the_output_are_cut_off():
    unit = ghost(8, 13, 1, ratio=3)
    assert (unit.primary.out_channels, unit.cheap.out_channels) == (5, 10)
    assert unit(torch.zeros(2, 8, 6, 6)).shape == (2, 13, 6, 6)


def test_with_a_centred_one_the_ghosts_are_copies_those_of_one_map_side_by_side():
    unit = ghost(4, 9, 3, padding=1, ratio=3)
    with torch.no_grad():
        unit.cheap.weight.zero_()[:, :, 1, 1] = 1
        x = torch.randn(2, 4, 6, 7, generator=torch.Generator().manual_seed(0))
        y, maps = unit(x), unit.primary(x)
    assert torch.equal(y[:, :3], maps)
    assert torch.equal(y[:, 3:], maps.repeat_interleave(2, dim=1))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 1), (1, 2, 0), ((1, 5), 1, (0, 2)), (7, 2, 3), (2, 2, 0)]
)
def test_sizes_are_those_of_the_plain_convolution(kernel, stride, padding):
    x = torch.zeros(1, 6, 11, 9)
    plain = torch.nn.Conv2d(6, 8, kernel, stride, padding)
    assert ghost(6, 8, kernel, stride=stride, padding=padding)(x).shape == plain(x).shape


def test_a_bias_is_on_both_convolutions():
    unit = ghost(4, 8, 1, bias=True)
    assert unit.primary.bias is not None and unit.cheap.bias is not None
    assert ghost(4, 8, 1).primary.bias is None


def test_grouped_convolutions_ratio_1_and_very_few_outputs_stay_plain():
    for unit in (ghost(8, 8, 3, groups=8), ghost(8, 8, 3, ratio=1), ghost(8, 1, 3)):
        assert type(unit) is torch.nn.Conv2d
    assert type(ghost(8, 2, 3)) is Ghost


@pytest.mark.parametrize("options", [{"ratio": 0}, {"ratio": 1.5}, {"cheap_kernel": 4}, {"cheap_kernel": -1}])
def test_what_can_not_be_is_refused(options):
    with pytest.raises(ConfigError, match="ghost"):
        ghost(8, 8, 3, **options)


@pytest.mark.parametrize(("s", "d"), VGG16)
def test_vgg16_for_cifar_costs_what_the_paper_says(slot, s, d):
    config = replace(vgg.cifar(16), hidden=(512,), layers=Layers(conv=f"ghost(ratio={s}, cheap_kernel={d})"))
    with torch.device("meta"):
        weights, macs = counts(vgg.VGG(config), 32)
    assert (round(weights / 1e6, 1), macs // 10**6) == VGG16[s, d]


def test_resnet56_for_cifar_costs_half(slot):
    """The paper's table 5 has 0.43 M weights and 63 M multiply-adds, and names no d: 63 M are those of d = 1."""
    plain = replace(resnet.cifar(9), shortcut="pad")
    with torch.device("meta"):
        found = {
            d: counts(resnet.ResNet(replace(plain, layers=Layers(conv=f"ghost(cheap_kernel={d})"))), 32) for d in (1, 3)
        }
    assert found == {1: (429_882, 63_009_408), 3: (438_010, 65_139_328)}  # counted by hand, layer by layer


def test_gradients_reach_every_weight():
    unit = ghost(4, 7, 3, padding=1)
    unit(torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in unit.parameters())
