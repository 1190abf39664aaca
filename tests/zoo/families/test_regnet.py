"""The RegNet family against published counts and configurations, timm, torchvision and the authors' G-Ghost code."""

import pytest
import torch
from compare import check_gradients, difference, facts, on_meta, shapes, timm_on_meta

from foveate.config import replace, set_path
from foveate.errors import ConfigError
from foveate.zoo.families.regnet.network import (
    VARIANTS,
    Ghost,
    GhostStage,
    RegNet,
    RegNetConfig,
    Stage,
    design,
    from_timm,
    from_torchvision,
    g_ghost,
)

FACTS = facts("regnet")
TINY = RegNetConfig(
    (Stage(16, (16,), 8), Stage(32, (32, 12, 12, 32), 8, ghost=Ghost(12, 6, 20))),
    stem=8,
    num_classes=5,
    resolution=32,
)
# depths, widths, group width: as the authors' code of G-Ghost RegNet lists them
PLAIN = {
    "002": ((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "004": ((1, 2, 7, 12), (32, 64, 160, 384), 16),
    "006": ((1, 3, 5, 7), (48, 96, 240, 528), 24),
    "008": ((1, 3, 7, 5), (64, 128, 288, 672), 16),
    "016": ((2, 4, 10, 2), (72, 168, 408, 912), 24),
    "032": ((2, 6, 15, 2), (96, 192, 432, 1008), 48),
    "040": ((2, 5, 14, 2), (80, 240, 560, 1360), 40),
    "064": ((2, 4, 10, 1), (168, 392, 784, 1624), 56),
    "080": ((2, 5, 15, 1), (80, 240, 720, 1920), 120),
    "120": ((2, 5, 11, 1), (224, 448, 896, 2240), 112),
    "160": ((2, 6, 13, 1), (256, 512, 896, 2048), 128),
    "320": ((2, 7, 13, 1), (336, 672, 1344, 2520), 168),
}
TORCHVISION = {
    "regnet_x_400mf": "regnetx_004_tv",
    "regnet_x_800mf": "regnetx_008",
    "regnet_x_1_6gf": "regnetx_016",
    "regnet_x_3_2gf": "regnetx_032",
    "regnet_x_8gf": "regnetx_080",
    "regnet_x_16gf": "regnetx_160",
    "regnet_x_32gf": "regnetx_320",
    "regnet_y_400mf": "regnety_004",
    "regnet_y_800mf": "regnety_008_tv",
    "regnet_y_1_6gf": "regnety_016",
    "regnet_y_3_2gf": "regnety_032",
    "regnet_y_8gf": "regnety_080_tv",
    "regnet_y_16gf": "regnety_160",
    "regnet_y_32gf": "regnety_320",
    "regnet_y_128gf": "regnety_1280",
}


@pytest.mark.parametrize("number", PLAIN)
def test_the_design_rule_gives_the_published_stages(number):
    depths, widths, group = PLAIN[number]
    stages = VARIANTS[f"regnetx_{number}"].stages
    assert tuple(len(s.mid) for s in stages) == depths
    assert tuple(s.width for s in stages) == widths
    assert {s.group_width for s in stages} == {min(group, widths[0]), group} - (
        {group} if group > widths[-1] else set()
    )
    assert all(set(s.mid) == {s.width} for s in stages)


@pytest.mark.parametrize(("theirs", "ours"), TORCHVISION.items())
def test_counts_are_those_that_torchvision_publishes(theirs, ours):
    from torchvision.models import get_model_weights

    meta = next(iter(get_model_weights(theirs))).meta
    assert FACTS[ours]["params"] == meta["num_params"]
    assert FACTS[ours]["macs"] / 1e9 == pytest.approx(meta["_ops"], abs=6e-4) or "y_128gf" in theirs  # at 384 pixels


@pytest.mark.parametrize(("name", "size"), [("regnetx_002", (64, 64)), ("regnety_002", (45, 51))])
def test_outputs_equal_timm(name, size):
    import timm

    assert difference(RegNet(VARIANTS[name]), timm.create_model(name), from_timm, size=size) <= 1e-10


@pytest.mark.parametrize(("name", "size"), [("regnet_x_400mf", (64, 64)), ("regnet_y_400mf", (33, 50))])
def test_outputs_equal_torchvision(name, size):
    from torchvision.models import get_model

    ours = RegNet(VARIANTS[TORCHVISION[name]])
    assert difference(ours, get_model(name), from_torchvision, size=size) <= 1e-10


@pytest.mark.parametrize("name", ["regnetx_160", "regnety_032", "regnety_080_tv"])
def test_every_key_of_timm_has_its_place(name):
    assert sorted(shapes(timm_on_meta(name), from_timm)) == sorted(shapes(on_meta(VARIANTS[name])))


@pytest.mark.parametrize("name", ["regnet_x_1_6gf", "regnet_y_800mf"])
def test_every_key_of_torchvision_has_its_place(name):
    from torchvision.models import get_model

    theirs, ours = get_model(name).state_dict(), on_meta(VARIANTS[TORCHVISION[name]]).state_dict()
    assert {from_torchvision(k): v.shape for k, v in theirs.items()} == {k: v.shape for k, v in ours.items()}
    assert len(theirs) == len(ours)


def test_the_squeeze_refers_to_the_input_of_the_block():
    model = on_meta(VARIANTS["regnety_002"])
    assert model.layer1[0].se.fc1.out_channels == 8  # a quarter of the stem's 32
    assert model.layer2[0].se.fc1.out_channels == 6  # a quarter of 24, not of 56


def test_g_ghost_keeps_short_stages_and_the_first_and_the_last_block_of_long_ones():
    first, second, third, fourth = VARIANTS["g_ghost_regnetx_016"].stages
    assert (first, fourth) == (VARIANTS["regnetx_016"].stages[0], VARIANTS["regnetx_016"].stages[3])
    assert second.ghost == Ghost(72, 18, 96)  # half of 168 is 84, of which 18 divides 72
    assert third.mid == (408, *(198,) * 8, 408)


def test_a_g_ghost_stage_gives_what_the_authors_code_gives():
    """Golden values of their Stage: 12 to 32 channels, 4 blocks, group width 8, stride 2; deterministic fills; norms
    as they start, in float64 and evaluation mode.
    """
    stage = Stage(32, (32, 12, 12, 32), 8, ghost=Ghost(12, 6, 20))
    module = GhostStage(RegNetConfig((stage,)).layers, 12, stage, stage.ghost).double().eval()
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, torch.nn.Conv2d):
                i = torch.arange(m.weight.numel(), dtype=torch.float64)
                m.weight.copy_((0.3 * torch.sin(0.1 * (i + 1))).view_as(m.weight))
        i = torch.arange(2 * 12 * 6 * 7, dtype=torch.float64)
        y = module((torch.sin(0.37 * i) + 0.3 * torch.cos(1.7 * i)).view(2, 12, 6, 7))
    assert y.shape == (2, 32, 3, 4)
    golden = [9.987209341365677, 12.060213262095802, 12.510876844950738, 7.468132750818892]
    assert y.flatten()[[0, 202, 385, 587]].tolist() == pytest.approx(golden, rel=1e-9)
    assert y.square().sum().item() == pytest.approx(44766.9139679193, rel=1e-9)


def test_feature_maps_are_one_a_stride_finest_first():
    model = RegNet(VARIANTS["g_ghost_regnetx_002"]).eval()
    with torch.no_grad():
        maps, features = (
            model.feature_maps(torch.zeros(1, 3, 64, 64)),
            model.forward_features(torch.zeros(1, 3, 64, 64)),
        )
    assert [(m.shape[1], 64 // m.shape[2]) for m in maps] == [(32, 2), (24, 4), (56, 8), (152, 16), (368, 32)]
    assert torch.equal(maps[-1], features)


def test_initial_weights_have_the_authors_spread():
    torch.manual_seed(0)
    model = RegNet(VARIANTS["regnetx_002"])
    assert model.layer4[3].conv2.weight.std().item() == pytest.approx((2 / (9 * 368)) ** 0.5, rel=0.05)
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not model.fc.bias.any()


def test_inner_widths_can_be_uneven():
    model = RegNet(set_path(TINY, "stages.1.mid", (24, 6, 18, 16)))
    assert [b.conv2.out_channels for b in (model.layer2.base, *model.layer2.layers, model.layer2.end)] == [
        24,
        6,
        18,
        16,
    ]
    assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stages.0.mid", (12,)),
        ("stages.1.mid", (32, 16, 12, 32)),
        ("stages.1.mid", (32, 32)),
        ("stages.1.ghost", Ghost(32, 6, 20)),
        ("stages.0.group_width", 0),
        ("stages", ()),
    ],
)
def test_a_config_that_can_not_be_is_refused(path, value):
    with pytest.raises(
        ConfigError, match="ghost" if value in ((32, 32), Ghost(32, 6, 20)) else path.rpartition(".")[2]
    ):
        set_path(TINY, path, value)


@pytest.mark.parametrize(
    "numbers", [(0, 24, 36.44, 2.49, 8), (13, 25, 36.44, 2.49, 8), (13, 24, -1, 2.49, 8), (13, 24, 36.44, 1.0, 8)]
)
def test_numbers_that_design_no_net_are_refused(numbers):
    with pytest.raises(ConfigError, match="design"):
        design(*numbers)


def test_g_ghost_refuses_what_is_one_already():
    with pytest.raises(ConfigError, match="g_ghost"):
        g_ghost(VARIANTS["g_ghost_regnetx_002"])


def test_a_million_blocks_are_refused_before_anything_is_built():
    with pytest.raises(ConfigError, match="at most 1,024"):
        replace(TINY, stages=(Stage(8, (8,) * 1000, 8),) * 16)


def test_gradients_reach_every_parameter():
    check_gradients(replace(TINY, layers=replace(TINY.layers, attn="se(ratio=0.25)")))
