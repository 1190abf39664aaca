"""Convolutions of low rank, against the SVD of the plain one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.low_rank import LowRank, full_rank, low_rank

FORMS = ("channel", "spatial")


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("form", "most"), [("channel", 6), ("spatial", 12)])
@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (2, (0, 2))])
def test_at_full_rank_it_is_the_plain_convolution(form, most, stride, padding):
    weight, x = random(6, 4, 3, 5), random(2, 4, 9, 8, seed=1)
    assert full_rank(4, 6, (3, 5), form) == most
    unit = LowRank(4, 6, (3, 5), most, form=form, stride=stride, padding=padding).double()
    unit.approximate(weight)
    assert torch.allclose(unit(x), F.conv2d(x, weight, None, stride, padding), atol=1e-10)


def product(unit):
    """The kernel of the two together: the answer to every single one-pixel picture, turned round."""
    c_in, (k_y, k_x) = unit.first.in_channels, (5, 3)
    ones = torch.zeros(c_in, c_in, 2 * k_y - 1, 2 * k_x - 1, dtype=torch.float64)
    ones[range(c_in), range(c_in), k_y - 1, k_x - 1] = 1
    return unit(ones).flip(2, 3).transpose(0, 1)


@pytest.mark.parametrize("form", FORMS)
def test_below_it_the_loss_is_that_of_the_dropped_singular_values(form):
    weight = random(6, 4, 5, 3)
    unit = LowRank(4, 6, (5, 3), 3, form=form).double()
    unit.approximate(weight)
    matrix = weight.flatten(1) if form == "channel" else weight.permute(1, 2, 0, 3).reshape(20, 18)
    dropped = torch.linalg.svdvals(matrix)[3:].square().sum()
    assert torch.allclose((product(unit) - weight).square().sum(), dropped)


@pytest.mark.parametrize(
    ("c_in", "c_out", "kernel", "form", "rank", "weights"),
    [
        (64, 64, 3, "channel", 0.25, 16 * (576 + 64)),
        (64, 64, 3, "spatial", 0.25, 48 * (192 + 192)),
        (64, 128, 3, "channel", 8, 8 * (576 + 128)),
        (64, 128, 1, "spatial", 0.25, 16 * (64 + 128)),
        (64, 64, (1, 7), "spatial", 4, 4 * (448 + 64)),
        (64, 64, 3, "channel", 0.001, 576 + 64),
    ],
)
def test_rank_is_a_number_or_a_share_of_the_full_rank(c_in, c_out, kernel, form, rank, weights):
    unit = low_rank(c_in, c_out, kernel, rank=rank, form=form)
    assert type(unit) is LowRank
    assert sum(p.numel() for p in unit.parameters()) == weights


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(3, 1, 1), (3, 2, 1), (1, 2, 0), ((1, 5), 1, (0, 2)), (7, 2, 3), (2, 2, 0), (3, 1, 3), (4, 2, (1, 2))],
)
def test_sizes_are_those_of_the_plain_convolution(form, kernel, stride, padding):
    x = torch.zeros(1, 16, 11, 9)
    plain = nn.Conv2d(16, 12, kernel, stride, padding)
    unit = low_rank(16, 12, kernel, stride=stride, padding=padding, bias=True, rank=2, form=form)
    assert type(unit) is LowRank and unit.second.bias is not None and unit.first.bias is None
    assert unit(x).shape == plain(x).shape


def test_groups_and_ranks_that_save_nothing_stay_plain():
    for unit in (
        low_rank(16, 16, 3, groups=16),
        low_rank(16, 16, 3, groups=4),
        low_rank(64, 64, 1, rank=0.5),  # the break-even of 1x1 kernels: half the rank
        low_rank(64, 64, 3, rank=10**6),  # cut to the full rank, which costs more than it saves
        low_rank(1, 1, 1),
    ):
        assert type(unit) is nn.Conv2d
    assert type(low_rank(64, 64, 1, rank=0.49)) is LowRank
    assert type(low_rank(64, 64, 3, rank=0.89)) is LowRank and type(low_rank(64, 64, 3, rank=0.91)) is nn.Conv2d


@pytest.mark.parametrize("form", FORMS)
def test_gradients(form):
    torch.manual_seed(0)
    unit = low_rank(4, 6, 3, stride=2, padding=1, rank=2, form=form, bias=True).double()
    x = random(2, 4, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: unit(x), (x, *unit.parameters()))


@pytest.mark.parametrize("options", [{"rank": 0}, {"rank": -0.5}, {"rank": 1.5}, {"rank": True}, {"form": "tucker"}])
def test_what_can_not_be_is_refused(options):
    with pytest.raises(ConfigError, match="low_rank"):
        low_rank(8, 8, 3, **options)
    with pytest.raises(ConfigError, match="from 1 to 6"):
        LowRank(4, 6, (3, 5), 7)
