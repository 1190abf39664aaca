"""The GhostNet family against published counts, timm and pytorchcv."""

import pytest
import torch
from compare import (
    check_feature_maps,
    check_gradients,
    counts,
    difference,
    facts,
    on_meta,
    picture,
    randomise,
    shapes,
    timm_on_meta,
)

from foveate.config import replace, set_path
from foveate.errors import ConfigError
from foveate.zoo.families.ghostnet.blocks import Branches, GhostModule
from foveate.zoo.families.ghostnet.network import (
    VARIANTS,
    Block,
    GhostNet,
    GhostNetConfig,
    Stage,
    attended,
    from_timm,
    fuse,
    fused,
    round_width,
    scale,
)

FACTS = facts("ghostnet")
V3 = {name: config for name, config in VARIANTS.items() if config.form == "branches"}
NETS = VARIANTS | {f"{name}_fused": fused(config) for name, config in V3.items()}
TINY = GhostNetConfig(
    (Stage((Block(9, 6, True),)), Stage((Block(16, 8, dfc=True), Block(18, 10, True, True)), 5, 2)),
    stem=6,
    last=12,
    head=16,
    num_classes=5,
    resolution=32,
)


@pytest.mark.parametrize("name", sorted(NETS.keys() - VARIANTS.keys()))
def test_fused_nets_have_the_published_parameters_and_macs(name):
    fact = FACTS[name]
    assert NETS[name].resolution == fact["resolution"]
    assert counts(on_meta(NETS[name]), fact["resolution"]) == (fact["params"], fact["macs"])


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ghostnet_100", (64, 64)),
        ("ghostnet_130", (47, 65)),
        ("ghostnetv2_100", (75, 97)),
        ("ghostnetv3_050", (64, 71)),
    ],
)
def test_outputs_equal_timm(name, size):
    import timm

    assert difference(GhostNet(VARIANTS[name]), timm.create_model(name), from_timm, size=size) <= 1e-10


@pytest.mark.parametrize("name", ["ghostnet_050", "ghostnetv2_130", "ghostnetv3_100"])
def test_every_key_of_timm_has_its_place(name):
    assert sorted(shapes(timm_on_meta(name), from_timm)) == sorted(shapes(on_meta(VARIANTS[name])))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("blocks.3.0.ghost1.primary_rpr_conv.2.bn.weight", "blocks.3.0.ghost1.primary_conv.convs.2.1.weight"),
        ("blocks.3.0.ghost2.cheap_rpr_scale.conv.weight", "blocks.3.0.ghost2.cheap_operation.scale.0.weight"),
        ("blocks.3.0.dw_rpr_conv.0.bn.running_mean", "blocks.3.0.conv_dw.convs.0.1.running_mean"),
        ("blocks.3.0.se.conv_reduce.bias", "blocks.3.0.se.fc1.bias"),
    ],
)
def test_the_authors_names_of_branches_map_too(theirs, ours):
    assert from_timm(theirs) == ours
    assert from_timm(ours) == ours


def test_the_fused_net_equals_the_one_that_was_trained():
    torch.manual_seed(0)
    trained = randomise(GhostNet(VARIANTS["ghostnetv3_050"]))
    quick = GhostNet(fused(VARIANTS["ghostnetv3_050"])).double().eval()
    quick.load_state_dict(fuse(trained))
    assert not [m for m in quick.modules() if isinstance(m, Branches)]
    with torch.no_grad():
        expected, got = trained(picture(64, 75)), quick(picture(64, 75))
    assert (got - expected).abs().max() <= 1e-10 * max(1.0, expected.abs().max().item())


def test_the_fused_net_takes_the_weights_that_timm_fuses():
    import timm
    from timm.utils.model import reparameterize_model

    theirs = reparameterize_model(randomise(timm.create_model("ghostnetv3_050")))
    ours = GhostNet(fused(VARIANTS["ghostnetv3_050"])).double().eval()
    ours.load_state_dict({from_timm(k): v for k, v in theirs.state_dict().items()})
    with torch.no_grad():
        expected, got = theirs(picture(64, 64)), ours(picture(64, 64))
    assert (got - expected).abs().max() <= 1e-10 * max(1.0, expected.abs().max().item())


def test_each_unit_of_branches_is_one_convolution():
    """Whatever stands in it: a stride with its 1x1, a depthwise one with the norm of its input, a bare 1x1."""
    kinds = [
        ((8, 8, 5), {"stride": 2, "depthwise": True}),
        ((8, 8, 3), {"depthwise": True}),
        ((8, 12, 1), {"act": True}),
    ]
    for shape, options in kinds:
        unit = Branches(TINY, TINY.layers, *shape, **{"stride": 1, "depthwise": False, "act": False} | options)
        weight, bias = randomise(unit).folded()
        x = torch.randn(2, 8, 9, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        groups, stride = (8, options.get("stride", 1)) if "depthwise" in options else (1, 1)
        expected = torch.nn.functional.conv2d(x, weight, bias, stride, shape[2] // 2, groups=groups)
        with torch.no_grad():
            assert torch.allclose(unit(x), unit.act(expected), atol=1e-12)


@pytest.mark.parametrize(
    "config",
    [
        VARIANTS["ghostnetv2_100"],
        replace(VARIANTS["ghostnetv3_100"], layers=replace(TINY.layers, norm="group_norm")),
        replace(VARIANTS["ghostnetv3_100"], layers=replace(TINY.layers, conv="conv2d_bias")),
        set_path(VARIANTS["ghostnetv3_100"], "stages.2.layers", replace(TINY.layers, norm="none")),
    ],
)
def test_only_branches_of_batch_norms_and_plain_convolutions_fuse(config):
    with pytest.raises(ConfigError, match="fuse"):
        fused(config)


def test_the_ghost_module_gives_the_golden_values():
    """Deterministic fills, norms as they start, in float64: the sum of squares to 1e-6."""
    module = GhostModule(VARIANTS["ghostnet_100"], VARIANTS["ghostnet_100"].layers, 8, 12).double().eval()
    assert sum(p.numel() for p in module.parameters()) == 126
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, torch.nn.Conv2d):
                i = torch.arange(m.weight.numel(), dtype=torch.float64)
                m.weight.copy_((0.3 * torch.sin(0.1 * (i + 1))).view_as(m.weight))
        i = torch.arange(4 * 8 * 6 * 6, dtype=torch.float64)
        y = module((torch.sin(0.37 * i) + 0.3 * torch.cos(1.7 * i)).view(4, 8, 6, 6))
    assert y.shape == (4, 12, 6, 6)
    assert y.flatten()[:3].tolist() == [0, 0, 0]
    assert y.square().sum().item() == pytest.approx(19.74487327, rel=1e-6)


def test_maps_beyond_the_output_are_cut_off():
    config = replace(TINY, ratio=3)
    module = GhostModule(config, config.layers, 6, 13)
    assert module.primary_conv[0].out_channels == 5
    assert module.cheap_operation[0].out_channels == 10
    assert module(torch.zeros(2, 6, 5, 5)).shape == (2, 13, 5, 5)


def test_pytorchcv_departs_by_what_its_code_says():
    """Its shortcuts are all 3x3, its squeezes not rounded to 4, and its hidden layer has a norm in place of a bias."""
    from pytorchcv.models.ghostnet import ghostnet

    with torch.device("meta"):
        theirs = sum(p.numel() for p in ghostnet().parameters())
    shortcuts = (25 - 9) * (24 + 112)
    squeezes = 2 * (2 * 72 + 1) + 2 * (2 * 120 + 1)  # 18 for 20, 30 for 32
    assert theirs == FACTS["ghostnet_100"]["params"] - shortcuts - squeezes + 1280


def test_the_long_range_attention_begins_with_the_third_block():
    flags = [b.dfc for stage in VARIANTS["ghostnetv2_100"].stages for b in stage.blocks]
    assert flags == [False, False] + [True] * 14
    assert attended(VARIANTS["ghostnet_100"]) == VARIANTS["ghostnetv2_100"]


def test_maps_of_one_pixel_have_long_range_attention_too():
    model = GhostNet(VARIANTS["ghostnetv2_100"]).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize(("width", "rounded"), [(20.8, 20), (8, 8), (1, 4), (10, 12), (9, 12), (5.2, 8), (13, 12)])
def test_widths_round_to_multiples_of_4_and_never_below_90_per_cent(width, rounded):
    assert round_width(width) == rounded


def test_scaling_keeps_the_hidden_layer():
    config = scale(VARIANTS["ghostnet_100"], 0.5)
    assert (config.stem, config.last, config.head) == (8, 480, 1280)
    assert scale(VARIANTS["ghostnet_100"], 1.0) == VARIANTS["ghostnet_100"]


def test_feature_maps_are_one_a_stride_finest_first():
    check_feature_maps(VARIANTS["ghostnet_100"], [(16, 2), (24, 4), (40, 8), (112, 16), (160, 32)])


def test_gates_stand_where_the_paper_has_them():
    model = on_meta(VARIANTS["ghostnet_100"])
    gated = [not isinstance(b.se, torch.nn.Identity) for stage in model.blocks for b in stage]
    assert [i for i, g in enumerate(gated) if g] == [3, 4, 9, 10, 11, 13, 15]
    assert model.blocks[3][0].se.fc1.out_channels == 20  # a quarter of 72 is 18, rounded to a multiple of 4


def test_a_stage_can_have_layers_of_its_own():
    model = GhostNet(set_path(TINY, "stages.1.layers", replace(TINY.layers, norm="group_norm(groups=2)", attn="eca")))
    assert isinstance(model.blocks[1][0].ghost1.primary_conv[1], torch.nn.GroupNorm)
    assert isinstance(model.blocks[0][0].ghost1.primary_conv[1], torch.nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stages.1.kernel", 4),
        ("cheap_kernel", 2),
        ("ratio", 1),
        ("form", "both"),
        ("stages.0.blocks", ()),
        ("stages", ()),
    ],
)
def test_a_config_that_can_not_be_is_refused(path, value):
    with pytest.raises(ConfigError, match=path.rpartition(".")[2]):
        set_path(TINY, path, value)


def test_a_million_blocks_are_refused_before_anything_is_built():
    with pytest.raises(ConfigError, match="at most 1,024"):
        replace(TINY, stages=(Stage((Block(8, 8),) * 1000),) * 60)


@pytest.mark.parametrize("form", ["plain", "branches", "fused"])
def test_gradients_reach_every_parameter(form):
    check_gradients(replace(TINY, form=form))
