"""Zero-cost scores against closed forms and computations by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import foveate as fv
from foveate.errors import ConfigError, FoveateError
from foveate.search import SPACES
from foveate.search.scores import BASELINES, SCORES, score
from foveate.search.scores.signal import Signal
from foveate.zoo.families.nasbench201 import VARIANTS, NASBench201


def batch(n=8, side=8, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, side, side, generator=source), torch.randint(5, (n,), generator=source)


class Branches(nn.Module):
    """A convolution, a shortcut around two with a gate, a concatenation, a pool."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.a, self.b = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 6, 1)
        self.gate = nn.Conv2d(6, 6, 1)
        self.pool = nn.AvgPool2d(2)
        self.fc = nn.Linear(12, 5)

    def forward_features(self, x):
        x = self.act(self.bn(self.stem(x)))
        y = self.b(self.act(self.a(x)))
        x = x + y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        return self.pool(torch.cat([x, y], 1))

    def forward(self, x):
        return self.fc(self.forward_features(x).mean((2, 3)))


@pytest.fixture
def branches():
    torch.manual_seed(0)
    return Branches()


# --- synflow


def test_synflow_of_a_chain_is_layers_times_the_product_of_its_matrices():
    torch.manual_seed(1)
    chain = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 9), nn.ReLU(), nn.Linear(9, 4))
    flow = np.ones(12)
    for layer in (chain[1], chain[3], chain[5]):
        flow = np.abs(layer.weight.detach().double().numpy()) @ flow
    x, labels = torch.randn(2, 3, 2, 2), torch.zeros(2, dtype=torch.int64)
    assert score("synflow", chain, (x, labels)) == pytest.approx(math.log(3 * flow.sum()), abs=1e-12)


def test_synflow_of_a_deep_net_stays_finite_where_the_product_of_float64_overflows():
    layers = 800
    chain = nn.Sequential(*(nn.Conv2d(3, 3, 1, bias=False) for _ in range(layers)))
    for layer in chain:
        nn.init.constant_(layer.weight, -2.0)  # |w| = 2: every layer makes 6 of 1
    assert torch.tensor(6.0, dtype=torch.float64).pow(layers - 1).isinf()
    expected = math.log(layers * 3 * 4) + layers * math.log(6)  # 3 channels, 2 x 2 pixels
    assert score("synflow", chain, batch(2, 2)) == pytest.approx(expected, rel=1e-12)


def test_synflow_of_branches_is_that_of_plain_autograd(branches):
    net = Branches().double()
    net.load_state_dict({k: v.abs() if v.is_floating_point() else v for k, v in branches.state_dict().items()})
    net.bn = nn.Identity()
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            p.data.zero_()
    weights = [p for name, p in net.named_parameters() if name.endswith("weight")]
    grads = torch.autograd.grad(net(torch.ones(1, 3, 8, 8, dtype=torch.float64)).sum(), weights)
    plain = sum(float((w.detach() * g).sum()) for w, g in zip(weights, grads, strict=True))
    assert score("synflow", branches, batch()) == pytest.approx(math.log(plain), abs=1e-12)


@pytest.mark.parametrize("act", ["relu", "silu", "gelu", "hard_swish", "relu6", "elu"])
def test_synflow_takes_every_activation_as_the_identity(act):
    config = fv.replace(fv.variant("resnet20_cifar"), resolution=8)
    layers = fv.replace(config.layers, act=act)
    found = []
    for one in (config, fv.replace(config, layers=layers)):
        torch.manual_seed(0)
        found.append(score("synflow", fv.build(one), batch()))
    assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_signals_add_what_differs_by_more_than_a_float_holds():
    small, large = Signal(torch.ones(2, dtype=torch.float64), -900.0), Signal(torch.ones(2, dtype=torch.float64), 900.0)
    total = small + large + Signal(torch.zeros(2, dtype=torch.float64), 5000.0)
    assert total.log == 900.0 and total.values.tolist() == [1.0, 1.0]
    product = small * large
    assert product.log == 0.0 and product.plain().tolist() == [1.0, 1.0]


# --- naswot


def test_naswot_is_the_log_determinant_of_the_kernel_written_out():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.randn(4, 3, 2, 2)
    first = net[1](x.flatten(1))
    codes = np.concatenate([(first > 0).numpy(), (net[3](first.relu()) > 0).numpy()], 1)
    kernel = np.array([[11 - np.sum(a != b) for b in codes] for a in codes], dtype=float)  # units - Hamming distance
    expected = np.log(np.linalg.det(kernel))
    assert np.isfinite(expected)
    assert score("naswot", net, (x, torch.zeros(4, dtype=torch.int64))) == pytest.approx(expected, abs=1e-9)


def test_naswot_is_finite_for_equal_codes_and_refuses_a_net_without_codes(branches):
    x, labels = batch()
    twice = score("naswot", branches, (torch.cat([x, x]), torch.cat([labels, labels])))
    assert math.isfinite(twice)
    with pytest.raises(FoveateError, match="no activation"):
        score("naswot", nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), (x, labels))


# --- zen


class One(nn.Module):
    """Two convolutions of one pixel, with a norm between them."""

    def __init__(self):
        super().__init__()
        self.a, self.bn, self.b = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1)

    def forward_features(self, x):
        return self.b(self.bn(self.a(x)))


def test_zen_of_two_layers_written_out_in_numpy():
    x, labels = batch(side=1)
    source = torch.Generator().manual_seed(7)
    a, b = (torch.randn(s, generator=source).double().numpy() for s in ((4, 3, 1, 1), (6, 4, 1, 1)))
    start, step = (torch.randn(2000, 3, 1, 1, generator=source).double().numpy()[:, :, 0, 0] for _ in range(2))
    a, b = a[:, :, 0, 0], b[:, :, 0, 0]

    def features(x):
        y = x @ a.T
        return (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-5) @ b.T

    moved = np.linalg.norm(features(start) - features(start + 0.01 * step), axis=1).mean()
    expected = np.log(moved) + 0.5 * np.log((start @ a.T).var(0).mean())
    assert score("zen(repeats=1, pictures=2000, seed=7)", One().double(), (x.double(), labels)) == pytest.approx(
        expected, abs=1e-6
    )


def test_zen_of_a_linear_net_is_the_logarithm_of_its_gain():
    """Without a norm: |W e| alpha for W (m, n) of N(0, 1) and e of N(0, 1) is alpha sqrt(n m) to first order."""
    net = nn.Sequential(nn.Conv2d(3, 4096, 1, bias=False))
    found = score("zen(repeats=8, pictures=64)", net, batch(side=1))
    gain = math.sqrt(2) * math.gamma(2) / math.gamma(1.5)  # E|e| for three numbers
    assert found == pytest.approx(math.log(0.01 * 64 * gain), abs=0.05)


# --- grad_norm


def test_grad_norm_is_the_sum_of_norms_that_autograd_by_hand_gives(branches):
    x, labels = batch()
    net = Branches()
    net.load_state_dict(branches.state_dict())
    F.cross_entropy(net.train()(x), labels).backward()
    held = (net.stem, net.a, net.b, net.gate, net.fc)
    expected = sum(float(layer.weight.grad.pow(2).sum()) ** 0.5 for layer in held)
    assert score("grad_norm", branches, (x, labels)) == pytest.approx(expected, rel=1e-6)


def test_grad_norm_of_a_linear_layer_is_the_closed_form():
    """dL/dW = (softmax - one hot)^T x / N."""
    torch.manual_seed(5)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    x, labels = torch.randn(6, 3, 2, 2), torch.randint(5, (6,))
    with torch.no_grad():
        wrong = net(x).softmax(1) - F.one_hot(labels, 5)
    expected = float((wrong.T @ x.flatten(1) / 6).norm())
    assert score("grad_norm", net, (x, labels)) == pytest.approx(expected, rel=1e-5)


# --- all


def test_counts_are_those_of_the_table_of_the_benchmark():
    net = NASBench201(VARIANTS["nasbench201_conv3x3_cifar"])
    assert score("macs", net, batch(2, 32)) == 220_119_680
    assert score("params", net, batch(2, 32)) == 1_531_546


@pytest.mark.parametrize("name", SCORES)
def test_a_score_leaves_the_model_as_it_was_and_repeats(name, branches):
    before = {k: v.clone() for k, v in branches.state_dict().items()}
    first, again = score(name, branches, batch()), score(name, branches, batch())
    assert first == again and math.isfinite(first)
    assert all(torch.equal(v, before[k]) for k, v in branches.state_dict().items())
    assert branches.training and all(p.grad is None for p in branches.parameters())


def nets():
    """One net of a space of each kind, and a cell without a path."""
    rng = np.random.default_rng(2)
    for name in ("mnasnet", "mobilenet", "nasbench201"):
        space = SPACES[name](resolution=16, num_classes=5)
        yield pytest.param(space.config(space.sample(rng)), id=name)
    space = SPACES["nasbench201"](resolution=16, num_classes=5, cells=1)
    yield pytest.param(space.config(space.parse("000000")), id="no path")


@pytest.mark.parametrize("config", list(nets()))
def test_all_scores_are_finite_for_nets_of_the_spaces(config):
    torch.manual_seed(0)
    model = NASBench201(config) if config.family == "nasbench201" else fv.build(config)
    for name in SCORES:
        call = "zen(repeats=1, pictures=4)" if name == "zen" else name
        assert math.isfinite(score(call, model, batch(4, 16))), name


def test_baselines_are_scores_and_wrong_calls_are_refused(branches):
    assert set(BASELINES) <= set(SCORES)
    with pytest.raises(ConfigError, match="did you mean zen"):
        score("zenn", branches, batch())
    with pytest.raises(ConfigError, match=r"expected \(N, C, H, W\)"):
        score("zen", branches, (torch.zeros(2, 3), torch.zeros(2)))
