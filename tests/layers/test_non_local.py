"""Non-local blocks against golden values, the two orders of the product, and closed forms."""

import pytest
import torch
from fills import fill
from torch.utils.flop_counter import FlopCounterMode

from foveate.errors import ConfigError
from foveate.layers.non_local import NonLocal, nonlocal_scaled, position_code


def golden(layer):
    """Output minus input of a filled layer; batch norm in evaluation mode with gain 1 and eps 1e-5."""
    layer = layer.double().eval()
    for conv in (layer.query, layer.key, layer.value, layer.out):
        conv.weight.data = fill(conv.weight.shape, 0.3)
    torch.nn.init.ones_(layer.norm.weight)
    x = fill((4, 8, 6, 6))
    with torch.no_grad():
        return layer(x) - x


@pytest.mark.parametrize(
    ("layer", "first", "squares"),
    [
        (NonLocal(8, softmax=True, scale=False), (0.00675951, 0.00708285, 0.00595950), 0.02301331),
        (NonLocal(8, softmax=False), (0.01342077, 0.01445446, 0.01096645), 0.07200168),
        (NonLocal(8, softmax=False, width=8, heads=4), (-0.01287016, -0.00921539, -0.00444213), 0.04603280),
    ],
)
def test_golden_values(layer, first, squares):
    """Numbers of the official code's forms on the same fills, computed by others than this package."""
    y = golden(layer)
    assert y.flatten()[:3].tolist() == pytest.approx(first, rel=1e-5)
    assert y.square().sum().item() == pytest.approx(squares, rel=1e-6)


@pytest.mark.parametrize(("width", "heads"), [(0, 1), (12, 3), (64, 1)])
def test_both_orders_of_the_product_agree(width, heads):
    layer = NonLocal(16, softmax=False, width=width, heads=heads).double()
    q, k, v = (torch.randn(2, heads, (width or 8) // heads, 20, dtype=torch.float64) for _ in range(3))
    scores = q.transpose(-1, -2) @ k / (20 * q.shape[-2]) ** 0.5
    assert (layer.attend(q, k, v) - v @ scores.transpose(-1, -2)).abs().max() < 1e-13


def macs(layer, side):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer.eval()(torch.empty(1, 64, side, side, device="meta"))
    return counter.get_total_flops() // 2


def test_scaled_is_linear_in_pixels_and_softmax_quadratic():
    with torch.device("meta"):
        scaled, softmax = NonLocal(64, softmax=False), NonLocal(64, softmax=True)
    for side, projections, direct, cheap in (
        (16, 2_097_152, 4_194_304, 524_288),
        (32, 8_388_608, 67_108_864, 2_097_152),
    ):
        assert macs(softmax, side) == projections + direct
        assert macs(scaled, side) == projections + cheap


def test_few_pixels_take_the_direct_order():
    with torch.device("meta"):
        layer = NonLocal(64, softmax=False)
    assert macs(layer, 4) == 4 * 16 * 64 * 32 + 2 * 16 * 16 * 32


@pytest.mark.parametrize("softmax", [True, False])
def test_it_starts_as_the_identity_and_commutes_with_a_permutation_of_pixels(softmax):
    torch.manual_seed(0)
    layer = NonLocal(8, softmax).double().eval()
    x = torch.randn(2, 8, 4, 5, dtype=torch.float64)
    assert torch.equal(layer(x), x)
    torch.nn.init.ones_(layer.norm.weight)
    order = torch.randperm(20)
    moved = x.flatten(2)[:, :, order].reshape(x.shape)
    assert torch.allclose(layer(moved).flatten(2), layer(x).flatten(2)[:, :, order], atol=1e-12)


def test_the_position_code_tells_rows_from_columns():
    code = position_code(8, 3, 5)
    assert code.shape == (1, 8, 3, 5)
    assert (code[0, :4, :, :1] == code[0, :4]).all() and (code[0, 4:, :1] == code[0, 4:]).all()
    assert torch.allclose(code[0, 0, :, 0], torch.arange(3.0).sin())
    layer = NonLocal(8, softmax=False, position=True).eval()
    x = torch.zeros(1, 8, 3, 5)
    assert torch.allclose(layer(x), code)


def test_gradients_and_parameters():
    torch.manual_seed(0)
    layer = nonlocal_scaled(8, 8).double()
    torch.nn.init.normal_(layer.norm.weight)
    assert sum(p.numel() for p in layer.parameters()) == 4 * 8 * 4 + 2 * 8
    x = torch.randn(3, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="heads"):
        NonLocal(16, softmax=False, width=10, heads=3)
    with pytest.raises(ConfigError, match="multiple of 4"):
        NonLocal(6, softmax=False, position=True)


def test_unit_keys_make_the_attention_forget_how_long_a_key_is():
    torch.manual_seed(0)
    block = NonLocal(8, softmax=True, heads=2, unit_keys=True).double()
    q, k, v = (torch.randn(2, 2, 4, 9, dtype=torch.float64) for _ in range(3))
    lengths = torch.rand(2, 2, 1, 9, dtype=torch.float64) + 0.5
    assert torch.allclose(block.attend(q, k * lengths, v), block.attend(q, k, v), atol=1e-12)
    unit = k / torch.linalg.vector_norm(k, dim=2, keepdim=True)
    expected = torch.nn.functional.scaled_dot_product_attention(*(t.mT for t in (q, unit, v))).mT
    assert torch.allclose(block.attend(q, k, v), expected, atol=1e-12)
    assert not torch.allclose(NonLocal(8, softmax=True, heads=2).attend(q, k * lengths, v), expected)
