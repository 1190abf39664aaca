"""The residual attention mask as a gate: golden values of its squashings, its bounds, sizes and counts."""

import pytest
import torch
import torch.nn.functional as F
from fills import fill
from onnx_file import check_compiles_and_exports
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.mask import Halve, residual_mask, squash


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gate(channels=8, base=8, **options):
    """A gate in evaluation mode whose norms have statistics and gains of their own."""
    torch.manual_seed(0)
    made = residual_mask(channels, base, **options).double().eval()
    for m in made.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean, std=0.3)
            nn.init.uniform_(m.running_var, 0.5, 2)
            nn.init.uniform_(m.weight, 0.5, 2)
            nn.init.normal_(m.bias, std=0.3)
    return made


@pytest.mark.parametrize(
    ("kind", "first", "squares"),
    [
        ("mixed", (0.57444252, 0.58004596, 0.59489737), 322.37993830),
        ("channel", (0.14219807, 0.14858859, 0.18489929), 144.0),
        ("spatial", (0.59933132, 0.60699877, 0.62719790), 344.02598118),
    ],
)
def test_golden_values(kind, first, squares):
    """f1, f2, f3 of section 3.2; those of f3 are without eps, which moves them by a few millionths."""
    for eps, near in ((0.0, 1e-6), (1e-5, 3e-6)):
        y = squash(fill((4, 8, 6, 6)), kind, eps)
        assert y.flatten()[:3].tolist() == pytest.approx(first, rel=near)
        assert y.square().sum().item() == pytest.approx(squares, rel=near)


def test_a_map_without_contrast_is_a_half_and_a_pixel_without_signal_is_nothing():
    x = torch.full((2, 4, 3, 3), 7.0, requires_grad=True)
    assert torch.equal(squash(x, "spatial"), torch.full((2, 4, 3, 3), 0.5))
    squash(x, "spatial").sum().backward()
    assert x.grad.isfinite().all()
    assert torch.equal(squash(torch.zeros(2, 4, 3, 3), "channel"), torch.zeros(2, 4, 3, 3))


@torch.no_grad()
def test_without_a_mask_the_trunk_comes_out():
    made, x = gate(activation="channel"), 3 * random(2, 8, 7, 6)
    nn.init.zeros_(made.mask.conv2.weight)
    assert torch.equal(made(x), x)
    assert torch.equal(gate(learning="naive")(x) + x, gate()(x))


@pytest.mark.parametrize("activation", ["mixed", "spatial"])
@pytest.mark.parametrize("levels", [0, 1, 3])
@torch.no_grad()
def test_the_output_lies_between_the_trunk_and_twice_the_trunk(activation, levels):
    made, x = gate(levels=levels, activation=activation), 3 * random(2, 8, 9, 7)
    y = made(x)
    assert (y.abs() >= x.abs()).all() and (y.abs() <= 2 * x.abs()).all()
    assert (y / x).std() > 0.05
    naive = gate(levels=levels, activation=activation, learning="naive")(x)
    assert (naive.abs() <= x.abs()).all() and torch.allclose(naive + x, y)


@torch.no_grad()
def test_a_mask_over_channels_has_norm_one_at_every_pixel():
    x = random(2, 8, 5, 4)
    mask = gate(activation="channel")(x) / x - 1
    assert torch.allclose(mask.square().sum(1), torch.ones(2, 5, 4, dtype=torch.float64))


@torch.no_grad()
def test_a_pass_is_the_figure():
    """Two levels: down, down, two units at the bottom, up to the stored size, plus the skip, up to the full size."""
    made, x = gate(levels=2), random(2, 8, 11, 6)
    m = made.mask
    (down1, down2), (up1, up2), (skip,) = m.down, m.up, m.skip
    half = down1(F.max_pool2d(x, 3, 2, ceil_mode=True))
    low = up2(down2(F.max_pool2d(half, 3, 2, ceil_mode=True)))
    assert half.shape[2:] == (5, 3) and low.shape[2:] == (2, 1)
    back = up1(F.interpolate(low, half.shape[2:], mode="bilinear", align_corners=True) + skip(half))
    full = F.interpolate(back, x.shape[2:], mode="bilinear", align_corners=True)
    logits = m.conv2(m.bn2(m.conv1(m.bn1(full).relu())).relu())
    assert torch.allclose(made(x), (1 + logits.sigmoid()) * x)
    unit = skip[0]
    y = unit.conv2(unit.bn2(unit.conv1(unit.bn1(x).relu())).relu())
    assert torch.allclose(unit(x), x + unit.conv3(unit.bn3(y).relu()))


@pytest.mark.parametrize("size", [(56, 56), (28, 7), (9, 13), (3, 2), (2, 1), (1, 5), (1, 1)])
@torch.no_grad()
def test_the_size_stays_and_the_pool_is_caffes(size):
    x = random(1, 8, *size)
    for levels in (1, 4):
        assert gate(levels=levels)(x).shape == x.shape
    pooled = Halve()(x)
    assert pooled.shape[2:] == tuple(max(1, side // 2) for side in size)
    if min(size) > 1:
        assert torch.equal(pooled, nn.MaxPool2d(3, 2, ceil_mode=True)(x))
    if size == (1, 1):
        assert torch.equal(pooled, x)


@pytest.mark.parametrize(
    ("channels", "base", "ratio", "inner"), [(64, 64, 0.25, 16), (96, 16, 0.25, 4), (8, 8, 0.0625, 1)]
)
@pytest.mark.parametrize(("levels", "units"), [(0, 2), (1, 2), (2, 5), (3, 8)])
def test_parameters(channels, base, ratio, inner, levels, units):
    with torch.device("meta"):
        made = residual_mask(channels, base, levels, ratio)
        assert made(torch.empty(2, channels, 6, 5)).shape == (2, channels, 6, 5)
    unit = 2 * channels * inner + 9 * inner**2 + 2 * channels + 4 * inner
    assert sum(p.numel() for p in made.parameters()) == units * unit + 2 * channels**2 + 4 * channels


@pytest.mark.parametrize("shape", [(4, 8, 8, 8), (4, 8, 3, 2), (4, 8, 1, 1), (1, 8, 4, 4)])
@pytest.mark.parametrize("activation", ["mixed", "channel", "spatial"])
def test_every_parameter_learns_from_small_maps(shape, activation):
    layer = residual_mask(8, 8, levels=1, activation=activation)
    layer(random(*shape).float()).square().sum().backward()
    grads = [p.grad for p in layer.parameters()]
    assert all(g is not None and g.isfinite().all() for g in grads)
    # on a 1x1 map spatial compares a pixel with itself
    assert any(g.abs().sum() > 0 for g in grads) != (shape[2:] == (1, 1) and activation == "spatial")


@pytest.mark.parametrize("activation", ["mixed", "channel", "spatial"])
@pytest.mark.parametrize("training", [True, False])
def test_gradients(activation, training):
    layer = gate(4, 4, levels=2, ratio=0.5, activation=activation).train(training)
    x = random(2, 4, 6, 5).requires_grad_()
    assert torch.autograd.gradcheck(layer, x)


@torch.no_grad()
def test_pictures_do_not_see_each_other_in_evaluation():
    for activation in ("mixed", "channel", "spatial"):
        layer, x = gate(levels=2, activation=activation), random(3, 8, 7, 5)
        assert torch.allclose(layer(x)[1:2], layer(x[1:2]), atol=1e-12)


@torch.no_grad()
def test_what_it_learns_stands_in_its_state():
    layer, x = gate(), random(3, 8, 7, 5)
    other = residual_mask(8, 8).double().eval()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    layer.train()(x)
    assert not torch.equal(layer.state_dict()["mask.bn1.running_mean"], other.state_dict()["mask.bn1.running_mean"])


@pytest.mark.parametrize("activation", ["mixed", "channel", "spatial"])
@torch.no_grad()
def test_bfloat16_and_channels_last_stay_near_float32(activation):
    layer, x = gate(levels=2, activation=activation).float(), random(3, 8, 9, 7).float()
    y = layer(x)
    assert torch.allclose(layer(x.contiguous(memory_format=torch.channels_last)), y, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert (layer(x) - y).norm() < 0.02 * y.norm()
    low = layer.bfloat16()(x.bfloat16())
    assert low.dtype == torch.bfloat16 and (low.float() - y).norm() < 0.02 * y.norm()


def test_it_compiles_whole_and_survives_onnx():
    kinds = [{"levels": 2}, {"activation": "channel", "learning": "naive"}, {"levels": 3, "activation": "spatial"}]
    net, x = nn.Sequential(*(gate(**k) for k in kinds)).float().eval(), random(3, 8, 9, 6).float()
    check_compiles_and_exports(net, x)


@pytest.mark.parametrize(
    "options",
    [
        {"levels": -1},
        {"levels": 7},
        {"levels": 1.0},
        {"ratio": 0.0},
        {"ratio": float("nan")},
        {"learning": "both"},
        {"activation": "sigmoid"},
    ],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match=rf"residual_mask\(.*{next(iter(options))}"):
        residual_mask(8, 8, **options)
