"""MobileNet v1 to v4 and FBNet-C against published counts, timm, torchvision and pytorchcv."""

import dataclasses

import pytest
import torch
from compare import check_gradients, difference, on_meta, randomise
from torch import nn

from foveate.config import from_json, replace, set_path, to_json
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo import FAMILIES, build, variant
from foveate.zoo.families.mobilenet.network import (
    FAMILY,
    RENAMES,
    VARIANTS,
    Attention,
    Block,
    MobileNet,
    MobileNetConfig,
    Stage,
    from_timm,
    scale,
)
from foveate.zoo.fold import fold, folded
from foveate.zoo.weights import load_weights

KINDS = (
    Block("conv", 8, 1),
    Block("separable", 12, 5),
    Block("inverted", 12),
    Block("inverted", 16, 5, 2, mid=20),
    Block("inverted", 16, 3, mid=24, act="silu", attn="se(ratio=0.25)"),
    Block("fused", 16, 3, mid=24),
    Block("fused", 24, 5, 2, mid=12, skip=False),
    Block("universal", 24, 3, 1, 48, 5),  # ExtraDW
    Block("universal", 24, 5, 1, 48),  # inverted bottleneck
    Block("universal", 24, 0, 1, 48, 3),  # ConvNext-like
    Block("universal", 24, 0, 1, 48),  # feed-forward
    Attention(2, 8, kv_stride=2),
    Attention(3, 4),
    Block("universal", 32, 0, 2, 48, 3),
)
TINY = MobileNetConfig((Stage(KINDS[:5]), Stage(KINDS[5:])), stem=8, head=32, num_classes=5, resolution=32)
HEADS = {
    "v1": {"head": None},
    "v2": {},
    "v3": {"head_at": "pool", "head_norm": False},
    "v4": {"head_at": "pool"},
    "map with bias": {"head_norm": False},
}


def timm_state(name):
    import timm

    with torch.device("meta"):
        return timm.create_model(name).state_dict()


def four_axes(state):
    """torchvision's v3 has a linear layer where timm and this zoo have a 1x1 convolution."""
    return {k: v[:, :, None, None] if k == "classifier.0.weight" and v.ndim == 2 else v for k, v in state.items()}


@pytest.mark.parametrize(
    ("name", "theirs", "size"),
    [
        ("mobilenetv1_100", "mobilenetv1_100", (64, 64)),
        ("mobilenetv2_050", "mobilenetv2_050", (33, 47)),
        ("mobilenetv3_small_100", "tf_mobilenetv3_small_100", (65, 38)),
        ("mobilenetv3_small_minimal_100", "tf_mobilenetv3_small_minimal_100", (64, 64)),
        ("mobilenetv3_large_075", "tf_mobilenetv3_large_075", (45, 64)),
        ("mobilenetv3_small_050", "mobilenetv3_small_050", (65, 38)),
        ("mobilenetv4_conv_small", "mobilenetv4_conv_small", (64, 47)),
        ("mobilenetv4_conv_medium", "mobilenetv4_conv_medium", (64, 64)),
        ("mobilenetv4_hybrid_medium", "mobilenetv4_hybrid_medium", (64, 96)),
    ],
)
def test_outputs_equal_timm(name, theirs, size):
    import timm

    assert difference(MobileNet(VARIANTS[name]), timm.create_model(theirs), from_timm, size=size) <= 1e-10


def test_fbnet_c_gives_the_outputs_of_timm_with_the_epsilon_of_its_weights():
    import timm

    theirs = timm.create_model("fbnetc_100", bn_eps=1e-3)
    assert difference(MobileNet(VARIANTS["fbnet_c"]), theirs, from_timm, size=(45, 64)) <= 1e-10


@pytest.mark.parametrize("size", [(64, 64), (45, 51)])
def test_v2_gives_the_outputs_of_torchvision(size):
    import torchvision

    theirs = torchvision.models.mobilenet_v2()
    assert difference(MobileNet(VARIANTS["mobilenetv2_100"]), theirs, RENAMES["torchvision_v2"], size=size) <= 1e-10


@pytest.mark.parametrize("size", [(64, 64), (45, 51)])
def test_v3_gives_the_outputs_of_torchvision(size):
    import torchvision

    theirs, ours = randomise(torchvision.models.mobilenet_v3_small()), MobileNet(VARIANTS["mobilenet_v3_small"])
    rename = RENAMES["torchvision_v3_small"]
    ours.double().eval().load_state_dict({rename(k): v for k, v in four_axes(theirs.state_dict()).items()})
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        a, b = ours(x), theirs(x)
    assert b.abs().max() > 1e-3
    assert (a - b).abs().max() <= 1e-10 * max(1.0, b.abs().max().item())


def test_a_narrow_v1_gives_the_outputs_of_pytorchcv():
    from pytorchcv.model_provider import get_model

    theirs = get_model("mobilenet_wd4")
    theirs.features.final_pool = nn.AdaptiveAvgPool2d(1)  # theirs is fixed to the 7x7 map of 224 pixels
    ours = MobileNet(replace(VARIANTS["mobilenetv1_025"], layers=Layers("batch_norm", "relu")))
    assert difference(ours, theirs, size=(64, 45)) <= 1e-10


def test_fbnet_c_gives_the_outputs_of_pytorchcv():
    from pytorchcv.model_provider import get_model

    theirs = get_model("fbnet_cb")
    theirs.features.final_pool = nn.AdaptiveAvgPool2d(1)
    assert difference(MobileNet(VARIANTS["fbnet_c"]), theirs) <= 1e-10


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mobilenetv1_100h", "mobilenetv1_100h"),
        ("mobilenetv2_035", "mobilenetv2_035"),
        ("mobilenetv2_120d", "mobilenetv2_120d"),
        ("mobilenetv2_140", "mobilenetv2_140"),
        ("mobilenetv3_large_100", "mobilenetv3_large_100"),
        ("mobilenetv3_large_minimal_100", "tf_mobilenetv3_large_minimal_100"),
        ("mobilenetv3_small_075", "mobilenetv3_small_075"),
        ("mobilenetv4_conv_small_035", "mobilenetv4_conv_small_035"),
        ("mobilenetv4_conv_large", "mobilenetv4_conv_large"),
        ("mobilenetv4_hybrid_large", "mobilenetv4_hybrid_large"),
        ("fbnet_c", "fbnetc_100"),
    ],
)
def test_keys_and_their_order_are_those_of_timm(name, theirs):
    ours = on_meta(VARIANTS[name]).state_dict()
    assert [(from_timm(k), v.shape) for k, v in timm_state(theirs).items()] == [(k, v.shape) for k, v in ours.items()]


@pytest.mark.parametrize(
    ("name", "theirs", "rename"),
    [
        ("mobilenetv2_100", "mobilenet_v2", "torchvision_v2"),
        ("mobilenet_v3_large", "mobilenet_v3_large", "torchvision_v3_large"),
        ("mobilenet_v3_small", "mobilenet_v3_small", "torchvision_v3_small"),
    ],
)
def test_one_rename_maps_the_keys_of_each_torchvision_net(name, theirs, rename):
    import torchvision

    with torch.device("meta"):
        state = four_axes(getattr(torchvision.models, theirs)().state_dict())
    ours = {k: v.shape for k, v in on_meta(VARIANTS[name]).state_dict().items()}
    fits = {n for n, to_ours in RENAMES.items() if {to_ours(k): v.shape for k, v in state.items()} == ours}
    assert fits == {rename}


def test_our_own_keys_pass_every_rename_unchanged():
    keys = [k for name in ("mobilenetv1_100", "mobilenetv4_conv_small") for k in on_meta(VARIANTS[name]).state_dict()]
    assert all(rename(k) == k for rename in RENAMES.values() for k in keys)


def test_weights_of_timm_and_torchvision_load_without_being_told_whose_they_are(monkeypatch):
    import timm
    import torchvision

    monkeypatch.setitem(FAMILIES, "mobilenet", FAMILY)
    for name, theirs in (
        ("mobilenetv2_100", torchvision.models.mobilenet_v2()),
        ("mobilenetv4_conv_small_050", timm.create_model("mobilenetv4_conv_small_050")),
    ):
        model = build(VARIANTS[name]).eval()
        load_weights(model, dict(reversed(theirs.state_dict().items())))  # in no useful order
        x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            assert torch.allclose(model(x), theirs.eval()(x), atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_every_kind_of_block_and_head_trains_and_agrees_with_its_parts(head):
    torch.manual_seed(0)
    config = replace(TINY, layer_scale=0.1 if head == "v4" else 0.0, padding="same", **HEADS[head])
    model = MobileNet(config).train()
    x = torch.randn(4, 3, 32, 32)
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
    features = model.eval().forward_features(x)
    assert features.shape == (4, model.num_features, 2, 2)
    assert torch.equal(model(x), model.forward_head(features))


def test_the_smallest_variant_takes_a_training_step():
    check_gradients(replace(VARIANTS["mobilenetv1_025"], num_classes=3), 64)


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("mobilenetv1_100", [(64, 2), (128, 4), (256, 8), (512, 16), (1024, 32)]),
        ("mobilenetv2_100", [(16, 2), (24, 4), (32, 8), (96, 16), (320, 32)]),
        ("mobilenetv3_large_100", [(16, 2), (24, 4), (40, 8), (112, 16), (960, 32)]),
        ("mobilenetv3_small_100", [(16, 2), (16, 4), (24, 8), (48, 16), (576, 32)]),
        ("mobilenetv4_conv_small", [(32, 2), (32, 4), (64, 8), (96, 16), (960, 32)]),
        ("mobilenetv4_hybrid_medium", [(32, 2), (48, 4), (80, 8), (160, 16), (960, 32)]),
    ],
)
def test_feature_maps_are_one_a_stride_finest_first(name, maps):
    model = on_meta(VARIANTS[name])
    x = torch.empty(1, 3, 256, 256, device="meta")
    found = model.feature_maps(x)
    assert [(m.shape[1], 256 // m.shape[2]) for m in found] == maps
    assert found[-1].shape[2:] == model.forward_features(x).shape[2:]


def test_where_a_stage_ends_means_nothing_to_the_net():
    one = replace(TINY, stages=(Stage(KINDS),))
    each = replace(TINY, stages=tuple(Stage((block,)) for block in KINDS))
    a, b = MobileNet(one), MobileNet(each)
    assert difference(a, b, size=(32, 45)) == 0.0


def test_an_inner_width_that_is_pruned_is_a_smaller_config():
    config = set_path(TINY, "stages.0.blocks.3.mid", 7)
    config = set_path(config, "stages.1.blocks.2.mid", 1)
    model = on_meta(config)
    assert (model.blocks[0][3].conv_dw.out_channels, model.blocks[1][2].dw_mid.conv.out_channels) == (7, 1)


def test_the_gate_of_v3_squeezes_a_quarter_of_the_inner_width_in_steps_of_8():
    blocks = on_meta(VARIANTS["mobilenetv3_large_100"]).blocks
    assert [b.se.fc1.out_channels for b in blocks[2]] == [24, 32, 32]  # of 72 / 4 = 18 and 120 / 4 = 30
    assert isinstance(blocks[1][0].se, nn.Identity)
    assert on_meta(VARIANTS["mobilenetv3_small_100"]).blocks[0][0].se.fc1.out_channels == 8


def test_a_new_gate_or_activation_goes_where_the_net_has_the_old_one():
    config = VARIANTS["mobilenetv3_large_100"]
    model = on_meta(replace(config, layers=replace(config.layers, attn="eca", act="silu")))
    kinds = [{type(b.se).__name__ for b in stage} for stage in model.blocks]
    assert kinds == [{"Identity"}, {"Identity"}, {"ECA"}, {"Identity"}, {"ECA"}, {"ECA"}, {"Identity"}]
    assert [type(stage[-1].act1) for stage in model.blocks] == [nn.ReLU] * 3 + [nn.SiLU] * 4


def test_minimal_nets_have_the_widths_of_the_full_ones_and_only_3x3_and_relu():
    full, small = VARIANTS["mobilenetv3_large_100"], VARIANTS["mobilenetv3_large_minimal_100"]
    widths = [[(b.width, b.mid, b.stride) for s in net.stages for b in s.blocks] for net in (full, small)]
    assert widths[0] == widths[1]
    modules = list(on_meta(small).modules())
    assert {m.kernel_size for m in modules if isinstance(m, nn.Conv2d)} == {(1, 1), (3, 3)}
    assert not any(isinstance(m, (nn.Hardswish, nn.Hardsigmoid)) for m in modules)


def test_stochastic_depth_grows_linearly_and_only_where_there_is_a_skip():
    blocks = [b for stage in on_meta(replace(TINY, drop_path=0.7)).blocks for b in stage]
    rates = [None if getattr(b, "drop_path", None) is None else round(b.drop_path.rate, 6) for b in blocks]
    skips = {2, 4, 5, 7, 8, 9, 10, 11, 12}
    assert rates == [round(0.05 * i, 6) if i in skips else None for i in range(len(KINDS))]


def test_a_stage_can_have_layers_of_its_own_and_its_blocks_still_choose():
    model = on_meta(set_path(TINY, "stages.0.layers", Layers("group_norm(groups=2)", "gelu")))
    assert isinstance(model.blocks[0][3].bn2, nn.GroupNorm) and isinstance(model.blocks[0][3].act2, nn.GELU)
    assert isinstance(model.blocks[0][4].act2, nn.SiLU)
    assert isinstance(model.blocks[1][0].bn1, nn.BatchNorm2d)


@pytest.mark.parametrize("name", ["mobilenetv1_100", "mobilenetv2_100", "mobilenetv4_hybrid_medium", "fbnet_c"])
def test_scaling_by_one_changes_nothing(name):
    assert scale(VARIANTS[name], 1.0) == VARIANTS[name]


def test_scaling_in_depth_repeats_the_last_block_of_inner_stages():
    config = scale(VARIANTS["mobilenetv2_100"], 1.0, 1.4)
    assert [len(s.blocks) for s in config.stages] == [1, 3, 5, 6, 5, 5, 1]
    assert [b.stride for b in config.stages[1].blocks] == [2, 1, 1]
    assert [len(s.blocks) for s in scale(config, 1.0, 0.5).stages] == [1, 2, 3, 3, 3, 3, 1]


def test_the_head_grows_and_never_shrinks():
    v2 = VARIANTS["mobilenetv2_100"]
    assert [scale(v2, w).head for w in (0.35, 1.0, 1.4)] == [1280, 1280, 1792]
    assert (scale(v2, 1.4, keep_ends=True).stem, scale(v2, 1.4, keep_ends=True).head) == (32, 1280)


def test_batch_norms_fold_into_every_kind_of_block_but_attention(monkeypatch):
    monkeypatch.setitem(FAMILIES, "mobilenet", dataclasses.replace(FAMILY, folds=True))
    blocks = tuple(b for b in KINDS if isinstance(b, Block))
    for head in HEADS.values():
        model = build(replace(TINY, stages=(Stage(blocks),), **head))
        model = randomise(model)
        plain = build(folded(model.config)).double().eval()
        plain.load_state_dict(fold(model))
        x = torch.randn(2, 3, 45, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        with torch.inference_mode():
            assert torch.allclose(plain(x), model(x), rtol=1e-9, atol=1e-9)
        assert model.config.foldable
    assert not TINY.foldable
    assert not set_path(model.config, "stages.0.blocks.4.attn", "nonlocal(heads=2)").foldable


def test_a_config_with_every_kind_of_block_survives_json():
    again = from_json(MobileNetConfig, to_json(TINY))
    assert again == TINY
    assert hash(again) == hash(TINY)
    assert isinstance(again.stages[1].blocks[6], Attention)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "conv", "kernel": 4}, r"Block\.kernel = 4.*odd"),
        ({"kind": "inverted", "kernel": 0}, r"Block\.kernel = 0.*odd"),
        ({"kind": "universal", "kernel": 2, "mid": 8}, r"Block\.kernel = 2.*0 for none"),
        ({"kind": "inverted", "lead": 3}, r"Block\.lead = 3.*universal"),
        ({"kind": "universal", "lead": 4, "mid": 8}, r"Block\.lead = 4.*odd"),
        ({"kind": "separable", "mid": 8}, r"Block\.mid = 8.*no inner width"),
        ({"kind": "fused"}, r"Block\.mid = None.*needs"),
        ({"kind": "universal", "kernel": 0, "stride": 2, "mid": 8}, r"Block\.stride = 2.*can not stride"),
        ({"kind": "inverted", "mid": 0}, r"Block\.mid"),
        ({"kind": "dense"}, r"Block\.kind"),
    ],
)
def test_a_block_that_can_not_be_is_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        Block(**{"width": 8} | fields)


def test_an_attention_that_can_not_be_is_refused():
    with pytest.raises(ConfigError, match=r"Attention\.kernel = 2.*odd"):
        Attention(4, 64, kernel=2)
    with pytest.raises(ConfigError, match=r"heads \* key = 262,144"):
        Attention(4096, 64)


def test_a_million_blocks_are_refused_before_anything_is_built():
    with pytest.raises(ConfigError, match="at most 1,024"):
        replace(TINY, stages=(Stage((Block("conv", 8),) * 1024),) * 2)
    with pytest.raises(ConfigError, match="stages"):
        replace(TINY, stages=())


def test_a_fault_in_a_file_is_named_with_its_place():
    text = to_json(TINY)
    with pytest.raises(ConfigError, match=r"stages\.1\.blocks\.6.*heads"):
        from_json(MobileNetConfig, text.replace('"heads": 2', '"heads": 0'))
    with pytest.raises(ConfigError, match="kind"):
        from_json(MobileNetConfig, text.replace('"kind": "conv"', '"kind": "convolution"'))


def test_initial_weights_have_the_official_spread():
    torch.manual_seed(0)
    model = MobileNet(VARIANTS["mobilenetv2_100"])
    assert model.blocks[5][1].conv_dw.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.03)
    assert model.conv_head.weight.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.02)
    assert model.classifier.weight.abs().max().item() == pytest.approx(1000**-0.5, rel=1e-3)
    assert not model.classifier.bias.any()


@pytest.mark.parametrize("kernel", [3, 5, 7, 9, 11])
@pytest.mark.parametrize("name", ["mobilenetv1_025", "mobilenetv2_035", "mobilenetv4_conv_small_035"])
def test_one_field_sets_the_kernel_of_every_depthwise_convolution(name, kernel):
    """The nets of figure 1 of arXiv:1907.09595."""
    base = variant(name)
    ours, theirs = on_meta(replace(base, depthwise=kernel)), on_meta(base)
    pairs = [
        (a, b)
        for a, b in zip(ours.modules(), theirs.modules(), strict=True)
        if isinstance(b, nn.Conv2d) and b.kernel_size[0] > 1
    ]
    assert len(pairs) > 5
    for a, b in pairs:
        assert a.kernel_size == ((kernel, kernel) if b.groups > 1 else b.kernel_size)
    x = torch.empty(2, 3, 64, 64, device="meta")
    assert [m.shape for m in ours.feature_maps(x)] == [m.shape for m in theirs.feature_maps(x)]


def test_an_even_depthwise_kernel_is_refused():
    with pytest.raises(ConfigError, match="depthwise = 4"):
        replace(variant("mobilenetv1_025"), depthwise=4)
