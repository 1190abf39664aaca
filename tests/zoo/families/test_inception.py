"""The Inception family against published counts, torchvision, timm and pytorchcv."""

import functools

import pytest
import torch
from compare import check_gradients, counts, difference, facts, on_meta, picture, randomise
from torch import nn

from foveate.config import from_json, replace, set_path, to_json
from foveate.errors import ConfigError, WeightsError
from foveate.layers import Layers
from foveate.zoo import build
from foveate.zoo.families.inception.blocks import stride_of, width_of
from foveate.zoo.families.inception.network import (
    FAMILY,
    VARIANTS,
    Branch,
    Inception,
    InceptionConfig,
    Mixed,
    Stage,
    Unit,
    from_facenet,
    from_timm,
)
from foveate.zoo.weights import fitting

FACTS = facts("inception")
V3, V4, R1, R2 = (VARIANTS[f"inception_{name}"] for name in ("v3", "v4", "resnet_v1", "resnet_v2"))


def one(width, kernel=1, stride=1, valid=False):
    return Mixed((Branch((Unit(width, kernel, stride, valid),)),))


FORKED = Mixed((Branch((Unit(4),)), Branch((Unit(4), Unit(6, (1, 3))), fork=(Unit(3), Unit(5, 3))), Branch(pool="avg")))
REDUCED = Mixed((Branch((Unit(8, 3, 2, True),)), Branch(pool="max")))
SUMMED = Mixed((Branch((Unit(4),)), Branch((Unit(4), Unit(4, (7, 1))))), 0.2)
TINY = InceptionConfig(
    (Stage((one(8, 3, 2, True),)), Stage((REDUCED, FORKED)), Stage((REDUCED, SUMMED))), num_classes=5, resolution=32
)


@functools.cache
def shapes(name):
    """The keys of a variant with an auxiliary head, and their shapes."""
    return {key: t.shape for key, t in on_meta(replace(VARIANTS[name], aux=True)).state_dict().items()}


def empty(make):
    """A model with memory and no start values, which the comparison fills."""
    with torch.device("meta"):
        model = make()
    return model.to_empty(device="cpu")


def torchvision_v3(aux=False):
    import torchvision

    return torchvision.models.Inception3(aux_logits=aux, init_weights=False)


def timm_net(name):
    import timm

    return timm.create_model(name)


def test_the_auxiliary_head_has_the_published_parameters_and_no_macs_in_evaluation():
    fact = FACTS["inception_v3"]
    assert counts(on_meta(replace(V3, aux=True)), 299) == (fact["params_with_aux"], fact["macs"])


@pytest.mark.parametrize(
    ("name", "make", "size"),
    [
        ("inception_v3", torchvision_v3, (75, 110)),
        ("inception_v4", lambda: timm_net("inception_v4"), (96, 75)),
        ("inception_resnet_v2", lambda: timm_net("inception_resnet_v2"), (77, 90)),
    ],
)
def test_outputs_equal_torchvision_and_timm_after_the_rename(name, make, size):
    theirs, ours = empty(make), empty(lambda: Inception(VARIANTS[name]))
    assert difference(ours, theirs, from_timm, size=size) <= 1e-10


def test_inception_resnet_v1_gives_the_outputs_of_pytorchcv():
    from pytorchcv.models.inceptionresnetv1 import inceptionresnetv1

    theirs, ours = empty(inceptionresnetv1), empty(lambda: Inception(R1))
    theirs.features.final_pool = nn.AdaptiveAvgPool2d(1)  # theirs is fixed to the 8x8 map of 299 pixels
    assert difference(ours, theirs, size=(91, 76)) <= 1e-10


def test_the_auxiliary_head_gives_the_outputs_of_torchvision():
    theirs = randomise(empty(lambda: torchvision_v3(aux=True)))
    ours = empty(lambda: Inception(replace(V3, aux=True))).double().eval()
    ours.load_state_dict({from_timm(k): v for k, v in theirs.state_dict().items()})
    maps = torch.randn(2, 768, 17, 18, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        a, b = ours.aux(maps), theirs.AuxLogits(maps)
    assert (a - b).abs().max() <= 1e-10 * b.abs().max()


@pytest.mark.parametrize(
    ("name", "make", "has_aux"),
    [
        ("inception_v3", lambda: torchvision_v3(aux=True), True),
        ("inception_v3", lambda: timm_net("inception_v3"), False),
        ("inception_v4", lambda: timm_net("inception_v4"), False),
        ("inception_resnet_v2", lambda: timm_net("inception_resnet_v2"), False),
    ],
)
def test_keys_of_torchvision_and_timm_map_to_ours_with_their_shapes(name, make, has_aux):
    with torch.device("meta"):
        theirs = make().state_dict()
    ours = {key: shape for key, shape in shapes(name).items() if has_aux or not key.startswith("aux.")}
    assert {from_timm(key): t.shape for key, t in theirs.items()} == ours
    assert len(theirs) == len(ours)


def test_a_checkpoint_with_an_auxiliary_head_loads_into_a_model_without_one():
    with torch.device("meta"):
        theirs, ours = torchvision_v3(aux=True).state_dict(), build(V3)
    chosen = fitting(ours, theirs, allow_nan=True)
    assert chosen.keys() == ours.state_dict().keys()
    del theirs["Mixed_6e.branch_pool.conv.weight"]
    with pytest.raises(WeightsError, match=r"missing stages\.3\.4\.branches\.3\.units\.0\.conv\.weight"):
        fitting(ours, theirs, allow_nan=True)


def test_a_checkpoint_without_an_auxiliary_head_does_not_load_into_a_model_with_one():
    with torch.device("meta"):
        theirs, ours = timm_net("inception_v3").state_dict(), build(replace(V3, aux=True))
    with pytest.raises(WeightsError, match=r"missing aux\.conv0\.conv\.weight"):
        fitting(ours, theirs, allow_nan=True)


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        ("conv2d_4b.bn.bias", "stages.2.0.branches.0.units.0.bn.bias"),
        ("repeat_1.4.branch2.1.conv.weight", "stages.2.5.branches.2.units.1.conv.weight"),
        ("mixed_6a.branch0.conv.weight", "stages.3.0.branches.0.units.0.conv.weight"),
        ("repeat_2.0.conv2d.bias", "stages.3.1.up.bias"),
        ("mixed_7a.branch2.2.bn.weight", "stages.4.0.branches.2.units.2.bn.weight"),
        ("repeat_3.4.branch0.conv.weight", "stages.4.5.branches.0.units.0.conv.weight"),
        ("block8.branch1.2.bn.running_var", "stages.4.6.branches.1.units.2.bn.running_var"),
        ("last_linear.weight", "embedding.fc.weight"),
        ("last_bn.running_mean", "embedding.bn.running_mean"),
        ("logits.bias", "fc.bias"),
    ],
)
def test_keys_of_facenet_map_to_ours(key, ours):
    assert from_facenet(key) == ours
    assert ours in shapes("inception_resnet_v1")


@pytest.mark.parametrize("key", ["conv2d_1a.branch1x1.conv.weight", "Mixed_6a.branch_pool.bn.bias", "block8.conv", "x"])
def test_unknown_keys_stay_unknown(key):
    ours = {name for variant in VARIANTS for name in shapes(variant)}
    assert not {from_timm(key), from_facenet(key)} & ours


@pytest.mark.parametrize("name", VARIANTS)
def test_the_renames_leave_our_keys_alone(name):
    for key in shapes(name):
        assert from_timm(key) == key == from_facenet(key)


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("inception_v3", [64, 192, 288, 768, 2048]),
        ("inception_v4", [64, 192, 384, 1024, 1536]),
        ("inception_resnet_v1", [64, 192, 256, 896, 1792]),
        ("inception_resnet_v2", [64, 192, 320, 1088, 1536]),
    ],
)
def test_feature_maps_are_one_a_stride_with_the_sides_of_the_papers(name, widths):
    model, x = on_meta(VARIANTS[name]), torch.empty(1, 3, 299, 299, device="meta")
    maps = [(m.shape[1], m.shape[2]) for m in model.feature_maps(x)]
    assert maps == list(zip(widths, (147, 71, 35, 17, 8), strict=True))
    assert model.strides == [2, 4, 8, 16, 32]
    assert model.forward_features(x).shape == (1, model.num_features, 8, 8)


@pytest.mark.parametrize("name", VARIANTS)
def test_pictures_of_75_pixels_are_enough_and_smaller_ones_are_refused(name):
    model = on_meta(replace(VARIANTS[name], resolution=75))
    assert model.forward_features(torch.empty(1, 3, 75, 75, device="meta")).shape[2:] == (1, 1)
    with pytest.raises(ConfigError, match=r"resolution = 74: too small.*75 or more"):
        replace(VARIANTS[name], resolution=74)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_auxiliary_head_of_every_net_sees_the_17x17_map(name):
    model = on_meta(replace(VARIANTS[name], aux=True))
    seen = []
    model.aux.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    logits, aux = model.forward_aux(torch.empty(2, 3, 299, 299, device="meta"))
    assert logits.shape == aux[0].shape == (2, 1000)
    assert len(aux) == 1
    assert seen[0][2:] == (17, 17)


def test_without_an_auxiliary_head_there_are_only_the_logits():
    torch.manual_seed(0)
    model, x = Inception(TINY).eval(), torch.randn(2, 3, 32, 32)
    logits, aux = model.forward_aux(x)
    assert torch.equal(logits, model(x))
    assert aux == []


def test_gradients_reach_every_parameter_of_the_smallest_net():
    check_gradients(replace(V3, num_classes=5), 75, batch=2)


def test_both_losses_reach_every_parameter():
    torch.manual_seed(0)
    model = Inception(replace(TINY, aux=True, aux_widths=(4, 6), embedding=12)).train()
    logits, (aux,) = model.forward_aux(torch.randn(4, 3, 75, 75))
    (logits.square().sum() + 0.4 * aux.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_auxiliary_head_says_how_large_pictures_must_be():
    model = Inception(replace(TINY, aux=True)).eval()
    with pytest.raises(ConfigError, match=r"aux.*17x17"):
        model.forward_aux(torch.zeros(1, 3, 48, 48))
    assert model(torch.zeros(1, 3, 48, 48)).shape == (1, 5)


def test_a_residual_block_adds_its_scaled_branches_to_its_input():
    torch.manual_seed(0)
    block = Inception(TINY).double().eval().stages[2][1]
    x = picture(9)[:, :1].expand(2, block.up.out_channels, 9, 9)
    expected = x + 0.2 * block.up(block.branches(x))
    assert torch.equal(block(x), expected.clamp(min=0))
    block.act = nn.Identity()
    assert torch.equal(block(x), expected)


def test_only_the_last_residual_block_has_scale_one_and_no_activation():
    for config, last in ((R1, -1), (R2, -2)):
        blocks = [b for stage in config.stages for b in stage.blocks if b.scale is not None]
        assert [b.act for b in blocks] == [True] * (len(blocks) - 1) + [False]
        assert config.stages[-1].blocks[last] == blocks[-1]
        assert (blocks[0].scale, blocks[-2].scale, blocks[-1].scale) == (0.17, 0.2, 1.0)


@pytest.mark.parametrize(("count", "corner"), [(True, 4 / 9), (False, 1.0)])
def test_mean_pools_count_the_padding_only_where_the_config_says_so(count, corner):
    pool = Inception(replace(TINY, count_padding=count)).stages[1][1].branches[2].pool
    assert pool(torch.ones(1, 1, 5, 5))[0, 0, 0, 0].item() == pytest.approx(corner)
    assert (V3.count_padding, V4.count_padding) == (True, False)


def test_the_channels_of_a_block_stand_in_the_order_of_its_branches():
    torch.manual_seed(0)
    block = Inception(TINY).eval().stages[1][1]
    x = torch.randn(1, 16, 8, 8)
    first, second, third = (member(x) for member in block.branches)
    assert [m.shape[1] for m in (first, second, third)] == [4, 3 + 5, 16]
    assert torch.equal(block(x), torch.cat((first, second, third), 1))
    middle = block.branches[1].units(x)
    assert torch.equal(second, torch.cat([end(middle) for end in block.branches[1].fork], 1))


def test_gates_stand_behind_whole_blocks_and_not_in_the_stem():
    model = on_meta(replace(R2, layers=replace(R2.layers, attn="se")))
    gated = [not isinstance(block.attn, nn.Identity) for stage in model.stages for block in stage]
    assert gated == [False] * 7 + [True] * 43 + [False]
    assert model.stages[2][2].attn.fc1.in_channels == 320


def test_a_stage_can_have_layers_of_its_own():
    config = set_path(TINY, "stages.1.layers", Layers(norm="group_norm(groups=2)", act="silu", attn="eca"))
    stages = Inception(config).stages
    kinds = [(type(s[0].branches[0].units[0].bn), type(s[0].branches[0].units[0].act)) for s in stages]
    assert kinds == [(nn.BatchNorm2d, nn.ReLU), (nn.GroupNorm, nn.SiLU), (nn.BatchNorm2d, nn.ReLU)]


def test_a_pruned_net_is_a_smaller_config():
    config = set_path(TINY, "stages.1.blocks.0.branches.0.units.0.width", 3)
    config = set_path(config, "stages.2.blocks.1.branches.1.units.0.width", 1)
    config = set_path(config, "stages.1.blocks.1.branches.1.fork.1.width", 7)
    model = Inception(config)
    assert [model.stages[1][1].branches[i].units[0].conv.in_channels for i in (0, 1)] == [11, 11]
    assert model.num_features == 8 + (4 + 3 + 7 + 11)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    assert from_json(InceptionConfig, to_json(config)) == config


def test_widths_and_strides_are_read_from_the_records():
    assert (width_of(FORKED, 10), stride_of(FORKED)) == (4 + 3 + 5 + 10, 1)
    assert (width_of(REDUCED, 10), stride_of(REDUCED)) == (8 + 10, 2)
    assert (width_of(SUMMED, 10), stride_of(SUMMED)) == (10, 1)


def test_the_embedding_stands_before_the_classifier_with_a_norm_for_its_bias():
    model = on_meta(R1)
    assert (model.num_features, model.fc.in_features) == (1792, 512)
    assert model.embedding.fc.bias is None
    assert on_meta(replace(R1, layers=replace(R1.layers, norm="none"))).embedding.fc.bias is not None


def test_convolutions_start_with_variance_two_over_fan_in():
    torch.manual_seed(0)
    config = replace(TINY, aux=True, stages=(Stage((one(256, 3),)), Stage((one(512, (1, 3)), SUMMED))))
    model = Inception(config)
    assert model.stages[1][0].branches[0].units[0].conv.weight.std().item() == pytest.approx((2 / 768) ** 0.5, rel=0.01)
    assert not model.stages[1][1].up.bias.any()
    assert not model.fc.bias.any()
    assert model.aux.conv1.conv.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert model.aux.fc.weight.std().item() == pytest.approx(0.001, rel=0.1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Unit(8, 4), r"Unit\.kernel = 4.*odd"),
        (lambda: Unit(8, (1, 2)), r"Unit\.kernel = \(1, 2\).*odd"),
        (lambda: Unit(width=0), r"Unit\.width = 0"),
        (lambda: Branch(), "Branch is empty"),
        (lambda: Branch(pool="min"), r"Branch\.pool"),
        (lambda: Mixed(branches=()), r"Mixed\.branches"),
        (lambda: Mixed((Branch((Unit(8),)), Branch(pool="max"))), r"Mixed\.branches.*sizes"),
        (lambda: Mixed((Branch((Unit(8, 3),)), Branch((Unit(8, 3, valid=True),)))), r"Mixed\.branches.*sizes"),
        (lambda: Mixed((Branch(fork=(Unit(8), Unit(8, (1, 3), valid=True))),)), r"Mixed\.branches.*sizes"),
        (lambda: replace(SUMMED, branches=REDUCED.branches), r"Mixed\.scale = 0.2 needs"),
        (lambda: replace(SUMMED, scale=None, act=False), r"Mixed\.act = False"),
        (lambda: replace(SUMMED, scale=0.0), r"Mixed\.scale"),
        (lambda: replace(TINY, stages=()), "stages"),
        (lambda: replace(TINY, stages=TINY.stages[:1], aux=True), "aux"),
        (lambda: replace(TINY, stages=(Stage((FORKED,) * 700),)), r"at most 4,096"),
        (lambda: replace(TINY, dropout=1.5), "dropout"),
    ],
)
def test_a_config_that_can_not_be_is_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_a_stride_on_both_sides_of_a_block_is_accepted_where_the_sizes_agree():
    padded = Branch((Unit(8, 3, 2),))
    assert stride_of(Mixed((padded, Branch((Unit(4, 1, 2),))))) == 2
    with pytest.raises(ConfigError, match="sizes"):
        Mixed((padded, Branch(pool="max")))  # one has ceil(n / 2) positions, the other floor((n - 1) / 2)


def test_the_head_is_every_classifier():
    keys = [key for key in on_meta(replace(TINY, aux=True)).state_dict() if key.startswith(FAMILY.head)]
    assert keys == ["aux.fc.weight", "aux.fc.bias", "fc.weight", "fc.bias"]


def test_what_is_published_has_the_preprocessing_of_the_weights():
    resizes = {name: FAMILY.published[name].resize for name in VARIANTS}
    assert resizes["inception_v3"] == 342
    assert resizes["inception_v4"] == int(299 / 0.875)
    assert resizes["inception_resnet_v2"] == int(299 / 0.8975)
    assert all(FAMILY.published[name].mean == (0.5, 0.5, 0.5) for name in VARIANTS)


def test_v2_is_v3_with_a_7x7_in_front():
    """The factorised stem costs more: the paper's 1.0 billion of multiply-adds are 0.41 here."""
    ours, theirs = (counts(on_meta(VARIANTS[name]), 299) for name in ("inception_v2", "inception_v3"))
    assert ours == (FACTS["inception_v2"]["params"], FACTS["inception_v2"]["macs"])
    stems = 27 * 32 * 149**2 + (32 * 32 * 9 + 64 * 32 * 9) * 147**2 - 3 * 49 * 64 * 147**2
    assert theirs[1] - ours[1] == stems
    weights = 27 * 32 + 32 * 32 * 9 + 64 * 32 * 9 + 2 * (32 + 32 + 64) - 3 * 49 * 64 - 2 * 64
    assert theirs[0] - ours[0] == weights


def test_the_auxiliary_head_can_be_without_norms():
    config = replace(VARIANTS["inception_v2"], aux=True)
    plain, normed = on_meta(config), on_meta(replace(config, aux_norm=True))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in plain.aux.modules())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in normed.aux.modules()) == 2
