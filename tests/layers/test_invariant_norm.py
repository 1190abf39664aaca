"""Local scale and whitening: the golden value, invariance in the basis and the scale of the input, folding, hosts."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx_file import through_onnx
from torch import nn

from foveate.cost.count import cost
from foveate.errors import ConfigError
from foveate.layers.conv import ConvShape
from foveate.layers.invariant_norm import InvariantConv2d, InvariantNorm, LocalScale, invariant_conv, whitening

F64 = torch.float64


def wave(*shape):
    """The deterministic fill of the golden values."""
    i = torch.arange(math.prod(shape), dtype=F64)
    return ((0.37 * i).sin() + 0.3 * (1.7 * i).cos()).reshape(shape)


def unit(c_in, c_out, kernel, stride=1, padding=0, groups=1, bias=True, **options):
    return InvariantConv2d(ConvShape(c_in, c_out, kernel, stride, padding, groups, bias), **options)


def remembering(layer, x):
    """The layer in evaluation mode, after it has seen x for a while."""
    for _ in range(30):
        layer(x)
    return layer.eval()


def exact(**options):
    """Whitening of all channels of all positions, to the end."""
    return InvariantNorm(8, steps=20, eps=0.0, sample=1, **options).double()


def test_golden_local_scale():
    y = LocalScale((3, 3), 1e-5)(wave(4, 8, 6, 6))
    assert y.flatten()[:3].tolist() == pytest.approx((0.40159068, 0.43567506, 0.51488922), abs=1e-8)
    assert y.square().sum().item() == pytest.approx(1149.59078303, rel=1e-9)


@pytest.mark.parametrize("window", [(1, 1), (3, 3), (5, 1), (2, 4), (9, 9)])
def test_the_window_counts_only_what_lies_in_the_map(window):
    x = wave(2, 3, 5, 4)
    y = LocalScale(window, 1e-5)(x)
    (high, wide), square = window, x.square().mean(1)
    for i in range(5):
        for j in range(4):
            up, left = max(i - high // 2, 0), max(j - wide // 2, 0)
            part = square[:, up : i - high // 2 + high, left : j - wide // 2 + wide]
            expected = x[:, :, i, j] / (part.mean((1, 2)) + 1e-5).sqrt()[:, None]
            assert torch.allclose(y[:, :, i, j], expected, atol=1e-12)


def test_a_factor_leaves_the_local_scale_and_a_rotation_turns_it():
    x, scale = wave(4, 8, 6, 6), LocalScale((3, 3), 0.0)
    assert torch.allclose(scale(7 * x), scale(x), atol=1e-12)
    turn, _ = torch.linalg.qr(torch.randn(8, 8, dtype=F64))
    turned = torch.einsum("ij,njhw->nihw", turn, x)
    assert torch.allclose(scale(turned), torch.einsum("ij,njhw->nihw", turn, scale(x)), atol=1e-12)
    assert torch.allclose(exact()(7 * x), exact()(x), atol=1e-9)


def covariance(y):
    """(C, C) of centred (N, C, H, W)."""
    rows = y.transpose(0, 1).flatten(1)
    return rows @ rows.T / rows.shape[1]


def test_the_output_is_white_after_enough_steps():
    torch.manual_seed(0)
    x = torch.einsum("ij,njhw->nihw", torch.randn(8, 8, dtype=F64), torch.randn(8, 8, 6, 6, dtype=F64))
    assert (covariance(exact()(x)) - torch.eye(8)).abs().max() < 1e-9
    layers = [InvariantNorm(8, steps=steps, sample=1).double() for steps in (5, 10, 15)]
    lows = [torch.linalg.eigvalsh(covariance(layer(x)))[0].item() for layer in layers]
    assert lows == sorted(lows) and lows[0] < 0.9 and lows[2] > 0.98


def descend(features, targets, rate, steps):
    """Predictions after gradient descent on half the mean squared error, from weights of 0."""
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)  # (m, C)
    weight = torch.zeros(rows.shape[1], dtype=F64)
    for _ in range(steps):
        weight -= rate * rows.T @ (rows @ weight - targets) / len(rows)
    return rows @ weight


def test_gradient_descent_learns_the_same_function_in_every_basis():
    """Whitening alone, all channels in one block, the exact root; the inputs themselves do not have that property."""
    torch.manual_seed(0)
    x, basis = torch.randn(6, 8, 4, 5, dtype=F64), torch.randn(8, 8, dtype=F64)
    moved, targets = torch.einsum("ij,njhw->nihw", basis, x), torch.randn(120, dtype=F64)
    here, there = (descend(exact(window=0)(z), targets, 0.3, 4) for z in (x, moved))
    assert torch.allclose(here, there, atol=1e-9)
    here, there = (descend(z, targets, 0.01, 4) for z in (x, moved))
    assert not torch.allclose(here, there, atol=1e-2)


def test_one_step_of_rate_one_is_the_least_squares_solution():
    torch.manual_seed(0)
    x, targets = torch.randn(6, 8, 4, 5, dtype=F64), torch.randn(120, dtype=F64)
    rows = exact(window=0)(x).permute(0, 2, 3, 1).flatten(0, 2)
    best = rows @ torch.linalg.lstsq(rows, targets[:, None]).solution[:, 0]
    assert torch.allclose(descend(exact(window=0)(x), targets, 1.0, 1), best, atol=1e-10)


CONVS = [
    {"kernel": 3, "padding": 1},
    {"kernel": 3, "padding": 1, "stride": 2, "groups": 2, "bias": False},
    {"kernel": (1, 3), "padding": (0, 1), "block": 4},
    {"kernel": 1},
    {"kernel": 5, "padding": 2, "groups": 8},
]


@pytest.mark.parametrize("options", CONVS, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_the_folded_convolution_is_whitening_each_patch_and_then_the_kernel(options, training):
    torch.manual_seed(0)
    layer, x = unit(8, 16, sample=1, **options).double(), torch.randn(4, 8, 6, 7, dtype=F64)
    remembering(layer, x).train(training)
    y = layer(x)
    patches = F.unfold(layer.scale()(x), layer.kernel_size, 1, layer.padding, layer.stride)  # (N, d, L)
    mean, matrix = layer.running_mean, layer.running_whitening
    if training:
        mean, matrix = whitening(patches, layer.size, 5, 1e-5, False)
    centred = (patches - mean[:, None]).unflatten(1, (-1, layer.size))  # (N, blocks, d, L)
    white = torch.einsum("bde,nbel->nbdl", matrix, centred).flatten(1, 2).unflatten(1, (layer.groups, -1))
    expected = torch.einsum("god,ngdl->ngol", layer.weight.reshape(layer.groups, 16 // layer.groups, -1), white)
    expected = expected.flatten(1, 2).reshape(y.shape)
    if layer.bias is not None:
        expected = expected + layer.bias.view(-1, 1, 1)
    assert torch.allclose(y, expected, atol=1e-10)
    if not training:
        fused = layer.fused()
        assert type(fused[1]) is nn.Conv2d
        assert torch.allclose(fused(x), y, atol=1e-10)


def test_a_dilated_unit_scales_by_its_reach():
    """The selective-kernel unit dilates convolutions after they are made."""
    layer = unit(4, 4, 3, padding=2).double()
    layer.dilation = (2, 2)
    assert layer.scale().window == (5, 5)
    x = torch.randn(4, 4, 9, 9, dtype=F64)
    assert remembering(layer, x)(x).shape == x.shape
    assert torch.allclose(layer.fused()(x), layer(x), atol=1e-10)


def test_blocks_fit_the_width():
    assert [InvariantNorm(c).size for c in (128, 96, 24, 7)] == [64, 32, 8, 1]
    taps = [unit(c, c, 3, groups=g).size // 9 for c, g in ((128, 1), (24, 1), (24, 24), (96, 2), (256, 2))]
    assert taps == [64, 8, 1, 48, 64]


def test_evaluation_uses_running_averages_that_the_state_dict_holds():
    x = wave(4, 8, 7, 7)
    for layer in (InvariantNorm(8, momentum=0.2).double(), unit(8, 4, 3, padding=1, momentum=0.2).double()):
        layer(x)
        seen = layer.patches(layer.scale()(x)) if isinstance(layer, InvariantConv2d) else layer.scale(x)[:, :, ::3, ::3]
        mean, matrix = whitening(seen, layer.size, 5, 1e-5, False)
        assert torch.allclose(layer.running_mean, 0.2 * mean)
        assert torch.allclose(layer.running_whitening, 0.2 * matrix + 0.8 * torch.eye(layer.size))
        assert {"running_mean", "running_whitening"} <= set(layer.state_dict())
        layer.eval()
        assert torch.allclose(layer(x)[1:2], layer(x[1:2]), atol=1e-12)
        assert torch.equal(layer(x), layer(x))


SHAPES = [(4, 64, 8, 8), (1, 64, 2, 2), (1, 64, 4, 4), (2, 64, 1, 1), (1, 64, 1, 1), (3, 6, 1, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_small_batches_and_maps_train(shape):
    c = shape[1]
    for x in (torch.randn(shape), torch.zeros(shape)):  # a layer that is dead: nothing at all
        for layer in (InvariantNorm(c), unit(c, 8, 1), unit(c, c, 3, padding=1, groups=c)):
            x = x.detach().requires_grad_()
            y = layer(x)
            (y * torch.randn(y.shape)).sum().backward()
            assert y.isfinite().all() and x.grad.isfinite().all()
            assert all(p.grad.isfinite().all() for p in layer.parameters())
            assert all(b.isfinite().all() for b in layer.buffers())


@pytest.mark.parametrize("sync", [False, True])
def test_one_position_is_treated_as_in_evaluation_and_not_remembered(sync):
    for layer in (InvariantNorm(8, sync=sync), unit(8, 4, 1, sync=sync)):
        remembering(layer, torch.randn(8, 8, 6, 6))
        before, x = {k: t.clone() for k, t in layer.state_dict().items()}, torch.randn(1, 8, 3, 3)
        expected = layer(x)
        assert torch.equal(layer.train()(x), expected)
        assert all(torch.equal(t, before[k]) for k, t in layer.state_dict().items())


@pytest.mark.parametrize(
    "layer",
    [
        InvariantNorm(4, block=2, sample=1),
        InvariantNorm(4, window=0, sample=2, steps=11),
        unit(4, 2, 3, padding=1, block=2, sample=2),
        unit(4, 4, (1, 2), groups=2, stride=2, bias=False, sample=1),
    ],
)
def test_gradients(layer):
    x = torch.randn(3, 4, 4, 3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(layer.double().train(), x)
    assert torch.autograd.gradcheck(layer.eval(), x)


def test_numbers_and_macs():
    assert not list(InvariantNorm(128).parameters())
    layer = unit(128, 64, 3, padding=1)
    assert sum(p.numel() for p in layer.parameters()) == 128 * 64 * 9 + 64
    assert sum(b.numel() for b in layer.buffers()) == 128 * 9 * (64 * 9 + 1)
    assert cost(InvariantNorm(128), resolution=6, in_chans=128).macs == 36 * 128 * 64
    plain = cost(nn.Conv2d(128, 64, 3, padding=1), resolution=6).macs
    assert cost(layer, resolution=6).macs - plain == pytest.approx(64 * 128 * 9 * (576 + 1), abs=1)
    assert cost(layer.fused(), resolution=6, in_chans=128).macs == plain
    with torch.device("meta"):
        norm = InvariantNorm(64)
    assert norm.train()(torch.empty(2, 64, 8, 8, device="meta")).shape == (2, 64, 8, 8)


def test_statistics_and_steps_stay_float32_inside_autocast():
    torch.manual_seed(0)
    x = torch.randn(16, 32, 8, 8).bfloat16()
    for make in (lambda: InvariantNorm(32), lambda: unit(32, 16, 3, padding=1, block=8)):
        torch.manual_seed(1)
        plain = make()
        torch.manual_seed(1)
        cast = make()
        expected = plain(x.float())
        with torch.autocast("cpu", torch.bfloat16):
            y = cast(x)
        assert y.dtype == torch.bfloat16
        assert torch.allclose(plain.running_whitening, cast.running_whitening, atol=2e-2)  # x~ itself is rounded
        assert plain.running_whitening.dtype == cast.running_whitening.dtype == torch.float32
        assert (y.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_they_export_and_compile_with_equal_outputs():
    torch.manual_seed(0)
    x = torch.randn(3, 8, 5, 6)
    model = nn.Sequential(InvariantNorm(8, block=4), unit(8, 6, 3, padding=1, block=4), unit(6, 6, 1))
    remembering(model, x)
    expected = model(x).detach()
    assert torch.allclose(torch.compile(model, fullgraph=True, backend="eager")(x), expected, atol=1e-6)
    torch.compile(InvariantNorm(8), fullgraph=True, backend="eager")(x)
    y = through_onnx(model, x)(x[:2])
    assert np.abs(y - expected[:2].numpy()).max() < 1e-4


def test_the_unit_has_a_bias_for_it_stands_in_place_of_a_norm():
    assert invariant_conv(8, 4, 3, padding=1, bias=False).bias is not None


@pytest.mark.parametrize(
    "options",
    [{"block": 0}, {"steps": 0}, {"sample": 0}, {"eps": -1.0}, {"momentum": 2.0}],
    ids=lambda o: next(iter(o)),
)
def test_options_that_can_not_be_are_refused(options):
    with pytest.raises(ConfigError, match=rf"invariant_norm\(.*{next(iter(options))}"):
        InvariantNorm(8, **options)
    with pytest.raises(ConfigError, match=rf"invariant_conv\(.*{next(iter(options))}"):
        unit(8, 8, 3, **options)


def test_an_even_window_is_refused():
    with pytest.raises(ConfigError, match="odd, or 0"):
        InvariantNorm(8, window=2)
