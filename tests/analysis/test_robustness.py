"""Corruptions, attacks and spectral norms against what can be computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.analysis import robustness as r
from foveate.analysis.corruptions import CORRUPTIONS, corrupt
from foveate.errors import ConfigError, FoveateError
from foveate.zoo import create_model


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(4, 3, 8, 8, generator=generator)
    return (F.interpolate(rough, size=32, mode="bilinear") * 255).byte()


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_severity_is_worse_than_the_one_before(kind, pictures):
    made = [corrupt(pictures, kind, s) for s in (1, 3, 5)]
    far = [float((m.float() - pictures.float()).square().mean()) for m in made]
    assert 0 < far[0] < far[1] < far[2]
    assert made[0].dtype == torch.uint8 and made[0].shape == pictures.shape
    assert torch.equal(made[0], corrupt(pictures, kind, 1))


def test_strengths_are_the_published_ones(pictures):
    grey = torch.full((1, 3, 128, 128), 128, dtype=torch.uint8)
    small = grey[..., :48, :48]
    assert float(corrupt(small, "noise", 1).float().std() / 255) == pytest.approx(0.04, rel=0.05)
    assert float(corrupt(grey, "noise", 1).float().std() / 255) == pytest.approx(0.08, rel=0.03)
    assert torch.equal(corrupt(grey, "contrast", 5), grey) and torch.equal(corrupt(grey, "blur", 5), grey)
    ratio = corrupt(pictures, "contrast", 3).float().std() / pictures.float().std()
    assert float(ratio) < 0.5
    with pytest.raises(ConfigError, match="1 to 5"):
        corrupt(grey, "noise", 6)
    with pytest.raises(ConfigError, match="contrast"):
        corrupt(grey, "contras", 1)


def test_fgsm_and_pgd_of_a_linear_model_are_what_calculus_says():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    x, y = torch.full((3, 3, 2, 2), 0.5), torch.tensor([0, 1, 0])
    w = model[1].weight.detach()
    toward = torch.stack([(w[1 - k] - w[k]).sign().view(3, 2, 2) for k in y.tolist()])
    found = r.fgsm(model, x, y, 0.1)
    torch.testing.assert_close(found, x + 0.1 * toward)
    torch.testing.assert_close(r.pgd(model, x, y, 0.1, step=0.1, steps=3), found)  # it ends in the same corner
    edge = r.fgsm(model, torch.ones(3, 3, 2, 2), y, 0.1)
    assert float(edge.max()) <= 1


def test_attacks_raise_the_loss_and_stay_within_reach():
    torch.manual_seed(0)
    net = create_model("resnet20_cifar", num_classes=3).eval()
    x, y = torch.rand(6, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    losses = [float(F.cross_entropy(net(v), y).detach()) for v in (x, r.fgsm(net, x, y), r.pgd(net, x, y))]
    assert losses[0] < losses[1] and losses[0] < losses[2]
    assert float((r.pgd(net, x, y) - x).abs().max()) <= r.REACH + 1e-6
    assert torch.equal(r.pgd(net, x, y, seed=3), r.pgd(net, x, y, seed=3))


def test_spectral_norms_of_known_layers():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, padding=1, stride=2, bias=True)
    columns = torch.stack([(conv(e) - conv(0 * e)).flatten() for e in torch.eye(3 * 64).view(-1, 1, 3, 8, 8)])
    exact = float(torch.linalg.svdvals(columns.detach().double())[0])
    assert r.stretch(conv, (3, 8, 8), steps=200) == pytest.approx(exact, rel=1e-4)
    delta = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
    with torch.no_grad():
        delta.weight.zero_()
        delta.weight[:, 0, 1, 1] = torch.tensor([1.0, -3.0, 2.0, 0.5])
    assert r.stretch(delta, (4, 5, 5), steps=60) == pytest.approx(3, rel=1e-6)
    linear = nn.Linear(6, 4)
    exact = float(torch.linalg.svdvals(linear.weight.detach().double())[0])
    assert r.stretch(linear, (6,), steps=100) == pytest.approx(exact, rel=1e-6)


def test_no_change_exceeds_the_bound_of_a_chain():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    net(torch.randn(8, 3, 8, 8) * 3)
    net.eval()
    x = torch.randn(5, 3, 8, 8)
    bound = r.lipschitz_bound(net, x)
    local = r.local_stretch(net, [(x, x)], steps=20)
    assert 0 < local <= bound
    small = 1e-3 * torch.randn_like(x)
    ratio = (net(x + small) - net(x)).detach().flatten(1).norm(dim=1) / small.flatten(1).norm(dim=1)
    assert float(ratio.max()) <= bound and float(ratio.max()) <= local * 1.01
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v[None])[0], x[0]).flatten(1)
    assert local >= float(torch.linalg.svdvals(jacobian)[0]) * 0.99
    rows = r.spectral_norms(net, x)
    assert [row.kind for row in rows] == ["Conv2d", "BatchNorm2d", "Linear"]
    gains = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    assert rows[1].norm == pytest.approx(float(gains.max()), rel=1e-6)
    assert r.lipschitz_bound(create_model("resnet20_cifar", num_classes=2).eval(), x) is None


def test_batch_dependence():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 3))
    x = torch.randn(6, 3, 8, 8)
    assert r.batch_dependence(net.eval(), x) < 1e-4
    assert r.batch_dependence(net.train(), x) > 0.1


def test_damaged_weights_are_one_line():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    x, y = torch.rand(2, 3, 2, 2), torch.tensor([0, 1])
    with torch.no_grad():
        net[1].weight[0, 0] = math.nan
    with pytest.raises(FoveateError, match="gradient by the pictures"):
        r.fgsm(net, x, y)
    with pytest.raises(FoveateError, match="NaN"):
        r.spectral_norms(net, x)
    with pytest.raises(FoveateError, match="NaN"):
        r.local_stretch(net, [(x, y)])
    with pytest.raises(ConfigError, match="0 to 1"):
        r.check_pictures(x - 2)
