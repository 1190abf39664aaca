"""EfficientNet against published counts, timm and torchvision."""

import pytest
import torch
from compare import check_feature_maps, check_gradients, difference

from foveate.config import from_json, replace, set_path, to_json
from foveate.errors import ConfigError
from foveate.layers.same import SamePad, same_pads
from foveate.zoo.families.efficientnet.network import (
    VARIANTS,
    EfficientNet,
    EfficientNetConfig,
    Stage,
    from_timm,
    from_torchvision,
    scale,
)
from foveate.zoo.widths import round_width

B0, LITE0 = VARIANTS["efficientnet_b0"], VARIANTS["efficientnet_lite0"]
TINY = EfficientNetConfig((Stage(1, 8, 1, 3, 1), Stage(2, 16, 4, 5, 2)), stem=8, head=32, num_classes=5, resolution=32)


@pytest.mark.parametrize(
    ("name", "size"), [("efficientnet_b0", (64, 64)), ("efficientnet_b1", (33, 47)), ("efficientnet_lite0", (65, 38))]
)
def test_outputs_equal_timm_with_same_padding(name, size):
    import timm

    assert difference(EfficientNet(VARIANTS[name]), timm.create_model(f"tf_{name}"), from_timm, size=size) <= 1e-10


@pytest.mark.parametrize("size", [(64, 64), (45, 51)])
def test_outputs_equal_torchvision_with_symmetric_padding(size):
    import torchvision

    layers = replace(B0.layers, norm="batch_norm(eps=1e-5, momentum=0.1)")
    ours = EfficientNet(replace(B0, padding="symmetric", layers=layers))
    assert difference(ours, torchvision.models.efficientnet_b0(), from_torchvision, size=size) <= 1e-10


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b4", "efficientnet_lite3"])
def test_keys_and_their_order_are_those_of_timm(name):
    import timm

    with torch.device("meta"):
        theirs, ours = timm.create_model(f"tf_{name}").state_dict(), EfficientNet(VARIANTS[name]).state_dict()
    assert [(from_timm(k), v.shape) for k, v in theirs.items()] == [(k, v.shape) for k, v in ours.items()]


def test_keys_of_torchvision_map_to_ours_for_a_deep_variant():
    import torchvision

    with torch.device("meta"):
        theirs = torchvision.models.efficientnet_b3().state_dict()
        ours = EfficientNet(VARIANTS["efficientnet_b3"]).state_dict()
    assert [(from_torchvision(k), v.shape) for k, v in theirs.items()] == [(k, v.shape) for k, v in ours.items()]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (224, 3, 2, (0, 1)),
        (224, 5, 2, (1, 2)),
        (224, 7, 2, (2, 3)),
        (225, 3, 2, (1, 1)),
        (7, 3, 1, (1, 1)),
        (8, 1, 2, (0, 0)),
    ],
)
def test_same_padding_is_tensorflows(size, kernel, stride, pads):
    assert same_pads(size, kernel, stride) == pads


@pytest.mark.parametrize("size", range(1, 12))
def test_a_convolution_after_same_padding_gives_the_ceiling_of_size_over_stride(size):
    x = SamePad(5, 2)(torch.zeros(1, 1, size, 7))
    assert torch.nn.functional.conv2d(x, torch.zeros(1, 1, 5, 5), stride=2).shape == (1, 1, -(-size // 2), 4)


def test_feature_maps_are_one_a_stride_finest_first():
    check_feature_maps(B0, [(16, 2), (24, 4), (40, 8), (112, 16), (320, 32)])


def test_a_first_stage_with_a_stride_leaves_the_stem_its_own_feature_map():
    config = set_path(TINY, "stages.0.stride", 2)
    maps = EfficientNet(config).eval().feature_maps(torch.zeros(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 16, 16), (8, 8, 8), (16, 4, 4)]


def test_stochastic_depth_grows_linearly_and_only_where_there_is_a_skip():
    blocks = [block for stage in EfficientNet(B0).blocks for block in stage]
    rates = [None if b.drop_path is None else round(b.drop_path.rate, 6) for b in blocks]
    skips = {2, 4, 6, 7, 9, 10, 12, 13, 14}
    assert rates == [round(0.2 * i / 16, 6) if i in skips else None for i in range(16)]


def test_squeeze_width_refers_to_the_input_of_the_block():
    blocks = EfficientNet(B0).blocks
    assert blocks[0][0].se.fc1.out_channels == 8  # a quarter of the stem's 32
    assert blocks[1][1].se.fc1.out_channels == 6  # a quarter of 24, not of 144


def test_initial_weights_have_the_official_spread():
    torch.manual_seed(0)
    model = EfficientNet(B0)
    depthwise, head, fc = model.blocks[5][1].conv_dw.weight, model.conv_head.weight, model.classifier.weight
    assert depthwise.std().item() == pytest.approx((2 / 25) ** 0.5, rel=0.02)  # one output a group
    assert head.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.02)
    assert fc.abs().max().item() == pytest.approx(1000**-0.5, rel=1e-3)
    assert not model.classifier.bias.any()
    assert not model.blocks[0][0].se.fc1.bias.any()


@pytest.mark.parametrize(("width", "rounded"), [(35.2, 32), (38.4, 40), (17.6, 16), (1, 8), (11, 16), (12, 16)])
def test_widths_round_to_multiples_of_8_and_never_below_90_per_cent(width, rounded):
    assert round_width(width) == rounded


def test_scaling_by_one_changes_nothing():
    assert scale(B0, 1.0, 1.0) == B0


def test_lite_scaling_keeps_the_ends():
    config = scale(LITE0, 1.8, 1.4, lite=True)
    assert (config.stem, config.head) == (32, 1280)
    assert [s.depth for s in config.stages] == [1, 4, 4, 6, 6, 8, 1]


def test_scaling_refuses_stages_with_listed_inner_widths():
    with pytest.raises(ConfigError, match=r"stages\.1\.mid"):
        scale(set_path(TINY, "stages.1.mid", (24, 40)), 2.0, 1.0)


def test_inner_widths_can_be_uneven():
    model = EfficientNet(set_path(TINY, "stages.1.mid", (24, 40)))
    assert [b.conv_dw.out_channels for b in model.blocks[1]] == [24, 40]
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(
    ("path", "value"),
    [("stages.1.mid", (8,)), ("stages.0.mid", (8,)), ("stages.1.kernel", 4), ("stages.1.stride", -1), ("stages", ())],
)
def test_a_config_that_can_not_be_is_refused(path, value):
    with pytest.raises(ConfigError, match=path.rpartition(".")[2]):
        set_path(TINY, path, value)


def test_a_million_blocks_are_refused_before_anything_is_built():
    with pytest.raises(ConfigError, match="at most 1,024"):
        replace(B0, stages=(Stage(4096, 8, 1, 3, 1),) * 60)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_survives_json(name):
    config = from_json(EfficientNetConfig, to_json(VARIANTS[name]))
    assert config == VARIANTS[name]
    assert hash(config) == hash(VARIANTS[name])


def test_a_stage_can_have_layers_of_its_own():
    config = set_path(
        TINY, "stages.1.layers", replace(TINY.layers, norm="group_norm(groups=4)", attn="eca", act="prelu")
    )
    model = EfficientNet(config)
    assert isinstance(model.blocks[1][0].bn1, torch.nn.GroupNorm)
    assert isinstance(model.blocks[0][0].bn1, torch.nn.BatchNorm2d)


def test_gradients_reach_every_parameter():
    check_gradients(replace(TINY, drop_path=0.0))
