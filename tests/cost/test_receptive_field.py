"""Receptive fields, against published ones and against NaNs that spread in a real forward pass."""

import pytest
import torch
from torch import nn

from foveate.cost.receptive_field import Field, receptive_field
from foveate.errors import FoveateError
from foveate.zoo import build, variant


@pytest.mark.parametrize(
    "name, side, stride",
    [  # Araujo, Norris and Sim 2019, distill.pub/2019/computing-receptive-fields, table of networks
        ("alexnet", 195, 32),
        ("vgg16", 212, 32),
        ("mobilenetv1_100", 315, 32),
        ("inception_v3", 1311, 32),
        # there 483: the stride is in the last block of a stage, here (as in PyTorch's networks) in the first
        ("resnet50", 427, 32),
    ],
)
def test_published_fields(name, side, stride):
    assert receptive_field(variant(name)) == Field(side, side, stride)


def test_resnet50_with_the_strides_of_the_table_has_the_field_of_the_table():
    """k 7 s 2, pool 3 s 2, then 3x3 kernels, the stride in the last block of stages 1 to 3."""
    layers = [nn.Conv2d(3, 2, 7, 2, 3), nn.MaxPool2d(3, 2, 1)]
    for depth, stride in ((3, 2), (4, 2), (6, 2), (3, 1)):
        channels = 2
        for i in range(depth):
            layers.append(nn.Conv2d(channels, 2, 3, stride if i == depth - 1 else 1, 1))
    assert receptive_field(nn.Sequential(*layers)) == Field(483, 483, 32)


def edges(network, channels, length, height):
    """First and last column of the picture that the middle column of the last map depends on: put in NaN, look."""
    with torch.no_grad():
        middle = network(torch.ones(1, channels, height, length)).shape[-1] // 2

        def sees(columns):
            x = torch.ones(1, channels, height, length)
            x[..., columns] = float("nan")
            return bool(network(x)[..., middle].isnan().any())

        low, high = 0, length // 2  # the first column c with: it depends on some of 0..c
        while low < high:
            c = (low + high) // 2
            low, high = (low, c) if sees(slice(0, c + 1)) else (c + 1, high)
        first, (low, high) = low, (length // 2, length - 1)
        while low < high:
            c = (low + high + 1) // 2
            low, high = (c, high) if sees(slice(c, None)) else (low, c - 1)
    return first, low


@pytest.mark.parametrize(
    "name, length, height",
    [("resnet20_cifar", 160, 16), ("resnet18", 1024, 32), ("mobilenetv1_025", 768, 32), ("preresnet20_cifar", 160, 16)],
)
def test_fields_of_real_networks_are_where_nans_spread(name, length, height):
    network = build(variant(name)).eval()
    first, last = edges(network.forward_features, 3, length, height)
    assert last - first + 1 == receptive_field(variant(name)).width


@pytest.mark.parametrize(
    "layers, height, width",
    [
        ([nn.Conv2d(3, 2, (1, 7)), nn.Conv2d(2, 2, (3, 1), dilation=2)], 5, 7),
        ([nn.AvgPool2d(2), nn.MaxPool2d(3, 2, dilation=1), nn.Conv2d(3, 1, 3)], 14, 14),
        ([nn.ZeroPad2d((2, 0, 0, 0)), nn.Conv2d(3, 1, 3), nn.SiLU()], 3, 3),
    ],
)
def test_both_sides_pools_and_pads_are_followed(layers, height, width):
    found = receptive_field(nn.Sequential(*layers), 32)
    assert (found.height, found.width) == (height, width)


def test_branches_unite_also_where_they_look_to_different_sides():
    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 3)

        def forward(self, x):
            return torch.cat([self.a(x)[..., :-4, :], self.b(x)[..., 4:, :]], 1)

    assert receptive_field(Apart(), 16) == Field(7, 3, 1)


def test_gates_that_see_the_whole_picture_are_left_out():
    plain, gated = receptive_field(variant("resnet18")), receptive_field(variant("seresnet18"))
    assert plain == gated == Field(435, 435, 32)


def test_a_network_without_maps_has_no_field():
    assert receptive_field(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), 8) is None


def test_windows_that_differ_from_place_to_place_are_refused_with_the_layer():
    with pytest.raises(FoveateError, match=r"in 1 \(ConvTranspose2d\): a transposed"):
        receptive_field(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ConvTranspose2d(3, 3, 3, 2)), 8)
