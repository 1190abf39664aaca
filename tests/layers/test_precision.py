"""Every layer in bfloat16 and in channels-last: how far it is from float32, and what stays float32 whatever happens."""

import ast
import copy
import functools
import math

import pytest
import torch
from tiny import TABLES
from torch import nn

from foveate.config import replace
from foveate.layers import Layers, invariant_norm, iter_norm
from foveate.layers.iter_norm import inverse_root

CHANNELS = 64
NORM, ACT, ATTN, CONV = (
    [(slot, name) for name in table] for slot, table in zip(Layers().__dict__, TABLES, strict=True)
)
PLACES = [(*layer, {}) for layer in NORM + ACT + ATTN]
PLACES += [
    (*layer, place)
    for layer in CONV
    for place in ({"kernel": 3}, {"kernel": 3, "stride": 2}, {"kernel": 1}, {"kernel": 5, "groups": CHANNELS})
]
PICTURES = 16
# Relative to the largest output; to the length of the gradients. bfloat16 itself has steps of 0.0078, half of it is the
# error of one rounding, and a layer rounds a few times. The gradient of a kernel is rounded most often: without
# instructions for bfloat16 it is summed picture by picture in it. Of n such sums of terms without a common sign the
# k-th has k / n of the last one's square, so their roundings add up to the root of (n + 1) / 2 of one: SUMMED, with
# three more for the input, the gradient of the output and the result. What lies between a kernel and its parameter may
# amplify that (see amplified).
ROUNDING = 2**-8 / math.sqrt(3)  # root of the mean square, evenly between -2^-8 and 2^-8 of a number at the most
SUMMED = ROUNDING * math.sqrt((PICTURES + 1) / 2 + 3)  # 0.0077
OUTPUT, INPUT_GRADIENT, PARAMETER_GRADIENT = 0.01, 0.01, 0.02
LOOSER = {  # name: those three where they are not enough, and why
    "gn_plus": (0.01, 0.02, 0.4, "mix learns from the difference of two norms that are nearly equal, each rounded"),
    "cbam": (0.01, 0.1, 0.02, "of two values that round to the same number either may be taken for the maximum"),
    "conv_norm": (0.1, 0.05, 0.3, "a depthwise filter hardly passes some frequencies: their rounding is amplified"),
    "sk": (
        0.02,
        0.06,
        0.15,
        "the gate has a batch norm over one value a picture, which divides by how little they differ",
    ),
    "residual_mask": (
        0.01,
        0.02,
        0.1,
        "a small network: two units in a row, two convolutions behind them",
    ),
}
STATISTICS = 2e-3  # of a batch whose values were rounded on their way; in bfloat16 they would be off by more
LAYOUT = 1e-5  # channels-last in float32: another order of the sums
LAYOUT_LOOSER = {"gn_plus": 1e-3, "residual_mask": 1e-4}  # the gradients of parameters, as above


@functools.cache
def make(slot, name, place):
    """The layer after some batches, with gains and biases that are not 1 and 0; place: the text of a dict."""
    torch.manual_seed(0)
    layers = replace(Layers(), **{slot: name})
    if slot == "conv":
        layer = layers.make_conv(CHANNELS, CHANNELS, **ast.literal_eval(place))
    elif slot == "attn":
        layer = layers.make_attn(CHANNELS, CHANNELS)
    else:
        layer = (layers.make_norm if slot == "norm" else layers.make_act)(CHANNELS)
    for p in layer.parameters():
        if p.ndim < 2:
            nn.init.uniform_(p, 0.5, 1.5)
    for seed in range(4):
        layer(pictures(10 + seed).clone())  # some activations write into their input
    return layer


@functools.cache
def pictures(seed):
    """Maps of 4,096 positions in all, each of a mean of its own, exact in bfloat16."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(PICTURES, CHANNELS, 16, 16, generator=generator)
    x = x + torch.randn(PICTURES, CHANNELS, 1, 1, generator=generator)
    return (x + 0.3).bfloat16().float()


def learn(layer, x, *, cast=False, training=True):
    """Outputs, gradient of the input, gradients of the parameters, of a copy; and the copy."""
    layer, x = copy.deepcopy(layer).train(training), x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        y = layer(x.bfloat16() if cast else x.clone())
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    (y.float() * (y.float() / 2 + weights)).sum().backward()
    return y, x.grad, {name: p.grad for name, p in layer.named_parameters()}, layer


def farthest(a, b):
    return ((a.float() - b).abs().max() / b.abs().max().clamp(min=1e-6)).item()


def length(a, b):
    return ((a - b).norm() / b.norm().clamp(min=1e-6)).item()


def worst(found, expected):
    """The largest relative error of a parameter's gradient; one far smaller than all together is near them by that."""
    floor = 1e-3 * torch.stack([g.norm() for g in expected.values()]).norm() if expected else 1.0
    return max(
        [((found[key] - g).norm() / g.norm().clamp(min=floor)).item() for key, g in expected.items()], default=0.0
    )


def tolerances(name, layer, x, training):
    """Those three for a layer."""
    output, input_gradient, parameter_gradient = LOOSER.get(name, (OUTPUT, INPUT_GRADIENT, PARAMETER_GRADIENT))[:3]
    return output, input_gradient, max(parameter_gradient, SUMMED * amplified(layer, x, training))


def amplified(layer, x, training):
    """How many times larger a relative error without direction in the gradient of a kernel is in that of its parameter.

    1 where the kernel is the parameter. A mean that a layer takes away goes from the gradient too, and its rounding
    stays; a whitening divides the directions in which pictures vary most, where the gradient is long.
    """
    layer, seen = copy.deepcopy(layer).train(training), []

    def watched(conv, x, kernel, bias):
        if kernel is not conv.weight:
            kernel.retain_grad()
            seen.append((kernel, conv.weight))
        return type(conv)._conv_forward(conv, x, kernel, bias)

    for conv in layer.modules():
        if isinstance(conv, nn.Conv2d):
            conv._conv_forward = functools.partial(watched, conv)
    y = layer(x.clone())
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    if y.requires_grad:
        (y * (y / 2 + weights)).sum().backward(retain_graph=True)
    factors = [1.0]
    for kernel, weight in seen:
        noise, long = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(3)), kernel.grad.norm()
        (through,) = torch.autograd.grad(kernel, weight, noise, retain_graph=True)
        factors.append((through.norm() / noise.norm() * long / weight.grad.norm()).item())
    return max(factors)


@pytest.mark.parametrize(("slot", "name", "place"), PLACES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_bfloat16_is_near_float32(slot, name, place, training):
    layer, x = make(slot, name, str(place)), pictures(3)
    output, input_gradient, parameter_gradient = tolerances(name, layer, x, training)
    y, grad, grads, after = learn(layer, x, training=training)
    cast_y, cast_grad, cast_grads, cast_after = learn(layer, x, training=training, cast=True)
    assert farthest(cast_y, y) <= output
    assert length(cast_grad, grad) <= input_gradient
    assert worst(cast_grads, grads) <= parameter_gradient
    assert all(g.dtype == torch.float32 for g in cast_grads.values())
    for key, t in cast_after.state_dict().items():
        assert t.dtype == (torch.float32 if t.is_floating_point() else torch.int64), key
        assert farthest(t, after.state_dict()[key]) <= STATISTICS, key


def test_a_layer_that_is_wrong_in_bfloat16_is_beyond_its_tolerance():
    """Where most is allowed: statistics of other batches instead of this one's; a gradient a tenth too large."""
    for unit, place in (("invariant_conv", {"kernel": 3}), ("ws_conv", {"kernel": 5, "groups": CHANNELS})):
        layer, x = make("conv", unit, str(place)), pictures(3)
        limit = tolerances(unit, layer, x, True)[2]
        grads, cast = learn(layer, x)[2], learn(layer, x, cast=True)[2]
        assert worst(cast, grads) <= limit < 0.05
        assert worst({key: 1.1 * g for key, g in cast.items()}, grads) > limit
        if unit == "invariant_conv":
            assert worst(learn(layer, x, cast=True, training=False)[2], grads) > limit


@pytest.mark.parametrize(("slot", "name", "place"), PLACES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_channels_last_changes_nothing_but_the_order_of_sums(slot, name, place, training):
    layer, x = make(slot, name, str(place)), pictures(3)
    y, grad, grads, after = learn(layer, x, training=training)
    last_y, last_grad, last_grads, last_after = learn(layer, x.to(memory_format=torch.channels_last), training=training)
    assert farthest(last_y, y) <= LAYOUT
    assert length(last_grad, grad) <= 2 * LAYOUT
    assert worst(last_grads, grads) <= LAYOUT_LOOSER.get(name, LAYOUT)
    assert all(farthest(t, after.state_dict()[key]) <= LAYOUT for key, t in last_after.state_dict().items())


@pytest.mark.parametrize("name", ["batch_norm", "bn_small_init", "iter_norm", "iter_norm(steps=12)"])
def test_statistics_of_what_bfloat16_holds_are_those_of_float32(name):
    layer, x = make("norm", name, "{}"), pictures(3)
    plain, cast = learn(layer, x)[-1].state_dict(), learn(layer, x, cast=True)[-1].state_dict()
    assert all(farthest(cast[key], t) <= 1e-6 for key, t in plain.items())


@pytest.mark.parametrize(
    ("slot", "name", "home"),
    [
        ("norm", "iter_norm", iter_norm),
        ("norm", "invariant_norm", invariant_norm),
        ("conv", "invariant_conv", invariant_norm),
    ],
)
def test_newton_steps_are_float32_inside_autocast(slot, name, home, monkeypatch):
    seen = []

    def watched(matrix, size, steps):
        root = inverse_root(matrix, size, steps)
        seen.append({matrix.dtype, size.dtype, root.dtype, (matrix @ matrix).dtype})  # the product as autocast has it
        return root

    layer = make(slot, name, str({"kernel": 3} if slot == "conv" else {}))
    monkeypatch.setattr(home, "inverse_root", watched)
    learn(layer, pictures(3), cast=True)
    assert seen == [{torch.float32}]


@pytest.mark.parametrize("name", ["layer_norm", "group_norm", "batch_norm"])
def test_gradients_of_gains_are_summed_in_float32(name):
    """Over 50,000 positions: summed in bfloat16 they stop growing at a tenth of what they are."""
    torch.manual_seed(0)
    norm, x = replace(Layers(), norm=name).make_norm(32), torch.randn(16, 32, 56, 56).bfloat16().float()
    _, _, grads, _ = learn(norm, x)
    _, _, cast, _ = learn(norm, x, cast=True)
    assert length(cast["weight"], grads["weight"]) < 1e-3
