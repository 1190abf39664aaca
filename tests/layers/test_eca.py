"""Efficient channel attention: golden values, the width of its convolution, its gain."""

import pytest
import torch
from fills import check_golden, fill

from foveate.errors import ConfigError
from foveate.layers.eca import ECA


def filled(gain=1.0):
    layer = ECA(8, 8, gain).double()
    layer.conv.weight.data = fill(layer.conv.weight.shape, 0.5)
    return layer


@pytest.mark.parametrize(
    ("shape", "first", "squares"),
    [
        ((4, 8, 6, 6), (0.15067232, 0.16220482, 0.19298536), 157.15932177),
        ((4, 8, 5, 7), (0.15008086, 0.16156809, 0.19222780), 152.70291081),
    ],
)
@torch.no_grad()
def test_golden_values(shape, first, squares):
    """timm 1.0.31's EcaModule(8), same fills."""
    check_golden(filled()(fill(shape)), first, squares)


@pytest.mark.parametrize(
    ("channels", "kernel"), [(1, 3), (16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)]
)
def test_the_convolution_widens_with_the_channels(channels, kernel):
    assert [p.shape for p in ECA(channels, channels).parameters()] == [(1, 1, kernel)]


def test_the_gain_multiplies_and_holds_no_tensors():
    x = fill((4, 8, 6, 6))
    assert torch.allclose(filled(2.0)(x), 2 * filled()(x), rtol=1e-14)
    assert filled(2.0).state_dict().keys() == filled().state_dict().keys() == {"conv.weight"}


@torch.no_grad()
def test_a_far_channel_does_not_move_a_gate():
    layer, x = filled(), fill((4, 8, 6, 6))
    moved = x.clone()
    moved[:, 5:] += 1
    assert torch.equal(layer(moved)[:, :4], layer(x)[:, :4])
    assert not torch.equal(layer(moved)[:, 4], layer(x)[:, 4])


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_gradients(gain):
    x = fill((2, 8, 1, 2)).requires_grad_()
    assert torch.autograd.gradcheck(filled(gain), x)


@pytest.mark.parametrize("gain", [0.0, -1.0, float("inf"), float("nan")])
def test_a_gain_that_is_not_positive_is_refused(gain):
    with pytest.raises(ConfigError, match="gain"):
        ECA(8, 8, gain)
