"""White order: a norm right before every convolution, in ResNets (both activation orders) and VGGs."""

import numpy as np
import pytest
import torch
from onnx_file import through_onnx
from torch import nn

from foveate.config import from_json, replace, set_path, to_json
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.iter_norm import IterNorm, fuse
from foveate.zoo import build
from foveate.zoo.families.resnet.network import ResNet, ResNetConfig, Stage, cifar, cifar_bottleneck, imagenet, wide
from foveate.zoo.families.vgg import VGG, VGGConfig
from foveate.zoo.families.vgg import Stage as Convs
from foveate.zoo.fold import can_fold

F64 = torch.float64
STEPS, SIZE = 5, 4
ITER_NORM = f"iter_norm(group_size={SIZE}, steps={STEPS}, eps=0.0)"

TINY = ResNetConfig(
    (Stage(8, (4, 4), 1), Stage(12, (4, 8))), stem="cifar", pool="none", stem_widths=(4,), num_classes=5, resolution=16
)
KINDS = {
    f"{order}-{block}": replace(TINY, order=order, block=block, stem_norm=order == "white")
    for order in ("white", "white_pre")
    for block in ("basic", "bottleneck")
}
DEEP = replace(KINDS["white-bottleneck"], stem="deep", stem_widths=(4, 8, 8), shortcut="avg", pool="max")
SMALL_VGG = VGGConfig(
    (Convs((4, 8)), Convs((12, 4))), order="white", grid=2, hidden=(6,), num_classes=5, layers=Layers(act="silu")
)
NETS = KINDS | {"deep": DEEP, "imagenet": replace(KINDS["white-basic"], stem="imagenet"), "vgg": SMALL_VGG}
POST = {"white": "post", "white_pre": "pre"}


def picture(count=6, side=16, dtype=F64):
    return torch.randn(count, 3, side, side, dtype=dtype, generator=torch.Generator().manual_seed(1))


def whitened(config):
    return replace(config, layers=replace(config.layers, norm=ITER_NORM))


def used(model):
    """The model in evaluation mode, with statistics of pictures, and gains and biases that are not 1 and 0."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, IterNorm):
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.normal_(0, 0.3, generator=generator)
        for _ in range(6):
            model.train()(torch.randn(8, 3, 16, 16, dtype=F64, generator=generator))
    return model.eval()


def spectrum(x):
    """Eigenvalues of the covariance of each group of channels, rising, and their sums: (G, D), (G, 1)."""
    rows = x.transpose(0, 1).flatten(1).split(SIZE)
    values = torch.stack([torch.linalg.eigvalsh(torch.cov(r, correction=0)) for r in rows])
    return values, values.sum(1, keepdim=True)


def predicted(x):
    """The eigenvalues that IterNorm leaves: l p_T(l)^2 for each share l of the trace."""
    values, trace = spectrum(x)
    shares = values / trace
    p = torch.ones_like(shares)
    for _ in range(STEPS):
        p = 1.5 * p - 0.5 * p**3 * shares
    return (shares * p**2).sort().values


@pytest.mark.parametrize("name", NETS)
def test_what_enters_a_convolution_has_the_covariance_that_whitening_leaves(name):
    """All but the first, which reads the picture; and the last map, or its mean. The exact rule of IterNorm."""
    torch.manual_seed(0)
    model, x = build(whitened(NETS[name])).double(), picture(16)
    entered, norms = {}, []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(lambda m, args: entered.update({m: args[0]}))
        elif isinstance(module, IterNorm):
            module.register_forward_hook(lambda m, args, y: norms.append((args[0], y)))
    with torch.no_grad():
        model.forward_head(features := model.forward_features(x))
    first, *others = (m for m in model.modules() if isinstance(m, nn.Conv2d))
    mean = name in ("deep", "imagenet")
    assert torch.equal(entered[first], x)
    for read in (*(entered[conv] for conv in others), entered[model.fc][:, :, None, None] if mean else features):
        (source,) = {id(before): before for before, behind in norms if torch.equal(behind, read)}.values()
        assert torch.allclose(spectrum(read)[0], predicted(source), atol=1e-9)
        assert not torch.allclose(spectrum(source)[0], predicted(source), atol=1e-2)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("shortcut", ["conv", "avg", "pad"])
def test_without_norms_every_order_is_the_same_net_of_convolutions_and_activations(name, shortcut):
    config = replace(NETS[name], layers=replace(NETS[name].layers, norm="none"))
    if name == "vgg":
        plain = replace(config, order="post")
    else:
        config = replace(config, shortcut=shortcut)
        plain = replace(config, order=POST[config.order])
    ours, theirs = build(config).double().eval(), build(plain).double().eval()
    state = theirs.state_dict()
    ours.load_state_dict(dict(zip(ours.state_dict(), state.values(), strict=True)))
    with torch.no_grad():
        maps, expected = ours.feature_maps(picture()), theirs.feature_maps(picture())
        assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
        assert torch.equal(ours(picture()), theirs(picture()))


def merged(norm, conv):
    """A 1x1 convolution behind a norm as one: W' = W diag(gamma) M, b' = W (beta - diag(gamma) M mean)."""
    matrix = norm.weight.diag() @ torch.block_diag(*norm.running_whitening)
    weight = conv.weight.flatten(1)
    made = nn.Conv2d(conv.in_channels, conv.out_channels, 1, conv.stride).double()
    made.weight.data = (weight @ matrix)[:, :, None, None].detach()
    made.bias.data = (weight @ (norm.bias - matrix @ norm.running_mean)).detach()
    return made


@pytest.mark.parametrize("kind", ["white-bottleneck", "white_pre-bottleneck"])
def test_in_evaluation_the_norms_of_blocks_are_part_of_their_convolutions(kind):
    """1x1 by the closed form; 3x3, whose zero padding stands behind the norm, by the layer's own fusion."""
    torch.manual_seed(0)
    model = used(build(whitened(KINDS[kind])).double())
    with torch.no_grad():
        expected = model(picture())
    for block in (*model.layer1, *model.layer2):
        if block.downsample is not None and kind.startswith("white_pre"):
            block.downsample[0] = merged(block.bn1, block.downsample[0])
        elif block.downsample is not None:
            block.downsample = merged(*block.downsample)
        block.conv1, block.conv3 = merged(block.bn1, block.conv1), merged(block.bn3, block.conv3)
        block.conv2 = fuse(block.bn2, block.conv2)
        block.bn1, block.bn2, block.bn3 = nn.Identity(), nn.Identity(), nn.Identity()
    assert [n for n, m in model.named_modules() if isinstance(m, IterNorm)] == ["norm"]
    with torch.no_grad():
        assert (model(picture()) - expected).abs().max() <= 1e-10 * expected.abs().max()


@pytest.mark.parametrize(
    ("config", "params"),
    [
        (replace(cifar(3), order="white"), 272_378),
        (replace(cifar_bottleneck(5), order="white"), 498_106),
        (replace(imagenet(18), order="white"), 11_688_616),
        (replace(imagenet(50), order="white"), 25_553_064),
        (replace(wide(16, 2), order="white_pre"), 691_674),
    ],
)
def test_parameters_are_those_of_the_authors_code(config, params):
    """Counted on github.com/YooshinCho/pytorch_ConvUnitOptimization, unit_type "ours"."""
    with torch.device("meta"):
        assert sum(p.numel() for p in build(config).parameters()) == params


def test_parameters_in_closed_form():
    """Weights of convolutions, two numbers a channel for each norm's input, the classifier."""
    basic = (4 * 27) + (4 * 36 + 8 * 36 + 8 * 4) + (4 * 72 + 8 * 36)  # stem; layer1
    basic += (4 * 72 + 12 * 36 + 12 * 8) + (8 * 108 + 12 * 72)  # layer2
    norms = 2 * ((4 + 4 + 4) + (8 + 4) + (8 + 4 + 8) + (12 + 8) + 12)
    assert sum(p.numel() for p in ResNet(KINDS["white-basic"]).parameters()) == basic + norms + 5 * 13
    shared = norms - 2 * (4 + 8)  # no norms of projections
    assert sum(p.numel() for p in ResNet(KINDS["white_pre-basic"]).parameters()) == basic + shared + 5 * 13
    vgg = sum(9 * a * b for a, b in ((3, 4), (4, 8), (8, 12), (12, 4))) + 2 * (4 + 8 + 12 + 4) + 17 * 6 + 7 * 5
    assert sum(p.numel() for p in VGG(SMALL_VGG).parameters()) == vgg


def test_convolutions_have_the_names_and_shapes_of_the_other_orders():
    for config in (*KINDS.values(), replace(DEEP, stem="imagenet", stem_widths=(8,))):
        ours, theirs = ResNet(config), ResNet(replace(config, order=POST[config.order]))
        shapes = [
            {n: t.shape for n, t in m.state_dict().items() if ".bn" not in n and "norm" not in n and "down" not in n}
            for m in (ours, theirs)
        ]
        shapes[1] = {n: s for n, s in shapes[1].items() if not n.startswith("bn1")}
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize("kind", KINDS)
def test_zero_gamma_makes_each_residual_branch_silent_and_leaves_it_trainable(kind):
    torch.manual_seed(0)
    model = ResNet(replace(whitened(KINDS[kind]), zero_gamma=True))
    block, x = model.layer1[1], picture(4, 8, torch.float32)
    x = torch.cat((x, x, x), 1)[:, :8].abs()
    assert torch.equal(block(x), x)
    model(picture(dtype=torch.float32)).square().sum().backward()
    last = "conv2" if "basic" in kind else "conv3"
    assert all(getattr(b, last).weight.grad.any() for b in (*model.layer1, *model.layer2))


@pytest.mark.parametrize("norm", ["none", "iter_norm"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_the_shortcut_of_the_pre_form_carries_the_untouched_input(block, norm):
    """Also where the first activation works in place: with a silent branch the block is the identity."""
    model = ResNet(replace(KINDS[f"white_pre-{block}"], zero_gamma=True, layers=Layers(norm=norm)))
    x = torch.randn(4, 8, 5, 5)
    assert torch.equal(model.layer1[1](x.clone()), x)
    assert (x < 0).any()


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_and_drop_path_act_in_training_only(kind):
    x = torch.randn(4, 8, 5, 5, dtype=F64).abs()
    for field in ("dropout", "drop_path"):  # the last block drops its path at the full rate
        layers = Layers(norm=f"iter_norm(group_size={SIZE})")  # with an eps: all that it reads may be dropped
        model = ResNet(replace(KINDS[kind], layers=layers, **{field: 1.0})).double()
        block, entered = model.layer1[1] if field == "dropout" else model.layer2[1], []
        block.conv2.register_forward_pre_hook(lambda m, args, entered=entered: entered.append(args[0]))
        y = x if field == "dropout" else torch.cat((x, x), 1)[:, :12]
        assert torch.equal(block.train()(y), y)
        assert not torch.equal(block.eval()(y), y)
        assert bool(entered[0].any()) == (field == "drop_path") and entered[1].any()


def test_gates_and_layers_of_a_stage_stand_where_they_stand_in_other_orders():
    own = Layers(norm="group_norm(groups=2)", act="silu", attn="eca")
    for config in KINDS.values():
        config = set_path(set_path(config, "stages.1.layers", own), "stages.0.before_last", "se")
        model = ResNet(config)
        blocks = [model.layer1[0], *model.layer2]
        assert len(model.layer1) == 3 and type(model.layer1[1]).__name__ == "SqueezeExcite"
        for block, (norm, act, gate) in zip(
            blocks, [(nn.BatchNorm2d, nn.ReLU, "Identity"), *[(nn.GroupNorm, nn.SiLU, "ECA")] * 2], strict=True
        ):
            assert isinstance(block.bn1, norm) and isinstance(block.act, act) and type(block.se).__name__ == gate
        assert isinstance(model.norm, nn.GroupNorm)
        if config.order == "white":
            assert isinstance(model.layer2[0].downsample[0], nn.GroupNorm)
        assert from_json(ResNetConfig, to_json(config)) == config
        assert model(torch.randn(2, 3, 8, 8)).isfinite().all()


@pytest.mark.parametrize("name", NETS)
def test_the_head_of_the_features_is_the_net(name):
    model = used(build(whitened(NETS[name])).double())
    with torch.no_grad():
        features, maps = model.forward_features(picture()), model.feature_maps(picture())
        assert torch.equal(model.forward_head(features), model(picture()))
        assert torch.equal(maps[-1], features) and features.shape[1] == model.num_features
        sides = [m.shape[-1] for m in maps]
        assert sides == sorted(set(sides), reverse=True)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(
    "layers",
    [
        Layers("iter_norm", "prelu", "nonlocal_scaled", "conv2d_bias"),
        Layers("gn_plus", "hard_swish", "se", "ghost"),
        Layers("invariant_norm", "gelu", "coord", "sk"),
        Layers("none", "relu", "cbam", "ws_conv"),
        Layers("batch_norm", "elu", "none", "low_rank"),
    ],
    ids=lambda s: s.norm,
)
def test_layers_train_in_white_hosts(name, layers):
    torch.manual_seed(0)
    model = build(replace(NETS[name], layers=layers)).train()
    loss = nn.functional.cross_entropy(model(picture(4, 32, torch.float32)), torch.tensor([0, 1, 2, 0]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


LONG = [
    pytest.param(name, marks=pytest.mark.thorough) for name in ("imagenet", "vgg")
]  # stems and hosts seen elsewhere


@pytest.mark.parametrize("name", ["white-basic", "white_pre-bottleneck", *LONG])
def test_white_nets_export_and_compile_with_equal_outputs(name):
    model, x = used(build(whitened(NETS[name])).double()).float(), picture(3, dtype=torch.float32)
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(torch.compile(model, fullgraph=True, backend="eager")(x), expected)
    y = through_onnx(model, x)(x[:2])
    assert np.abs(y - expected[:2].numpy()).max() <= 1e-4 * max(1.0, expected.abs().max().item())


def test_one_picture_trains_with_the_running_statistics_of_its_mean():
    model = ResNet(whitened(NETS["imagenet"])).double()
    before = model.norm_mean.running_mean.clone()
    assert model.train()(picture(1)).isfinite().all()
    assert torch.equal(model.norm_mean.running_mean, before)


def test_norms_before_convolutions_do_not_fold():
    assert can_fold(replace(TINY, order="post"))
    for config in (replace(TINY, order="white"), replace(TINY, order="white_pre"), replace(SMALL_VGG, layers=Layers())):
        assert not can_fold(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"order": "whit"}, "order.*'white'"),
        ({"order": "white", "act_before_attn": True}, "act_before_attn"),
        (
            {"order": "white", "stem": "imagenet", "layers": Layers(norm="instance_norm(eps=0.1)")},
            "order.*only its bias",
        ),
    ],
)
def test_orders_that_can_not_be_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        replace(TINY, **changes)


def test_an_order_that_vgg_has_not_is_refused():
    with pytest.raises(ConfigError, match=r"order.*'white'"):
        replace(SMALL_VGG, order="white_pre")
