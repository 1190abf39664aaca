"""CBAM against golden values, its two gates one by one, its counts."""

import pytest
import torch
from fills import check_alone, check_golden, check_precision, fill, filled, noise

from foveate.errors import ConfigError
from foveate.layers.cbam import CBAM, ChannelGate, SpatialGate


@pytest.mark.parametrize(
    ("shape", "first", "squares"),
    [
        ((4, 8, 6, 6), (0.19610557, 0.21353638, 0.25492528), 451.54350729),
        ((4, 8, 5, 7), (0.19514776, 0.21378922, 0.25577075), 421.38971970),
    ],
)
@torch.no_grad()
def test_golden_values(shape, first, squares):
    """timm 1.0.31's CbamModule(8, rd_channels=2, mlp_bias=True), same fills."""
    check_golden(filled(CBAM(8, 8, ratio=0.25))(fill(shape)), first, squares)


@pytest.mark.parametrize(
    ("channels", "base", "ratio", "inner"), [(256, 256, 1 / 16, 16), (64, 16, 0.25, 4), (8, 8, 1 / 16, 1)]
)
def test_parameters(channels, base, ratio, inner):
    count = sum(p.numel() for p in CBAM(channels, base, ratio).parameters())
    assert count == 2 * channels * inner + inner + channels + 2 * 49 + 2


@torch.no_grad()
def test_the_channel_gate_does_not_know_where_a_pixel_is():
    gate, x = filled(ChannelGate(8, 2)), noise(2, 8, 4, 5, dtype=torch.float64)
    share = gate(x) / x
    assert torch.allclose(share, share[:, :, :1, :1].expand_as(share))
    assert share.min() > 0 and share.max() < 1
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    moved = x.flatten(2)[:, :, order].reshape(x.shape)
    assert torch.allclose(gate(moved).flatten(2), gate(x).flatten(2)[:, :, order])


@torch.no_grad()
def test_the_spatial_gate_does_not_know_the_order_of_channels():
    gate, x = filled(SpatialGate(7)), noise(2, 8, 4, 5, dtype=torch.float64)
    share = gate(x) / x
    assert torch.allclose(share, share[:, :1].expand_as(share))
    assert share[0, 0].std() > 0.01
    assert torch.allclose(gate(x.flip(1)), gate(x).flip(1))


@torch.no_grad()
def test_at_the_start_the_spatial_gate_is_a_half():
    x = noise(2, 8, 6, 6)
    for training in (True, False):
        assert torch.equal(SpatialGate(7).train(training)(x), x / 2)


@pytest.mark.parametrize("shape", [(4, 8, 8, 8), (4, 8, 3, 2), (4, 8, 1, 1), (1, 8, 1, 2)])
def test_every_parameter_learns_from_small_maps(shape):
    layer = CBAM(8, 8)
    torch.nn.init.ones_(layer.spatial.bn.weight)
    layer(noise(*shape)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_gradients():
    layer = filled(CBAM(4, 4, 0.5, kernel=3)).train()
    assert torch.autograd.gradcheck(layer, noise(2, 4, 3, 4, dtype=torch.float64).requires_grad_())


def test_pictures_do_not_see_each_other_in_evaluation():
    check_alone(filled(CBAM(8, 8)))


def test_bfloat16_and_channels_last_stay_near_float32():
    check_precision(filled(CBAM(8, 8)))


@pytest.mark.parametrize(
    "options", [{"ratio": 0.0}, {"ratio": float("nan")}, {"kernel": 4}, {"kernel": 0}, {"kernel": 3.0}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match=rf"cbam\(.*{next(iter(options))}"):
        CBAM(8, 8, **options)
