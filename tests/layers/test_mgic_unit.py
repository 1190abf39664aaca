"""Multigrid in channels as a convolution unit: the authors' weight counts, and what makes a cycle over channels."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from onnx_file import check_compiles_and_exports
from torch import nn

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.layers import CONVS, Layers
from foveate.layers.mgic import MGIC, Smoother, Transfer, group_of, levels, mgic
from foveate.zoo.families import resnet


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(c_in=16, c_out=None, kernel=3, group=4, coarsest=4, **options):
    torch.manual_seed(0)
    made = mgic(c_in, c_out or c_in, kernel, group=group, coarsest=coarsest, **({"padding": 1} | options)).double()
    assert type(made) is MGIC
    return made


def params(module):
    return sum(p.numel() for p in module.parameters())


# c, group, coarsest -> weights of a whole block in the authors' code, two convolutions a level
BLOCKS = {
    (64, 16, 16): 35_200,
    (128, 16, 16): 74_112,
    (256, 16, 16): 151_936,
    (512, 16, 16): 307_584,
    (256, 32, 32): 296_448,
    (512, 32, 32): 607_744,
    (512, 64, 64): 1_185_792,
}


@pytest.mark.parametrize(("c", "group", "coarsest"), BLOCKS)
def test_the_unit_has_the_transfers_and_half_the_other_weights_of_the_authors_block(c, group, coarsest):
    with torch.device("meta"):
        made = mgic(c, c, 3, padding=1, group=group, coarsest=coarsest)
    transfers = sum(w * group for w in levels(c, coarsest))
    assert params(made) == transfers + (BLOCKS[c, group, coarsest] - transfers) // 2


@pytest.mark.parametrize(("kernel", "padding", "taps"), [(3, 1, 9), (1, 0, 1), ((1, 5), (0, 2), 5)])
def test_weights_follow_the_closed_form_and_double_with_the_width(kernel, padding, taps):
    counts = []
    for c in (128, 256, 512, 1024):
        with torch.device("meta"):
            counts.append(params(mgic(c, c, kernel, padding=padding)))
        widths = [c // 2**i for i in range(10) if c // 2**i >= 32]
        assert counts[-1] == sum(w * 32 * taps + w * 32 for w in widths) + taps * 16 * 16
        assert counts[-1] < 2 * c * 32 * (taps + 1)
    assert all(2 <= b / a < 2.2 for a, b in itertools.pairwise(counts))


@pytest.mark.parametrize(
    ("c_in", "c_out", "kernel", "stride", "padding", "entry"),
    [
        (256, 512, 3, 2, 1, 512 * 9),
        (512, 256, 1, 1, 0, 512),
        (256, 256, 3, 2, 1, 256 * 9),
        (192, 256, 1, 1, 0, 192 * 256 // 64),
    ],
)
def test_where_widths_or_sizes_change_a_narrow_grouped_convolution_goes_before(
    c_in, c_out, kernel, stride, padding, entry
):
    with torch.device("meta"):
        made = mgic(c_in, c_out, kernel, stride=stride, padding=padding)
        cycle = mgic(c_out, c_out, kernel, padding=kernel // 2)
    assert params(made.entry) == entry
    assert params(made) == entry + params(cycle) < kernel**2 * c_in * c_out


def test_a_pass_is_the_written_cycle():
    made, x = unit(32, group=8, coarsest=16, bias=True), random(2, 32, 4, 5)
    nn.init.normal_(made.smooth[0].bias)
    (r0, r1), (p0, p1), (k0, k1), k2 = made.restrict, made.prolong, made.smooth, made.coarse
    x1 = F.conv2d(x, r0.weight, groups=4)
    x2 = F.conv2d(x1, r1.weight, groups=2)
    y1 = x1 + F.conv2d(F.conv2d(x2, k2.weight, padding=1), p1.weight, groups=2)
    y1 = y1 + F.conv2d(y1, k1.weight, padding=1, groups=2)
    y = x + F.conv2d(y1 - x1, p0.weight, groups=4)
    y = y + F.conv2d(y, k0.weight, k0.bias, padding=1, groups=4)
    assert torch.allclose(made(x), y, atol=1e-12)


def test_with_silent_smoothers_it_gives_back_its_input():
    made, changed = unit(64, group=16, coarsest=16), unit(32, 64, stride=2, group=8, coarsest=8)
    for module in (*made.modules(), *changed.modules()):
        if isinstance(module, Smoother):
            nn.init.zeros_(module.weight)
    x = random(2, 64, 5, 4)
    assert torch.equal(made(x), x)
    assert torch.equal(changed(x[:, :32]), changed.entry(x[:, :32]))


def jacobian(made, c, side=3):
    """Which input channel moves which output channel in the middle."""
    found = torch.autograd.functional.jacobian(lambda x: made(x)[0, :, side // 2, side // 2], random(1, c, side, side))
    return found.abs().amax((1, 3, 4)) > 1e-9


def test_every_channel_reaches_every_other():
    made = unit(64, group=16, coarsest=16)
    assert jacobian(made, 64).all()
    nn.init.zeros_(made.restrict[0].weight)  # the finest level alone: groups of 16, which do not see each other
    groups = torch.arange(64) // 16
    assert torch.equal(jacobian(made, 64), groups[:, None] == groups)


def test_it_is_linear_and_looks_as_far_as_its_kernels_in_a_row():
    made = unit(32, group=8, coarsest=8)
    x, y = random(2, 32, 9, 11), random(2, 32, 9, 11, seed=1)
    assert torch.allclose(made(2 * x - 3 * y), 2 * made(x) - 3 * made(y), atol=1e-10)
    dot = torch.zeros(1, 32, 15, 15, dtype=torch.float64)
    dot[..., 7, 7] = random(32)
    seen = made(dot).abs().amax((0, 1)) > 0
    assert len(made.smooth) == 3
    assert seen[3:12, 3:12].all() and seen.sum() == 81  # four kernels: 4 * 2 + 1


@pytest.mark.parametrize("c_out", [16, 24])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(3, 1, 1), (3, 2, 1), (1, 2, 0), (1, 1, 0), ((1, 5), 1, (0, 2)), (7, 2, 3), (2, 2, 0), (3, 1, 3), (4, 2, (1, 2))],
)
def test_sizes_are_those_of_the_plain_convolution(c_out, kernel, stride, padding):
    plain = nn.Conv2d(16, c_out, kernel, stride, padding)
    made = unit(16, c_out, kernel, 2, 2, stride=stride, padding=padding, bias=True).float()
    for size in ((11, 9), (7, 8)):
        x = torch.zeros(1, 16, *size)
        assert made(x).shape == plain(x).shape


def test_widths_that_do_not_fit_take_the_greatest_common_divisor():
    assert [group_of(w, 32) for w in (8, 32, 48, 40, 34)] == [8, 32, 16, 8, 2]
    made = unit(120, group=32, coarsest=8)
    assert [k.in_channels for k in made.smooth] == [120, 60, 30] and made.coarse.in_channels == 15
    assert [k.groups for k in made.smooth] == [15, 15, 1]
    assert jacobian(made, 120, 1).all()


def test_what_saves_nothing_or_has_groups_stays_plain():
    for c_in, c_out, groups in ((3, 64, 1), (32, 32, 1), (64, 64, 64), (128, 128, 4), (128, 129, 1)):
        assert type(mgic(c_in, c_out, 3, padding=1, groups=groups)) is nn.Conv2d
    assert type(mgic(64, 64, 1)) is nn.Conv2d and type(mgic(64, 64, 3, padding=1)) is MGIC
    assert type(mgic(128, 128, 1)) is MGIC and type(mgic(64, 128, 1)) is nn.Conv2d


def test_the_start_keeps_the_second_moment_near_one():
    torch.manual_seed(0)
    x, inner = torch.randn(4, 128, 20, 20), (..., slice(6, -6), slice(6, -6))
    ratios = [mgic(128, 128, 3, padding=1, group=16)(x)[inner].square().mean().item() for _ in range(8)]
    assert sum(ratios) / 8 == pytest.approx(1.5, rel=0.1)
    entries = [mgic(64, 128, 3, padding=1, group=16).entry(x[:, :64])[inner].square().mean().item() for _ in range(8)]
    assert sum(entries) / 8 == pytest.approx(1, rel=0.1)


def test_a_row_of_units_neither_dies_nor_explodes_without_norms():
    torch.manual_seed(0)
    x = torch.randn(2, 64, 12, 12).relu()
    with torch.no_grad():
        for _ in range(12):
            x = mgic(64, 64, 3, padding=1, group=16, coarsest=16)(x).relu()
    assert 1 < x.square().mean() < 100


def test_hosts_do_not_overrule_the_start(monkeypatch):
    monkeypatch.setitem(CONVS, "mgic", mgic)
    config = resnet.ResNetConfig((resnet.Stage(32, (32, 32), 1),), stem="cifar", pool="none", stem_widths=(8,))
    torch.manual_seed(0)
    net = resnet.ResNet(replace(config, layers=Layers(conv="mgic(group=8, coarsest=8)")))
    units = [m for m in net.modules() if isinstance(m, MGIC)]
    assert len(units) == 3  # all 3x3 but the first, from 8 channels
    for m in units[0].modules():
        if isinstance(m, Transfer):
            assert m.weight.std().item() == pytest.approx(m.weight[0].numel() ** -0.5, rel=0.25)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients(stride):
    made = unit(8, 8, group=2, coarsest=2, stride=stride, bias=True)
    x = random(2, 8, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: made(x), (x, *made.parameters()))
    made(random(1, 8, 1, 1)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


def test_a_picture_alone_gives_the_same_and_bfloat16_is_near():
    made, x = unit(32, stride=2), random(3, 32, 7, 6)
    y = made(x)
    assert torch.allclose(made(x[1:2]), y[1:2], atol=1e-12)
    assert torch.allclose(made(x.to(memory_format=torch.channels_last)), y, atol=1e-12)
    low = made.bfloat16()(x.bfloat16())
    assert low.dtype == torch.bfloat16 and (low.double() - y).norm() < 0.02 * y.norm()


def test_it_compiles_whole_and_survives_onnx():
    net = nn.Sequential(unit(16, 24, stride=2, bias=True), nn.ReLU(), unit(24)).float().eval()
    x = random(3, 16, 9, 8).float()
    check_compiles_and_exports(net, x)


@pytest.mark.parametrize(
    "options", [{"group": 0}, {"group": 15}, {"group": 8.0}, {"group": True}, {"coarsest": 0}, {"coarsest": 1.5}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match=rf"mgic\(.*{next(iter(options))}"):
        mgic(64, 64, 3, **options)
