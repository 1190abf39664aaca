"""GradInit: both forms of the gradient against finite differences, and what a run does to a network."""

import functools

import pytest
import torch
import torch.nn.functional as F
from tiny import TINY, host, side, small_config
from torch import nn

from foveate.config import make
from foveate.errors import ConfigError, FoveateError
from foveate.layers import Layers
from foveate.train.initialisers import INITS
from foveate.train.initialisers.gradinit import ScaleAdam, Scaled, after_step, batch_statistics, norm, target
from foveate.zoo import FAMILIES, build
from foveate.zoo.families.vgg import Stage, VGGConfig


def net(normed=True, affine=True):
    """Two convolutions and a classifier, smooth everywhere, in float64."""
    torch.manual_seed(3)
    norms = [nn.BatchNorm2d(4, affine=affine) if normed else nn.Identity() for _ in range(2)]
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=not normed),
        norms[0],
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, bias=False),
        norms[1],
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 5),
    ).double()


def samples(i, n=6, side=8, classes=5, dtype=torch.float64):
    g = torch.Generator().manual_seed(i)
    labels = torch.randint(0, classes, (n,), generator=g)
    return torch.randn(n, 3, side, side, generator=g, dtype=dtype), F.one_hot(labels, classes).to(dtype)


def slope(f, m, h=1e-3):
    """The gradient of f at m by differences of fourth order."""
    found = torch.empty_like(m)
    for j in range(len(m)):
        e = torch.zeros_like(m)
        e[j] = h
        found[j] = (8 * (f(m + e) - f(m - e)) - (f(m + 2 * e) - f(m - 2 * e))) / (12 * h)
    return found


def scales_of(scaled):
    return 0.7 + torch.rand(len(scaled.start), generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize("normed", [True, False])
def test_the_true_gradient_is_that_of_the_objective(normed):
    """T1: through the gradient of S1 too."""
    model = net(normed)
    with batch_statistics(model):
        scaled, s = Scaled(model), (samples(0), samples(1))
        m = scales_of(scaled)

        def objective(m):
            theta = {n: k * p for k, (n, p) in zip(m, scaled.start.items(), strict=True)}
            leaves = {n: p.detach().requires_grad_() for n, p in theta.items()}
            grads = torch.autograd.grad(scaled.loss(leaves, s[0]), list(leaves.values()))
            moved = {n: p.detach() - 0.5 * g for (n, p), g in zip(theta.items(), grads, strict=True)}
            return scaled.loss(moved, s[1]).detach() / 0.5

        m.requires_grad_()
        value, bound = target(scaled, m, s, 1e9, 0.5, "sgd", False)
        (ours,) = torch.autograd.grad(value, m)
        assert not bound
        torch.testing.assert_close(value.detach(), objective(m.detach()), rtol=1e-12, atol=0)
        torch.testing.assert_close(ours, slope(objective, m.detach()), rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("normed", [True, False])
def test_the_detached_gradient_is_that_of_the_objective_with_a_constant_step(normed):
    """T1 for the released code's form; it is not the true one."""
    model = net(normed)
    with batch_statistics(model):
        scaled, s = Scaled(model), (samples(0), samples(1))
        m = scales_of(scaled)
        fixed = {
            n: g.detach()
            for n, g in scaled.gradient({n: p.requires_grad_() for n, p in scaled.at(m).items()}, s[0]).items()
        }

        def objective(m):
            return (
                scaled.loss(
                    {n: k * p - 0.5 * fixed[n] for k, (n, p) in zip(m, scaled.start.items(), strict=True)}, s[1]
                )
                / 0.5
            )

        m.requires_grad_()
        value, _ = target(scaled, m, s, 1e9, 0.5, "sgd", True)
        (ours,) = torch.autograd.grad(value, m)
        torch.testing.assert_close(ours, slope(objective, m.detach()), rtol=1e-5, atol=1e-10)
        (true,) = torch.autograd.grad(target(scaled, m, s, 1e9, 0.5, "sgd", False)[0], m)
        assert (ours - true).abs().max() > 1e-3


def test_the_adam_form_moves_by_the_sign():
    model = net()
    with batch_statistics(model):
        scaled, s = Scaled(model), (samples(0), samples(1))
        m = scales_of(scaled).requires_grad_()
        theta = scaled.at(m)
        grads = scaled.gradient(theta, s[0])
        moved = {n: p - 0.01 * torch.sign(grads[n]) for n, p in theta.items()}
        value, _ = target(scaled, m, s, 1e9, 0.01, "adam", False)
        torch.testing.assert_close(value, scaled.loss(moved, s[1]) / 0.01)

        def objective(m):
            leaves = {n: p.detach().requires_grad_() for n, p in scaled.at(m).items()}
            found = torch.autograd.grad(scaled.loss(leaves, s[0]), list(leaves.values()))
            moved = {n: p.detach() - 0.01 * g.sign() for (n, p), g in zip(leaves.items(), found, strict=True)}
            return scaled.loss(moved, s[1]).detach() / 0.01

        (ours,) = torch.autograd.grad(value, m)
        torch.testing.assert_close(ours, slope(objective, m.detach(), 1e-5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("normed", [True, False])
def test_the_constraint_step_follows_the_norm_of_the_gradient(normed, optimizer):
    """T2. |g|_1 is smooth too, but where an entry of g changes its sign."""
    model = net(normed)
    with batch_statistics(model):
        scaled, s = Scaled(model), samples(0)
        m = scales_of(scaled)

        def length(m):
            leaves = {n: p.detach().requires_grad_() for n, p in scaled.at(m).items()}
            found = torch.cat([g.flatten() for g in torch.autograd.grad(scaled.loss(leaves, s), list(leaves.values()))])
            return torch.linalg.vector_norm(found, 2 if optimizer == "sgd" else 1)

        m.requires_grad_()
        value, bound = target(scaled, m, (s, s), 1e-9, 0.1, optimizer, False)
        (ours,) = torch.autograd.grad(value, m)
        assert bound
        h, tolerance = (1e-3, 1e-8) if optimizer == "sgd" else (1e-6, 1e-6)
        torch.testing.assert_close(ours, slope(length, m.detach(), h), rtol=tolerance, atol=tolerance / 10)


def test_with_scales_of_one_nothing_changes_to_the_bit():
    """T3."""
    model, (x, y) = net().train(), samples(0)
    before = {k: t.clone() for k, t in model.state_dict().items()}
    with batch_statistics(model):
        scaled = Scaled(model)
        ours = scaled.loss(scaled.at(torch.ones(len(scaled.start), dtype=torch.float64)), (x, y))
    INITS["gradinit"](0, iterations=0)(model, samples)
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items())
    assert torch.equal(ours, F.cross_entropy(model(x), y))


def test_behind_a_norm_the_scale_of_a_convolution_means_nothing_to_the_loss():
    """T4: dL/dm = 0, and the gradient of the convolution is that at m = 1 divided by m."""
    model = net(affine=False)
    for part in model:
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 1e-30
    with batch_statistics(model):
        scaled, s = Scaled(model), samples(0)
        convs = [i for i, n in enumerate(scaled.start) if scaled.start[n].ndim == 4]
        m = torch.ones(len(scaled.start), dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(scaled.loss(scaled.at(m), s), m)
        assert convs == [0, 1]
        assert found[convs].abs().max() < 1e-14
        assert found.abs().max() > 1e-3
        small = torch.tensor([0.25, 1.0, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
        one, four = (scaled.gradient(scaled.at(k), s)["0.weight"].norm() for k in (m, small))
        torch.testing.assert_close(four, 4 * one)


def vgg(dtype=torch.float32):
    torch.manual_seed(0)
    config = VGGConfig((Stage((8,)), Stage((16, 16))), grid=2, hidden=(), dropout=0.0, num_classes=5)
    return build(config).to(dtype)


def gradient_norm(model, batch):
    with batch_statistics(model):
        scaled = Scaled(model)
        m = torch.ones(len(scaled.start), requires_grad=True)
        return norm(scaled.gradient(scaled.at(m), batch), "sgd").item()


def test_afterwards_the_gradient_is_below_gamma_on_most_batches():
    """T5 and T6, from weights that are twice too large."""
    model = vgg()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)
    before = {n: p.clone() for n, p in model.named_parameters()}
    draw = functools.partial(samples, n=32, dtype=torch.float32)
    assert gradient_norm(model, draw(1000)) > 2
    make(INITS, "gradinit(lr=0.03, iterations=80)", "init", 0)(model, draw)
    after = sorted(gradient_norm(model, samples(1000 + i, n=64, dtype=torch.float32)) for i in range(20))
    assert after[14] <= 1.05, after
    for name, p in model.named_parameters():
        if before[name].any():
            ratio = p / before[name]
            torch.testing.assert_close(ratio, torch.full_like(ratio, ratio.flatten()[0].item()))
            assert ratio.min() >= 0.01
        else:
            assert not p.any()


def test_no_scale_falls_below_a_hundredth():
    """T6, with steps that would take them far below 0."""
    model = vgg()
    before = {n: p.clone() for n, p in model.named_parameters()}
    INITS["gradinit"](0, gamma=1e-3, lr=1.0, iterations=3)(model, functools.partial(samples, dtype=torch.float32))
    ratios = [(p / before[n]).flatten()[0].item() for n, p in model.named_parameters() if before[n].any()]
    assert min(ratios) == pytest.approx(0.01)


def test_steps_are_those_of_adam_with_a_first_moment_for_each_kind():
    g = torch.Generator().manual_seed(0)
    slopes = torch.rand(20, 3, generator=g, dtype=torch.float64) - 0.4
    ours, theirs = torch.ones(3, dtype=torch.float64), nn.Parameter(torch.ones(3, dtype=torch.float64))
    adam, steps = torch.optim.Adam([theirs], lr=0.01), ScaleAdam(ours, 0.01)
    for s in slopes:
        theirs.grad = s.clone()
        adam.step()
        steps.step(ours, s, False)
    torch.testing.assert_close(ours, theirs.detach())
    steps.step(ours, torch.full((3,), 50.0, dtype=torch.float64), True)  # its first moment is fresh: mean = slope = 1
    square = (steps.second / (1 - 0.999**21)).sqrt()
    torch.testing.assert_close(ours, theirs.detach() - 0.01 * 1.0 / square, rtol=1e-6, atol=0)
    expected = adam.state[theirs]["exp_avg_sq"] * 0.999 + 0.001  # clipped to 1
    torch.testing.assert_close(steps.second, expected)


def test_the_second_sample_shares_half_with_the_first(monkeypatch):
    seen, asked = [], []
    inner = Scaled.loss
    monkeypatch.setattr(Scaled, "loss", lambda self, theta, batch: (seen.append(batch), inner(self, theta, batch))[1])

    def draw(i):
        asked.append(i)
        return samples(i)

    INITS["gradinit"](0, gamma=1e9, iterations=2, batch=4)(net(), draw)
    assert asked == [0, 1, 2, 3, 4, 5]
    for i, (x, y) in enumerate(seen):
        a, b = (samples(k) for k in ((0, 1), (0, 2), (3, 4), (3, 5))[i])
        assert torch.equal(x, torch.cat((a[0][:4], b[0][:4])))
        assert torch.equal(y, torch.cat((a[1][:4], b[1][:4])))


def test_only_parameters_that_are_trained_change():
    model = net().train()
    model[1].eval()
    model[3].weight.requires_grad_(False)
    before = {k: t.clone() for k, t in model.state_dict().items()}
    flags = {n: p.requires_grad for n, p in model.named_parameters()}
    modes = [m.training for m in model.modules()]
    noise = torch.get_rng_state()
    INITS["gradinit"](0, iterations=3)(model, samples)
    changed = {k for k, t in model.state_dict().items() if not torch.equal(t, before[k])}
    assert changed == {"0.weight", "1.weight", "4.weight", "7.weight", "7.bias"}
    assert flags == {n: p.requires_grad for n, p in model.named_parameters()}
    assert modes == [m.training for m in model.modules()]
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(noise, torch.get_rng_state())


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g * 2


class OnceLayer(nn.Module):
    def forward(self, x):
        return Once.apply(x)


def test_a_layer_without_a_second_derivative_is_named():
    model = net()
    model[5] = nn.Sequential(nn.SiLU(), OnceLayer())
    modes = [m.training for m in model.modules()]
    with pytest.raises(FoveateError, match=r"gradinit: 5\.1 \(OnceLayer\) has no second derivative"):
        INITS["gradinit"](0, iterations=1)(model, samples)
    assert modes == [m.training for m in model.modules()]


def test_what_is_not_finite_is_an_error_and_changes_nothing():
    model = net(normed=False)
    with torch.no_grad():
        model[7].weight.fill_(torch.inf)
    before = model[0].weight.clone()
    with pytest.raises(FoveateError, match="not finite at iteration 1 of 5"):
        INITS["gradinit"](0, iterations=5)(model, samples)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize(
    "text", ["gradinit(optimizer='lion')", "gradinit(gamma=0)", "gradinit(lr=2.0)", "gradinit(foo=1)"]
)
def test_options_that_make_no_sense_are_refused(text):
    with pytest.raises(ConfigError, match="gradinit"):
        make(INITS, text, "init", 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_both_kinds_of_steps_run_on_every_family(family):
    config = TINY.get(family) or small_config(family)
    torch.manual_seed(0)
    model = build(host(family, config.layers))
    draw = functools.partial(samples, n=4, side=side(family, 32), classes=3, dtype=torch.float32)
    before = {k: t.clone() for k, t in model.state_dict().items()}
    for gamma in (1e9, 1e-9):
        INITS["gradinit"](0, gamma=gamma, iterations=1)(model, draw)
    names = dict(model.named_parameters())
    for key, t in model.state_dict().items():
        assert t.isfinite().all()
        assert key in names or torch.equal(t, before[key]), key
    assert any(not torch.equal(p, before[n]) for n, p in names.items())


@pytest.mark.parametrize(
    "layers",
    [
        Layers("none", "hard_sigmoid", "se", "conv2d_bias"),
        Layers("iter_norm", attn="nonlocal"),
        Layers("gn_plus", conv="ws_conv"),
    ],
)
def test_plug_in_layers_have_second_derivatives(layers):
    model = build(host("resnet", layers))
    draw = functools.partial(samples, n=4, side=32, classes=3, dtype=torch.float32)
    x = draw(0)[0]
    before = model.eval()(x)
    INITS["gradinit"](0, gamma=1e-9, iterations=1)(model, draw)
    assert not torch.equal(before, model(x))
    INITS["gradinit"](0, iterations=0)(model, draw)
    assert not any("forward" in m.__dict__ for m in model.modules())


def test_the_step_is_one_of_plain_descent():
    """L(S2; theta - eta g) / eta, by the module itself and torch's SGD."""
    model = net(normed=False)
    s = samples(0), samples(1)
    scaled = Scaled(model)
    theta = scaled.at(torch.ones(len(scaled.start), dtype=torch.float64, requires_grad=True))
    ours = after_step(scaled, theta, scaled.gradient(theta, s[0]), s[1], 0.25, "sgd")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    F.cross_entropy(model(s[0][0]), s[0][1]).backward()
    optimizer.step()
    torch.testing.assert_close(ours.detach(), F.cross_entropy(model(s[1][0]), s[1][1]).detach() / 0.25)
