"""The ResNet family against published counts, torchvision, timm and pytorchcv."""

import pytest
import torch
from compare import counts, facts, on_meta, picture
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from foveate.config import from_json, replace, set_path, to_json
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.drop import DropBlock, set_progress
from foveate.zoo.families.resnet.network import (
    VARIANTS,
    ResNet,
    ResNetConfig,
    Stage,
    cifar,
    cifar_bottleneck,
    from_timm,
    imagenet,
    legacy,
    preact,
    squeezed,
)

FACTS = facts("resnet")
# published nets that have a count but no name of their own here
UNNAMED = {
    "preresnet18": replace(imagenet(18), order="pre"),
    "preresnet34": replace(imagenet(34), order="pre"),
    "preresnet50": replace(imagenet(50), order="pre", stride_on="1x1"),
    "preresnet50b": replace(imagenet(50), order="pre"),
    "preresnet101": replace(imagenet(101), order="pre", stride_on="1x1"),
    "preresnet152": replace(imagenet(152), order="pre", stride_on="1x1"),
}
TINY = replace(cifar(2, (4, 6, 8)), stem_widths=(4,), num_classes=5)
KINDS = {
    f"{order}-{block}": replace(
        TINY,
        order=order,
        block=block,
        stem_widths=(6,),
        stages=(Stage(8, (4, 4), 1), Stage(12, (4, 4))),
    )
    for order in ("post", "pre")
    for block in ("basic", "bottleneck")
}


def randomise(model):
    """Random weights and batch statistics for a model of the meta device: float64, on the CPU, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    model = model.to_empty(device="cpu").double().eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_var", "num_batches_tracked")) or (tensor.ndim == 1 and name.endswith("weight")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif tensor.ndim == 1:
            tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator))
        else:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5)
    return model


def random_model(config):
    return randomise(on_meta(config))


def macs(model, side):
    """Multiply-adds of the convolutions and linear layers for one picture. Norms are skipped: slow to infer on meta."""
    counts = []
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.forward = lambda x: x
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(lambda m, _, y: counts.append(y.numel() * m.weight.numel() // len(m.weight)))
    with torch.no_grad():
        model(torch.empty(1, 3, side, side, device="meta"))
    return sum(counts)


def largest_difference(ours, theirs, state, side):
    """The same weights in both, the same pictures: the largest difference of a logit, relative to the largest logit."""
    ours.load_state_dict(state, assign=True)
    with torch.no_grad():
        a, b = ours(picture(side)), theirs(picture(side))
    assert b.std() > 1e-3
    return ((a - b).abs().max() / b.abs().max().clamp(min=1.0)).item()


def by_position(ours, theirs):
    """Their tensors under our names, in order."""
    return dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", UNNAMED)
def test_nets_without_a_name_have_the_published_parameters_and_macs(name):
    config, fact = UNNAMED[name], FACTS[name]
    assert counts(on_meta(config), config.resolution) == (fact["params"], fact["macs"])


@pytest.mark.parametrize("name", ["resnet50d", "seresnext50_32x4d", "resnet20_cifar"])
def test_macs_are_half_of_the_flops_that_torch_counts(name):
    model, side = on_meta(VARIANTS[name]), VARIANTS[name].resolution
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, side, side, device="meta"))
    assert counter.get_total_flops() == 2 * macs(model, side)


@pytest.mark.parametrize("name", [name for name in FACTS if "params_100_classes" in FACTS[name]])
def test_wide_nets_have_the_published_parameters_with_100_classes_too(name):
    model = on_meta(replace(VARIANTS[name], num_classes=100))
    assert sum(p.numel() for p in model.parameters()) == FACTS[name]["params_100_classes"]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_torchvision_weights_load_by_name_and_give_the_same_outputs(name):
    import torchvision

    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)()
    ours = on_meta(VARIANTS[name])
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs = randomise(theirs)
    assert largest_difference(ours, theirs, theirs.state_dict(), 64) <= 1e-10


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("resnet18d", 75),
        ("resnet50d", 64),
        ("resnet50s", 64),
        ("seresnet18", 64),
        ("seresnet50", 64),
        ("seresnext50_32x4d", 64),
    ],
)
def test_timm_weights_load_by_name_and_give_the_same_outputs(name, side):
    import timm

    with torch.device("meta"):
        theirs = timm.create_model(name)
    theirs = randomise(theirs)
    assert largest_difference(on_meta(VARIANTS[name]), theirs, theirs.state_dict(), side) <= 1e-10


@pytest.mark.parametrize(
    "name",
    ["resnetv2_18", "resnetv2_50", "legacy_seresnet18", "legacy_seresnet50", "legacy_seresnext50_32x4d"],
)
def test_timm_weights_of_other_key_grammars_load_after_the_rename(name):
    import timm

    with torch.device("meta"):
        theirs = timm.create_model(name)
    theirs = randomise(theirs)
    state = {from_timm(key): tensor for key, tensor in theirs.state_dict().items()}
    state["fc.weight"] = state["fc.weight"].flatten(1)  # resnetv2 has a 1x1 convolution there
    assert largest_difference(on_meta(VARIANTS[name]), theirs, state, 64) <= 1e-10


@pytest.mark.parametrize("name", ["resnet50", "resnet101d", "seresnet34", "resnet18"])
def test_the_timm_rename_leaves_our_keys_alone(name):
    keys = list(on_meta(VARIANTS[name]).state_dict())
    assert [from_timm(key) for key in keys] == keys


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("resnet20_cifar_conv", "resnet20_cifar10"),
        ("preresnet20_cifar", "preresnet20_cifar10"),
        ("resnext29_32x4d_cifar", "resnext29_32x4d_cifar10"),
        ("seresnet20_cifar", "seresnet20_cifar10"),
    ],
)
def test_pytorchcv_cifar_weights_load_by_position_and_give_the_same_outputs(name, theirs):
    from pytorchcv.model_provider import get_model

    with torch.device("meta"):
        model = get_model(theirs)
    theirs, ours = randomise(model), on_meta(VARIANTS[name])
    assert largest_difference(ours, theirs, by_position(ours, theirs), 32) <= 1e-10


@pytest.mark.parametrize("order", ["post", "pre"])
def test_cifar_bottlenecks_give_the_outputs_of_pytorchcv(order):
    from pytorchcv.models.preresnet_cifar import get_preresnet_cifar
    from pytorchcv.models.resnet_cifar import get_resnet_cifar

    get, config = get_resnet_cifar, cifar_bottleneck(2)
    if order == "pre":
        get, config = get_preresnet_cifar, preact(config)
    with torch.device("meta"):
        model = get(num_classes=10, blocks=20, bottleneck=True)  # the ResNet-164 with 2 in place of 18 blocks a stage
    theirs, ours = randomise(model), on_meta(config)
    assert largest_difference(ours, theirs, by_position(ours, theirs), 32) <= 1e-10


def test_a_wide_resnet_gives_the_outputs_of_pytorchcv():
    from pytorchcv.models.wrn_cifar import get_wrn_cifar

    with torch.device("meta"):
        model = get_wrn_cifar(num_classes=10, blocks=16, width_factor=4)
    theirs, ours = randomise(model), on_meta(VARIANTS["wrn16_4_cifar"])
    assert largest_difference(ours, theirs, by_position(ours, theirs), 32) <= 1e-10


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (VARIANTS["resnet50_caffe"], "resnet50"),
        (UNNAMED["preresnet18"], "preresnet18"),
        (UNNAMED["preresnet50"], "preresnet50"),
        (replace(legacy(imagenet(50)), pool="max"), "seresnet50"),
        (squeezed(imagenet(18)), "seresnet18"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_pytorchcv_imagenet_weights_load_by_position_and_give_the_same_outputs(config, name):
    from pytorchcv.model_provider import get_model

    with torch.device("meta"):
        model = get_model(name)
    model.features.final_pool = nn.AdaptiveAvgPool2d(1)  # theirs is fixed to the 7x7 map of 224 pixels
    theirs, ours = randomise(model), on_meta(config)
    assert largest_difference(ours, theirs, by_position(ours, theirs), 64) <= 1e-10


def test_option_a_keeps_every_second_pixel_and_adds_zero_channels_at_the_end():
    block = random_model(replace(VARIANTS["resnet20_cifar"], zero_gamma=True)).layer2[0]
    nn.init.zeros_(block.bn2.weight)
    nn.init.zeros_(block.bn2.bias)
    x = picture(7, channels=16)
    expected = torch.zeros(2, 32, 4, 4, dtype=torch.float64)
    for row in range(4):
        for column in range(4):
            expected[:, :16, row, column] = x[:, :, 2 * row, 2 * column].clamp(min=0)
    assert torch.equal(block(x), expected)


def test_option_a_has_no_parameters_and_takes_the_shapes_of_option_b():
    a, b = on_meta(replace(TINY, shortcut="pad")), on_meta(TINY)
    assert set(a.state_dict()) == {k for k in b.state_dict() if "downsample" not in k}
    for side in (31, 32):
        shapes = [[m.shape for m in net.feature_maps(torch.empty(2, 3, side, side, device="meta"))] for net in (a, b)]
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_drop_block_stands_behind_every_norm_and_on_the_shortcut(block):
    plain = replace(TINY, block=block, dropout=0.0, drop_path=0.0)
    last = replace(plain.stages[-1], drop_block=0.3)
    config = replace(plain, stages=(*plain.stages[:-1], last), drop_block_size=3)
    model = ResNet(config)
    assert model.state_dict().keys() == ResNet(plain).state_dict().keys()
    drops = [m for m in model.modules() if isinstance(m, DropBlock) and m.rate]
    assert len(drops) == len(last.mid) and all(d.size == 3 for d in drops)
    zeros = []
    drops[0].register_forward_hook(lambda module, x, y: zeros.append(bool((y == 0).any()) and not torch.equal(x[0], y)))
    x = torch.randn(4, 3, 32, 32)
    model.train()(x)
    assert zeros == [True] * ({"basic": 2, "bottleneck": 3}[block] + 1)
    zeros.clear()
    model.eval()(x)
    assert not any(zeros)
    set_progress(model, 0.0)
    model.train()(x)
    assert not any(zeros)


def test_drop_block_and_zero_gamma_are_refused_where_they_can_not_be():
    with pytest.raises(ConfigError, match="drop_block needs order"):
        replace(TINY, order="pre", stages=tuple(replace(s, drop_block=0.1) for s in TINY.stages))
    with pytest.raises(ConfigError, match="no gradient passes act_before_attn"):
        replace(VARIANTS["legacy_seresnet18"], zero_gamma=True)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_gamma_makes_each_residual_branch_silent_and_leaves_it_trainable(kind):
    torch.manual_seed(0)
    model = ResNet(replace(KINDS[kind], zero_gamma=True))
    block, last = model.layer1[1], ("bn" if kind.startswith("post") else "conv") + ("2" if "basic" in kind else "3")
    x = torch.randn(4, 8, 8, 8).abs()  # what a block of post order gets: not negative
    assert torch.equal(block(x), x)
    model(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert all(getattr(b, last).weight.grad.any() for b in (*model.layer1, *model.layer2))


@pytest.mark.parametrize("kind", KINDS)
def test_without_norm_the_identity_shortcut_carries_the_untouched_input(kind):
    config = replace(KINDS[kind], layers=Layers(norm="none"))
    block = random_model(config).layer1[1]
    x = picture(8, channels=8)
    y = x.clamp(min=0) if kind.startswith("pre") else x
    convolutions = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    for i, conv in enumerate(convolutions):
        y = torch.nn.functional.conv2d(y if i == 0 else y.clamp(min=0), conv.weight, padding=conv.padding)
    expected = x + y if kind.startswith("pre") else (x + y).clamp(min=0)
    assert (block(x.clone()) - expected).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("resnet18", [(64, 2), (64, 4), (128, 8), (256, 16), (512, 32)]),
        ("resnetv2_18", [(64, 2), (64, 4), (128, 8), (256, 16), (512, 32)]),
        ("resnet20_cifar", [(16, 1), (32, 2), (64, 4)]),
    ],
)
def test_feature_maps_are_one_a_stride_finest_first(name, maps):
    model = random_model(VARIANTS[name])
    with torch.no_grad():
        found, features = model.feature_maps(picture(64)), model.forward_features(picture(64))
    assert [(m.shape[1], 64 // m.shape[2]) for m in found] == maps
    assert torch.equal(found[-1], features)
    assert model.num_features == features.shape[1]


def test_uneven_inner_widths_of_a_pruned_net_build_and_run():
    config = replace(imagenet(50, groups=1), num_classes=7)
    config = set_path(set_path(config, "stages.0.mid", (64, 17, 3)), "stages.3.mid", (512, 1, 100))
    model = random_model(config)
    assert [b.conv2.out_channels for b in model.layer1] == [64, 17, 3]
    assert model(picture(64)).shape == (2, 7)


def test_a_stage_can_have_layers_of_its_own():
    config = set_path(TINY, "stages.1.layers", Layers(norm="group_norm(groups=2)", act="silu", attn="eca"))
    model = ResNet(config)
    kinds = [(type(m[0].bn1), type(m[0].act1), type(m[0].se).__name__) for m in (model.layer1, model.layer2)]
    assert kinds == [(nn.BatchNorm2d, nn.ReLU, "Identity"), (nn.GroupNorm, nn.SiLU, "ECA")]
    assert isinstance(model.layer2[0].downsample[1], nn.GroupNorm)
    assert isinstance(model.layer3[0].bn1, nn.BatchNorm2d)


def test_stochastic_depth_grows_linearly_to_its_rate():
    model = ResNet(replace(TINY, drop_path=0.6))
    rates = [b.drop_path.rate for stage in (model.layer1, model.layer2, model.layer3) for b in stage]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_between_the_convolutions_of_a_block_in_training_only(kind):
    model = random_model(replace(KINDS[kind], dropout=1.0, layers=Layers(norm="none")))
    block, x = model.layer1[1], picture(8, channels=8).abs()
    assert torch.equal(block.train()(x), x)  # all is dropped and nothing has a bias: the branch is silent
    assert not torch.equal(block.eval()(x), x)


def test_convolutions_start_with_variance_two_over_fan_out():
    torch.manual_seed(0)
    weight = ResNet(imagenet(18)).layer3[1].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)


def test_a_pruned_config_with_its_own_layers_survives_json():
    config = set_path(preact(imagenet(50)), "stages.2.mid", (256, 31, 256, 7, 256, 256))
    config = set_path(config, "stages.1.layers", Layers(norm="group_norm(groups=16)", attn="se"))
    again = from_json(ResNetConfig, to_json(config))
    assert again == config
    assert hash(again) == hash(config)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"stem_widths": (4, 4)}, "stem_widths"),
        ({"stages": ()}, "stages"),
        ({"stages": (Stage(8, (8,), groups=2),)}, "groups"),
        ({"stages": (Stage(8, (1,) * 1024), Stage(8, (1,)))}, "1,025 blocks"),
        ({"stages": (Stage(2, (4,)),), "shortcut": "pad"}, "shrink"),
        ({"order": "pre", "act_before_attn": True}, "act_before_attn"),
        ({"order": "whit"}, "order"),
        ({"dropout": 1.5}, "dropout"),
    ],
)
def test_a_config_that_can_not_be_is_refused(changes, word):
    with pytest.raises(ConfigError, match=word):
        replace(TINY, **changes)


def test_inner_widths_that_groups_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match=r"mid.*multiple of groups = 32"):
        Stage(256, (128, 100), groups=32)
