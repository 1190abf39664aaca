"""MixNet against published counts and timm."""

import pytest
import torch
from compare import check_feature_maps, check_gradients, difference, on_meta, shapes, timm_on_meta
from torch import nn

from foveate.config import get_path, replace, set_path
from foveate.errors import ConfigError
from foveate.layers.eca import ECA
from foveate.zoo.families.mixnet import VARIANTS, Block, MixNet, MixNetConfig, Stage, from_timm, symmetric

S, M, L, XL = (VARIANTS[f"mixnet_{size}"] for size in ("s", "m", "l", "xl"))
TINY = MixNetConfig(
    (
        Stage((Block(8, 0),)),
        Stage((Block(8, 24, (3, 5, 7), 2, 2, 2), Block(8, 16, (3, 5))), act="silu", attn="se(ratio=0.5, act='silu')"),
    ),
    stem=8,
    head=32,
    num_classes=5,
    resolution=32,
)


@pytest.mark.parametrize(
    ("config", "theirs", "size"),
    [
        (S, "tf_mixnet_s", (64, 64)),
        (M, "tf_mixnet_m", (65, 47)),
        (symmetric(S), "mixnet_s", (45, 51)),
        (XL, "mixnet_xl", (33, 32)),
    ],
)
def test_timm_weights_load_by_name_and_give_the_same_outputs(config, theirs, size):
    import timm

    assert difference(MixNet(config), timm.create_model(theirs), from_timm, size=size) <= 1e-10


@pytest.mark.parametrize("name", VARIANTS)
def test_keys_and_their_order_are_those_of_timm(name):
    ours = shapes(on_meta(VARIANTS[name]))
    assert shapes(timm_on_meta(name), from_timm) == ours
    assert [from_timm(key) for key, _ in ours] == [key for key, _ in ours]


def test_the_wider_nets_are_m_with_a_multiplier():
    assert [s.blocks[-1].width for s in L.stages] == [32, 40, 56, 104, 160, 264]
    assert [s.blocks[-1].width for s in XL.stages] == [40, 48, 64, 128, 192, 320]
    assert [len(s.blocks) for s in L.stages] == [1, 2, 4, 4, 4, 4]
    assert [len(s.blocks) for s in XL.stages] == [1, 2, 5, 5, 5, 5]
    assert {c.head for c in VARIANTS.values()} == {1536}
    assert (S.dropout, M.dropout, L.dropout) == (0.2, 0.25, 0.25)


def test_early_stages_have_relu_and_no_gate_later_ones_swish_and_squeeze():
    model = on_meta(S)
    assert isinstance(model.blocks[1][0].act1, nn.ReLU)
    assert isinstance(model.blocks[1][0].se, nn.Identity)
    assert isinstance(model.blocks[2][0].act2, nn.SiLU)
    assert isinstance(model.blocks[2][0].se.act, nn.SiLU)
    assert model.blocks[2][0].se.fc1.out_channels == 12  # half of the 24 channels that enter the block
    assert model.blocks[3][1].se.fc1.out_channels == 20
    assert isinstance(model.act2, nn.ReLU)


def test_kernels_are_mixed_as_in_the_paper():
    kernels = [c.kernel_size[0] for c in on_meta(S).blocks[5][0].conv_dw.convs]
    assert kernels == [3, 5, 7, 9, 11]


def test_the_nets_gate_fills_the_stages_that_name_none():
    layers = replace(S.layers, attn="eca", norm="group_norm(groups=4)")
    model = on_meta(replace(S, layers=layers))
    assert isinstance(model.blocks[1][0].se, ECA)
    assert not isinstance(model.blocks[2][0].se, ECA)
    assert isinstance(model.blocks[2][0].bn1, nn.GroupNorm)


def test_a_stage_can_have_layers_of_its_own():
    model = on_meta(set_path(TINY, "stages.0.layers", replace(TINY.layers, act="prelu", norm="group_norm(groups=4)")))
    assert isinstance(model.blocks[0][0].act1, nn.PReLU)
    assert isinstance(model.blocks[1][0].bn1, nn.BatchNorm2d)


@pytest.mark.parametrize("split", ["equal", "exponential"])
@pytest.mark.parametrize("dilated", [False, True])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_splits_and_dilation_build_and_learn(split, dilated, padding):
    block = Block(8, 22, (3, 5, 7, 9), 2, 2, 2, split, dilated)
    stages = (Stage((block, replace(block, stride=1), replace(block, stride=1, mid=0, kernels=(3, 5)))),)
    torch.manual_seed(0)
    model = MixNet(replace(TINY, stages=stages, padding=padding)).train()
    y = model(torch.randn(4, 3, 21, 26))
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    widths = {"equal": [7, 5, 5, 5], "exponential": [11, 6, 3, 2]}[split]
    assert [c.out_channels for c in model.blocks[0][0].conv_dw.convs] == widths
    assert [c.dilation[0] for c in model.blocks[0][1].conv_dw.convs] == ([1, 2, 3, 4] if dilated else [1] * 4)


def test_inner_widths_are_free_in_every_block():
    model = MixNet(set_path(TINY, "stages.1.blocks.0.mid", 19)).eval()
    assert [c.out_channels for c in model.blocks[1][0].conv_dw.convs] == [7, 6, 6]
    assert [c.in_channels for c in model.blocks[1][0].conv_pwl.convs] == [10, 9]
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_feature_maps_are_one_a_stride_finest_first():
    check_feature_maps(S, [(16, 2), (24, 4), (40, 8), (120, 16), (200, 32)])


def test_stochastic_depth_grows_with_the_block_and_only_where_there_is_a_skip():
    blocks = [b for stage in on_meta(replace(S, drop_path=0.16)).blocks for b in stage]
    rates = [None if b.drop_path is None else round(b.drop_path.rate, 6) for b in blocks]
    skips = {0, 2, 4, 5, 6, 8, 9, 11, 12, 14, 15}
    assert rates == [round(0.01 * i, 6) if i in skips else None for i in range(16)]


def test_gradients_reach_every_parameter():
    check_gradients(TINY)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stages.1.blocks.0.kernels", (3, 4)),
        ("stages.1.blocks.0.kernels", ()),
        ("stages.1.blocks.0.mid", -1),
        ("stages.1.blocks.0.split", "half"),
        ("stages.1.blocks.0.expand_parts", 0),
        ("stages.1.blocks", ()),
        ("stages", ()),
        ("padding", "valid"),
    ],
)
def test_a_config_that_can_not_be_is_refused(path, value):
    get_path(TINY, path)
    with pytest.raises(ConfigError, match=path.rpartition(".")[2]):
        set_path(TINY, path, value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("stages.1.blocks.0.mid", 2, r"stages\.1\.blocks\.0: 2 channels can not be split into 3 parts"),
        ("stages.1.blocks.0.project_parts", 9, r"stages\.1\.blocks\.0: 8 channels can not be split into 9 parts"),
        ("stages.1.blocks.1.stride", 2, "only the first block"),
    ],
)
def test_parts_without_channels_and_late_strides_are_refused(path, value, message):
    with pytest.raises(ConfigError, match=message):
        set_path(TINY, path, value)


def test_a_million_blocks_are_refused_before_anything_is_built():
    with pytest.raises(ConfigError, match="at most 1,024"):
        replace(S, stages=(Stage((Block(8, 24),) * 1024),) * 60)
