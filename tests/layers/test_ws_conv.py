"""Scaled weight standardisation, the constants of the activations and the gain of the gate."""

import math

import pytest
import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.act import GAMMA
from foveate.layers.se import SqueezeExcite
from foveate.layers.ws_conv import WSConv2d, ws_conv


def wave(*shape, scale):
    """scale * sin(0.1 * (i + 1)), row by row."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return (scale * torch.sin(0.1 * (index + 1))).reshape(shape)


def with_weight(weight, **options):
    conv = ws_conv(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), bias=True, **options).double()
    with torch.no_grad():
        conv.weight.copy_(weight)
    return conv


@pytest.mark.parametrize(
    ("options", "first", "squares"),
    [
        ({}, (0.00689053, 0.02392846, 0.04062419), 6.0),  # by DeepMind's formula
        ({"eps": 1e-6, "add_eps": True}, (0.00689050, 0.02392835, 0.04062402), 5.99995159),  # by timm's
    ],
)
def test_golden_kernels(options, first, squares):
    kernel = with_weight(wave(6, 8, 3, 3, scale=0.5), **options).kernel()
    assert kernel.flatten()[:3].tolist() == pytest.approx(first, abs=1e-8)
    assert kernel.square().sum().item() == pytest.approx(squares, abs=1e-8)


@pytest.mark.parametrize(("groups", "stride", "bias"), [(1, 1, True), (2, 2, True), (4, 1, False)])
def test_outputs_equal_timm(groups, stride, bias):
    from timm.layers import ScaledStdConv2d

    torch.manual_seed(0)
    gamma, eps = GAMMA["relu"], 1e-5
    theirs = ScaledStdConv2d(8, 12, 3, stride=stride, padding=1, groups=groups, bias=bias, gamma=gamma, eps=eps)
    ours = ws_conv(8, 12, 3, stride=stride, padding=1, groups=groups, bias=bias, gamma=gamma, eps=eps, add_eps=True)
    with torch.no_grad():
        for p in theirs.double().parameters():
            p.copy_(torch.randn(p.shape))
    ours.double().load_state_dict(theirs.state_dict())
    x = torch.randn(2, 8, 9, 7, dtype=torch.float64)
    assert (ours(x) - theirs(x)).abs().max() < 1e-12


def test_every_kernel_has_mean_zero_and_the_norm_of_its_gain():
    conv = with_weight(wave(6, 8, 3, 3, scale=0.5) + 0.3, gamma=1.5)
    with torch.no_grad():
        conv.gain.copy_(torch.arange(1.0, 7.0).view(6, 1, 1, 1))
    kernel = conv.kernel().flatten(1)
    assert kernel.sum(1).abs().max() < 1e-12
    assert kernel.norm(dim=1).tolist() == pytest.approx([1.5 * gain for gain in range(1, 7)])


def test_size_and_offset_of_the_weight_do_not_matter():
    weight = wave(6, 8, 3, 3, scale=0.5)
    assert torch.allclose(with_weight(weight).kernel(), with_weight(7 * weight - 3).kernel(), atol=1e-12)


def test_the_official_eps_is_a_floor_under_the_squared_norm():
    unit = torch.tensor([1.0, -1.0], dtype=torch.float64).view(1, 2, 1, 1) / 2**0.5
    assert with_weight(0.0101 * unit).kernel().norm().item() == pytest.approx(1.0)  # 0.0101^2 > 1e-4
    assert with_weight(0.0050 * unit).kernel().norm().item() == pytest.approx(0.5)


def test_a_constant_weight_gives_zero_and_finite_gradients():
    for add_eps in (False, True):
        conv = with_weight(torch.full((3, 2, 3, 3), 0.7, dtype=torch.float64), add_eps=add_eps)
        conv(torch.randn(1, 2, 5, 5, dtype=torch.float64)).sum().backward()
        assert conv.kernel().abs().max() < 1e-12
        assert all(p.grad.isfinite().all() for p in conv.parameters())


def test_the_start_is_that_of_the_official_code():
    torch.manual_seed(0)
    conv = ws_conv(64, 32, 3, groups=2, bias=True)
    assert conv.weight.std().item() == pytest.approx((32 * 9) ** -0.5, rel=0.02)
    assert conv.gain.eq(1).all() and conv.gain.shape == (32, 1, 1, 1)
    assert conv.bias.eq(0).all()


def test_the_call_string_reaches_every_option_and_the_bias_is_the_hosts_choice():
    layers = Layers(conv="ws_conv(gamma=1.5, eps=1e-06, add_eps=True)")
    conv = layers.make_conv(8, 4, (1, 3), stride=2, groups=2)
    assert isinstance(conv, WSConv2d) and conv.bias is None and conv.padding == (0, 1)
    assert (conv.gamma, conv.eps, conv.add_eps) == (1.5, 1e-6, True)
    assert layers.make_conv(8, 4, 1, bias=True).bias is not None


def test_a_kernel_of_one_weight_stays_plain():
    assert type(ws_conv(8, 8, 1, groups=8)) is nn.Conv2d
    assert type(ws_conv(1, 8, (1, 1))) is nn.Conv2d
    assert type(ws_conv(1, 8, (1, 3))) is WSConv2d


@pytest.mark.parametrize("options", ["gamma=0", "eps=-1.0", "eps=0"])
def test_constants_that_can_not_be_are_refused(options):
    with pytest.raises(ConfigError, match=r"ws_conv\(gamma=.*positive"):
        Layers(conv=f"ws_conv({options})").make_conv(8, 8, 3)


@pytest.mark.parametrize("act", GAMMA)
def test_a_scaled_activation_has_variance_one_for_a_unit_gaussian(act):
    """By quadrature. The published constants were sampled, so they are good to about 0.2 %."""
    x = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    density = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    y = Layers(act=f"scaled(act='{act}')").make_act(8)(x.clone())
    mean = torch.trapezoid(y * density, x)
    assert torch.trapezoid((y - mean) ** 2 * density, x).item() == pytest.approx(1.0, abs=5e-3)


def test_the_tanh_form_of_gelu_is_close_to_the_exact_one():
    x = torch.linspace(-6, 6, 10_001, dtype=torch.float64)
    difference = (Layers(act="gelu").make_act(8)(x) - Layers(act="gelu_tanh").make_act(8)(x)).abs().max().item()
    assert 1e-4 < difference < 5e-4


def test_activations_without_a_constant_are_refused():
    with pytest.raises(ConfigError, match=r"prelu.*one of relu"):
        Layers(act="scaled(act='prelu')").make_act(8)


def test_the_gain_multiplies_what_the_gate_lets_through():
    torch.manual_seed(0)
    plain, doubled = SqueezeExcite(8, 8, ratio=0.5), SqueezeExcite(8, 8, ratio=0.5, gain=2.0)
    doubled.load_state_dict(plain.state_dict())
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(doubled(x), 2 * plain(x))


@pytest.mark.parametrize("gain", [0.0, -1.0, math.inf, math.nan])
def test_a_gain_that_is_not_positive_is_refused(gain):
    with pytest.raises(ConfigError, match="gain > 0"):
        SqueezeExcite(8, 8, gain=gain)


@pytest.mark.parametrize("add_eps", [False, True])
def test_first_and_second_gradients_are_right_above_and_under_the_floor(add_eps):
    weight = wave(4, 3, 3, 3, scale=0.2).requires_grad_()
    with torch.no_grad():
        weight[0] *= 1e-4  # under the floor: divided by a constant
    layer = ws_conv(3, 4, 3, add_eps=add_eps).double()

    def kernel(weight, gain):
        return torch.func.functional_call(layer, {"weight": weight, "gain": gain}, (), {})

    layer.forward = layer.kernel
    gain = torch.linspace(0.5, 1.5, 4, dtype=torch.float64).reshape(4, 1, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(kernel, (weight, gain))
    assert torch.autograd.gradgradcheck(kernel, (weight, gain))
