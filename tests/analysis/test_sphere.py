"""Scale invariance by test, effective rates, and the three regimes of a small net."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.analysis import sphere
from foveate.errors import ConfigError, FoveateError
from foveate.train.optimizers.sphere_sgd import make_sphere_sgd
from foveate.train.recipe import Optim
from foveate.zoo import create_model


def mlp(eps=1e-5, dtype=torch.float32):
    """16-64-64-4, batch norms without gains, the last layer of length 10: the net of the published regimes."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Linear(16, 64, bias=False), nn.BatchNorm1d(64, eps=eps, affine=False), nn.ReLU()),
        *(nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64, eps=eps, affine=False), nn.ReLU()),
        nn.Linear(64, 4),
    ).to(dtype)
    with torch.no_grad():
        net[-1].weight.mul_(10 / net[-1].weight.norm())
    return net


@pytest.fixture(scope="module")
def points():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(512, 16, generator=generator)
    teacher = torch.randn(16, 4, generator=generator)
    return x, (torch.tanh(x) @ teacher + 0.5 * torch.randn(512, 4, generator=generator)).argmax(1)


KERNELS = ("0.weight", "3.weight")


def test_invariance_is_found_by_test(points):
    net = mlp()
    before = copy.deepcopy(net.state_dict())
    assert sphere.invariant_names(net, [points]) == KERNELS
    after = net.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before) and net.training
    plain = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    assert sphere.invariant_names(plain, [points]) == ()


def test_a_bias_in_front_of_a_norm_does_not_count_and_a_closed_branch_does(points):
    net = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))
    assert sphere.invariant_names(net, [points]) == ("0.weight",)
    with torch.no_grad():
        net[1].weight.zero_()
    assert sphere.invariant_names(net, [points]) == ("0.weight",)
    deeper = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4), nn.BatchNorm1d(4))
    assert sphere.invariant_names(deeper, [points]) == ("0.weight", "3.weight")  # not the gain, though its bias is 0


def test_in_a_zoo_network_all_kernels_but_the_classifier_are_invariant():
    net = create_model("resnet20_cifar", num_classes=3)
    x = torch.randn(4, 3, 16, 16)
    found = sphere.invariant_names(net, [(x, torch.tensor([0, 1, 2, 0]))])
    kernels = [n for n, p in net.named_parameters() if p.ndim == 4]
    assert set(found) == set(kernels) and len(kernels) > 15


def test_gradients_are_at_right_angles_and_scale_inversely():
    net = mlp(eps=1e-15, dtype=torch.float64)
    x, y = torch.randn(64, 16, dtype=torch.float64), torch.arange(64) % 4
    rows = sphere.turns(net, KERNELS, [(x, y)], F.cross_entropy, lr=0.1)
    for row in rows:
        assert abs(row.radial) <= 1e-12
        assert row.elr == pytest.approx(0.1 / row.length**2)
        assert row.angle == pytest.approx(math.atan(row.elr * row.gradient))
    with torch.no_grad():
        net[0].weight.mul_(3)
    other = sphere.turns(net, KERNELS, [(x, y)], F.cross_entropy, lr=0.1)
    assert other[0].gradient == pytest.approx(rows[0].gradient, rel=1e-9)
    assert other[0].elr == pytest.approx(rows[0].elr / 9) and other[0].angle < rows[0].angle / 8


def test_statistics_stay_as_they_are(points):
    net = mlp().eval()
    before = copy.deepcopy(net.state_dict())
    sphere.turns(net, KERNELS, [points], F.cross_entropy, lr=0.1)
    assert not net.training and all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())


def test_three_regimes(points):
    """Published: effective rates of 3e-3, 3e-2 and 1e-1 converge, stay at a level, diverge."""
    runs = [
        sphere.train_at(mlp(), KERNELS, points, F.cross_entropy, elr, epochs=60, batch=64, classes=4)
        for elr in (3e-3, 3e-2, 1e-1)
    ]
    assert [sphere.NUMBER[run.regime] for run in runs] == [1, 2, 3], [(r.elr, r.losses[::6]) for r in runs]
    assert runs[0].gradient < runs[1].gradient < runs[2].gradient
    assert sphere.borders(runs) == {
        "convergence to equilibrium": (3e-3, 3e-2),
        "equilibrium to divergence": (3e-2, 1e-1),
    }


def test_regimes_of_known_curves():
    chance = math.log(4)
    assert sphere.regime_of([chance * 0.97**i for i in range(40)], 4) == "convergence"
    assert sphere.regime_of([0.5 + 0.02 * (-1) ** i for i in range(40)], 4) == "equilibrium"
    assert sphere.regime_of([0.9 * chance * 0.998**i for i in range(40)], 4) == "convergence"  # slow
    assert sphere.regime_of([1.0] + [0.001 + 0.0005 * (-1) ** i for i in range(40)], 4) == "convergence"
    assert sphere.regime_of([2.0] * 40, 4) == sphere.regime_of([1.0, 1.0, 1.0, math.nan], 4) == "divergence"
    with pytest.raises(ConfigError, match="4 or more"):
        sphere.regime_of([1.0, 0.5], 4)


def test_the_optimiser_takes_the_same_steps(points):
    """sphere_sgd on the same batches as train_at: equal weights, length kept, exact after a reload."""
    x, y = points
    net = mlp()
    frozen = [p for n, p in net.named_parameters() if n not in KERNELS]
    kernels = [p for n, p in net.named_parameters() if n in KERNELS]
    groups = [{"params": kernels, "head": False}, {"params": frozen, "head": True}]
    optimizer = make_sphere_sgd(groups, Optim(lr=0.1), elr=3e-3, rest="frozen")
    mirror, rho = [p.detach().clone() for p in kernels], sphere.length_of(kernels)
    for i in range(6):
        optimizer.zero_grad()
        F.cross_entropy(net(x[64 * i : 64 * i + 64]), y[64 * i : 64 * i + 64]).backward()
        sphere.step_on_sphere(mirror, [p.grad for p in kernels], 3e-3, rho)
        optimizer.step()
        if i == 2:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = make_sphere_sgd(groups, Optim(lr=0.1), elr=3e-3, rest="frozen")
            optimizer.load_state_dict(saved)
    for p, m in zip(kernels, mirror, strict=True):
        torch.testing.assert_close(p.detach(), m, rtol=1e-5, atol=1e-6)
    assert sphere.length_of(kernels) == pytest.approx(rho, rel=1e-6)
    assert float(frozen[0].detach().norm()) == pytest.approx(10, rel=1e-6)
    with pytest.raises(ConfigError, match=r"sphere_sgd\(elr=0"):
        make_sphere_sgd(groups, Optim(), elr=0)


def test_what_can_not_be_done(points):
    with pytest.raises(ConfigError, match="no scale-invariant"):
        sphere.train_at(mlp(), (), points, F.cross_entropy, 1e-3, epochs=4, batch=64, classes=4)
    with pytest.raises(ConfigError, match="1 pictures"):
        sphere.invariant_names(mlp(), [(points[0][:1], points[1][:1])])
    with pytest.raises(ConfigError, match="bfloat16"):
        sphere.invariant_names(mlp(dtype=torch.bfloat16), [points])
    broken = mlp()
    with torch.no_grad():
        broken[0].weight[0, 0] = math.nan
    with pytest.raises(FoveateError, match="NaN"):
        sphere.invariant_names(broken, [points])
    with pytest.raises(FoveateError, match=r"0\.weight: its gradient"):
        sphere.turns(broken, KERNELS, [points], F.cross_entropy, lr=0.1)
