"""Ranks, correlations and dead units of maps that were made to have them."""

import math

import pytest
import torch
from torch import nn

from foveate.analysis.features import LARGE, Moments, blocks, features, stage_maps, stage_of
from foveate.errors import ConfigError, FoveateError
from foveate.zoo import create_model


def made(rows):
    moments = Moments(rows.shape[1])
    for part in rows.split(100):
        moments.add(part)
    return stage_of("x", moments)


def test_independent_channels_have_full_rank_and_no_correlation():
    torch.manual_seed(0)
    stage = made(torch.randn(4000, 16) * 3 + 100)
    assert (stage.rank, stage.dead, stage.alike) == (16, 0, 0)
    assert stage.effective_rank == pytest.approx(16, abs=0.05)
    assert stage.correlation < 0.03
    assert stage.mean == pytest.approx(100, abs=0.1) and stage.std == pytest.approx(3, abs=0.1)
    assert stage.samples == 4000


def test_copies_and_mixtures_lower_the_rank():
    torch.manual_seed(1)
    base = torch.randn(3000, 4)
    rows = torch.cat([base, base[:, :1] * 2 + 1, base[:, :2].sum(1, keepdim=True), torch.full((3000, 2), 0.7)], 1)
    stage = made(rows)
    assert stage.rank == 4  # a shifted copy, a sum, and two constants bring nothing
    assert stage.dead == 2
    assert stage.alike == pytest.approx(1 / 15)  # channel 0 and its copy, of the pairs of six
    assert 1 < stage.effective_rank < 4


def test_effective_rank_is_the_entropy_of_singular_values():
    rows = torch.randn(50_000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([4.0, 2.0, 1.0])
    shares = torch.tensor([4.0, 2.0, 1.0]) / 7
    assert made(rows).effective_rank == pytest.approx(math.exp(-float((shares * shares.log()).sum())), rel=0.01)


def test_correlation_equals_torchs():
    torch.manual_seed(2)
    rows = torch.randn(500, 5) @ torch.randn(5, 5)
    r = torch.corrcoef(rows.T).abs()
    assert made(rows).correlation == pytest.approx(float(r[~torch.eye(5, dtype=bool)].mean()), rel=1e-5)


def test_stages_of_a_zoo_network_and_of_any_module():
    net = create_model("resnet18", num_classes=3).eval()
    x = torch.randn(2, 3, 64, 64)
    found = features(net, [(x, torch.zeros(2)), (x, torch.zeros(2))])
    assert [s.name for s in found.stages] == ["stride 2", "stride 4", "stride 8", "stride 16", "stride 32"]
    assert [s.channels for s in found.stages] == [64, 64, 128, 256, 512]
    assert found.stages[0].samples == 2 * 2 * 32 * 32
    assert len(found.norms) == 20 and all(n.mean == 1 for n in found.norms)
    assert {s.kind for s in found.saturations} == {"ReLU"}
    plain = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)))
    assert list(blocks(plain)) == ["0.0", "0.1", "0.2", "0.3"]
    assert [m.ndim for m in stage_maps(plain, torch.randn(1, 3, 8, 8)).values()] == [4, 4, 2, 2]
    assert not plain[0][0]._forward_hooks


def test_relu_shifts_the_mean_more_than_elu():
    """Without norms: the mean of a map is nearer to zero with ELU (arXiv:1511.07289)."""

    def net(act):
        torch.manual_seed(0)
        layers, width = [], 3
        for _ in range(6):
            conv = nn.Conv2d(width, 32, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
            layers, width = [*layers, conv, act()], 32
        return nn.Sequential(*layers)

    x = torch.randn(8, 3, 16, 16)
    relu, elu = (features(net(act), [(x, x)]).stages[-1] for act in (nn.ReLU, nn.ELU))
    assert 0 < elu.mean < relu.mean
    assert elu.mean / elu.std < 0.7 * relu.mean / relu.std  # against what the map says
    assert relu.correlation > 0


def test_saturation_is_where_the_derivative_is_small():
    x = torch.linspace(-10, 10, 2001).view(1, 1, 1, -1)
    found = features(nn.Sequential(nn.ReLU(), nn.Identity(), nn.Tanh()), [(x, x)])
    relu, tanh = found.saturations
    assert relu.share == pytest.approx(0.5, abs=0.01)
    assert tanh.share == pytest.approx(0.5 * (1 - math.atanh(math.sqrt(0.99)) / 10), abs=0.01)


def test_large_normalised_values_and_gains_after_training():
    norm = nn.BatchNorm2d(2).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([-0.1, 2.0]))
        norm.bias.copy_(torch.tensor([7.0, -3.0]))
    x = torch.zeros(1, 2, 10, 10)
    x[0, 0, 0, 0] = 50.0
    (row,) = features(nn.Sequential(norm, nn.Identity()), [(x, x)]).norms
    assert row.large == pytest.approx(1 / 200) and row.largest == pytest.approx(50, rel=1e-4) and LARGE == 5
    assert (row.mean, row.least, row.most) == pytest.approx((1.05, 0.1, 2.0))
    with torch.no_grad():
        norm.weight.zero_()  # nothing comes through: nothing is told
    assert not features(nn.Sequential(norm, nn.Identity()), [(x, x)]).norms


def test_the_white_order_has_less_correlated_inputs():
    """A whitening norm in front of a convolution: its map is not correlated, in training mode."""
    torch.manual_seed(0)
    from foveate.layers.iter_norm import IterNorm

    mix = nn.Conv2d(3, 8, 3, padding=1)
    x = torch.randn(64, 3, 12, 12)
    white = nn.Sequential(mix, IterNorm(8, group_size=8, steps=9))
    plain = nn.Sequential(mix, nn.BatchNorm2d(8))
    w, p = (features(net.train(), [(x, x)]).stages[-1] for net in (white, plain))
    assert w.correlation < 0.1 < p.correlation and w.effective_rank > p.effective_rank


def test_what_can_not_be_read():
    with pytest.raises(ConfigError, match="no batch"):
        features(nn.Sequential(nn.ReLU(), nn.ReLU()), [])
    with pytest.raises(FoveateError, match=r"0: the map is NaN"):
        features(nn.Sequential(nn.ReLU(), nn.ReLU()), [(torch.full((1, 1, 2, 2), math.nan), torch.tensor([0]))])
