"""ShuffleNet v1 against published counts, pytorchcv and the algebra of the shuffle."""

import pytest
import torch
from compare import check_feature_maps, check_gradients, difference, facts
from torch import nn

from foveate.config import from_json, replace, set_path, to_json
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo import build
from foveate.zoo.families.shufflenet import (
    VARIANTS,
    Shuffle,
    ShuffleNet,
    ShuffleNetConfig,
    Stage,
    from_pytorchcv,
    shufflenet,
)

FACTS = facts("shufflenet")
TINY = ShuffleNetConfig((Stage(16, (4, 8)), Stage(32, (8, 8))), groups=4, stem=8, num_classes=5)
PYTORCHCV = {
    **{f"shufflenet_g{g}_1x": f"shufflenet_g{g}_w1" for g in (1, 2, 3, 4, 8)},
    **{f"shufflenet_g{g}_05x": f"shufflenet_g{g}_wd2" for g in (1, 3)},
    **{f"shufflenet_g{g}_025x": f"shufflenet_g{g}_wd4" for g in (1, 3)},
}


def theirs(name):
    from pytorchcv.model_provider import get_model

    model = get_model(PYTORCHCV[name])
    model.features.final_pool = nn.AdaptiveAvgPool2d(1)  # theirs is fixed to the 7x7 map of 224 pixels
    return model


@pytest.mark.parametrize("name", [name for name in VARIANTS if "params_without_bias" in FACTS[name]])
def test_without_the_bias_of_the_classifier_parameters_are_those_of_the_authors_code(name):
    with torch.device("meta"):
        model = ShuffleNet(replace(VARIANTS[name], bias=False))
    assert sum(p.numel() for p in model.parameters()) == FACTS[name]["params_without_bias"]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("shufflenet_g1_025x", (64, 64)),
        ("shufflenet_g3_025x", (75, 98)),
        ("shufflenet_g3_1x", (64, 64)),
        ("shufflenet_g8_1x", (49, 64)),
    ],
)
def test_outputs_equal_pytorchcv(name, size):
    assert difference(ShuffleNet(VARIANTS[name]), theirs(name), from_pytorchcv, size=size) <= 1e-10


@pytest.mark.parametrize("name", PYTORCHCV)
def test_keys_and_shapes_are_those_of_pytorchcv_after_the_rename(name):
    with torch.device("meta"):
        given, ours = theirs(name).state_dict(), ShuffleNet(VARIANTS[name]).state_dict()
    assert [(from_pytorchcv(k), v.shape) for k, v in given.items()] == [(k, v.shape) for k, v in ours.items()]
    assert [from_pytorchcv(k) for k in ours] == list(ours)


def test_the_shuffle_deals_the_groups_out_in_turn():
    x = torch.arange(12.0).view(1, 12, 1, 1)
    assert Shuffle(3)(x).flatten().tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]


def test_shuffling_back_is_a_shuffle_with_as_many_groups_as_a_group_had_channels():
    x = torch.randn(2, 30, 3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Shuffle(10)(Shuffle(3)(x)), x)
    assert torch.equal(Shuffle(3)(x.contiguous(memory_format=torch.channels_last)), Shuffle(3)(x))


@pytest.mark.parametrize("shuffled", [True, False])
def test_only_with_the_shuffle_does_every_output_see_every_input(shuffled):
    torch.manual_seed(0)
    layers = Layers(norm="none", act="none")
    config = ShuffleNetConfig((Stage(32, (16, 16)),), groups=4, stem=8, layers=layers)
    unit = ShuffleNet(config).double().stages[0][1]
    if not shuffled:
        unit.shuffle = nn.Identity()
    x = torch.zeros(1, 32, 1, 1, dtype=torch.float64)
    sees = torch.autograd.functional.jacobian(unit, x).view(32, 32) - torch.eye(32) != 0
    blocks = torch.block_diag(*[torch.ones(8, 8)] * 4).bool()
    assert torch.equal(sees, torch.ones(32, 32).bool() if shuffled else blocks)


def test_a_joining_unit_puts_the_pooled_input_behind_the_branch():
    torch.manual_seed(0)
    model = ShuffleNet(TINY).eval()
    unit, x = model.stages[0][0], torch.rand(2, 8, 9, 7)
    y = unit(x)
    assert y.shape == (2, 16, 5, 4)
    assert torch.equal(y[:, 8:], nn.functional.avg_pool2d(x, 3, 2, padding=1))  # zeros of the padding are counted


@pytest.mark.parametrize("layout", ["mmpretrain", "megvii"])
def test_the_other_layouts_shuffle_behind_the_depthwise_convolution_and_join_the_input_first(layout):
    """The two kinds of unit written out; place o of the shuffled channels takes channel source[o]."""
    torch.manual_seed(0)
    layers = Layers(norm="none")
    stages = ShuffleNet(replace(TINY, groups=4, layout=layout, layers=layers, stages=(Stage(16, (8, 24)),))).stages
    x = torch.rand(2, 8, 6, 6)
    for unit in stages[0]:
        mid = unit.conv2.out_channels
        if layout == "megvii":  # channel i goes to group i % 4
            source = [i for group in range(4) for i in range(mid) if i % 4 == group]
        else:  # the paper's: one channel of each group in turn
            source = [group * (mid // 4) + i for i in range(mid // 4) for group in range(4)]
        y = unit.conv2(unit.conv1(x).relu())
        y = unit.conv3(y[:, source])
        pooled = nn.functional.avg_pool2d(x, 3, 2, padding=1)
        expected = torch.cat((pooled, y), 1).relu() if unit is stages[0][0] else (x + y).relu()
        assert torch.allclose(unit(x), expected, atol=1e-6)
        x = expected


def test_only_the_very_first_grouped_convolution_has_one_group():
    groups = [unit.conv1.groups for stage in ShuffleNet(TINY).stages for unit in stage]
    assert groups == [1, 4, 4, 4]
    assert all(unit.conv3.groups == 4 for stage in ShuffleNet(TINY).stages for unit in stage)


def test_one_group_has_no_shuffle():
    units = [u for stage in ShuffleNet(replace(TINY, groups=1)).stages for u in stage]
    assert all(isinstance(u.shuffle, nn.Identity) for u in units)


def test_gates_are_as_wide_as_their_unit_and_stand_on_what_is_joined():
    """A choice, for nothing public places them. A gate of weight 0 halves what it gates; an added input stays whole."""
    torch.manual_seed(0)
    model = ShuffleNet(replace(TINY, layers=Layers(attn="se"))).eval()
    plain = ShuffleNet(TINY).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if ".se." not in k})
    for unit in (u for stage in model.stages for u in stage):
        nn.init.zeros_(unit.se.fc2.weight)
        nn.init.zeros_(unit.se.fc2.bias)
    x = torch.rand(2, 8, 8, 8)
    joined = plain.stages[0][0](x)
    assert torch.allclose(model.stages[0][0](x), joined / 2)
    branch = plain.stages[0][1](joined) - joined  # the sum is positive where the activation let it through
    added = model.stages[0][1](joined)
    through = (branch > -joined) & (added > 0)
    assert through.any()
    assert torch.allclose(added[through], (joined + branch / 2)[through], atol=1e-6)


def test_the_stem_of_15x_keeps_its_24_channels_and_that_of_g8_at_half_width_has_16():
    assert VARIANTS["shufflenet_g3_15x"].stem == VARIANTS["shufflenet_g8_15x"].stem == 24
    assert VARIANTS["shufflenet_g8_05x"].stem == 16


def test_feature_maps_are_one_a_stride_finest_first():
    check_feature_maps(VARIANTS["shufflenet_g3_1x"], [(24, 2), (24, 4), (240, 8), (480, 16), (960, 32)], last=True)


def test_a_first_stage_of_stride_1_takes_the_place_of_the_pooled_stem():
    torch.manual_seed(0)
    model, x = ShuffleNet(set_path(TINY, "stages.0.stride", 1)).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        maps = model.feature_maps(x)
        assert torch.equal(maps[-1], model.forward_features(x))
        assert torch.equal(model(x), model.forward_head(maps[-1]))
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 16, 16), (16, 8, 8), (32, 4, 4)]


def test_initial_weights_have_the_authors_spread():
    torch.manual_seed(0)
    model = ShuffleNet(VARIANTS["shufflenet_g3_1x"])
    unit = model.stages[1][2]
    assert unit.conv1.weight.std().item() == pytest.approx(1 / 160, rel=0.02)  # 480 inputs in 3 groups
    assert unit.conv2.weight.std().item() == pytest.approx(1, rel=0.05)
    assert model.conv1.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert unit.bn1.bias.unique().tolist() == pytest.approx([1e-4])
    assert not model.fc.bias.any()


@pytest.mark.parametrize("changes", [{}, {"bias": False}, {"layers": Layers(attn="se")}, {"groups": 1}])
def test_gradients_reach_every_parameter(changes):
    config = replace(TINY, **changes)
    check_gradients(config, 64)
    assert from_json(ShuffleNetConfig, to_json(config)) == config


def test_a_stage_can_have_layers_of_its_own():
    model = ShuffleNet(set_path(TINY, "stages.1.layers", Layers(norm="group_norm(groups=2)", act="silu", attn="eca")))
    kinds = [(type(s[0].bn1), type(s[0].act1), type(s[0].se).__name__) for s in model.stages]
    assert kinds == [(nn.BatchNorm2d, nn.ReLU, "Identity"), (nn.GroupNorm, nn.SiLU, "ECA")]


def test_uneven_inner_widths_of_a_pruned_net_build_and_run():
    config = set_path(TINY, "stages.1.mid", (4, 20))
    assert [u.conv2.out_channels for u in ShuffleNet(config).stages[1]] == [4, 20]
    assert ShuffleNet(config)(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("stages.0.mid", (4, 6), "multiples of groups = 4; 6 is not"),
        ("layout", "caffe", "layout"),
        ("stem", 10, "multiples of groups = 4; 10 is not"),
        ("stem", 16, "must rise"),
        ("stages.1.width", 12, "must rise"),
        ("stages", (), "stages"),
        ("stages", (Stage(16, (4,) * 600), Stage(32, (4,) * 600)), "1,200 units"),
    ],
)
def test_a_config_that_can_not_be_is_refused(path, value, word):
    with pytest.raises(ConfigError, match=word):
        set_path(TINY, path, value)


def test_inner_widths_that_groups_do_not_divide_go_to_the_nearest_multiple():
    assert [s.mid[0] for s in shufflenet(2, 0.5, stem=12).stages] == [26, 50, 100]  # 25: of two, the greater
    assert [s.mid[0] for s in shufflenet(4, 0.25, stem=8).stages] == [16, 36, 68]  # 17, 34
    with pytest.raises(ConfigError, match="multiples of groups = 8; 12 is not"):
        shufflenet(8, 0.25, stem=12)


def test_without_its_shuffle_a_net_costs_the_same_and_its_groups_never_meet():
    """A stage's second unit: an input channel reaches only the outputs of its own group."""
    config = replace(VARIANTS["shufflenet_g8_05x"], shuffle=False)
    torch.manual_seed(0)
    model = build(config).eval()
    unit, x = model.stages[0][1], torch.randn(1, 192, 4, 4)
    moved = x.clone()
    moved[:, :24] += 1.0
    changed = (
        (
            unit.conv3(unit.bn2(unit.conv2(unit.shuffle(unit.act1(unit.bn1(unit.conv1(moved)))))))
            != unit.conv3(unit.bn2(unit.conv2(unit.shuffle(unit.act1(unit.bn1(unit.conv1(x)))))))
        )
        .any(3)
        .any(2)[0]
    )
    assert changed[:24].any() and not changed[24:].any()
    shuffled = build(VARIANTS["shufflenet_g8_05x"])
    assert {k: t.shape for k, t in model.state_dict().items()} == {k: t.shape for k, t in shuffled.state_dict().items()}
