"""Zero gamma and SkipInit: every residual family starts as its shortcuts, and learns."""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from tiny import TINY, host, side

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.train.initialisers import INITS
from foveate.train.initialisers.residual import Branches
from foveate.zoo import build, variant
from foveate.zoo.families import mgic, mixnet, senet, shufflenet, sknet
from foveate.zoo.families.attention.network import InceptionUnit
from foveate.zoo.families.efficientnet import network as efficientnet
from foveate.zoo.families.ghostnet import blocks as ghostnet_blocks
from foveate.zoo.families.inception import blocks as inception_blocks
from foveate.zoo.families.mnasnet import network as mnasnet
from foveate.zoo.families.mobilenet import blocks as mobilenet_blocks
from foveate.zoo.families.nfnet import blocks as nfnet_blocks
from foveate.zoo.families.regnet import network as regnet
from foveate.zoo.families.resnet import blocks as resnet_blocks
from foveate.zoo.families.resnet import white as resnet_white


def draw(i, n=4, side=32, classes=3):
    g = torch.Generator().manual_seed(i)
    return torch.randn(n, 3, side, side, generator=g), F.one_hot(
        torch.randint(0, classes, (n,), generator=g), classes
    ).float()


def down(block, x):
    return x if block.downsample is None else block.downsample(x)


def pre(block, x):
    return x if block.downsample is None else block.downsample(block.act1(block.bn1(x)))


def nf(block, x):
    return x if block.downsample is None else block.downsample(block.act1(block.norm1(x)) * block.beta)


def own(block, x):
    return type(block).forward(block, x)


def plain_or(block, x):
    return own(block, x) if block.drop_path is None else x


# Every residual block of the zoo without its branch
SHORTCUTS = {
    resnet_blocks.Basic: lambda b, x: b.act2(down(b, x)),
    resnet_blocks.Bottleneck: lambda b, x: b.act3(down(b, x)),
    resnet_blocks.PreBasic: pre,
    resnet_blocks.PreBottleneck: pre,
    resnet_white.White: lambda b, x: b.act(down(b, x)),
    resnet_white.WhitePre: lambda b, x: x if b.downsample is None else b.downsample(b.bn1(b.act(x))),
    InceptionUnit: lambda b, x: b.act(down(b, x)),
    nfnet_blocks.Block: nf,
    senet.Bottleneck: lambda b, x: b.act3(down(b, x)),
    sknet.Bottleneck: lambda b, x: b.act(down(b, x)),
    sknet.Basic: lambda b, x: b.act(down(b, x)),
    regnet.Bottleneck: lambda b, x: b.act3(down(b, x)),
    shufflenet.Unit: lambda b, x: b.act2(x) if b.pool is None else own(b, x),
    efficientnet.DepthwiseSeparable: plain_or,
    efficientnet.InvertedResidual: plain_or,
    mixnet.DepthwiseSeparable: plain_or,
    mixnet.InvertedResidual: plain_or,
    mnasnet.SepConv: lambda b, x: own(b, x) if b.skip is None else b.skip(x),
    mnasnet.MBConv: lambda b, x: own(b, x) if b.skip is None else b.skip(x),
    mobilenet_blocks.Separable: plain_or,
    mobilenet_blocks.Inverted: plain_or,
    mobilenet_blocks.Fused: plain_or,
    mobilenet_blocks.Universal: plain_or,
    mobilenet_blocks.MobileAttention: lambda b, x: x,
    ghostnet_blocks.GhostBottleneck: lambda b, x: x if b.shortcut is None else b.shortcut(x),
    inception_blocks.ResidualBlock: lambda b, x: b.act(x),
    mgic.MGICBlock: lambda b, x: b.smooth[0].act2(x),  # nothing comes up from below, and the smoother adds nothing
}


def tiny_resnet(block, order, **more):
    config = replace(TINY["resnet"], block=block, order=order, **more)
    return replace(config, stem_norm=order == "post", num_classes=3)


# Nothing is added, but in cells, where any two maps are; airbench adds behind norms without gains
CELLS = ("nasnet", "nasbench201")
NO_SHORTCUT = ("vgg", "alexnet", "densenet", "googlenet", "airbench", "nas", *CELLS)
RESIDUAL = {family: replace(TINY[family], num_classes=3) for family in TINY if family not in NO_SHORTCUT}
RESIDUAL |= {
    f"resnet {b} {o}": tiny_resnet(b, o) for b in ("basic", "bottleneck") for o in ("post", "pre", "white", "white_pre")
}
RESIDUAL |= {
    "resnet pad": tiny_resnet("basic", "post", shortcut="pad"),
    "resnet gated": tiny_resnet("bottleneck", "post", layers=Layers(attn="se")),
    "resnet without norms": tiny_resnet("basic", "post", layers=Layers("none", conv="conv2d_bias")),
    "resnet with iter_norm": tiny_resnet("basic", "post", layers=Layers("iter_norm", "silu")),
    "resnet with gn_plus and cbam": tiny_resnet("bottleneck", "post", layers=Layers("gn_plus", attn="cbam")),
    "resnet of ghosts": tiny_resnet("basic", "post", layers=Layers(conv="ghost")),
    "resnet of layer norms": tiny_resnet("basic", "post", layers=Layers("layer_norm", "gelu")),
    "attention resnext": replace(TINY["attention"], unit="resnext"),
    "attention inception": replace(TINY["attention"], unit="inception"),
    "nfnet without factors": replace(TINY["nfnet"], skip_init=False),
    "nfnet with timm's weights": replace(TINY["nfnet"], skip_init=False, layers=variant("nf_resnet26").layers),
    "mobilenet with gains": replace(TINY["mobilenet"], layer_scale=1e-5),
    "sknet basic": replace(TINY["sknet"], block="basic", stages=(sknet.Stage(16, (8, 8), (4, 4)),)),
    "ghostnet plain": replace(TINY["ghostnet"], form="plain"),
    "mnasnet pooled": replace(TINY["mnasnet"], stages=(mnasnet.Stage(2, 8, 2, 3, 2, skip="pool"),)),
}


def shaken(config):
    """The network of a config with every tensor at random, so that no part is silent by accident."""
    torch.manual_seed(0)
    model = build(config).eval()
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.3 + 0.2)
    return model


@pytest.mark.parametrize("name", RESIDUAL)
def test_with_zero_gamma_a_network_is_its_shortcuts(name):
    config = RESIDUAL[name]
    model = shaken(config)
    x = draw(0, n=2, side=side(config.family, 32))[0]
    bare = copy.deepcopy(model)
    blocks = [m for m in bare.modules() if type(m) in SHORTCUTS]
    for block in blocks:
        block.forward = functools.partial(SHORTCUTS[type(block)], block)
    full = model(x)
    INITS["zero_gamma"](0)(model, draw)
    assert blocks
    assert not torch.allclose(full, model(x))
    torch.testing.assert_close(model(x), bare(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", RESIDUAL)
def test_a_branch_that_starts_at_zero_learns(name):
    """Of what was zeroed, some gain or weight has a gradient: shifts alone would not bring the branch to life."""
    config = RESIDUAL[name]
    torch.manual_seed(0)
    model = build(config)
    INITS["zero_gamma"](0)(model, draw)
    model.eval()
    x, y = draw(0, n=4, side=side(config.family, 32), classes=config.num_classes)
    F.cross_entropy(model(x), y).backward()
    parameters = dict(model.named_parameters())
    for end in Branches(model).ends():
        assert any(parameters[n].grad.any() for n in end if not n.endswith("bias")), end


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("order", ["post", "pre", "white", "white_pre"])
def test_on_a_resnet_it_is_the_field_of_the_config(block, order):
    config = tiny_resnet(block, order)
    torch.manual_seed(0)
    expected = build(replace(config, zero_gamma=True))
    torch.manual_seed(0)
    model = build(config)
    INITS["zero_gamma"](0)(model, draw)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_branches_of_published_networks_are_counted():
    """ResNet-50 has 16 blocks, MobileNetV2 10 with a shortcut, EfficientNet-B0 9."""
    wanted = {"resnet50": 16, "mobilenetv2_100": 10, "efficientnet_b0": 9, "nf_resnet50": 16}
    for name, count in wanted.items():
        with torch.device("meta"):
            assert len(Branches(build(variant(name))).ends()) == count, name


@pytest.mark.parametrize("family", [family for family in NO_SHORTCUT if family not in CELLS])
def test_a_network_without_residual_branches_is_refused(family):
    model = build(host(family, TINY[family].layers))
    with pytest.raises(ConfigError, match="has no residual branch"):
        INITS["zero_gamma"](0)(model, draw)


def test_a_frozen_gain_is_not_set_to_zero():
    """It would stay there for ever."""
    model = build(RESIDUAL["resnet"])
    model.layer1[0].bn3.weight.requires_grad_(False)
    INITS["zero_gamma"](0)(model, draw)
    assert model.layer1[0].bn3.weight.all()
    assert not model.layer2[0].bn3.weight.any()


def test_inner_branches_of_a_cycle_over_channels_keep_their_gains():
    """Were those of the lower levels 0 too, the difference that comes up would be 0, and no gain would have a slope."""
    model = build(RESIDUAL["mgic"])
    INITS["zero_gamma"](0)(model, draw)
    block = model.stages[0][1]
    assert not block.prolong[0][1].weight.any() and not block.smooth[0].bn2.weight.any()
    assert block.prolong[1][1].weight.all() and block.smooth[1].bn2.weight.all() and block.coarse.bn2.weight.all()


def test_skip_init_sets_the_factor_of_every_branch():
    model = shaken(TINY["nfnet"])
    before = {n: p.clone() for n, p in model.named_parameters()}
    INITS["skip_init"](0, value=0.5)(model, draw)
    assert [model.stages[i][j].skip_gain.item() for i, j in ((0, 0), (1, 0), (1, 1))] == [0.5, 0.5, 0.5]
    assert {n for n, p in model.named_parameters() if not torch.equal(p, before[n])} == {
        n for n in before if n.endswith("skip_gain")
    }


def test_skip_init_says_what_to_do_where_there_is_no_factor():
    with pytest.raises(ConfigError, match="build it with skip_init = True"):
        INITS["skip_init"](0)(build(RESIDUAL["nfnet without factors"]), draw)
    with pytest.raises(ConfigError, match="the family nfnet has one; else take zero_gamma"):
        INITS["skip_init"](0)(build(RESIDUAL["resnet"]), draw)
