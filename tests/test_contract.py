"""Walks the tables: every family, every named model, every layer in every slot. A new table line is tested here."""

import itertools
from pathlib import Path

import pytest
import torch
from compare import facts, on_meta, without_norms
from onnx_file import check_logits
from pairwise import every_pair, pairs, pairwise
from tiny import RAGGED, SMALL, TABLES, host, refusal, side, small_config, train_once
from torch.utils.flop_counter import FlopCounterMode

from foveate.config import from_json, get_path, replace, set_path, to_dict, to_json
from foveate.errors import ConfigError
from foveate.layers import ACTS, ATTNS, CONVS, NORMS, Layers
from foveate.recipes import RECIPES
from foveate.train.recipe import Recipe
from foveate.zoo import FAMILIES, build, config_from, create_model, list_models, variant

NAMES = list_models()
SLOTS = {"norm": NORMS, "act": ACTS, "attn": ATTNS, "conv": CONVS}  # as in TABLES
COLUMNS = (FAMILIES, *SLOTS.values())
REFUSED = {
    (family, slot, name)
    for family, (slot, table) in itertools.product(FAMILIES, SLOTS.items())
    for name in table
    if refusal(family, replace(Layers(), **{slot: name}))
}
IMPOSSIBLE = {((0, family), (1 + list(SLOTS).index(slot), name)) for family, slot, name in REFUSED}
ROWS = pairwise(*COLUMNS, impossible=IMPOSSIBLE)


@pytest.fixture(scope="module", params=list(FAMILIES))
def small(request):
    """A small published model of each family, with few classes, in evaluation mode, built once for all tests."""
    torch.manual_seed(0)
    return build(replace(small_config(request.param), num_classes=7)).eval()


def test_every_pair_of_a_family_and_layers_stands_in_the_covering_set():
    found = set().union(*map(pairs, ROWS))
    assert found.isdisjoint(IMPOSSIBLE)
    assert found | IMPOSSIBLE == every_pair(*COLUMNS)
    assert 0 < len(IMPOSSIBLE) < 30
    assert tuple(SLOTS.values()) == TABLES
    assert len(ROWS) < 1.1 * len(FAMILIES) * max(map(len, TABLES))  # no set of rows is smaller than the last product


def test_every_layer_stands_on_its_page():
    page = (Path(__file__).parents[1] / "docs" / "layers.md").read_text("utf-8")
    lines = page.split("\n## ")[1:]  # a chapter a slot
    for chapter, table in zip(lines, TABLES, strict=False):
        found = [line.split("`")[1] for line in chapter.splitlines() if line.startswith("| `")]
        assert found == list(table), "scripts/layer_matrix --page"


def test_no_name_stands_in_two_families():
    assert len(NAMES) == sum(len(f.variants) for f in FAMILIES.values()) == len(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_a_config_survives_json(name):
    config = variant(name)
    again = config_from(to_dict(config))
    from_text = from_json(type(config), to_json(config))
    assert again == config == from_text
    assert hash(again) == hash(config) == hash(from_text)
    assert to_json(again) == to_json(config)


# Seconds each, and no more than others of their family with more of the same blocks.
DEEP = {"attention452_cifar", "resnet1202_cifar", "resnet1001_cifar", "preresnet1001_cifar"}
DEEP |= {f"nfnet_f{i}" for i in range(4, 8)}
FIRST = {next(iter(family.variants)) for family in FAMILIES.values()}


def when(name):
    return pytest.mark.thorough if name in DEEP else () if name in FIRST else pytest.mark.slow


@pytest.mark.parametrize("name", [pytest.param(n, marks=when(n)) for n in NAMES])
def test_a_named_model_has_its_published_counts_and_shapes(name):
    """One network on the meta device and two passes: built again for every question it would take minutes."""
    config = variant(name)
    fact, model, resolution = facts(config.family)[name], on_meta(config), config.resolution
    assert resolution == fact.get("resolution", resolution)
    with without_norms(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        features = model.forward_features(torch.empty(2, config.in_chans, resolution, resolution, device="meta"))
        logits = model.forward_head(features)
    assert features.shape[:2] == (2, model.num_features)
    assert logits.shape == (2, config.num_classes)
    assert sum(p.numel() for p in model.parameters()) == fact["params"]
    assert counter.get_total_flops() == 2 * 2 * fact["macs"]  # two pictures, two FLOPs a MAC

    with without_norms(), torch.no_grad():
        sides = [m.shape[-1] for m in model.feature_maps(torch.empty(1, config.in_chans, 256, 256, device="meta"))]
    assert len(sides) >= 3
    assert config.family in RAGGED or all(256 % side == 0 for side in sides)
    assert sides == sorted(set(sides), reverse=True)

    head = {key: t.shape for key, t in model.state_dict().items() if key.startswith(FAMILIES[config.family].head)}
    assert head
    assert all(shape[0] == config.num_classes for shape in head.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_head_depends_on_the_number_of_classes(family):
    config = small_config(family)
    before = {k: t.shape for k, t in on_meta(config).state_dict().items()}
    after = {k: t.shape for k, t in on_meta(replace(config, num_classes=config.num_classes + 3)).state_dict().items()}
    assert before.keys() == after.keys()
    assert {key for key in before if before[key] != after[key]} == {
        k for k in before if k.startswith(FAMILIES[family].head)
    }


def test_forward_is_the_head_of_the_features(small):
    x = torch.randn(2, 3, *2 * [side(small.config.family, 48)], generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(small(x), small.forward_head(small.forward_features(x)))


def test_two_resolutions_give_finite_logits(small):
    for size in (side(small.config.family, 64), side(small.config.family, 81)):
        x = torch.randn(2, 3, size, size + 5, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            y = small(x)
        assert y.shape == (2, 7)
        assert y.isfinite().all()


def test_the_last_feature_map_holds_what_the_real_features_have(small):
    x = torch.randn(2, 3, *2 * [side(small.config.family, 64)], generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        maps, features = small.feature_maps(x), small.forward_features(x)
    assert maps[-1].shape[-2:] == features.shape[-2:]
    assert all(m.isfinite().all() for m in maps)


def test_pictures_of_a_batch_do_not_see_each_other(small):
    x = torch.randn(3, 3, *2 * [side(small.config.family, 64)], generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        among, alone = small(x)[1:2], small(x[1:2])
    assert torch.allclose(among, alone, atol=1e-5 * max(1.0, alone.abs().max().item()))


def test_the_same_seed_gives_the_same_weights(small):
    torch.manual_seed(0)
    again = build(small.config).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in small.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_classes_and_channels_are_the_callers_choice(family):
    model = create_model(SMALL.get(family, next(iter(FAMILIES[family].variants))), num_classes=5, in_chans=1).eval()
    with torch.inference_mode():
        assert model(torch.zeros(2, 1, *2 * [side(family, 64)])).shape == (2, 5)


def exports(config, size):
    """The ONNX file of a network with statistics that are not 0 and 1 gives its logits."""
    torch.manual_seed(0)
    model = build(config).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    check_logits(model, size)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_exports_to_onnx_with_equal_logits(family):
    exports(host(family, small_config(family).layers), 32)


@pytest.mark.thorough
@pytest.mark.parametrize("family", FAMILIES)
def test_a_published_network_of_every_family_exports_to_onnx_with_equal_logits(family):
    exports(replace(small_config(family), num_classes=3), side(family, 64))


def plugs_in(family, layers):
    """The tiny host of a family takes these layers and trains a step, or refuses them for the reason that it has."""
    config = host(family, layers)
    if reason := refusal(family, layers):
        with pytest.raises(ConfigError, match=reason):
            build(config)
    else:
        train_once(config)
    assert config_from(to_dict(config)) == config


@pytest.mark.slow
@pytest.mark.parametrize(("family", "norm", "act", "attn", "conv"), ROWS)
def test_every_layer_plugs_into_every_host(family, norm, act, attn, conv):
    layers = Layers(norm, act, attn, conv)
    assert refusal(family, layers) is None
    plugs_in(family, layers)


@pytest.mark.parametrize(("family", "slot", "name"), sorted(REFUSED))
def test_a_host_refuses_a_layer_that_it_can_not_use(family, slot, name):
    plugs_in(family, replace(Layers(), **{slot: name}))


@pytest.mark.thorough
@pytest.mark.parametrize("family", FAMILIES)
def test_every_pair_of_layers_plugs_into_every_host(family):
    for slots in pairwise(*TABLES):
        plugs_in(family, Layers(*slots))


@pytest.mark.parametrize(("slot", "table"), [("norm", NORMS), ("act", ACTS), ("attn", ATTNS), ("conv", CONVS)])
def test_an_unknown_layer_is_refused_with_the_near_one(slot, table):
    known = next(name for name in table if len(name) > 2 and name != "none")
    layers = replace(Layers(), **{slot: known + "x"})
    make = {"norm": layers.make_norm, "act": layers.make_act}.get(slot)
    with pytest.raises(ConfigError, match=known):
        if make:
            make(8)
        elif slot == "attn":
            layers.make_attn(8, 8)
        else:
            layers.make_conv(8, 8, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_config_names_what_is_wrong_with_it(family):
    data = to_dict(small_config(family))
    with pytest.raises(ConfigError, match="resolution"):
        config_from(data | {"resolutoin": 8})
    with pytest.raises(ConfigError, match="num_classes"):
        config_from(data | {"num_classes": "10"})
    with pytest.raises(ConfigError, match="num_classes"):
        config_from(data | {"num_classes": 10**12})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_path_changes_one_place_only(family):
    config = small_config(family)
    changed = set_path(config, "layers.act", "gelu")
    assert get_path(changed, "layers.act") == "gelu"
    assert set_path(changed, "layers.act", config.layers.act) == config


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name):
    assert from_json(Recipe, to_json(RECIPES[name])) == RECIPES[name]


def test_unknown_families_and_models_are_refused_with_near_ones():
    with pytest.raises(ConfigError, match="resnet"):
        config_from({"family": "resnt"})
    with pytest.raises(ConfigError, match="resnet18"):
        variant("resnet81")
    with pytest.raises(ConfigError, match="family"):
        config_from(["resnet"])
