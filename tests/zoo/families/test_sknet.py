"""SKNet and its selective kernel against published counts, timm, pytorchcv and the unit's own algebra."""

import math

import pytest
import torch
import torch.nn.functional as F
from compare import check_feature_maps, check_gradients, check_last_map, difference, randomise
from torch import nn

from foveate.config import from_json, replace, set_path, to_json
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.sk import SelectiveKernel, dilate, sk
from foveate.zoo.families.sknet import VARIANTS, SKNet, SKNetConfig, Stage, from_timm

TINY = SKNetConfig(
    (Stage(16, (8, 8), (4, 6), 1, groups=2), Stage(32, (8, 16), (4, 4), groups=4)), stem=8, num_classes=5
)
PLAIN = Layers()
PAPER = SKNetConfig((Stage(256, (128,) * 2, (32,) * 2, 1, groups=32), Stage(512, (256,), (32,), groups=32)))


def unit(c_in, c_out, *, squeeze=4, stride=1, groups=1, paths=2, split=False, layers=PLAIN):
    """A selective kernel with random weights, in float64 and evaluation mode."""
    made = SelectiveKernel(
        c_in,
        c_out,
        squeeze=squeeze,
        layers=layers,
        gate=PLAIN,
        stride=stride,
        groups=groups,
        paths=paths,
        split=split,
    )
    return randomise(made)


def first_stages(block, depths, selection, groups=1):
    """timm's net of two stages, 64 and 128 channels before they are widened."""
    from timm.models.resnet import ResNet

    model = ResNet(
        block,
        depths,
        channels=(64, 128),
        cardinality=groups,
        base_width=4 if groups > 1 else 64,
        zero_init_last=False,
        block_args={"sk_kwargs": selection},
    )
    model.layer3 = model.layer4 = nn.Identity()  # theirs wants four
    return model


def picture(channels, side, count=2):
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("size", [(64, 64), (45, 71)])
def test_outputs_of_the_papers_form_equal_timm(size):
    from timm.models.sknet import SelectiveKernelBottleneck

    selection = {"rd_ratio": 1 / 16, "rd_divisor": 32, "split_input": False}
    theirs = first_stages(SelectiveKernelBottleneck, (2, 1), selection, groups=32)
    assert difference(SKNet(PAPER), theirs, from_timm, size=size) <= 1e-10


def test_outputs_of_basic_blocks_that_split_their_input_equal_timm():
    from timm.models.sknet import SelectiveKernelBasic

    selection = {"rd_ratio": 1 / 8, "rd_divisor": 16, "split_input": True}
    theirs = first_stages(SelectiveKernelBasic, (2, 1), selection)
    stages = (Stage(64, (64, 64), (16, 16), 1), Stage(128, (128,), (16,)))
    assert difference(SKNet(SKNetConfig(stages, block="basic", split=True)), theirs, from_timm, size=(64, 47)) <= 1e-10


def test_outputs_of_bottlenecks_that_split_their_input_equal_timm():
    """The form of timm's skresnet50."""
    from timm.models.sknet import SelectiveKernelBottleneck

    theirs = first_stages(SelectiveKernelBottleneck, (1, 1), {"split_input": True})
    stages = (Stage(256, (64,), (8,), 1), Stage(512, (128,), (8,)))
    assert difference(SKNet(SKNetConfig(stages, split=True)), theirs, from_timm) <= 1e-10


def test_outputs_equal_pytorchcv_by_position():
    from pytorchcv.models.sknet import SKNet as Other

    theirs = Other([[256, 256], [512]], init_block_channels=64)
    theirs.features.final_pool = nn.AdaptiveAvgPool2d(1)  # theirs is fixed to the 7x7 map of 224 pixels
    assert difference(SKNet(PAPER), theirs) <= 1e-10


@pytest.mark.parametrize(
    ("name", "theirs"), [("sknet50", "skresnext50_32x4d"), ("skresnet18", "skresnet18"), ("skresnet34", "skresnet34")]
)
def test_keys_and_shapes_are_those_of_timm_after_the_rename(name, theirs):
    import timm

    with torch.device("meta"):
        given, ours = timm.create_model(theirs).state_dict(), SKNet(VARIANTS[name]).state_dict()
    assert [(from_timm(k), v.shape) for k, v in given.items()] == [(k, v.shape) for k, v in ours.items()]
    assert [from_timm(k) for k in ours] == list(ours)


def test_a_selective_kernel_gives_the_golden_values():
    """Filled by closed forms, norms at their start: x_i = sin(0.37 i) + 0.3 cos(1.7 i), w_i = 0.4 sin(0.1 (i + 1))."""

    def fill(tensor, rule):
        tensor.copy_(torch.tensor([rule(i) for i in range(tensor.numel())], dtype=torch.float64).view_as(tensor))

    layer = unit(8, 8, groups=2)
    for m in layer.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.reset_parameters()
    x = torch.empty(4, 8, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        fill(x, lambda i: math.sin(0.37 * i) + 0.3 * math.cos(1.7 * i))
        for name, weight in layer.named_parameters():
            if weight.ndim == 4:
                assert name.endswith("weight")
                fill(weight, lambda i: 0.4 * math.sin(0.1 * (i + 1)))
        y = layer(x)
    assert y.flatten()[:3].tolist() == pytest.approx([1.21450501, 1.83802563, 1.43224387], rel=1e-6)
    assert y.square().sum().item() == pytest.approx(543.43968431, rel=1e-6)


def test_a_selective_kernel_of_128_channels_has_the_published_parameters():
    assert sum(p.numel() for p in unit(128, 128, groups=32, squeeze=32).parameters()) == 22_080


def test_the_shares_of_the_paths_sum_to_one_in_every_channel():
    layer = unit(8, 6, paths=3)
    shares = layer.attn(picture(6, 5))
    assert shares.shape == (2, 3, 6, 1, 1)
    assert torch.allclose(shares.sum(1), torch.ones(2, 6, 1, 1, dtype=torch.float64))
    assert shares.std() > 0.01


def test_without_evidence_the_output_is_the_mean_of_the_paths():
    layer = unit(8, 6, stride=2)
    nn.init.zeros_(layer.attn.fc_select.weight)
    x = picture(8, 9)
    assert torch.allclose(layer(x), (layer.paths[0](x) + layer.paths[1](x)) / 2)


def test_one_path_is_a_plain_convolution_with_norm_and_activation():
    layer, x = unit(8, 6, paths=1), picture(8, 7)
    conv = layer.paths[0]
    expected = F.relu(conv.bn(F.conv2d(x, conv.conv.weight, padding=1)))
    assert torch.allclose(layer(x), expected)


def test_paths_reach_one_pixel_further_each():
    layer, x = unit(2, 2, paths=3, layers=Layers(norm="none", act="none")), torch.zeros(1, 2, 15, 15).double()
    x[0, 0, 7, 7] = 1.0
    reach = [(path(x).abs().sum((0, 1)) > 0).nonzero() for path in layer.paths]
    assert [(r.min().item(), r.max().item(), len(r)) for r in reach] == [(6, 8, 9), (5, 9, 9), (4, 10, 9)]


def test_a_split_input_gives_each_path_its_own_channels():
    layer, x = unit(8, 6, split=True), picture(8, 7)
    nn.init.zeros_(layer.attn.fc_select.weight)
    assert torch.allclose(layer(x), (layer.paths[0](x[:, :4]) + layer.paths[1](x[:, 4:])) / 2)
    with pytest.raises(ConfigError, match="split into 2"):
        unit(7, 6, split=True)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_dilated_unit_is_the_dilated_convolution(stride):
    conv, x = nn.Conv2d(4, 6, 3, stride, 1, groups=2).double(), picture(4, 11)
    expected = F.conv2d(x, conv.weight, conv.bias, stride, padding=2, dilation=2, groups=2)
    assert torch.equal(dilate(conv, 2)(x), expected)


def test_in_the_conv_slot_only_padded_3x3_convolutions_select():
    assert isinstance(sk(8, 8, 3, padding=1), SelectiveKernel)
    assert isinstance(sk(8, 8, (3, 3), padding=(1, 1), groups=8), SelectiveKernel)
    for kernel, padding in ((1, 0), (3, 0), (5, 2), ((1, 3), (0, 1))):
        assert type(sk(8, 8, kernel, padding=padding)) is nn.Conv2d
    layer = sk(8, 128, 3, stride=2, padding=1)
    assert layer(torch.zeros(2, 8, 9, 9)).shape == (2, 128, 5, 5)
    assert layer.attn.fc_reduce.out_channels == 32
    assert sk(8, 1024, 3, padding=1).attn.fc_reduce.out_channels == 64
    with pytest.raises(ConfigError, match="ratio"):
        sk(8, 8, 3, padding=1, ratio=0.0)


def test_feature_maps_are_one_a_stride_finest_first():
    check_feature_maps(VARIANTS["sknet26"], [(64, 2), (256, 4), (512, 8), (1024, 16), (2048, 32)], last=True)


def test_the_last_feature_map_holds_the_features():
    check_last_map(TINY)


@pytest.mark.parametrize("changes", [{}, {"block": "basic", "paths": 3}, {"split": True, "paths": 2}])
def test_gradients_reach_every_parameter(changes):
    config = replace(TINY, **changes)
    check_gradients(config)
    assert from_json(SKNetConfig, to_json(config)) == config


def test_paths_take_the_layers_of_their_stage_and_selections_those_of_the_gate():
    config = set_path(TINY, "stages.1.layers", Layers(norm="group_norm(groups=2)", act="silu", attn="eca"))
    model = SKNet(replace(config, gate=Layers(norm="none", act="gelu")))
    first, second = model.layer1[0].conv2, model.layer2[0].conv2
    assert [type(u.paths[1].bn) for u in (first, second)] == [nn.BatchNorm2d, nn.GroupNorm]
    assert [type(u.paths[1].act) for u in (first, second)] == [nn.ReLU, nn.SiLU]
    assert [type(u.attn.bn) for u in (first, second)] == [nn.Identity, nn.Identity]
    assert [type(u.attn.act) for u in (first, second)] == [nn.GELU, nn.GELU]
    assert type(model.layer2[0].se).__name__ == "ECA"


def test_uneven_inner_widths_of_a_pruned_net_build_and_run():
    config = set_path(set_path(TINY, "stages.1.mid", (4, 20)), "stages.1.squeeze", (1, 9))
    assert SKNet(config)(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("stages.0.mid", (8, 7), "multiple of groups = 2"),
        ("stages.1.squeeze", (4,), "squeeze has 1 values"),
        ("split", True, "multiple of 8, groups . paths"),
        ("paths", 5, "paths"),
        ("block", "plain", "block"),
        ("stages", (), "stages"),
        ("stages", (Stage(8, (8,) * 600, (8,) * 600),) * 2, "1,200 blocks"),
    ],
)
def test_a_config_that_can_not_be_is_refused(path, value, word):
    config = set_path(TINY, "stages.1.mid", (12, 12)) if path == "split" else TINY
    with pytest.raises(ConfigError, match=word):
        set_path(config, path, value)
