"""Grouped convolutions with a channel shuffle."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.group_shuffle import GroupShuffle, group_shuffle, shuffle


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def order(channels, groups):
    return shuffle(torch.arange(channels).view(1, -1, 1, 1), groups).flatten().tolist()


def test_the_permutation_of_the_paper_and_the_authors_inverse():
    assert order(12, 3) == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert order(12, 4) == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]  # Megvii's code for 3 groups


@pytest.mark.parametrize(("channels", "groups"), [(12, 3), (16, 4), (24, 8), (6, 1), (6, 6)])
def test_a_shuffle_is_a_permutation_with_an_inverse(channels, groups):
    assert sorted(order(channels, groups)) == list(range(channels))
    x = random(2, channels, 3, 4)
    assert torch.equal(shuffle(shuffle(x, groups), channels // groups), x)
    assert torch.equal(shuffle(x, groups), nn.ChannelShuffle(groups)(x))


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 2, 1), ((1, 5), 1, (0, 2))])
def test_it_is_the_grouped_convolution_in_another_order(kernel, stride, padding):
    unit, x = group_shuffle(8, 12, kernel, stride=stride, padding=padding, bias=True).double(), random(2, 8, 7, 5)
    plain = F.conv2d(x, unit.conv.weight, unit.conv.bias, stride, padding, groups=4)
    assert torch.equal(unit(x), plain[:, order(12, 4)])


@pytest.mark.parametrize(("parts", "weights"), [(2, 2048), (4, 1024), (8, 512)])
def test_weights_are_those_of_the_plain_convolution_over_the_groups(parts, weights):
    unit = group_shuffle(64, 64, 1, parts=parts)
    assert sum(p.numel() for p in unit.parameters()) == weights == 64 * 64 // parts


def reach(*layers):
    """Which outputs depend on which inputs."""
    x = torch.ones(1, 16, 1, 1, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(nn.Sequential(*layers).double(), x)
    return jacobian.view(16, 16) != 0


def test_two_layers_connect_everything_and_without_a_shuffle_only_the_groups():
    torch.manual_seed(0)
    assert reach(group_shuffle(16, 16, 1), group_shuffle(16, 16, 1)).all()
    blocks = torch.block_diag(*[torch.ones(4, 4)] * 4).bool()
    assert torch.equal(reach(*(nn.Conv2d(16, 16, 1, groups=4, bias=False) for _ in range(2))), blocks)


def test_the_number_of_groups_divides_both_widths():
    for c_in, c_out, parts, groups in ((8, 12, 8, 4), (24, 24, 3, 3), (6, 16, 4, 2), (240, 60, 8, 4)):
        unit = group_shuffle(c_in, c_out, 1, parts=parts)
        assert isinstance(unit, GroupShuffle) and unit.groups == unit.conv.groups == groups


def test_first_layers_own_groups_and_on_request_larger_kernels_stay_plain():
    for unit in (
        group_shuffle(3, 16, 3),
        group_shuffle(16, 16, 3, groups=16),
        group_shuffle(16, 16, 3, groups=4),
        group_shuffle(16, 16, 1, parts=1),
        group_shuffle(16, 16, 3, pointwise=True),
    ):
        assert type(unit) is nn.Conv2d
    assert type(group_shuffle(16, 16, (1, 1), pointwise=True)) is GroupShuffle


def test_gradients():
    unit = group_shuffle(4, 8, 3, padding=1, parts=2, bias=True).double()
    x = random(2, 4, 3, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: unit(x), (x, *unit.parameters()))


@pytest.mark.parametrize("parts", [0, -2, 5000])
def test_what_can_not_be_is_refused(parts):
    with pytest.raises(ConfigError, match="group_shuffle"):
        group_shuffle(8, 8, 1, parts=parts)
