"""Layers fitted anew: ridge regression as scikit-learn has it, unfolded inputs as torch has them, and closer nets."""

import copy

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from tiny import host
from torch import nn

from foveate.compress.check import pictures, unsettle
from foveate.compress.couple import couple
from foveate.compress.plan import random_plan
from foveate.compress.refit import RIDGE, fit, fitting, inputs, refit, sampled
from foveate.compress.schedule import removed
from foveate.config import replace
from foveate.layers import Layers
from foveate.zoo import FAMILIES, build


@pytest.mark.parametrize("bias", [False, True])
def test_a_fit_is_ridge_regression_drawn_towards_the_weights(bias):
    torch.manual_seed(0)
    layer = nn.Linear(6, 4, bias=bias, dtype=torch.float64)
    x, y = torch.randn(50, 6, dtype=torch.float64) + 1, torch.randn(50, 4, dtype=torch.float64) - 2
    before = layer.weight.detach().clone()
    centred = x - x.mean(0) if bias else x
    ridge = Ridge(alpha=float(RIDGE * centred.square().sum(0).mean()) + 1e-12, fit_intercept=bias)
    ridge.fit(x, y - x @ before.T)
    with torch.no_grad():
        fit(layer, x, y)
    assert torch.allclose(layer.weight, before + torch.from_numpy(ridge.coef_), atol=1e-10)
    if bias:
        assert torch.allclose(layer.bias, torch.from_numpy(ridge.intercept_), atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"padding": (2, 0), "dilation": (2, 1)}])
@pytest.mark.parametrize("size", [1, 3, (3, 2)])
def test_inputs_times_weights_are_the_outputs_at_these_places(options, size):
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, size, bias=False, dtype=torch.float64, **options)
    x = torch.randn(3, 5, 11, 9, dtype=torch.float64)
    with torch.no_grad():
        places, y = sampled(conv(x), torch.arange(7))
        assert torch.allclose(inputs(conv, x, places) @ conv.weight.flatten(1).T, y, atol=1e-12)


def test_a_filter_that_was_there_twice_is_not_missed():
    config = replace(host("vgg", Layers()), num_classes=5)
    model = unsettle(build(config), 0).eval()
    name, group = next(iter(couple(config).groups.items()))
    half = len(group.units) // 2
    state = model.state_dict()
    for tensor in list(state.values())[:6]:  # of the first convolution and its norm
        if tensor.ndim:
            tensor[half:] = tensor[:half]
    assert len(state["features.0.weight"]) == 2 * half
    smaller, x = removed(model, {name: list(range(half))}), pictures(config, 0).float()
    before = error(model, smaller, x)
    refit(smaller, model, {name: list(range(half))}, [(x, torch.zeros(len(x)))])
    assert error(model, smaller, x) < 1e-2 * before


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_comes_closer_to_what_it_was(family):
    config = replace(host(family, Layers()), num_classes=5)
    if family == "mgic":
        config = replace(config, head=16)
    side = 75 if family == "inception" else 32
    torch.manual_seed(0)
    model = unsettle(build(config), 0).eval()
    plan = random_plan(config, 0)
    smaller = removed(model, plan)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, side, side, generator=generator)
    state = copy.deepcopy(smaller.state_dict())
    before = error(model, smaller, x)
    refit(smaller, model, plan, [(x[:40], torch.zeros(40)), (x[40:], torch.zeros(24))])
    changed = {n.rpartition(".")[0] for n, t in smaller.state_dict().items() if not torch.equal(t, state[n])}
    able = {n for n, m in smaller.named_modules() if fitting(m, model.get_submodule(n))}
    assert changed and changed <= able
    assert not any(m._forward_hooks or m._forward_pre_hooks for net in (model, smaller) for m in net.modules())
    assert error(model, smaller, x) < 0.3 * before


def error(a, b, x):
    with torch.no_grad():
        return float(F.mse_loss(b(x), a(x)))
