"""Activations: values, slopes, what happens at zero and far from it."""

import math

import pytest
import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.act import elu, hard_sigmoid, hard_swish, relu, scaled, selu, silu


def of(act, *values):
    return act(torch.tensor(values, dtype=torch.float64))


def moments(act):
    """Mean and variance of act(z), z from N(0, 1), by quadrature."""
    z = torch.linspace(-10, 10, 40_001, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    y = act(z.clone())
    mean = torch.trapezoid(y * density, z).item()
    return mean, torch.trapezoid((y - mean) ** 2 * density, z).item()


def slopes(act, *at):
    z = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(act(z.clone()).sum(), z)
    return grad


def test_elu_has_its_golden_values():
    expected = [-0.950212931632, -0.632120558829, -0.000999500167, 0.0, 2.0]
    assert of(elu(8), -3.0, -1.0, -0.001, 0.0, 2.0).tolist() == pytest.approx(expected, abs=1e-12)


def test_elu_keeps_small_numbers_in_float32():
    x = torch.tensor([-1e-6, -1e-4, -1e-3])
    assert torch.allclose(elu(8)(x.clone()), torch.expm1(x), rtol=1e-6, atol=0)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_elu_is_continuous_and_saturates_at_minus_alpha(alpha):
    act = elu(8, alpha)
    assert of(act, -1e-9, 1e-9).tolist() == pytest.approx([0.0, 0.0], abs=1e-8)
    assert of(act, -100.0, -1e30).tolist() == [-alpha, -alpha]


@pytest.mark.parametrize(("alpha", "smooth"), [(0.5, False), (1.0, True), (2.0, False)])
def test_the_slope_of_elu_is_continuous_for_alpha_one_only(alpha, smooth):
    left, right = slopes(elu(8, alpha), -1e-9, 1e-9)
    assert math.isclose(left, right, abs_tol=1e-8) == smooth
    assert left.item() == pytest.approx(alpha) and right.item() == 1


def test_elu_of_a_gaussian_is_nearer_to_mean_zero_than_relu():
    """In closed form, mean 1/sqrt(2 pi) + sqrt(e) Phi(-1) - 1/2."""
    assert moments(elu(8)) == pytest.approx((0.16052057, 0.61917856), abs=1e-7)
    assert moments(relu(8)) == pytest.approx((0.39894228, 0.34084506), abs=1e-7)


def test_selu_keeps_a_gaussian_and_is_a_scaled_elu():
    assert moments(selu(8)) == pytest.approx((0.0, 1.0), abs=1e-6)
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    assert torch.allclose(selu(8)(x.clone()), 1.0507009873554805 * elu(8, 1.6732632423543772)(x.clone()))


def test_hard_sigmoid_is_the_gate_of_hard_swish():
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    gate = hard_sigmoid(8)(x.clone())
    assert of(hard_sigmoid(8), -3.0, 0.0, 1.5, 3.0).tolist() == [0.0, 0.5, 0.75, 1.0]
    assert torch.allclose(x * gate, hard_swish(8)(x.clone()))
    assert gate.min() == 0 and gate.max() == 1


@pytest.mark.parametrize("make", [elu, selu, hard_sigmoid, silu])
def test_gradients(make):
    act = make(8)
    x = torch.tensor([-4.0, -2.5, -0.7, 0.3, 2.2, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: act(x.clone()), x)


@pytest.mark.parametrize("act", ["elu", "selu"])
def test_scaled_forms_differ_by_a_constant(act):
    plain = {"elu": nn.ELU(), "selu": nn.SELU()}[act]
    x = torch.linspace(-3, 3, 13)
    ratio = scaled(8, act)(x.clone())[x != 0] / plain(x)[x != 0]
    assert torch.allclose(ratio, ratio[:1].expand_as(ratio))


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan")])
def test_an_alpha_that_is_not_positive_is_refused(alpha):
    with pytest.raises(ConfigError, match=r"elu\(alpha"):
        elu(8, alpha)
