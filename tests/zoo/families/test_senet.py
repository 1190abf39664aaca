"""SENet-154 against published counts, timm and pytorchcv. The stages of the oracles are fewer, to be quick."""

import pytest
import torch
from compare import check_gradients, check_last_map, difference
from torch import nn

from foveate.config import from_json, replace, set_path, to_json
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.families.senet import VARIANTS, SENet, SENetConfig, Stage, from_timm, make_stage

TINY = SENetConfig(
    (Stage(16, (8, 8), (16, 8), 1, 1, groups=4), Stage(32, (8, 16), (16, 32), groups=8)), stem=(4, 6, 8), num_classes=5
)
TWO_STAGES = (make_stage(2, 256, stride=1), make_stage(2, 512))


@pytest.mark.parametrize("size", [(64, 64), (45, 71)])
def test_outputs_equal_timm(size):
    from timm.models.resnet import Bottleneck, ResNet

    theirs = ResNet(
        Bottleneck,
        layers=(2, 2),
        channels=(64, 128),
        cardinality=64,
        base_width=4,
        stem_type="deep",
        down_kernel_size=3,
        block_reduce_first=2,
        block_args={"attn_layer": "se"},
    )
    theirs.layer3 = theirs.layer4 = nn.Identity()  # theirs wants four stages
    assert difference(SENet(SENetConfig(TWO_STAGES)), theirs, from_timm, size=size) <= 1e-10


def test_outputs_of_the_legacy_form_equal_timm():
    from timm.models import senet

    theirs = senet.SENet(
        senet.SEBottleneck,
        layers=(1, 1, 1, 1),
        groups=64,
        reduction=16,
        inplanes=128,
        input_3x3=True,
        downsample_kernel_size=3,
        downsample_padding=1,
    )
    stages = (make_stage(1, 256, stride=1), make_stage(1, 512), make_stage(1, 1024), make_stage(1, 2048))
    assert difference(SENet(SENetConfig(stages, pool="max_ceil")), theirs, from_timm, size=(64, 47)) <= 1e-10


def test_outputs_equal_pytorchcv_by_position():
    from pytorchcv.models.senet import SENet as Other

    theirs = Other([[256, 256], [512, 512]], init_block_channels=128, cardinality=64, bottleneck_width=4)
    theirs.features.final_pool = nn.AdaptiveAvgPool2d(1)  # theirs is fixed to the 7x7 map of 224 pixels
    assert difference(SENet(SENetConfig(TWO_STAGES)), theirs) <= 1e-10


@pytest.mark.parametrize("name", VARIANTS)
def test_keys_and_shapes_are_those_of_timm(name):
    import timm

    with torch.device("meta"):
        theirs, ours = timm.create_model(name).state_dict(), SENet(VARIANTS[name]).state_dict()
    assert [(from_timm(k), v.shape) for k, v in theirs.items()] == [(k, v.shape) for k, v in ours.items()]
    assert [from_timm(k) for k in ours] == list(ours)


def test_the_pools_of_the_two_forms_give_maps_of_one_size_through_other_windows():
    a, b = SENet(TINY), SENet(replace(TINY, pool="max_ceil"))
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 1, 1] = 1.0  # padded windows begin at -1, 1, 3: two of them hold row 1; the others begin at 0, 2, 4
    assert a.maxpool(x).sum() == 4
    assert b.maxpool(x).sum() == 1
    assert a.maxpool(x).shape == b.maxpool(x).shape == (1, 1, 4, 4)


def test_feature_maps_are_one_a_stride_finest_first():
    config = replace(VARIANTS["senet154"], stages=tuple(make_stage(1, w, s) for w, s in ((256, 1), (512, 2), (512, 2))))
    with torch.device("meta"):
        model, x = SENet(config).eval(), torch.empty(1, 3, 64, 64)
    maps = model.feature_maps(x)
    assert [(m.shape[1], 64 // m.shape[2]) for m in maps] == [(128, 2), (256, 4), (512, 8), (512, 16)]
    assert maps[-1].shape == model.forward_features(x).shape


def test_the_last_feature_map_holds_the_features():
    check_last_map(TINY)


def test_only_first_blocks_that_change_the_shape_have_a_shortcut_and_its_kernel_is_the_stages():
    model = SENet(TINY)
    kernels = [None if b.downsample is None else b.downsample[0].kernel_size[0] for b in (*model.layer1, *model.layer2)]
    assert kernels == [1, None, 3, None]


def test_dropout_acts_on_the_pooled_features_in_training_only():
    model = SENet(replace(TINY, dropout=1.0))
    features = torch.randn(2, 32, 4, 4)
    assert torch.equal(model.train().forward_head(features), model.fc.bias.expand(2, -1))
    assert not torch.equal(model.eval().forward_head(features), model.fc.bias.expand(2, -1))


def test_gradients_reach_every_parameter():
    check_gradients(TINY)


def test_a_stage_can_have_layers_of_its_own():
    model = SENet(set_path(TINY, "stages.1.layers", Layers(norm="group_norm(groups=2)", act="silu")))
    kinds = [(type(m[0].bn1), type(m[0].act1), type(m[0].se).__name__) for m in (model.layer1, model.layer2)]
    assert kinds == [(nn.BatchNorm2d, nn.ReLU, "SqueezeExcite"), (nn.GroupNorm, nn.SiLU, "Identity")]


def test_uneven_inner_widths_of_a_pruned_net_build_run_and_survive_json():
    config = set_path(set_path(TINY, "stages.1.mid1", (24, 8)), "stages.1.mid2", (8, 40))
    assert from_json(SENetConfig, to_json(config)) == config
    assert SENet(config)(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("stages.0.mid1", (8, 6), "multiple of groups = 4"),
        ("stages.1.mid2", (16,), "mid2 has 1 values"),
        ("stages.1.shortcut", 5, "shortcut"),
        ("stem", (8, 8), "stem"),
        ("pool", "avg", "pool"),
        ("dropout", 1.5, "dropout"),
        ("stages", (), "stages"),
        ("stages", (Stage(8, (8,) * 600, (8,) * 600, groups=1),) * 2, "1,200 blocks"),
    ],
)
def test_a_config_that_can_not_be_is_refused(path, value, word):
    with pytest.raises(ConfigError, match=word):
        set_path(TINY, path, value)
