"""NFNet and NF-ResNet against published counts, timm, the official formulas, and the variances that they promise."""

import pytest
import torch
import torch.nn.functional as F
from compare import counts, difference, facts, on_meta, picture, randomise
from torch import nn

from foveate.config import replace, set_path
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.act import GAMMA
from foveate.layers.drop import DropPath
from foveate.layers.ws_conv import WSConv2d
from foveate.zoo.families.nfnet.blocks import Block, MaxPoolSame, NFNetConfig, Stage, betas
from foveate.zoo.families.nfnet.network import PUBLISHED, VARIANTS, NFNet, deepmind, from_timm, nf_resnet, stages

FACTS = facts("nfnet")
F0, NF50 = VARIANTS["nfnet_f0"], VARIANTS["nf_resnet50"]
TIMM_FOLDED = {  # timm's nfnet_f*, without dm_: gamma in the convolutions, no skip gains, symmetric padding
    "skip_init": False,
    "padding": "symmetric",
    "layers": replace(F0.layers, act="gelu", conv=f"ws_conv(gamma={GAMMA['gelu']}, eps=1e-05, add_eps=True)"),
}
UNNAMED = {  # nets that have a count but no name of their own here
    "nf_seresnet50": replace(
        nf_resnet((3, 4, 6, 3)), layers=replace(NF50.layers, attn="se(ratio=0.0625, divisor=8, gain=2.0)")
    ),
    "deepmind nf_resnet50": replace(deepmind(NF50), resolution=224),
    "deepmind nf_resnet101": deepmind(VARIANTS["nf_resnet101"]),
    "timm nfnet_f0": replace(F0, **TIMM_FOLDED),
}
# small nets of the three structures; the same small sizes are given to timm
SMALL_F = replace(
    F0,
    stages=stages((1, 2, 2, 1), (32, 64, 96, 96), squeeze=2, group_width=8),
    stem_widths=(4, 8, 16, 32),
    head=192,
    num_classes=7,
)
SMALL_NF = replace(NF50, stages=stages((2, 1, 2, 1), (32, 64, 96, 128), squeeze=4), stem_widths=(16,), num_classes=7)
TINY = NFNetConfig(
    (Stage(16, (8,), 1), Stage(32, (8, 8), 2)), stem_widths=(4, 4, 8, 8), head=32, num_classes=5, resolution=32
)


@pytest.mark.parametrize("name", UNNAMED)
def test_nets_without_a_name_have_the_published_parameters_and_macs(name):
    config, fact = UNNAMED[name], FACTS[name]
    model = on_meta(config)
    assert config.resolution == fact["resolution"]
    assert counts(model, config.resolution) == (fact["params"], fact["macs"])


@pytest.mark.parametrize("name", [name for name in VARIANTS if "at" in FACTS[name]])
def test_the_published_macs_at_another_resolution_fit_those_at_the_first(name):
    """Closed form: gates (C^2 a block, C wide with C / 2 in between) and classifier cost the same at any resolution.

    All else goes with the area; every resolution is a multiple of 32.
    """
    config, fact = VARIANTS[name], FACTS[name]
    fixed = 1000 * (config.head or 2048)
    if config.layers.attn != "none":
        fixed += sum(len(s.mid) * s.width**2 for s in config.stages)
    ((resolution, macs),) = fact["at"].items()
    assert (macs - fixed) * fact["resolution"] ** 2 == (fact["macs"] - fixed) * int(resolution) ** 2


@pytest.mark.parametrize("size", [(64, 64), (75, 50)])
def test_f_nets_give_the_outputs_of_timm_with_its_gelu_and_eps(size):
    import timm

    sizes = {"depths": (1, 2, 2, 1), "channels": (32, 64, 96, 96), "group_size": 8, "stem_chs": 32}
    theirs = timm.create_model("dm_nfnet_f0", num_features=192, num_classes=7, **sizes)
    layers = replace(SMALL_F.layers, act="scaled(act='gelu')", conv="ws_conv(eps=1e-05, add_eps=True)")
    assert difference(NFNet(replace(SMALL_F, layers=layers)), theirs, from_timm, size=size) <= 1e-10


@pytest.mark.parametrize("size", [(64, 64), (75, 50)])
def test_f_nets_of_timm_without_skip_gains_are_a_config_away(size):
    import timm

    sizes = {"depths": (1, 2, 2, 1), "channels": (32, 64, 96, 96), "group_size": 8, "stem_chs": 32}
    theirs = timm.create_model("nfnet_f0", num_features=192, num_classes=7, **sizes)
    assert difference(NFNet(replace(SMALL_F, **TIMM_FOLDED)), theirs, from_timm, size=size) <= 1e-10


@pytest.mark.parametrize(("name", "attn"), [("nf_resnet50", "none"), ("nf_seresnet50", "se(ratio=0.25, gain=2.0)")])
@pytest.mark.parametrize("size", [(64, 64), (75, 50)])
def test_nf_resnets_give_the_outputs_of_timm(name, attn, size):
    import timm

    sizes = {"depths": (2, 1, 2, 1), "channels": (32, 64, 96, 128), "stem_chs": 16}
    gate = {} if attn == "none" else {"attn_kwargs": {"rd_ratio": 0.25}}
    theirs = timm.create_model(name, num_classes=7, **sizes, **gate)
    ours = NFNet(set_path(SMALL_NF, "layers.attn", attn))
    assert difference(ours, theirs, from_timm, size=size) <= 1e-10


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("nfnet_f0", "dm_nfnet_f0"), ("nfnet_f2", "dm_nfnet_f2"), ("nf_resnet26", None), ("nf_resnet101", None)],
)
def test_keys_and_shapes_of_timm_map_to_ours(name, theirs):
    import timm

    with torch.device("meta"):
        theirs = timm.create_model(theirs or name).state_dict()
    ours = {key: value.shape for key, value in on_meta(VARIANTS[name]).state_dict().items()}
    assert {from_timm(key): value.shape for key, value in theirs.items()} == ours
    assert [from_timm(key) for key in ours] == list(ours)


def official_kernel(conv):
    """w * scale - mean * scale with scale = gain / sqrt(max(var * fan_in, 1e-4)): the lines of DeepMind's base.py."""
    w = conv["weight"]
    mean, var = w.mean((1, 2, 3), keepdim=True), w.var((1, 2, 3), correction=0, keepdim=True)
    scale = conv["gain"] / (var * w[0].numel()).clamp(min=1e-4).sqrt()
    return w * scale - mean * scale


def official_conv(state, name, x, stride=1, groups=1):
    """A WSConv2D of that code: SAME padding, always a bias."""
    conv = {leaf: state[f"{name}.{leaf}"] for leaf in ("weight", "gain", "bias")}
    kernel, pads = conv["weight"].shape[-1], []
    for side in (x.shape[3], x.shape[2]):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), official_kernel(conv), conv["bias"], stride, groups=groups)


def official_net(state, x, *, depths, act, groups, two_convs, avg, se):
    """The forward pass of nfnet.py and nf_resnet.py, written a second time with functions on a state dict."""
    if two_convs:
        for i, stride in enumerate((2, 1, 1, 2), start=1):
            x = official_conv(state, f"stem.conv{i}", x if i == 1 else act(x), stride)
    else:
        x = official_conv(state, "stem.conv1", x, 2)
        bottom, right = (1 if side % 2 == 0 else 2 for side in x.shape[2:])
        x = F.max_pool2d(F.pad(x, (right - 1, 1, bottom - 1, 1), value=-1e30), 3, 2)
    std = 1.0
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name, stride = f"stages.{stage}.{block}", 2 if block == 0 and stage > 0 else 1
            out = act(x) / std
            shortcut = x
            if f"{name}.downsample.conv.weight" in state:
                pooled = F.avg_pool2d(out, 2, 2, ceil_mode=True, count_include_pad=False) if avg and stride > 1 else out
                shortcut = official_conv(state, f"{name}.downsample.conv", pooled, 1 if avg else stride)
            out = official_conv(state, f"{name}.conv1", out)
            out = official_conv(state, f"{name}.conv2", act(out), stride, groups[stage])
            if two_convs:
                out = official_conv(state, f"{name}.conv2b", act(out), 1, groups[stage])
            out = official_conv(state, f"{name}.conv3", act(out))
            if se:
                w0, b0, w1, b1 = (state[f"{name}.attn.{k}"].squeeze() for k in SE_KEYS)
                h = F.linear(F.relu(F.linear(out.mean((2, 3)), w0, b0)), w1, b1)
                out = 2 * torch.sigmoid(h)[..., None, None] * out
            x = out * state[f"{name}.skip_gain"] * 0.2 + shortcut
            std = ((1.0 if block == 0 else std) ** 2 + 0.2**2) ** 0.5
    if "final_conv.weight" in state:
        x = official_conv(state, "final_conv", x)
    return F.linear(act(x).mean((2, 3)), state["fc.weight"], state["fc.bias"])


SE_KEYS = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")


@pytest.mark.parametrize("size", [(64, 64), (75, 50)])
def test_f_nets_follow_the_official_code(size):
    model, x = randomise(NFNet(SMALL_F)), picture(*size)

    def act(x):
        return F.gelu(x, approximate="tanh") * 1.7015043497085571

    groups = [s.groups for s in SMALL_F.stages]
    assert groups == [2, 4, 6, 6]
    expected = official_net(
        model.state_dict(), x, depths=(1, 2, 2, 1), act=act, groups=groups, two_convs=True, avg=True, se=True
    )
    with torch.no_grad():
        assert (model(x) - expected).abs().max() <= 1e-10 * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize("size", [(64, 64), (75, 50), (61, 33)])
def test_nf_resnets_follow_the_official_code_in_its_form(size):
    config = set_path(deepmind(SMALL_NF), "layers.attn", "se(ratio=0.25, gain=2.0)")
    model, x = randomise(NFNet(config)), picture(*size)

    def act(x):
        return F.relu(x) * 1.7139588594436646

    expected = official_net(
        model.state_dict(), x, depths=(2, 1, 2, 1), act=act, groups=[1] * 4, two_convs=False, avg=False, se=True
    )
    with torch.no_grad():
        assert (model(x) - expected).abs().max() <= 1e-10 * max(1.0, expected.abs().max().item())


def test_the_input_of_a_block_is_divided_by_the_deviation_that_it_should_have():
    config = replace(F0, stages=stages((5, 2, 1, 1), (256, 512, 1536, 1536), squeeze=2))
    golden = [1.0, 0.980581, 0.962250, 0.944911, 0.928477]  # 1 / sqrt(1 + 0.04 i)
    # the first block of a stage still has what the stage before it gathered
    expected = [*golden, 1 / 1.2**0.5, golden[1], golden[2], golden[1]]
    assert betas(config) == pytest.approx(expected, abs=1e-6)
    assert [b.beta for stage in NFNet(SMALL_NF).stages for b in stage] == betas(SMALL_NF)


def test_a_first_block_that_keeps_its_shape_does_not_reset_the_variance():
    config = replace(TINY, stages=(Stage(8, (8, 8), 1), Stage(8, (8,), 1)))  # the stem gives 8 channels
    assert betas(config) == pytest.approx([1.0, 1.04**-0.5, 1.08**-0.5])


def test_variances_at_the_start_are_those_of_the_calculation():
    """Signal propagation, arXiv:2101.08692: noise of variance 1 behind the stem, branches fully open (skip gains 1).

    The authors' strided shortcut: an average pool would lower the variance of noise. Maps are large, since zero padding
    lowers it at the border. Measured: within 4 %.
    """
    torch.manual_seed(0)
    rows = stages((4, 3, 2), (128, 192, 256), squeeze=2)
    config = replace(deepmind(NF50), stages=rows, stem_widths=(64,), drop_path=0.0)
    model = NFNet(config)
    x = torch.randn(2, 64, 72, 72)
    predicted, measured, branches = [], [], []
    with torch.no_grad():
        for block, beta in zip((b for stage in model.stages for b in stage), betas(config), strict=True):
            block.skip_gain.fill_(1.0)
            predicted.append(beta**-2)
            measured.append(channel_variance(x))
            block.conv3.register_forward_hook(lambda module, inputs, y: branches.append(channel_variance(y)))
            x = block(x)
    assert max(predicted) == pytest.approx(1.16)
    assert measured == pytest.approx(predicted, rel=0.06)
    assert branches == pytest.approx([1.0] * 9, rel=0.06)


def test_gates_leave_the_variance_at_the_start_since_they_are_doubled():
    torch.manual_seed(0)
    block = NFNet(replace(SMALL_F, stages=(Stage(256, (128,), 1),), stem_widths=(4, 8, 16, 256))).stages[0][0]
    x = torch.randn(4, 256, 24, 24)
    with torch.no_grad():
        assert channel_variance(block.attn(x)) == pytest.approx(1.0, rel=0.05)


def channel_variance(x):
    """Variance over pictures and positions, mean over channels: what the papers plot."""
    return x.var((0, 2, 3)).mean().item()


def test_at_the_start_the_net_is_its_shortcuts_and_the_skip_gains_learn_first():
    torch.manual_seed(0)
    model = NFNet(replace(TINY, drop_path=0.0, dropout=0.0))
    x = torch.randn(4, 32, 4, 4)
    assert torch.equal(model.stages[1][1](x), x)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    for block in (b for stage in model.stages for b in stage):
        assert block.skip_gain.grad.abs() > 0
        assert block.conv1.weight.grad.abs().max() == 0


def test_without_skip_gains_the_last_gain_of_a_branch_starts_at_zero():
    torch.manual_seed(0)
    block = NFNet(SMALL_NF).stages[0][1]
    assert block.skip_gain is None and not block.conv3.gain.any() and block.conv2.gain.eq(1).all()
    x = torch.randn(2, 32, 8, 8)
    assert torch.equal(block(x), x)


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    model = NFNet(TINY).train()
    with torch.no_grad():
        for block in (b for stage in model.stages for b in stage):
            block.skip_gain.fill_(0.5)
            block.drop_path.rate = 0.0
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


def test_stochastic_depth_grows_linearly_and_does_not_rescale():
    drops = [m for m in on_meta(F0).modules() if isinstance(m, DropPath)]
    assert [d.rate for d in drops] == pytest.approx([0.25 * i / 12 for i in range(12)])
    assert not any(d.rescale for d in drops)


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (7, 5), (1, 1)])
def test_the_max_pool_with_same_padding_sees_no_padding(size):
    x = -picture(*size).abs() - 1  # all negative: a zero would win
    y = MaxPoolSame()(x)
    assert y.shape[2:] == tuple(-(-side // 2) for side in size)
    assert y.max() <= -1
    corner = x[:, :, : 3 if size[0] % 2 == 0 else 2, : 3 if size[1] % 2 == 0 else 2]  # even sides pad only at the end
    assert torch.equal(y[:, :, 0, 0], corner.amax((2, 3)))


@pytest.mark.parametrize(
    ("config", "maps"),
    [
        (SMALL_F, [(16, 2), (32, 4), (64, 8), (96, 16), (192, 32)]),
        (SMALL_NF, [(16, 2), (32, 4), (64, 8), (96, 16), (128, 32)]),
        (replace(TINY, stages=(Stage(16, (8,), 2), Stage(32, (8,), 1))), [(8, 2), (8, 4), (32, 8)]),
    ],
    ids=["f", "nf", "strided first"],
)
def test_feature_maps_are_one_a_stride_finest_first(config, maps):
    model = randomise(NFNet(config))
    with torch.no_grad():
        found, features = model.feature_maps(picture(64, 64)), model.forward_features(picture(64, 64))
    assert [(m.shape[1], 64 // m.shape[2]) for m in found] == maps
    assert torch.equal(found[-1], features)
    assert model.num_features == features.shape[1]


@pytest.mark.parametrize("act", ["relu", "silu", "scaled(act='relu')"])
def test_activations_in_place_leave_the_shortcut_and_the_maps_alone(act):
    config = set_path(SMALL_NF, "layers.act", act)
    model = randomise(NFNet(config))
    block, x = model.stages[0][1], picture(8, 8, channels=32)
    kept = x.clone()
    with torch.no_grad():
        block(x)
        maps, alone = model.feature_maps(picture(64, 64)), model.stages[0](model.stem(picture(64, 64)))
    assert torch.equal(x, kept)
    assert torch.equal(maps[1], model.stages[0](model.stem(picture(64, 64))).detach())
    assert alone.min() < 0


def test_with_a_norm_it_is_a_preactivation_resnet_without_biases():
    model = NFNet(replace(TINY, layers=Layers("batch_norm", "relu", "none", "conv2d")))
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert all(conv.bias is None for conv in convolutions)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 3 + 4 * 3 + 1  # between the stem's convolutions, four a block, behind the head
    plain = NFNet(TINY)
    assert all(m.bias is not None for m in plain.modules() if isinstance(m, WSConv2d))


def test_a_stage_can_have_layers_of_its_own():
    config = set_path(TINY, "stages.1.layers", Layers("group_norm(groups=4)", "silu", "eca", "conv2d"))
    model = NFNet(config)
    assert isinstance(model.stages[0][0].conv1, WSConv2d)
    assert isinstance(model.stages[1][0].norm2, nn.GroupNorm)
    assert type(model.stages[1][0].conv1) is nn.Conv2d
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_inner_widths_of_a_pruned_net_can_be_uneven():
    config = set_path(SMALL_F, "stages.1.mid", (12, 32))
    model = randomise(NFNet(config))
    assert [b.conv2.out_channels for b in model.stages[1]] == [12, 32]
    assert model(picture(64, 64)).shape == (2, 7)


def test_the_start_is_that_of_the_official_code():
    torch.manual_seed(0)
    model = NFNet(replace(SMALL_F, num_classes=1000))
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not model.fc.bias.any()
    gate = model.stages[2][0].attn
    assert gate.fc1.weight.std().item() == pytest.approx(96**-0.5, rel=0.05)
    assert not gate.fc1.bias.any()
    assert isinstance(model.stages[2][0], Block)


def test_groups_are_128_channels_wide_and_inner_widths_half_of_the_outer():
    assert [(s.width, s.mid[0], s.groups, len(s.mid)) for s in VARIANTS["nfnet_f1"].stages] == [
        (256, 128, 1, 2),
        (512, 256, 2, 4),
        (1536, 768, 6, 12),
        (1536, 768, 6, 6),
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_published_is_for_the_resolution_of_the_variant(name):
    assert PUBLISHED[name].resolution == VARIANTS[name].resolution
    assert PUBLISHED[name].resize > PUBLISHED[name].resolution


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"stages": ()}, "stages"),
        ({"stem": "7x7"}, r"stem_widths.*takes 1"),
        ({"stem_widths": (4, 8)}, r"stem_widths.*takes 4"),
        ({"stages": (Stage(8, (1,) * 1024), Stage(8, (1,)))}, "1,025 blocks"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"head": -1}, "head"),
        ({"shortcut": "pad"}, "shortcut"),
        ({"padding": "valid"}, "padding"),
        ({"drop_path": 1.5}, "drop_path"),
    ],
)
def test_a_config_that_can_not_be_is_refused(changes, word):
    with pytest.raises(ConfigError, match=word):
        replace(TINY, **changes)


def test_inner_widths_that_groups_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match=r"mid.*multiple of groups = 4"):
        Stage(16, (8, 10), groups=4)
