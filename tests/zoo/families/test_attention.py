"""Residual Attention Networks against the authors' published counts, pytorchcv and closed forms."""

import re

import pytest
import torch
import torch.nn.functional as F
from compare import difference, facts, in_order, randomise

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.zoo.families.attention.network import (
    VARIANTS,
    AttentionConfig,
    AttentionNet,
    InceptionUnit,
    Mask,
    Stage,
    squash,
)

FACTS = facts("attention")
TINY = AttentionConfig(
    (Stage(16, 8, modules=1, pools=2, stride=1), Stage(32, 8, modules=1, pools=1), Stage(32, 8, modules=1)),
    stem="cifar",
    stem_width=8,
    num_classes=5,
    resolution=32,
)


def unit_params(c_in, mid, width, norm_in=True):
    """A pre-activation bottleneck: three convolutions, three norms of two numbers a channel, a bare projection."""
    convs = c_in * mid + 9 * mid * mid + mid * width + (c_in * width if c_in != width else 0)
    return convs + 2 * (c_in + mid + mid)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 6])
def test_cifar_counts_follow_the_closed_form(m):
    """Stem, three stages of one projection and m modules with 2, 1, 0 poolings, three units, norm, classifier."""
    total, c_in = 3 * 9 * 16, 16
    for width, pools in ((64, 2), (128, 1), (256, 0)):
        mid = width // 4
        units = 4 + 2 * max(1, pools) + max(0, pools - 1)  # p + t + p, and the mask's
        head = 2 * (2 * width) + 2 * width * width  # two norms, two 1x1
        total += unit_params(c_in, mid, width) + m * (units * unit_params(width, mid, width) + head)
        c_in = width
    total += 3 * unit_params(256, 64, 256) + 2 * 256 + 257 * 10
    assert FACTS[f"attention{36 * m + 20}_cifar"]["params"] == total


PYTORCHCV = (
    (r"features\.init_block\.conv\.(conv|bn)\.", r"\g<1>1."),
    (r"features\.stage(\d)\.unit(\d+)\.", lambda m: f"stages.{int(m[1]) - 1}.{int(m[2]) - 1}."),
    (r"init_blocks\.blocks\.", "before."),
    (r"hg\.(down|up)_seq\.(?:down|up)(\d)\.res_blocks\.blocks\.", lambda m: f"mask.{m[1]}.{int(m[2]) - 1}."),
    (r"hg\.skip_seq\.skip1\.blocks\.", "trunk."),
    (r"hg\.skip_seq\.skip(\d)\.skip1\.", lambda m: f"mask.skip.{int(m[1]) - 2}.0."),
    (r"\.block(\d)\.", lambda m: f".{int(m[1]) - 1}."),
    (r"final_block\.", "after.0."),
    (r"(middle_block|body)\.conv(\d)\.(bn|conv)\.", r"\1.\3\2."),
    (r"body\.", ""),
    (r"middle_block\.", "mask."),
    (r"identity_conv\.", "downsample.0."),
    (r"features\.post_activ\.bn\.", "bn2."),
    (r"output\.", "fc."),
)


def from_pytorchcv(key):
    for pattern, ours in PYTORCHCV:
        key = re.sub(pattern, ours, key)
    return key


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_outputs_equal_pytorchcv_but_for_its_two_departures(size, monkeypatch):
    """pytorchcv adds the input of a skip twice, and the trunk to the mask; the authors' files do neither."""
    from pytorchcv.model_provider import get_model
    from pytorchcv.models import resattnet

    def forward(self, x):
        levels, first = [], x
        for down in self.down_seq:
            x = down(x)
            levels.append(x)
        for i in reversed(range(self.depth)):
            x = self.up_seq[i](x)
            x = x + self.skip_seq[i](levels[i - 1]) if i else x
        return x, self.skip_seq[0](first)

    monkeypatch.setattr(resattnet.Hourglass, "forward", forward)
    monkeypatch.setattr(resattnet.DoubleSkipBlock, "forward", lambda self, x: self.skip1(x))
    theirs = get_model("resattnet56", num_classes=10)
    theirs.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)
    ours = AttentionNet(replace(VARIANTS["attention56"], pool="max", num_classes=10))
    assert difference(ours, theirs, from_pytorchcv, size=size, batch=1) <= 1e-10


def test_naive_learning_drops_the_trunk_from_the_sum():
    nets = [randomise(AttentionNet(replace(TINY, learning=kind))) for kind in ("residual", "naive")]
    x = torch.randn(2, 32, 8, 8, dtype=torch.float64)
    residual, naive = (net.stages[2][1] for net in nets)
    before = residual.before(x)
    trunk, mask = residual.trunk(before), residual.mask(before)
    assert torch.equal(residual(x), residual.after(mask * trunk + trunk))
    assert torch.allclose(residual(x), residual.after((1 + mask) * trunk))
    assert torch.equal(naive(x), naive.after(mask * trunk))


def test_mask_activations_are_those_of_section_3_2():
    x = 3 * torch.randn(2, 6, 5, 4, dtype=torch.float64) + 1
    assert torch.equal(squash(x, "mixed"), x.sigmoid())
    assert torch.allclose(squash(x, "channel").square().sum(1), torch.ones(2, 5, 4, dtype=torch.float64))
    assert torch.allclose(squash(x, "channel")[1, :, 2, 3], x[1, :, 2, 3] / x[1, :, 2, 3].norm())
    maps = torch.logit(squash(x, "spatial"))
    assert maps.mean((2, 3)).abs().max() < 1e-9
    assert (maps.std((2, 3), correction=0) - 1).abs().max() < 1e-4


@pytest.mark.parametrize("pools", [0, 1, 2, 3])
def test_a_mask_has_as_many_units_as_the_figure(pools):
    config, made = replace(TINY, r=2), []

    def units(count):
        made.append(count)
        return torch.nn.Sequential()

    mask = Mask(config, config.layers, 16, pools, units)
    assert sum(made) == 2 * 2 * max(1, pools) + max(0, pools - 1)
    assert mask(torch.randn(1, 16, 24, 17)).shape == (1, 16, 24, 17)


def test_the_mask_reads_what_the_first_unit_gives():
    module = randomise(AttentionNet(TINY)).stages[0][1]
    x = torch.randn(1, 16, 32, 32, dtype=torch.float64)
    seen = []
    handle = module.mask.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module(x)
    handle.remove()
    assert torch.equal(seen[0], module.before(x))


@pytest.mark.parametrize("unit", ["pre", "resnext", "inception"])
@pytest.mark.parametrize("mask", ["mixed", "channel", "spatial"])
def test_every_form_trains(unit, mask):
    torch.manual_seed(0)
    model = AttentionNet(replace(TINY, unit=unit, mask=mask)).train()
    F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 3])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_inception_unit_joins_three_branches():
    """Closed form: three branches of c/4, c/2, c/4, norms after every convolution, a projection with a norm."""
    unit, c_in, mid, width = InceptionUnit(TINY.layers, 24, 16, 40, 2), 24, 16, 40
    branches = c_in * 4 + (c_in * 8 + 9 * 8 * 8) + (c_in * 4 + 2 * 9 * 4 * 4)
    norms = 2 * (4 + 8 + 8 + 4 + 4 + 4 + width + width)
    assert sum(p.numel() for p in unit.parameters()) == branches + mid * width + c_in * width + norms
    assert unit(torch.randn(2, 24, 9, 8)).shape == (2, 40, 5, 4)


def test_inner_widths_can_be_given_unit_by_unit():
    stage = TINY.stages[0]
    count = TINY.units_of(stage)
    mids = tuple(range(4, 4 + count))
    config = replace(TINY, stages=(replace(stage, mids=mids), *TINY.stages[1:]))
    found = [m.conv1.weight.shape[0] for m in AttentionNet(config).stages[0].modules() if hasattr(m, "conv3")]
    assert sorted(found) == list(mids)
    same = replace(TINY, stages=(replace(stage, mids=(stage.mid,) * count), *TINY.stages[1:]))
    assert in_order(AttentionNet(same), AttentionNet(TINY))


def test_a_wrong_config_says_what_is_wrong():
    with pytest.raises(ConfigError, match="mids"):
        replace(TINY, stages=(replace(TINY.stages[0], mids=(8, 8)),))
    with pytest.raises(ConfigError, match="multiples of 32"):
        replace(TINY, unit="resnext", groups=32)
    with pytest.raises(ConfigError, match="groups"):
        replace(TINY, groups=2)
    with pytest.raises(ConfigError, match="2,048"):
        replace(TINY, stages=(replace(TINY.stages[0], modules=64, pools=6),) * 4, r=16)


def test_feature_maps_are_one_a_stride():
    maps = AttentionNet(VARIANTS["attention56_cifar"]).eval().feature_maps(torch.zeros(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 32, 32), (128, 16, 16), (256, 8, 8)]
