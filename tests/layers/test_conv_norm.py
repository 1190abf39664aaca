"""ConvNorm against golden values of the official module, its isometry, and the sizes of nn.Conv2d."""

import pytest
import torch
from onnx_file import check_compiles_and_exports
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.conv_norm import ConvNorm, conv_norm


def picture(*shape):
    """sin(0.37 i) + 0.3 cos(1.7 i), row by row."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return ((0.37 * i).sin() + 0.3 * (1.7 * i).cos()).view(shape)


def filled(layer, scale):
    """The weight scale * sin(0.1 (i + 1)), in float64."""
    layer = layer.double()
    i = torch.arange(layer.weight.numel(), dtype=torch.float64)
    layer.weight.data = (scale * (0.1 * (i + 1)).sin()).view(layer.weight.shape)
    return layer


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(c_in=4, c_out=5, kernel=3, **options):
    torch.manual_seed(0)
    return conv_norm(c_in, c_out, kernel, **({"affine": False} | options)).double()


@pytest.mark.parametrize(
    ("kernel", "stride", "shape", "first", "squares"),
    [
        (3, 1, (2, 5, 6, 6), (0.47987471, 1.18350941, 0.68311045), 133.74328725),
        (3, 2, (2, 5, 3, 3), (0.47987471, 0.68311045, -0.59682476), 31.67292729),
        (1, 1, (2, 5, 6, 6), (1.28627114, 1.16733486, 1.12919248), 348.81604731),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_golden_values(kernel, stride, shape, first, squares, training):
    unit = filled(conv_norm(4, 5, kernel, stride=stride, padding=kernel // 2, affine=False), 0.3).train(training)
    y = unit(picture(2, 4, 6, 6))
    assert y.shape == shape
    assert y.flatten()[:3].tolist() == pytest.approx(first, rel=1e-6)
    assert y.square().sum().item() == pytest.approx(squares, rel=1e-6)


@pytest.mark.parametrize(("kernel", "size"), [(3, (9, 6)), ((1, 5), (7, 7)), (2, (5, 4)), (7, (8, 7))])
@pytest.mark.parametrize("groups", [1, 2])
def test_power_is_one_at_every_frequency(kernel, size, groups):
    unit = layer(4, 6, kernel, groups=groups, eps=0.0)
    filters = torch.fft.rfft2(unit.weight, s=size)
    power = (filters.abs() * unit.spectrum(*size).unsqueeze(1)).square().sum(1)
    assert (power - 1).abs().max() < 1e-12


def operator(unit, side):
    """The layer on a torus as a matrix: rows outputs, columns inputs."""
    kernels = torch.fft.fft2(unit.weight.detach(), s=(side, side))  # (c_out, c_in, side, side)
    scale = (kernels.abs().square().sum(1, keepdim=True)).rsqrt()
    return (kernels * scale).permute(2, 3, 0, 1)  # a block a frequency


@pytest.mark.parametrize(("c_in", "c_out"), [(16, 16), (4, 16), (16, 4)])
def test_a_channel_is_an_isometry_and_all_of_them_are_near_one(c_in, c_out):
    values = torch.linalg.svdvals(operator(layer(c_in, c_out), 16))
    assert values.max() <= c_out**0.5 + 1e-9
    assert torch.allclose(values.square().sum(-1), torch.tensor(float(c_out), dtype=torch.float64))
    if c_in > c_out:
        assert values.min() > 0.4 and values.max() < 1.7  # measured for 64 and 16: 0.49 to 1.52


def test_the_layer_is_that_operator():
    """On a picture that is 0 near its border: the torus of the layer has the side 10 + 2."""
    unit, x = layer(4, 5, 3, padding=2), random(1, 4, 10, 10)
    z = (operator(unit, 12) @ torch.fft.fft2(x[0], s=(12, 12)).permute(1, 2, 0).unsqueeze(-1)).squeeze(-1)
    flipped = unit.weight.detach().flip(2, 3)  # PyTorch's convolution is a correlation
    unit.weight.data = flipped
    expected = torch.fft.ifft2(z.permute(2, 0, 1)).real
    unit.eps = 0.0
    assert torch.allclose(unit(x)[0], expected, atol=1e-10)


def test_the_scale_of_a_filter_means_nothing():
    for kernel in (1, 3):
        unit, x = layer(4, 5, kernel, padding=kernel // 2), random(2, 4, 6, 7)
        before = unit(x)
        unit.weight.data *= torch.tensor([0.01, 3.0, 7.0, 100.0, 0.5], dtype=torch.float64).view(-1, 1, 1, 1)
        assert torch.allclose(unit(x), before, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [(11, 9), (8, 8), (3, 4), (1, 1)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(3, 1, 1), (3, 2, 1), (1, 2, 0), (1, 1, 1), ((1, 5), 1, (0, 2)), (7, 2, 3), (3, 1, 4), (2, 2, 1), (5, 3, 2)],
)
@pytest.mark.parametrize("affine", [True, False])
def test_sizes_are_those_of_the_plain_convolution(kernel, stride, padding, size, affine):
    x = random(2, 4, *size)
    plain = nn.Conv2d(4, 6, kernel, stride, padding, groups=2).double()
    y = layer(4, 6, kernel, stride=stride, padding=padding, groups=2, affine=affine)(x)
    assert y.shape == plain(x).shape and y.isfinite().all()


def test_padding_only_chooses_how_much_is_cut_off():
    x = random(1, 4, 6, 7)
    narrow, wide, wider = (layer(4, 5, 3, padding=p)(x) for p in (0, 1, 2))
    assert torch.allclose(wide[..., 1:-1, 1:-1], narrow) and torch.allclose(wider[..., 1:-1, 1:-1], wide)


def test_affine_starts_as_the_identity_and_costs_a_filter_and_a_bias_a_channel():
    plain, affine = layer(4, 5, 3, padding=1), layer(4, 5, 3, padding=1, affine=True, bias=True)
    x = random(2, 4, 5, 6)
    assert torch.allclose(affine(x), plain(x), atol=1e-14)
    assert sum(p.numel() for p in affine.parameters()) == 5 * 4 * 9 + 5 * 9 + 5
    assert layer(4, 5, 3, bias=True).bias is not None


def test_filters_that_cancel_and_filters_of_zeros_stay_finite():
    for kernel in (1, 3):
        unit = conv_norm(4, 5, kernel, padding=kernel // 2)
        unit.weight.data -= unit.weight.data.mean((2, 3), keepdim=True)  # no answer to a constant picture
        unit.weight.data[1] = 0
        x = torch.ones(2, 4, 6, 6, requires_grad=True)
        y = unit(x + 0.1 * torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0)))
        y.square().sum().backward()
        assert y.isfinite().all() and (y[:, 1] == 0).all()
        assert x.grad.isfinite().all() and all(p.grad.isfinite().all() for p in unit.parameters())


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 1, 1), (3, 2, 2), (1, 1, 1)])
def test_gradients(kernel, stride, groups):
    """Of the input and of the depthwise kernels; the filters' own stops at the spectrum, which counts as a constant."""
    unit = layer(2, 4, kernel, stride=stride, padding=kernel // 2, groups=groups, affine=True)
    x = random(2, 2, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: unit(x), (x, *unit.affine.parameters()))


def test_the_spectrum_is_a_constant_to_the_gradient():
    unit, x = layer(4, 5, 3, padding=1), random(2, 4, 5, 5)
    unit(x).square().sum().backward()
    found, scale = unit.weight.grad.clone(), unit.spectrum(7, 7)
    unit.weight.grad = None
    z = torch.fft.rfft2(nn.functional.conv2d(x, unit.weight, padding=2)) * scale
    torch.fft.irfft2(z, s=(7, 7))[..., 1:-1, 1:-1].square().sum().backward()
    assert torch.allclose(found, unit.weight.grad)


def test_bfloat16_is_within_two_percent_and_keeps_float32_inside():
    unit, x = layer(16, 8, 3, padding=1).float(), random(4, 16, 9, 9).float()
    with torch.autocast("cpu", torch.bfloat16):
        y = unit(x)
    assert y.dtype == torch.bfloat16
    assert (y.float() - unit(x)).norm() < 0.02 * unit(x).norm()


def test_channels_last_and_a_picture_alone_give_the_same():
    unit, x = layer(4, 5, 3, padding=1), random(3, 4, 6, 7)
    y = unit(x)
    assert torch.allclose(unit(x.to(memory_format=torch.channels_last)), y)
    assert torch.allclose(unit(x[1:2]), y[1:2])


def test_it_compiles_whole_and_survives_onnx():
    net = nn.Sequential(conv_norm(3, 6, 3, stride=2, padding=1), conv_norm(6, 4, 1)).eval()
    x = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    check_compiles_and_exports(net, x, exported=1e-5)


def test_a_single_weight_stays_plain():
    assert type(conv_norm(4, 8, 1, groups=4)) is nn.Conv2d
    assert type(conv_norm(4, 8, 3, groups=4)) is ConvNorm


@pytest.mark.parametrize("eps", [-1e-6, 1.0, float("nan")])
def test_what_can_not_be_is_refused(eps):
    with pytest.raises(ConfigError, match="conv_norm"):
        conv_norm(4, 8, 3, eps=eps)
