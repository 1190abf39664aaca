"""Coordinate attention against golden values; what its two gates may depend on; its counts."""

import pytest
import torch
from fills import check_alone, check_golden, check_precision, fill, filled, noise
from torch.utils.flop_counter import FlopCounterMode

from foveate.errors import ConfigError
from foveate.layers.coord import CoordAttention


@pytest.mark.parametrize(
    ("shape", "first", "squares"),
    [
        ((4, 8, 6, 6), (0.07985351, 0.08605959, 0.10241337), 59.36604835),
        ((4, 8, 5, 7), (0.07648623, 0.08230978, 0.09843443), 58.25790010),
    ],
)
@torch.no_grad()
def test_golden_values(shape, first, squares):
    """timm 1.0.31's CoordAttn(8, rd_channels=8, bias=True) with the first bias 0, same fills."""
    check_golden(filled(CoordAttention(8, 8))(fill(shape)), first, squares)


@pytest.mark.parametrize(("channels", "base", "inner"), [(512, 512, 16), (512, 1024, 32), (64, 64, 8), (4, 4, 8)])
def test_parameters_and_macs(channels, base, inner):
    with torch.device("meta"):
        layer = CoordAttention(channels, base).eval()
    assert sum(p.numel() for p in layer.parameters()) == 3 * channels * inner + 2 * channels + 2 * inner
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.empty(1, channels, 5, 9, device="meta"))
    assert counter.get_total_flops() // 2 == 2 * channels * inner * (5 + 9)


@torch.no_grad()
def test_the_gate_is_a_product_of_a_row_and_a_column():
    x = noise(2, 8, 4, 5, dtype=torch.float64)
    share = filled(CoordAttention(8, 8))(x) / x
    assert share.min() > 0 and share.max() < 1
    assert torch.linalg.matrix_rank(share, rtol=1e-9).eq(1).all()


@torch.no_grad()
def test_rows_are_told_apart_and_moved_rows_move_the_output():
    layer, x = filled(CoordAttention(8, 8)), noise(2, 8, 4, 5, dtype=torch.float64)
    share = layer(x) / x
    assert share.std(2).min() > 1e-4 and share.std(3).min() > 1e-4
    assert torch.allclose(layer(x.roll(1, 2)), layer(x).roll(1, 2))
    assert torch.allclose(layer(x.roll(2, 3)), layer(x).roll(2, 3))


@torch.no_grad()
def test_turning_the_picture_exchanges_the_gates():
    layer, other = filled(CoordAttention(8, 8)), filled(CoordAttention(8, 8))
    torch.nn.init.constant_(layer.conv_h.bias, 0.7)
    torch.nn.init.constant_(other.conv_w.bias, 0.7)
    x = noise(2, 8, 4, 5, dtype=torch.float64)
    assert torch.allclose(layer(x).transpose(2, 3), other(x.transpose(2, 3)))


@pytest.mark.parametrize("shape", [(4, 8, 8, 8), (4, 8, 3, 2), (4, 8, 1, 1), (1, 8, 1, 1)])
def test_every_parameter_learns_from_small_maps(shape):
    layer = CoordAttention(8, 8)
    layer(noise(*shape)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_gradients():
    layer = filled(CoordAttention(4, 4)).train()
    assert torch.autograd.gradcheck(layer, noise(2, 4, 3, 4, dtype=torch.float64).requires_grad_())


def test_pictures_do_not_see_each_other_in_evaluation():
    check_alone(filled(CoordAttention(8, 8)))


def test_bfloat16_and_channels_last_stay_near_float32():
    check_precision(filled(CoordAttention(8, 8)))


@pytest.mark.parametrize("options", [{"ratio": 0.0}, {"ratio": float("nan")}, {"least": 0}, {"least": 8.0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match=rf"coord\(.*{next(iter(options))}"):
        CoordAttention(8, 8, **options)
