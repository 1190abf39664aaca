"""Coupled widths: what is found, and the smaller configs that come of it, from shapes alone."""

import pytest
from tiny import host, small_config

from foveate.compress.couple import couple
from foveate.compress.explicit import assign, explicit, widths
from foveate.compress.narrow import narrow, new_widths
from foveate.compress.owners import on_meta, shapes_of
from foveate.compress.plan import pick, random_plan, rounded
from foveate.config import get_path, replace, to_dict
from foveate.cost.count import cost
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo import FAMILIES, config_from
from foveate.zoo.families import googlenet, mobilenet, regnet, resnet, shufflenet

RESNET = host("resnet", Layers())


def axes(config, name, unit=0):
    """The (key, axis) pairs that a unit of a width stands on."""
    found = couple(config)
    classes = found.groups[name].units[unit].classes
    return {at for at, axis in found.trace.axes.items() if classes & set(axis.labels)}


def test_the_inner_width_of_a_bottleneck_governs_twelve_axes():
    norm = ("weight", "bias", "running_mean", "running_var")
    expected = {
        (f"layer2.1.{conv}.weight", axis) for conv, axis in (("conv1", 0), ("conv2", 0), ("conv2", 1), ("conv3", 1))
    }
    expected |= {(f"layer2.1.{bn}.{key}", 0) for bn in ("bn1", "bn2") for key in norm}
    assert axes(RESNET, "stages.1.mid.1") == expected


def test_the_axes_of_a_width_are_those_whose_shape_changes_with_it():
    for name, group in couple(RESNET).groups.items():
        before = shapes_of(on_meta(RESNET))
        smaller = assign(RESNET, {path: get_path(RESNET, path) - 2 for path in group.paths})
        after = shapes_of(on_meta(smaller))
        changed = {
            (k, i) for k, s in before.items() for i, (a, b) in enumerate(zip(s, after[k], strict=True)) if a != b
        }
        assert axes(RESNET, name) == changed, name


def test_a_growth_of_densenet_stands_behind_what_came_before():
    config = host("densenet", Layers())  # stem 8, growths 4 and 4, transition 8
    found = couple(config)
    seen = found.trace.axes["features.transition1.conv.weight", 1].labels
    for name, start in (("stem_width", 0), ("stages.0.growth.0", 8), ("stages.0.growth.1", 12)):
        for i, unit in enumerate(found.groups[name].units):
            assert [p for p, label in enumerate(seen) if label in unit.classes] == [start + i]


def test_the_channels_of_a_ghost_module_go_with_their_ghosts():
    config = host("ghostnet", Layers())
    units = couple(config).groups["stages.1.blocks.0.mid"].units
    assert [u.channels["stages.1.blocks.0.mid"] for u in units] == [(i, i + 6) for i in range(6)]


def test_regnet_loses_whole_groups_and_resnext_as_many_of_each():
    config = regnet.RegNetConfig((regnet.Stage(16, (24,), 8),), stem=8)
    units = couple(config).groups["stages.0.mid.0"].units
    assert [u.channels["stages.0.mid.0"] for u in units] == [tuple(range(8 * g, 8 * g + 8)) for g in range(3)]
    wide = resnet.ResNetConfig((resnet.Stage(16, (16,), 1, groups=4),), block="bottleneck", stem="cifar")
    kept = pick(wide, "stages.0.mid.0", list(range(16)), 6)  # 6 is no multiple of 4 groups: 4 go, one of each
    assert kept == [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15]


def test_a_plan_that_takes_more_of_one_group_is_refused():
    wide = resnet.ResNetConfig((resnet.Stage(16, (16,), 1, groups=4),), block="bottleneck", stem="cifar")
    with pytest.raises(ConfigError, match="other parts"):
        narrow(wide, {"stages.0.mid.0": range(4, 16)})
    with pytest.raises(ConfigError, match="multiple of groups"):
        narrow(wide, {"stages.0.mid.0": range(1, 16)})


def test_columns_of_a_shuffle_go_together():
    config = shufflenet.ShuffleNetConfig((shufflenet.Stage(40, (12, 16)),), groups=2, stem=8)
    assert len(couple(config).groups["stages.0.mid.1"].units) == 8


def test_tied_widths_shrink_together():
    found = couple(host("efficientnet", Layers()))
    assert found.groups["stem"].paths == ("stem", "stages.0.width")
    with pytest.raises(ConfigError, match="plan it as stem"):
        found.group("stages.0.width")


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (Layers(attn="eca"), "neighbouring"),
        (Layers(attn="cbam"), "all channels"),
        (Layers("layer_norm"), "all 16 channels"),
        (Layers("group_norm(groups=1)"), "all 16 channels"),
        (Layers("iter_norm"), "all 16 channels"),
        (Layers("invariant_norm"), "all channels"),
        (Layers(attn="nonlocal(position=True)"), "position code"),
    ],
    ids=str,
)
def test_layers_that_mix_all_channels_refuse_with_the_reason(layers, reason):
    config = host("resnet", layers)
    with pytest.raises(ConfigError, match=f"stages.0.width: can not be narrowed, for .*{reason}"):
        narrow(config, {"stages.0.width": [0, 1]})


def test_group_norm_keeps_its_channels_a_group():
    config = replace(RESNET, layers=Layers("group_norm(groups=4)"))  # 16 channels: 4 groups of 4
    with pytest.raises(ConfigError, match="channels a group"):
        narrow(config, {"stages.0.width": [0, 1]})
    assert len(couple(config).groups["stages.0.width"].units) == 4


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({}, "empty"),
        ({"stages.0.width": []}, "at least 1"),
        ({"stages.0.width": [0, 0]}, "each once"),
        ({"stages.0.width": [16]}, "units 0 to 15"),
        ({"stages.0.width": [True]}, "units 0 to 15"),
        ({"stages.0.widht": [0]}, "stages.0.width"),
        ({"num_classes": [0]}, "no width"),
    ],
    ids=str,
)
def test_a_bad_plan_is_refused(plan, message):
    with pytest.raises(ConfigError, match=message):
        narrow(RESNET, plan)


def test_two_widths_that_become_equal_are_refused_for_the_shortcut_that_would_come():
    stages = (mobilenet.Stage((mobilenet.Block("inverted", 8, mid=24), mobilenet.Block("inverted", 16, mid=24))),)
    config = mobilenet.MobileNetConfig(stages, stem=16, head=16)  # 16 -> 8 -> 16: no input is added
    with pytest.raises(ConfigError, match=r"blocks.0.0.drop_path .* would come in"):
        narrow(config, {"stem": range(8)})


def test_rounding_brings_channels_back():
    plan = {"stages.1.width": list(range(19)), "stages.0.width": list(range(16))}
    made = rounded(RESNET, plan, 8)
    assert [len(made[name]) for name in plan] == [24, 16]
    assert set(made["stages.1.width"]) > set(range(19))
    assert get_path(narrow(RESNET, made), "stages.1.width") == 24
    odd = random_plan(RESNET, 0, 0.4, multiple=8)
    assert all(width % 8 == 0 for width in new_widths(couple(RESNET), odd).values())


def test_inner_widths_are_written_out_and_change_nothing():
    for family in FAMILIES:
        config = host(family, Layers())
        assert shapes_of(on_meta(explicit(config))) == shapes_of(on_meta(config))
        assert explicit(explicit(config)) == explicit(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_smallest_published_form_narrows(family):
    config = replace(small_config(family), num_classes=7)
    if family == "mgic":
        config = replace(config, head=64)  # its other widths are fixed by the halving of the grid
    plan = random_plan(config, 1, 0.5)
    smaller = narrow(config, plan)
    assert config_from(to_dict(smaller)) == smaller
    before, after = widths(couple(config).config), widths(smaller)
    assert before.keys() == after.keys()
    assert {path for path in before if before[path] != after[path]} == new_widths(couple(config), plan).keys()
    head = {key: shape for key, shape in shapes_of(on_meta(smaller)).items() if key.startswith(FAMILIES[family].head)}
    assert head and all(shape[0] == 7 for shape in head.values())
    side = 80 if family == "inception" else 64
    assert cost(smaller, side).macs < 0.85 * cost(config, side).macs or family in ("mgic", "shufflenet", "alexnet")


def test_macs_fall_by_what_the_widths_say():
    kept = {"stages.1.mid.0": list(range(3)), "stages.1.mid.1": list(range(5))}
    less = cost(RESNET, 32).macs - cost(narrow(RESNET, kept), 32).macs
    # layer2.0: 1x1 at 32 pixels a side, 3x3 and 1x1 at 16, 16 -> 8 -> 32 channels; layer2.1 at 16, 32 -> 8 -> 32
    first = 16 * 5 * 32**2 + 9 * (64 - 9) * 16**2 + 5 * 32 * 16**2
    second = (32 * 3 + 9 * (64 - 25) + 3 * 32) * 16**2
    assert less == first + second


def test_widths_are_the_numbers_of_channels_of_a_config():
    for family in FAMILIES:
        config = explicit(small_config(family))
        found = widths(config)
        assert found
        assert all(get_path(config, path) == width for path, width in found.items())
        assert not {"num_classes", "in_chans", "group", "coarsest", "resolution"} & {p.split(".")[-1] for p in found}


def test_auxiliary_classifiers_follow():
    stages = (googlenet.Stage((googlenet.Branches(4, (4, 8), (4, 4), 4),), 3),)
    config = googlenet.GoogLeNetConfig(stages, stem=(8, 8, 8), aux=True, aux_after=("3a",))
    assert "aux_widths.0" in couple(config).groups
    assert ("aux1.conv.conv.weight", 1) in axes(config, "stages.0.modules.0.branch1")
