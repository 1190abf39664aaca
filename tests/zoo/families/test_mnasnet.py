"""MnasNet against published counts, timm, torchvision and pytorchcv."""

import functools
import itertools
from unittest import mock

import pytest
import torch
from compare import check_feature_maps, difference, on_meta, shapes, timm_on_meta, torchvision_on_meta
from torch import nn

from foveate.config import get_path, replace, set_path
from foveate.errors import ConfigError
from foveate.layers.eca import ECA
from foveate.layers.se import SqueezeExcite
from foveate.zoo.families.mnasnet.network import (
    VARIANTS,
    MnasNet,
    MnasNetConfig,
    Stage,
    from_timm,
    from_torchvision,
    scale,
    symmetric,
)

A1, B1, SMALL = VARIANTS["mnasnet_a1"], VARIANTS["mnasnet_b1"], VARIANTS["mnasnet_small"]
TINY = MnasNetConfig(
    (Stage(1, 8, 1, 3, 1, "sepconv", "none"), Stage(2, 16, 3, 5, 2, attn="se(ratio=0.25)")),
    stem=8,
    head=32,
    num_classes=5,
    resolution=32,
)


@pytest.mark.parametrize(
    ("name", "theirs", "size"),
    [
        ("mnasnet_a1", "semnasnet_100", (65, 47)),
        ("mnasnet_b1", "mnasnet_100", (64, 38)),
        ("mnasnet_small",) * 2 + (96,),
    ],
)
def test_the_official_form_equals_timm_with_same_padding(name, theirs, size):
    import timm

    theirs = timm.create_model(theirs, pad_type="same", bn_eps=1e-3)
    size = size if isinstance(size, tuple) else (size, size)
    assert difference(MnasNet(VARIANTS[name]), theirs, from_timm, size=size) <= 1e-10


@pytest.mark.parametrize(("name", "size"), [("semnasnet_075", (64, 64)), ("mnasnet_050", (61, 47))])
def test_timm_weights_load_by_name_and_give_the_same_outputs(name, size):
    import timm

    assert difference(MnasNet(VARIANTS[name]), timm.create_model(name), from_timm, size=size) <= 1e-10


def test_the_symmetric_form_of_the_small_net_is_timms():
    import timm

    ours, theirs = MnasNet(symmetric(SMALL)), timm.create_model("mnasnet_small")
    assert difference(ours, theirs, from_timm, size=(45, 51)) <= 1e-10


@pytest.mark.parametrize(("name", "size"), [("mnasnet0_5", (64, 64)), ("mnasnet1_0", (45, 51))])
def test_torchvision_weights_load_by_name_and_give_the_same_outputs(name, size):
    import torchvision

    ours, theirs = MnasNet(VARIANTS[name]), getattr(torchvision.models, name)()
    assert difference(ours, theirs, from_torchvision, size=size) <= 1e-10


def test_pytorchcv_has_the_same_a1():
    from pytorchcv.model_provider import get_model

    theirs = get_model("mnasnet_a1")
    theirs.features.final_pool = nn.AdaptiveAvgPool2d(1)  # theirs is fixed to the 7x7 map of 224 pixels
    assert difference(MnasNet(symmetric(A1)), theirs, size=(64, 64)) <= 1e-10


@pytest.mark.parametrize("name", [n for n in VARIANTS if n.startswith(("mnasnet_0", "mnasnet_1", "semnasnet_"))])
def test_keys_and_their_order_are_those_of_timm(name):
    assert shapes(timm_on_meta(name), from_timm) == shapes(on_meta(VARIANTS[name]))


@pytest.mark.parametrize("name", ["mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"])
def test_keys_of_torchvision_map_to_ours(name):
    assert shapes(torchvision_on_meta(name), from_torchvision) == shapes(on_meta(VARIANTS[name]))


def test_renames_leave_our_keys_alone():
    keys = list(on_meta(A1).state_dict())
    assert [from_timm(k) for k in keys] == [from_torchvision(k) for k in keys] == keys


def test_torchvisions_norms_forget_slowly():
    norm = on_meta(VARIANTS["mnasnet1_0"]).bn1
    assert (norm.eps, norm.momentum) == (1e-5, 0.0003)


def test_gates_stand_in_the_stages_that_ask_for_them():
    blocks = on_meta(A1).blocks
    assert [isinstance(stage[0].se, SqueezeExcite) for stage in blocks] == [
        False,
        False,
        True,
        False,
        True,
        True,
        False,
    ]
    assert blocks[2][0].se.fc1.out_channels == 6  # a quarter of the 24 channels that enter the layer
    assert blocks[2][1].se.fc1.out_channels == 10


def test_the_nets_gate_fills_the_stages_that_name_none():
    config = replace(A1, layers=replace(A1.layers, attn="eca", norm="group_norm(groups=4)"))
    model = on_meta(config)
    assert isinstance(model.blocks[1][0].se, ECA)
    assert isinstance(model.blocks[2][0].se, SqueezeExcite)
    assert isinstance(model.blocks[2][0].bn1, nn.GroupNorm)


def test_a_stage_can_have_layers_of_its_own():
    model = on_meta(set_path(TINY, "stages.1.layers", replace(TINY.layers, act="prelu", norm="group_norm(groups=4)")))
    assert isinstance(model.blocks[1][0].act1, nn.PReLU)
    assert isinstance(model.blocks[1][0].se, SqueezeExcite)
    assert isinstance(model.blocks[0][0].bn1, nn.BatchNorm2d)


CHOICES = list(
    itertools.product(
        ("conv", "sepconv", "mbconv"), (3, 5), ("none", "se(ratio=0.25)"), ("pool", "identity", "none"), (1, 2)
    )
)


@pytest.mark.parametrize(("op", "kernel", "attn", "skip", "stride"), CHOICES)
def test_every_choice_of_the_search_space_builds_and_learns(op, kernel, attn, skip, stride):
    stage = Stage(2, 8, 3 if op == "mbconv" else 1, kernel, stride, op, skip, attn)
    torch.manual_seed(0)
    model = MnasNet(MnasNetConfig((stage,), stem=8, head=16, num_classes=3)).train()
    y = model(torch.randn(4, 3, 16, 18))
    y.square().sum().backward()
    assert y.shape == (4, 3)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize(
    ("skip", "stride", "c_in", "added"),
    [
        ("identity", 1, 8, True),
        ("identity", 2, 8, False),
        ("identity", 1, 6, False),
        ("pool", 1, 8, True),
        ("pool", 2, 8, True),
        ("pool", 2, 6, False),
        ("none", 1, 8, False),
    ],
)
def test_a_skip_adds_the_input_where_it_fits(skip, stride, c_in, added, padding):
    config = MnasNetConfig((Stage(1, 8, 1, 3, stride, "sepconv", skip),), stem=c_in, head=8, padding=padding)
    block = MnasNet(config).blocks[0][0].eval()
    nn.init.zeros_(block.bn2.weight)  # what is left is the skip
    x = torch.randn(1, c_in, 7, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = block(x)
    assert y.shape == (1, 8, -(-7 // stride), -(-10 // stride))
    assert bool(y.any()) == added
    if added and skip == "identity":
        assert torch.equal(y, x)


def test_the_skip_pool_is_a_mean_of_what_lies_inside_the_picture():
    config = MnasNetConfig((Stage(1, 8, 1, 3, 2, "sepconv", "pool"),), stem=8, head=8)
    block = MnasNet(config).blocks[0][0].eval()
    nn.init.zeros_(block.bn2.weight)
    with torch.no_grad():
        assert torch.allclose(block(torch.ones(1, 8, 9, 12)), torch.ones(1, 8, 5, 6))


def test_feature_maps_are_one_a_stride_finest_first():
    check_feature_maps(A1, [(16, 2), (24, 4), (40, 8), (112, 16), (320, 32)])


def test_a_first_stage_with_a_stride_leaves_the_stem_its_own_feature_map():
    maps = MnasNet(set_path(TINY, "stages.0.stride", 2)).eval().feature_maps(torch.zeros(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 16, 16), (8, 8, 8), (16, 4, 4)]


def test_initial_weights_have_the_official_spread():
    torch.manual_seed(0)
    model = MnasNet(B1)
    assert model.blocks[5][1].conv_dw.weight.std().item() == pytest.approx((2 / 25) ** 0.5, rel=0.02)
    assert model.conv_head.weight.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.02)
    assert model.classifier.weight.abs().max().item() == pytest.approx(1000**-0.5, rel=1e-3)


def test_scaling_keeps_the_head_and_rounds_the_rest():
    config = scale(A1, 0.35)
    assert (config.stem, config.head) == (16, 1280)
    assert [s.width for s in config.stages] == [8, 8, 16, 32, 40, 56, 112]
    assert scale(A1, 1.0) == A1


def test_scaling_refuses_stages_with_listed_inner_widths():
    with pytest.raises(ConfigError, match=r"stages\.1\.mid"):
        scale(set_path(TINY, "stages.1.mid", (24, 40)), 2.0)


def test_inner_widths_can_be_uneven():
    model = MnasNet(set_path(TINY, "stages.1.mid", (24, 40)))
    assert [b.conv_dw.out_channels for b in model.blocks[1]] == [24, 40]
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_stochastic_depth_grows_with_the_layer():
    blocks = [b for stage in on_meta(replace(A1, drop_path=0.32)).blocks for b in stage]
    assert [round(b.drop_path.rate, 6) for b in blocks] == [round(0.02 * i, 6) for i in range(16)]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stages.1.mid", (8,)),
        ("stages.0.mid", (8,)),
        ("stages.1.kernel", 4),
        ("stages.1.stride", -1),
        ("stages.1.expand", 1),
        ("stages.0.expand", 6),
        ("stages.1.op", "dwconv"),
        ("stages.1.skip", "max"),
        ("stages", ()),
        ("padding", "valid"),
    ],
)
def test_a_config_that_can_not_be_is_refused(path, value):
    get_path(TINY, path)
    with pytest.raises(ConfigError, match=path.rpartition(".")[2]):
        set_path(TINY, path, value)


def test_a_million_layers_are_refused_before_anything_is_built():
    with pytest.raises(ConfigError, match="at most 1,024"):
        replace(A1, stages=(Stage(4096, 8, 6, 3, 1),) * 60)


def test_d1_gives_the_outputs_of_timms_builder():
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.efficientnet import EfficientNet

    rows = [
        ["ir_r1_k3_s1_e9_c24"],
        ["ir_r3_k3_s2_e9_c36"],
        ["ir_r5_k3_s2_e9_c48"],
        ["ir_r4_k5_s2_e9_c96"],
        ["ir_r5_k7_s1_e3_c96"],
        ["ir_r3_k3_s2_e9_c80"],
        ["ir_r1_k7_s1_e6_c320_noskip"],
    ]
    norm = functools.partial(torch.nn.BatchNorm2d, eps=1e-3)
    exact = {"pad_type": "same", "norm_layer": norm, "round_chs_fn": lambda c, *_: c}
    with mock.patch("timm.models._efficientnet_blocks.make_divisible", lambda c, *_: int(c)):  # 36 x 9 stays 324
        theirs = EfficientNet(decode_arch_def(rows), num_features=1280, **exact)
    assert difference(MnasNet(VARIANTS["mnasnet_d1"]), theirs, from_timm, size=(45, 64)) <= 1e-10
