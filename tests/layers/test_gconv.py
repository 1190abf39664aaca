"""The generator convolution against a loop over pictures and against plain convolutions."""

import pytest
import torch
import torch.nn.functional as F
from onnx_file import check_compiles_and_exports
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.gconv import GConv, gconv

CASES = [(3, 1, 1, 1), (3, 2, 1, 2), (1, 2, 0, 1), ((1, 5), 1, (0, 2), 4), (2, 2, 0, 1), (3, 1, 3, 4)]


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(c_in=4, c_out=8, kernel=3, **options):
    """A layer whose scores depend on the picture."""
    torch.manual_seed(0)
    unit = gconv(c_in, c_out, kernel, **options).double()
    nn.init.normal_(unit.scores.weight, std=2.0)
    nn.init.normal_(unit.scores.bias)
    return unit


def kernels(unit):
    """(candidates, c_out, c_in / groups, k, k)."""
    return unit.kernels.weight.unflatten(0, (unit.kernels.candidates, -1))


@pytest.mark.parametrize("top", [0, 2])
@pytest.mark.parametrize(("kernel", "stride", "padding", "groups"), CASES)
def test_it_is_the_loop_over_pictures_and_the_mixture_of_the_outputs(kernel, stride, padding, groups, top):
    unit = layer(4, 8, kernel, stride=stride, padding=padding, groups=groups, bias=True, top=top)
    nn.init.normal_(unit.bias)
    x, where = random(3, 4, 7, 6), (stride, padding, 1, groups)
    y, shares = unit(x), unit.shares(x)
    mixed = torch.einsum("nk,koiyx->noiyx", shares, kernels(unit))
    loop = torch.cat([F.conv2d(x[i : i + 1], mixed[i], unit.bias.flatten(), *where) for i in range(3)])
    assert torch.allclose(y, loop, atol=1e-12)
    outputs = torch.stack([F.conv2d(x, w, unit.bias.flatten(), *where) for w in kernels(unit)], 1)
    assert torch.allclose(y, torch.einsum("nk,nkoyx->noyx", shares, outputs), atol=1e-12)


def test_shares_sum_to_one_and_top_keeps_the_largest():
    x = random(5, 4, 3, 3)
    all_of_them, few = layer().shares(x), layer(top=2).shares(x)
    assert torch.allclose(all_of_them.sum(1), torch.ones(5).double())
    assert ((few > 0).sum(1) == 2).all() and torch.allclose(few.sum(1), torch.ones(5).double())
    for row, kept in zip(all_of_them, few, strict=True):
        best = row.topk(2).indices
        assert torch.allclose(kept[best], row[best] / row[best].sum())


def test_equal_candidates_do_not_depend_on_the_picture():
    unit = layer(padding=1)
    same = kernels(unit)[:1].expand(4, -1, -1, -1, -1).flatten(0, 1)
    unit.kernels.weight.data = same.clone()
    x = random(3, 4, 6, 5)
    assert torch.allclose(unit(x), F.conv2d(x, same[:8], padding=1), atol=1e-12)


def test_a_decided_score_picks_one_kernel():
    unit, x = layer(padding=1), random(3, 4, 6, 5)
    nn.init.zeros_(unit.scores.weight)
    unit.scores.bias.data = torch.tensor([0.0, 0.0, 1000.0, 0.0]).double()
    assert torch.allclose(unit(x), F.conv2d(x, kernels(unit)[2], padding=1), atol=1e-12)


def test_it_starts_as_the_mean_of_its_candidates_with_the_variance_of_one_convolution():
    torch.manual_seed(0)
    unit, x = gconv(64, 64, 3), torch.zeros(2, 64, 5, 5)
    assert torch.equal(unit.shares(x), torch.full((2, 4), 0.25))
    assert kernels(unit).mean(0).var().item() == pytest.approx(2 / 576, rel=0.05)
    assert type(gconv(4, 8, 3, candidates=1)) is nn.Conv2d


def test_weights_and_multiply_adds():
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        unit = gconv(16, 32, 3, padding=1, groups=2, candidates=5)
        one = 32 * 8 * 9
        assert sum(p.numel() for p in unit.parameters()) == 5 * (one + 16 + 1)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            unit(torch.empty(1, 16, 10, 7))
    assert counter.get_total_flops() // 2 == one * 70 + 5 * (one + 16)


@pytest.mark.parametrize("size", [(8, 8), (5, 3), (2, 2), (1, 1)])
@pytest.mark.parametrize("groups", [1, 4])
def test_gradients_reach_every_parameter_on_any_map(size, groups):
    unit, x = gconv(4, 8, 3, stride=2, padding=1, groups=groups).double(), random(4, 4, *size)
    unit(x).square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in unit.parameters())


@pytest.mark.parametrize("top", [0, 2])
def test_gradients(top):
    unit, x = layer(2, 4, 3, padding=1, bias=True, top=top, candidates=3), random(2, 2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: unit(x), (x, *unit.parameters()))


def test_a_picture_alone_gives_the_same_and_bfloat16_is_near():
    unit, x = layer(padding=1, candidates=3), random(3, 4, 6, 5)
    y = unit(x)
    assert torch.allclose(unit(x[1:2]), y[1:2], atol=1e-12)
    assert torch.allclose(unit(x.to(memory_format=torch.channels_last)), y, atol=1e-12)
    unit, x = unit.float(), x.float()
    with torch.autocast("cpu", torch.bfloat16):
        found, shares = unit(x), unit.shares(x)
    assert shares.dtype == torch.float32 and torch.allclose(shares, unit.shares(x))
    assert found.dtype == torch.bfloat16 and (found.float() - y).norm() < 0.01 * y.norm()


def test_it_compiles_whole_and_survives_onnx():
    net = nn.Sequential(layer(3, 4, 3, stride=2, padding=1), layer(4, 4, 3, padding=1, groups=4, top=2)).float().eval()
    x = random(3, 3, 9, 8).float()
    check_compiles_and_exports(net, x, compiled=1e-5)


@pytest.mark.parametrize("options", [{"candidates": 0}, {"candidates": 2.5}, {"top": 1}, {"top": 5}, {"top": -1}])
def test_what_can_not_be_is_refused(options):
    assert type(gconv(4, 8, 3)) is GConv
    with pytest.raises(ConfigError, match="gconv"):
        gconv(4, 8, 3, **options)
