"""VGG against published counts, torchvision and timm."""

import pytest
import torch
from compare import check_gradients, difference, on_meta, picture, randomise, shapes, torchvision_on_meta
from torch import nn

from foveate.config import replace, set_path
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.families.vgg import DEPTHS, PUBLISHED, VARIANTS, VGG, Stage, VGGConfig, cifar, from_timm

TINY = VGGConfig(
    stages=(Stage((6, 4)), Stage((8,)), Stage((5, 7))), grid=2, hidden=(12, 10), num_classes=5, resolution=32
)
NARROW = (4, 6, 8, 10, 9)  # widths of the five stages where the real ones would only cost time


def narrow(config):
    """The same net with few channels and few hidden units."""
    stages = tuple(replace(s, widths=(w,) * len(s.widths)) for s, w in zip(config.stages, NARROW, strict=True))
    return replace(config, stages=stages, hidden=(16, 12), num_classes=7)


@pytest.mark.parametrize("name", [n for n in VARIANTS if not n.endswith("_cifar")])
def test_keys_their_order_and_shapes_are_those_of_torchvision(name):
    assert shapes(on_meta(VARIANTS[name])) == shapes(torchvision_on_meta(name))


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg19"])
def test_keys_of_timm_map_to_ours_and_its_convolutions_flatten_to_our_linear_layers(name):
    import timm

    with torch.device("meta"):
        theirs = timm.create_model(name).state_dict()
    flat = {from_timm(k): v.flatten(1) if k.startswith("pre_logits") and v.ndim == 4 else v for k, v in theirs.items()}
    assert [(k, v.shape) for k, v in flat.items()] == shapes(on_meta(VARIANTS[name]))


@pytest.mark.parametrize("name", ["vgg13", "vgg16_bn", "vgg19_bn_cifar"])
def test_the_timm_rename_leaves_our_keys_alone(name):
    keys = list(on_meta(VARIANTS[name]).state_dict())
    assert [from_timm(key) for key in keys] == keys


@pytest.mark.parametrize(
    ("name", "size"),
    [("vgg11", (224, 224)), ("vgg16", (64, 75)), ("vgg13_bn", (33, 64)), ("vgg19_bn", (64, 64))],
)
def test_outputs_equal_torchvision(name, size):
    from torchvision.models.vgg import VGG as Theirs  # noqa: N811
    from torchvision.models.vgg import make_layers

    config = narrow(VARIANTS[name])
    cfg = [part for stage in config.stages for part in (*stage.widths, "M")]
    with torch.device("meta"):
        theirs = Theirs(make_layers(cfg, batch_norm=name.endswith("bn")), num_classes=7, init_weights=False)
        theirs.classifier[0], theirs.classifier[3] = nn.Linear(NARROW[4] * 49, 16), nn.Linear(16, 12)
        theirs.classifier[6] = nn.Linear(12, 7)
    theirs = theirs.to_empty(device="cpu")
    assert difference(VGG(config), theirs, lambda key: key, size=size) <= 1e-10


@pytest.mark.parametrize("size", [(64, 97), (224, 224)])
def test_outputs_equal_timm(size):
    """Up to 7x7 positions timm averages as torchvision does; on larger maps it slides its convolutions instead."""
    from timm.layers import ClassifierHead
    from timm.models.vgg import VGG as Theirs  # noqa: N811
    from timm.models.vgg import ConvMlp

    cfg = [4, "M", 6, "M", 8, 8, "M", 10, 10, "M", 9, 9, "M"]
    ours = VGG(replace(narrow(VARIANTS["vgg11_bn"]), hidden=(16, 16)))
    with torch.device("meta"):
        theirs = Theirs(cfg, num_classes=7, norm_layer=nn.BatchNorm2d)
        theirs.pre_logits, theirs.head = ConvMlp(9, 16, 7), ClassifierHead(16, 7)
    theirs = randomise(theirs.to_empty(device="cpu"))
    state = {from_timm(key): tensor for key, tensor in theirs.state_dict().items()}
    for key in ("classifier.0.weight", "classifier.3.weight"):
        state[key] = state[key].flatten(1)
    ours.double().eval().load_state_dict(state)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        a, b = ours(x), theirs(x)
    assert b.abs().max() > 1e-3
    assert (a - b).abs().max() / max(1.0, b.abs().max().item()) <= 1e-10


def test_the_net_for_cifar_is_torchvisions_features_without_the_last_pool_then_the_mean_and_one_linear_layer():
    from torchvision.models.vgg import make_layers

    config = set_path(replace(narrow(cifar(11)), hidden=()), "layers.conv", "conv2d_bias")
    ours = randomise(VGG(config))
    features = make_layers([4, "M", 6, "M", 8, 8, "M", 10, 10, "M", 9, 9], batch_norm=True).double().eval()
    state = ours.state_dict()
    features.load_state_dict({k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")})
    with torch.no_grad():
        x = picture(32)
        pooled = nn.functional.avg_pool2d(features(x), 2).flatten(1)  # 2x2 positions are left
        expected = pooled @ state["classifier.6.weight"].T + state["classifier.6.bias"]
        assert expected.abs().max() > 1e-3
        assert (ours(x) - expected).abs().max() <= 1e-10


def test_the_nets_for_cifar_have_no_biases_before_norms_and_one_linear_layer():
    for depth in DEPTHS:
        model = on_meta(VARIANTS[f"vgg{depth}_bn_cifar"])
        kinds = [type(m) for m in model.modules()]
        assert kinds.count(nn.Conv2d) == depth - 3
        assert kinds.count(nn.Linear) == 1
        assert all(m.bias is None for m in model.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("vgg11", [(64, 1), (128, 2), (256, 4), (512, 8), (512, 16), (512, 32)]),
        ("vgg16_bn", [(64, 1), (128, 2), (256, 4), (512, 8), (512, 16), (512, 32)]),
        ("vgg16_bn_cifar", [(64, 1), (128, 2), (256, 4), (512, 8), (512, 16)]),
    ],
)
def test_feature_maps_are_one_a_stride_finest_first(name, maps):
    model = on_meta(VARIANTS[name])
    found = model.feature_maps(torch.empty(1, 3, 64, 64, device="meta"))
    assert [(m.shape[1], 64 // m.shape[2]) for m in found] == maps
    assert found[-1].shape == model.forward_features(torch.empty(1, 3, 64, 64, device="meta")).shape


def test_the_last_feature_map_is_that_of_forward_features_and_later_layers_leave_the_others_alone():
    model = randomise(VGG(TINY))
    with torch.no_grad():
        maps, features = model.feature_maps(picture(32)), model.forward_features(picture(32))
        first = model.features[:6](picture(32))  # two convolutions, each with its activation and an empty gate
    assert torch.equal(maps[-1], features)
    assert torch.equal(maps[0], first)


def test_uneven_widths_of_a_pruned_net_build_and_run():
    config = set_path(VARIANTS["vgg16_bn_cifar"], "stages.4.widths", (17, 3, 40))
    model = on_meta(config)
    assert model.num_features == 40
    assert [m.out_channels for m in model.features if isinstance(m, nn.Conv2d)][-3:] == [17, 3, 40]
    assert model(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(("hidden", "linear"), [((), ["6"]), ((9,), ["0", "6"]), ((9, 8), ["0", "3", "6"])])
def test_the_classifier_is_number_6_however_many_layers_stand_before_it(hidden, linear):
    model = on_meta(replace(TINY, hidden=hidden))
    assert [name for name, m in model.classifier.named_children() if isinstance(m, nn.Linear)] == linear


def test_dropout_stands_behind_each_hidden_layer():
    names = [n for n, m in on_meta(VARIANTS["vgg11"]).classifier.named_children() if isinstance(m, nn.Dropout)]
    assert names == ["2", "5"]


def test_batch_norm_is_a_config_edit_and_a_stage_can_have_layers_of_its_own():
    assert set_path(VARIANTS["vgg16"], "layers.norm", "batch_norm") == VARIANTS["vgg16_bn"]
    model = on_meta(set_path(TINY, "stages.1.layers", Layers(norm="group_norm(groups=2)", act="silu", attn="eca")))
    kinds = [type(model.features.get_submodule(name)).__name__ for name in ("3", "5", "6", "7", "se7")]
    assert kinds == ["ReLU", "Conv2d", "GroupNorm", "SiLU", "ECA"]


def test_the_start_is_torchvisions():
    torch.manual_seed(0)
    model = VGG(replace(VARIANTS["vgg11"], hidden=(300, 200)))
    weight = model.features.get_submodule("16").weight
    assert weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert model.classifier.get_submodule("0").weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not any(m.bias.any() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))


@pytest.mark.parametrize("config", [TINY, replace(TINY, layers=Layers(), hidden=())], ids=["plain", "norms"])
def test_gradients_reach_every_parameter(config):
    check_gradients(config)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("stages", (), "stages"),
        ("stages", (Stage((4,)),) * 13, "stages"),
        ("stages", (Stage((4,) * 1024), Stage((4,))), "1,025 convolutions: at most 1,024"),
        ("stages.1.widths", (), "widths"),
        ("stages.0.widths", (8, 0), r"widths\.1 = 0"),
        ("hidden", (8, 8, 8), "hidden"),
        ("dropout", 1.5, "dropout = 1.5"),
        ("grid", 33, "grid = 33"),
    ],
)
def test_a_config_that_can_not_be_is_refused(path, value, words):
    with pytest.raises(ConfigError, match=words):
        set_path(TINY, path, value)


def test_every_variant_has_its_paper():
    assert PUBLISHED.keys() == VARIANTS.keys()


@pytest.mark.parametrize("pool", ["avg", "stride"])
def test_other_ways_of_halving_give_the_same_maps(pool):
    base = cifar(13)
    ours, theirs = on_meta(replace(base, pool=pool)), on_meta(base)
    x = torch.empty(2, 3, 32, 32, device="meta")
    assert [m.shape for m in ours.feature_maps(x)] == [m.shape for m in theirs.feature_maps(x)]
    kinds = [type(m) for m in ours.features]
    assert kinds.count(nn.AvgPool2d) == (4 if pool == "avg" else 0)
    assert nn.MaxPool2d not in kinds
    assert [m.stride[0] for m in ours.features if isinstance(m, nn.Conv2d)].count(2) == (4 if pool == "stride" else 0)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
