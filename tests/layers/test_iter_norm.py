"""IterNorm: golden values, the rule of its spectrum, stability, small batches, fusion into the next convolution."""

import math

import numpy as np
import pytest
import torch
from onnx_file import through_onnx
from torch import nn

from foveate.cost.count import cost
from foveate.errors import ConfigError
from foveate.layers.iter_norm import IterNorm, fuse, fuse_behind, inverse_root, moments
from foveate.layers.ws_conv import ws_conv

F64 = torch.float64


def wave(*shape):
    """The deterministic fill of the golden values."""
    i = torch.arange(math.prod(shape), dtype=F64)
    return ((0.37 * i).sin() + 0.3 * (1.7 * i).cos()).reshape(shape)


def covariance(y):
    """(C, C) of (N, C, H, W)."""
    return moments(y, y.shape[1])[1][0]


def scalar(values, steps):
    """p_T of the paper's recursion, for eigenvalues."""
    p = torch.ones_like(values)
    for _ in range(steps):
        p = 1.5 * p - 0.5 * p**3 * values
    return p


def spectrum(low, size=64, dtype=torch.float32):
    """A covariance with eigenvalues from `low` to 1, evenly spaced in their logarithms, in a random basis."""
    q, _ = torch.linalg.qr(torch.randn(size, size, dtype=F64, generator=torch.Generator().manual_seed(0)))
    values = torch.logspace(math.log10(low), 0, size, dtype=F64)
    return (q * values @ q.T).to(dtype)[None]


def trace(matrix):
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1).view(-1, 1, 1)


def used(norm):
    """The norm with everything that it learns and remembers away from its start."""
    generator = torch.Generator().manual_seed(1)
    for p in norm.parameters():
        nn.init.uniform_(p, 0.3, 1.5, generator=generator)
    for _ in range(8):
        norm(torch.randn(6, len(norm.running_mean), 5, 5, dtype=norm.running_mean.dtype, generator=generator) * 2 + 1)
    return norm.eval()


@pytest.mark.parametrize(
    ("size", "steps", "first", "squares"),
    [
        (8, 5, (0.93801453, 0.66924389, 0.22434247), 372.88196420),
        (4, 5, (1.36310856, 0.88438030, 0.24009552), 630.59633654),
        (4, 9, (1.47311398, 1.26613654, 0.46258742), 799.55359289),  # checked to 40 digits
    ],
)
def test_golden_values(size, steps, first, squares):
    y = IterNorm(8, size, steps, affine=False).double()(wave(4, 8, 5, 5))
    assert y.flatten()[:3].tolist() == pytest.approx(first, rel=1e-6, abs=1e-8)
    assert y.square().sum().item() == pytest.approx(squares, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 9, 12])
def test_the_output_has_the_spectrum_of_the_rule(steps):
    """Eigenvalues l of S / tr S become l p_T(l)^2."""
    torch.manual_seed(0)
    x = torch.einsum("ij,njhw->nihw", torch.randn(8, 8, dtype=F64), torch.randn(6, 8, 7, 5, dtype=F64)) + 3
    y = IterNorm(8, 8, steps, eps=0.0).double()(x)
    values = torch.linalg.eigvalsh(covariance(x))
    values = values / values.sum()
    expected = (values * scalar(values, steps) ** 2).sort().values
    assert torch.allclose(torch.linalg.eigvalsh(covariance(y)), expected, atol=1e-12)
    assert y.mean((0, 2, 3)).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("size", "variances"),
    [
        (8, (0.2583, 0.7673, 0.9985, 1.0, 1.0)),
        (64, (0.0348, 0.1634, 0.5864, 0.9832, 1.0)),
        (256, (0.0088, 0.0435, 0.2007, 0.6680, 0.9935)),
        (512, (0.0044, 0.0220, 0.1062, 0.4290, 0.9303)),
    ],
)
def test_the_variance_that_each_number_of_steps_reaches_at_best(size, variances):
    identity = torch.eye(size, dtype=F64)[None]
    for steps, variance in zip((1, 3, 5, 7, 9), variances, strict=True):
        root = inverse_root(identity, trace(identity), steps)
        assert (root @ root)[0, 0, 0].item() == pytest.approx(variance, abs=6e-5)


@pytest.mark.parametrize("steps", [1, 2, 5, 9])
def test_the_coupled_form_is_the_published_one(steps):
    s = spectrum(0.1, 16, F64)
    p = torch.eye(16, dtype=F64)
    for _ in range(steps):
        p = 1.5 * p - 0.5 * (p @ p @ p @ s / trace(s))
    root = inverse_root(s, trace(s), steps)
    assert torch.allclose(root, p / trace(s).sqrt(), atol=1e-12)
    assert torch.allclose(root, root.mT, atol=1e-12)


@pytest.mark.parametrize("low", [1e-1, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("steps", [9, 12, 15, 20])
def test_many_steps_stay_stable_in_float32(low, steps):
    """The published form has lost all digits after 12 steps with condition number 100."""
    s = spectrum(low)
    root = inverse_root(s, trace(s), steps)
    values = torch.linalg.eigvalsh(root.double() @ s.double() @ root.double())
    assert values.min() > 0 and values.max() < 1.006
    if steps == 20 and low >= 1e-4:
        assert values.min() > 0.99


def test_white_noise_is_whitened_to_the_floor_that_eps_leaves():
    x = torch.randn(16, 8, 16, 16, dtype=F64, generator=torch.Generator().manual_seed(0))
    for steps, error in ((5, 5e-3), (7, 2e-5), (9, 2e-5)):
        y = IterNorm(8, 8, steps).double()(x)
        assert (covariance(y) - torch.eye(8)).abs().max() < error


def test_a_channel_a_group_is_batch_norm():
    x = torch.randn(4, 6, 5, 5, dtype=F64) * 3 + 1
    assert torch.allclose(IterNorm(6, 1).double()(x), nn.BatchNorm2d(6).double()(x), atol=1e-12)


def test_channels_in_another_order_and_at_another_scale():
    x, order = torch.randn(4, 8, 5, 5, dtype=F64), torch.randperm(8)
    y = IterNorm(8, 8, eps=0.0).double()(x)
    assert torch.allclose(IterNorm(8, 8, eps=0.0).double()(x[:, order]), y[:, order], atol=1e-12)
    assert torch.allclose(IterNorm(8, 8, eps=0.0).double()(7 * x), y, atol=1e-12)


def test_evaluation_uses_running_averages_that_the_state_dict_holds():
    norm, x = IterNorm(8, 4, momentum=0.2).double(), wave(4, 8, 5, 5)
    norm(x)
    mean, matrix = norm.estimate(x)
    assert torch.allclose(norm.running_mean, 0.2 * mean)
    assert torch.allclose(norm.running_whitening, 0.2 * matrix + 0.8 * torch.eye(4))
    again = IterNorm(8, 4)
    assert set(again.state_dict()) == {"weight", "bias", "running_mean", "running_whitening"}
    again.load_state_dict(norm.state_dict())
    again, norm = again.double().eval(), norm.eval()
    assert torch.allclose(again(x), norm(x), atol=1e-6)
    assert torch.allclose(norm(x)[1:2], norm(x[1:2]), atol=1e-12)
    assert not torch.allclose(norm(x), norm.train()(x), atol=1e-2)


def test_fewer_values_than_channels_whiten_only_what_they_span():
    """m centred values span m - 1 directions: the others come out as 0."""
    torch.manual_seed(0)
    y = IterNorm(64, 64, 9).double()(torch.randn(2, 64, 4, 4, dtype=F64))
    values = torch.linalg.eigvalsh(covariance(y))
    assert (values < 1e-9).sum() == 64 - 31
    assert values[33:].min() > 0.9


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_most_steps_stay_finite_where_the_covariance_is_singular(scale):
    torch.manual_seed(0)
    norm = IterNorm(64, steps=20)
    y = norm(scale * torch.randn(2, 64, 2, 2))
    assert y.abs().max() < 10 and norm.running_whitening.isfinite().all()


@pytest.mark.parametrize(
    "shape", [(4, 64, 8, 8), (1, 64, 2, 2), (2, 64, 1, 1), (4, 64, 1, 1), (3, 6, 1, 5), (1, 1, 1, 3)]
)
@pytest.mark.parametrize("steps", [5, 20])
def test_small_batches_and_maps_train(shape, steps):
    for x in (torch.randn(shape), torch.zeros(shape)):  # a layer that is dead: no deviation at all
        norm, x = IterNorm(shape[1], steps=steps), x.requires_grad_()
        y = norm(x)
        (y * torch.randn(shape)).sum().backward()
        assert y.isfinite().all() and x.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in norm.parameters())
        assert norm.running_whitening.isfinite().all()


@pytest.mark.parametrize("sync", [False, True])
def test_one_value_a_channel_is_normalised_as_in_evaluation_and_not_remembered(sync):
    norm = used(IterNorm(8, 4, sync=sync))
    before, x = {k: t.clone() for k, t in norm.state_dict().items()}, torch.randn(1, 8, 1, 1)
    expected = norm(x)
    assert torch.equal(norm.train()(x), expected)
    assert all(torch.equal(t, before[k]) for k, t in norm.state_dict().items())


@pytest.mark.parametrize(("size", "steps"), [(1, 3), (2, 5), (4, 11)])
def test_gradients(size, steps):
    norm = IterNorm(4, size, steps).double()
    for p in norm.parameters():
        nn.init.normal_(p)
    x = torch.randn(2, 4, 3, 3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, x)
    assert torch.autograd.gradcheck(norm.eval(), x)


def test_parameters_groups_and_macs():
    assert sum(p.numel() for p in IterNorm(128).parameters()) == 256
    assert not list(IterNorm(128, affine=False).parameters())
    assert [IterNorm(c).size for c in (128, 96, 24, 7)] == [64, 32, 8, 1]
    assert [IterNorm(c, group_size=48).size for c in (96, 32)] == [48, 16]
    with torch.device("meta"):
        norm = IterNorm(128)
    assert norm.train()(torch.empty(2, 128, 4, 4, device="meta")).shape == (2, 128, 4, 4)
    assert cost(norm, resolution=6, in_chans=128).macs == 36 * 128 * 64


def test_statistics_and_steps_stay_float32_inside_autocast():
    torch.manual_seed(0)
    x = torch.einsum("ij,njhw->nihw", torch.randn(64, 64), torch.randn(16, 64, 8, 8)).bfloat16()
    plain, cast = IterNorm(64, steps=7), IterNorm(64, steps=7)
    expected = plain(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        y = cast(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(plain.running_whitening, cast.running_whitening)
    assert torch.equal(plain.running_mean, cast.running_mean)
    assert (y.float() - expected).abs().max() < 0.02 * expected.abs().max()  # what applying W in bfloat16 costs
    whole = IterNorm(64, steps=7).bfloat16()(x)
    assert whole.dtype == torch.bfloat16
    assert (whole.float() - expected).abs().max() < 0.02 * expected.abs().max()


def test_channels_last_changes_neither_output_nor_layout():
    norm, x = IterNorm(16, 8), torch.randn(4, 16, 5, 6).contiguous(memory_format=torch.channels_last)
    y = norm(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(y, IterNorm(16, 8)(x.contiguous()), atol=1e-5)


CONVS = [
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2, "bias": False},
    {"kernel_size": 3, "groups": 2},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 1, "padding": 1, "bias": False},
    {"kernel_size": 5, "padding": 2, "stride": 2, "groups": 2, "bias": False},
    {"kernel_size": (1, 3), "padding": (0, 2), "dilation": (1, 2)},
]


@pytest.mark.parametrize("options", CONVS, ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_fusion_into_the_next_convolution_is_exact(options, affine):
    norm, conv = used(IterNorm(8, 4, affine=affine).double()), nn.Conv2d(8, 6, **options).double()
    x = 2 * torch.randn(2, 8, 7, 8, dtype=F64) + 1
    fused = fuse(norm, conv)
    assert torch.allclose(fused(x), conv(norm(x)), atol=1e-11)
    shifts = options.get("padding", 0) != 0 and "padding_mode" not in options
    assert isinstance(fused, nn.Sequential) == shifts


def test_a_fused_layer_costs_what_the_convolution_costs():
    norm, conv = used(IterNorm(16, 8)), nn.Conv2d(16, 32, 1)
    assert cost(fuse(norm, conv), resolution=7, in_chans=16).macs == cost(conv, resolution=7, in_chans=16).macs
    assert type(fuse(norm, conv)) is nn.Conv2d
    norm, conv = used(IterNorm(64, 64)), nn.Conv2d(64, 64, 1)
    assert fuse(norm, conv).weight.stride() == fuse_behind(conv, norm).weight.stride() == conv.weight.stride()


def test_a_gain_of_zero_can_be_fused_unless_padding_would_have_to_undo_a_bias():
    norm, conv, x = (
        used(IterNorm(8, 4).double()),
        nn.Conv2d(8, 6, 3, padding=1).double(),
        torch.randn(2, 8, 5, 5).double(),
    )
    for gain in (1e-3, 0):
        with torch.no_grad():
            norm.weight[2] = gain
        with pytest.raises(ConfigError, match="gain of 0"):
            fuse(norm, conv)
    unpadded = nn.Conv2d(8, 6, 3).double()
    assert torch.allclose(fuse(norm, unpadded)(x), unpadded(norm(x)), atol=1e-11)
    with torch.no_grad():
        norm.bias[2] = 0
    assert torch.allclose(fuse(norm, conv)(x), conv(norm(x)), atol=1e-11)


@pytest.mark.parametrize("conv", [nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(4, 8, 1), ws_conv(8, 8, 1, bias=True)])
def test_convolutions_that_can_not_take_it_in_are_refused(conv):
    with pytest.raises(ConfigError, match="whole groups"):
        fuse(IterNorm(8, 4), conv)


def test_it_exports_and_compiles_with_equal_outputs():
    torch.manual_seed(0)
    model = nn.Sequential(used(IterNorm(12, 4)), fuse(used(IterNorm(12, 6)), nn.Conv2d(12, 5, 3, padding=1))).eval()
    x = torch.randn(3, 12, 5, 4)
    expected = model(x).detach()
    assert torch.equal(torch.compile(model, fullgraph=True, backend="eager")(x), expected)
    training = IterNorm(12, 4, 11)
    y = torch.compile(training, fullgraph=True, backend="eager")(x)
    assert torch.allclose(y, IterNorm(12, 4, 11)(x), atol=1e-6) and training.running_mean.abs().sum() > 0
    y = through_onnx(model, x)(x[:2])
    assert np.abs(y - expected[:2].numpy()).max() < 1e-4


@pytest.mark.parametrize(
    "options",
    [{"group_size": 0}, {"steps": 0}, {"steps": 21}, {"eps": -1.0}, {"momentum": 2.0}, {"eps": math.nan}],
    ids=str,
)
def test_options_that_can_not_be_are_refused(options):
    with pytest.raises(ConfigError, match=rf"iter_norm\(.*{next(iter(options))}"):
        IterNorm(8, **options)


@pytest.mark.parametrize("options", CONVS, ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_fusion_into_the_convolution_before_is_exact_and_free(options, affine):
    norm, conv = used(IterNorm(8, 4, affine=affine).double()), nn.Conv2d(6, 8, **options).double()
    x = 2 * torch.randn(2, 6, 7, 8, dtype=F64) + 1
    fused = fuse_behind(conv, norm)
    assert torch.allclose(fused(x), norm(conv(x)), atol=1e-11)
    assert type(fused) is nn.Conv2d and fused.weight.shape == conv.weight.shape


@pytest.mark.parametrize("conv", [nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1), ws_conv(8, 8, 1, bias=True)])
def test_convolutions_that_can_not_take_in_the_norm_behind_them_are_refused(conv):
    with pytest.raises(ConfigError, match="whole groups"):
        fuse_behind(conv, IterNorm(8, 4))
