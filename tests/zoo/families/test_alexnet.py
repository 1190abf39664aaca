"""AlexNet against published counts, torchvision, pytorchcv and the paper's formulas."""

import pytest
import torch
from compare import check_gradients, difference, on_meta, picture, randomise, shapes, torchvision_on_meta
from torch import nn

from foveate.config import replace, set_path
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.families.alexnet import ALEXNET, PUBLISHED, TWO_TOWERS, VARIANTS, AlexNet, AlexNetConfig, Lrn, Stage

HEAD = (24, 16)  # widths of the hidden linear layers where the real 4096 would only cost time
TINY = AlexNetConfig(
    stages=(
        Stage(8, 5, 2, 2, lrn=True, pool=True),
        Stage(12, 3, padding=1, groups=2),
        Stage(8, 3, padding=1, pool=True),
    ),
    grid=2,
    hidden=(16, 12),
    num_classes=5,
    resolution=32,
)


def test_keys_their_order_and_shapes_are_those_of_torchvision():
    assert shapes(on_meta(ALEXNET)) == shapes(torchvision_on_meta("alexnet"))


@pytest.mark.parametrize("size", [(224, 224), (67, 130)])
def test_outputs_equal_torchvision(size):
    import torchvision

    with torch.device("meta"):  # the real 55 million hidden weights are never made
        theirs = torchvision.models.alexnet()
        theirs.classifier[1], theirs.classifier[4] = nn.Linear(9216, HEAD[0]), nn.Linear(*HEAD)
        theirs.classifier[6] = nn.Linear(HEAD[1], 1000)
    theirs = theirs.to_empty(device="cpu")
    assert difference(AlexNet(replace(ALEXNET, hidden=HEAD)), theirs, lambda key: key, size=size, batch=1) <= 1e-10


def test_outputs_equal_pytorchcv_with_local_response_normalisation():
    """pytorchcv has no groups and PyTorch's alpha of 1e-4; its pools round up, which changes nothing at 227 pixels."""
    from pytorchcv.models.alexnet import AlexNet as Theirs

    widths = [[8], [12], [16, 12, 8]]
    shapes = {"kernel_sizes": [[11], [5], [3, 3, 3]], "strides": [[4], [1], [1] * 3], "paddings": [[0], [2], [1] * 3]}
    with torch.device("meta"):
        theirs = Theirs(widths, use_lrn=True, in_size=(227, 227), num_classes=7, **shapes)
        theirs.output.fc1.fc, theirs.output.fc2.fc = nn.Linear(8 * 36, HEAD[0]), nn.Linear(*HEAD)
        theirs.output.fc3 = nn.Linear(HEAD[1], 7)
    theirs = theirs.to_empty(device="cpu")
    stages = tuple(
        replace(stage, width=width, groups=1) for stage, width in zip(TWO_TOWERS, (8, 12, 16, 12, 8), strict=True)
    )
    config = replace(VARIANTS["alexnet_2012"], stages=stages, hidden=HEAD, num_classes=7, lrn=Lrn(alpha=1e-4))
    assert difference(AlexNet(config), theirs, size=(227, 227), batch=1) <= 1e-10


def test_local_response_normalisation_is_the_papers_formula():
    """Section 3.3: b_i = a_i / (k + alpha * sum_j a_j^2)^beta over 5 neighbours, k 2, alpha 1e-4, beta 0.75."""
    lrn = AlexNet(replace(VARIANTS["alexnet_2012"], hidden=HEAD)).features.lrn1
    a = 30 * picture(3, channels=7)
    expected = torch.empty_like(a)
    for i in range(7):
        total = a[:, max(0, i - 2) : i + 3].square().sum(1)
        expected[:, i] = a[:, i] / (2 + 1e-4 * total) ** 0.75
    assert (lrn(a) - expected).abs().max() < 1e-12


def test_two_groups_are_two_towers_that_do_not_see_each_other():
    config = VARIANTS["alexnet_2012"]
    conv = randomise(on_meta(replace(config, hidden=HEAD)).to_empty(device="cpu")).features.get_submodule("3")
    x = picture(5, channels=96)
    halves = [
        nn.functional.conv2d(
            x[:, 48 * i : 48 * i + 48], *(t[128 * i : 128 * i + 128] for t in conv.parameters()), padding=2
        )
        for i in (0, 1)
    ]
    assert conv.weight.shape == (256, 48, 5, 5)
    assert (conv(x) - torch.cat(halves, 1)).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("alexnet", [(64, 55), (192, 27), (256, 13), (256, 6)]),
        ("alexnet_2012", [(96, 55), (256, 27), (256, 13), (256, 6)]),
    ],
)
def test_feature_maps_have_the_sides_of_the_paper(name, maps):
    model, side = on_meta(VARIANTS[name]), VARIANTS[name].resolution
    x = torch.empty(1, 3, side, side, device="meta")
    assert [tuple(m.shape[1:3]) for m in model.feature_maps(x)] == maps
    assert model.forward_features(x).shape == (1, model.num_features, 6, 6)


def test_a_strided_convolution_leaves_the_map_before_it_as_a_feature_map():
    model = on_meta(set_path(TINY, "stages.2.stride", 2))
    maps = model.feature_maps(torch.empty(1, 3, 64, 64, device="meta"))
    assert [tuple(m.shape[1:3]) for m in maps] == [(8, 32), (12, 15), (8, 8), (8, 3)]


def test_the_last_feature_map_is_that_of_forward_features():
    model = randomise(AlexNet(TINY))
    assert torch.equal(model.feature_maps(picture(32))[-1], model.forward_features(picture(32)))


def test_pictures_smaller_than_the_pools_give_logits():
    for config, side in ((ALEXNET, 7), (VARIANTS["alexnet_2012"], 11)):
        assert on_meta(config)(torch.empty(2, 3, side, 40, device="meta")).shape == (2, 1000)


def test_dropout_stands_before_the_hidden_layers_or_behind_them():
    for name, sites in (("alexnet", [0.5, 0.5, 0.0]), ("alexnet_2012", [0.0, 0.5, 0.5])):
        assert [m.p for m in on_meta(VARIANTS[name]).classifier if isinstance(m, nn.Dropout)] == sites


def test_the_start_of_2012_is_caffes():
    torch.manual_seed(0)
    model = AlexNet(replace(VARIANTS["alexnet_2012"], hidden=(512, 256)))
    convolutions = [m for m in model.features if isinstance(m, nn.Conv2d)]
    assert [round(m.bias.mean().item(), 6) for m in convolutions] == [0, 0.1, 0, 0.1, 0.1]
    assert [round(m.bias.mean().item(), 6) for m in model.classifier if isinstance(m, nn.Linear)] == [0.1, 0.1, 0]
    assert all(m.weight.std().item() == pytest.approx(0.01, rel=0.03) for m in convolutions)
    assert model.classifier.get_submodule("1").weight.std().item() == pytest.approx(0.005, rel=0.01)


def test_the_start_of_torchvisions_net_is_pytorchs():
    torch.manual_seed(0)
    weight = AlexNet(replace(ALEXNET, hidden=HEAD)).features.get_submodule("6").weight
    assert weight.abs().max().item() == pytest.approx((192 * 9) ** -0.5, rel=1e-3)


def test_a_norm_is_a_config_edit_that_leaves_the_numbers_of_the_convolutions():
    plain, normed = on_meta(TINY), on_meta(replace(TINY, layers=replace(TINY.layers, norm="batch_norm", attn="se")))
    assert plain.state_dict().keys() < normed.state_dict().keys()
    assert isinstance(normed.features.norm3, nn.BatchNorm2d)


def test_a_stage_can_have_layers_of_its_own():
    model = on_meta(set_path(TINY, "stages.1.layers", Layers(norm="group_norm(groups=2)", act="silu", attn="eca")))
    names = ("norm0", "norm3", "4", "se4")
    kinds = [type(model.features.get_submodule(name)).__name__ for name in names]
    assert kinds == ["Identity", "GroupNorm", "SiLU", "ECA"]


def test_gradients_reach_every_parameter():
    check_gradients(TINY)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("stages", (), "stages"),
        ("stages", (Stage(4, 3),) * 65, "stages"),
        ("stages.1.groups", 3, r"stages\.1\.groups = 3: must divide the 8 channels"),
        ("stages.1.groups", 5, r"width = 12: must be a multiple of groups = 5"),
        ("stages.0.padding", 16, r"padding = 16"),
        ("hidden", (8,), "hidden"),
        ("dropouts.1", 1.5, "dropouts.1 = 1.5"),
        ("lrn.alpha", 0.0, "alpha = 0.0"),
        ("grid", 0, "grid = 0"),
        ("init", "xavier", "init"),
    ],
)
def test_a_config_that_can_not_be_is_refused(path, value, words):
    with pytest.raises(ConfigError, match=words):
        set_path(TINY, path, value)


def test_every_variant_has_its_paper():
    assert PUBLISHED.keys() == VARIANTS.keys()
