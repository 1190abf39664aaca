"""ResNet (arXiv:1512.03385) and its kin: deep stems, pre-activation, wide, ResNeXt, SE; for ImageNet and for CIFAR.

Keys are torchvision's (conv1, bn1, layer1.0.conv1, layer1.0.downsample.0, fc); timm's for what torchvision lacks (se).
"""

import torch
from torch import nn

from foveate.config import replace
from foveate.layers import Layers
from foveate.zoo.families.resnet.blocks import BLOCKS, Block, ResNetConfig, Stage, input_norm
from foveate.zoo.families.resnet.published import published
from foveate.zoo.families.resnet.white import WHITE, White, WhitePre
from foveate.zoo.family import Family, rename
from foveate.zoo.frame import ResNetFrame, init_convs
from foveate.zoo.widths import repeat_last, scale_width

__all__ = ["FAMILY", "VARIANTS", "ResNet", "ResNetConfig", "Stage"]


def make_stem(config: ResNetConfig) -> nn.Module:
    """The convolution(s) that read the picture; norm and activation after the last one are the net's bn1 and act1.

    In white orders a norm stands right before each but the first, for the picture is not whitened. (The authors of that
    order have no deep stem.)
    """
    layers, c_in, widths = config.layers, config.in_chans, config.stem_convs
    if config.stem == "imagenet":
        return layers.make_conv(c_in, widths[0], 7, stride=2)
    if config.stem == "cifar":
        return layers.make_conv(c_in, widths[0], 3)
    a, b, c = widths
    step = -1 if config.white else 1  # norm, activation; or the other way round
    first = (layers.make_conv(c_in, a, 3, stride=2), *(layers.make_norm(a), layers.make_act(a))[::step])
    second = (layers.make_conv(a, b, 3), *(layers.make_norm(b), layers.make_act(b))[::step])
    return nn.Sequential(*first, *second, layers.make_conv(b, c, 3))


def make_pool(pool: str) -> nn.Module:
    """The pool after the stem. All kinds give the same size at even inputs; "max_ceil" looks through other windows.

    The mean does not count the border's padding.
    """
    if pool == "none":
        return nn.Identity()
    if pool == "avg":
        return nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)
    return nn.MaxPool2d(3, 2, padding=1) if pool == "max" else nn.MaxPool2d(3, 2, ceil_mode=True)


def make_end(config: ResNetConfig, layers: Layers, width: int) -> dict[str, nn.Module]:
    """What stands behind the last block, by name, in the order of the forward pass."""
    if config.order == "pre":
        return {"norm": input_norm(layers, width), "act": layers.make_act(width)}
    if config.order == "white_pre":
        return {"act": layers.make_act(width), "norm": layers.make_norm(width)}
    return {"norm": layers.make_norm(width)} if config.white and not config.whitens_mean else {}


def zero(layer: nn.Module) -> None:
    """Zero the weight of a layer; a layer without one (norm "none") stays."""
    if isinstance(weight := getattr(layer, "weight", None), nn.Parameter):
        nn.init.zeros_(weight)


class ResNet(ResNetFrame):
    """Stem, stages, global average, linear classifier. x: (N, in_chans, H, W) -> logits (N, num_classes).

    White orders put every norm right before a linear layer (arXiv:2108.10629, as in the authors' code):
    replace(config, order="white", layers=Layers(norm="iter_norm")) for a net in order "post", order="white_pre" for one
    in "pre"; both with basic blocks and bottlenecks.
    "white" is the authors' ResNet: blocks of norm-conv-act, a norm before each projection, none behind the stem, one
    more at the end: of the last map with stem "cifar", else of its mean, in forward_head. The mean has N values a
    channel in a batch of N, so iter_norm should have groups of N / 2 channels at most.
    "white_pre" is their Wide ResNet: blocks of act-norm-conv, act-norm at the end, the stem as in "pre".

    Feature maps before the last one are outputs of blocks that no norm has seen in pre-activation and white orders.
    """

    def __init__(self, config: ResNetConfig):
        super().__init__()
        layers, width = config.layers, config.stem_widths[-1]
        self.conv1 = make_stem(config)
        self.bn1 = layers.make_norm(width) if config.stem_norm and not config.white else nn.Identity()
        self.act1 = layers.make_act(width) if config.stem_norm else nn.Identity()
        self.maxpool = make_pool(config.pool)

        blocks = sum(len(stage.mid) for stage in config.stages)
        rates = iter([config.drop_path * i / blocks for i in range(1, blocks + 1)])
        make_block = WHITE[config.order] if config.white else BLOCKS[config.block, config.order]
        stride = self.stem_stride = 1 if config.stem == "cifar" else 2
        stride *= 1 if config.pool == "none" else 2
        for number, stage in enumerate(config.stages, start=1):
            if config.attn_stages and number not in config.attn_stages:
                stage = replace(stage, layers=replace(stage.layers or layers, attn="none"))
            sites: list[nn.Module] = []
            for i, mid in enumerate(stage.mid):
                first = stage.stride if i == 0 else 1
                if stage.before_last != "none" and i == len(stage.mid) - 1:
                    own = replace(stage.layers or layers, attn=stage.before_last)
                    sites.append(own.make_attn(width, width))
                sites.append(make_block(config, stage, c_in=width, mid=mid, stride=first, drop_path=next(rates)))
                width = stage.width
            stride *= stage.stride
            self.add_stage(nn.Sequential(*sites), stride)

        last = config.stages[-1].layers or layers
        end = make_end(config, last, width)
        for name, part in end.items():
            self.add_module(name, part)
        self.end = tuple(end)
        self.norm_mean = last.make_norm(width) if config.whitens_mean else nn.Identity()
        self.fc = nn.Linear(width, config.num_classes)
        self.num_features = width
        self.init_weights(config)

    def init_weights(self, config: ResNetConfig) -> None:
        """As torchvision.

        zero_gamma zeroes the last gain of a branch. In pre-activation order it zeroes the last convolution instead:
        behind a zero gain ReLU passes no gradient, and the branch would stay silent for ever. So in white orders, where
        the convolution is what the branch ends with.
        """
        init_convs(self)
        if config.zero_gamma:
            last = ("bn" if config.order == "post" else "conv") + ("2" if config.block == "basic" else "3")
            for module in self.modules():
                if isinstance(module, Block | White | WhitePre):
                    zero(getattr(module, last))

    def forward_end(self, x: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> same
        for name in self.end:
            x = getattr(self, name)(x)
        return x

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.fc(self.norm_mean(features.mean((2, 3), keepdim=True)).flatten(1))


DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
MIDS = (64, 128, 256, 512)


def stages(
    depths: tuple[int, ...], mids: tuple[int, ...], widths: tuple[int, ...], groups: int = 1
) -> tuple[Stage, ...]:
    """Stages of even inner widths; the first has stride 1, the others 2."""
    rows = enumerate(zip(depths, mids, widths, strict=True))
    return tuple(Stage(width, (mid,) * depth, 2 if i else 1, groups) for i, (depth, mid, width) in rows)


def imagenet(depth: int, mids: tuple[int, ...] = MIDS, groups: int = 1) -> ResNetConfig:
    """Four stages for 224 pixels; from 50 layers on bottlenecks that give 256 to 2048 channels."""
    if depth < 50:
        return ResNetConfig(stages(DEPTHS[depth], mids, MIDS))
    return ResNetConfig(stages(DEPTHS[depth], mids, (256, 512, 1024, 2048), groups), block="bottleneck")


def tweaked(depth: int, letter: str) -> ResNetConfig:
    """The deep stems that timm's letters mean; d and t also average-pool in the shortcut. arXiv:1812.01187 figure 2."""
    widths = {"c": (32, 32, 64), "d": (32, 32, 64), "s": (64, 64, 128), "t": (24, 32, 64)}[letter]
    return replace(imagenet(depth), stem="deep", stem_widths=widths, shortcut="avg" if letter in "dt" else "conv")


def preact(config: ResNetConfig) -> ResNetConfig:
    """The same net in pre-activation order, with a bare stem convolution (the authors' CIFAR code, timm)."""
    return replace(config, order="pre", stem_norm=False)


def squeezed(config: ResNetConfig, attn: str = "se") -> ResNetConfig:
    """The same net with a gate in every block. timm rounds the squeeze width to 8: "se(divisor=8)"."""
    return replace(config, layers=replace(config.layers, attn=attn))


def legacy(config: ResNetConfig) -> ResNetConfig:
    """The Caffe form of SENet's authors: stride on the 1x1 of a plain bottleneck, stem pool without padding."""
    return replace(squeezed(config), pool="max_ceil", stride_on="3x3" if config.stages[0].groups > 1 else "1x1")


def cifar(blocks: int, mids: tuple[int, ...] = (16, 32, 64)) -> ResNetConfig:
    """Three stages of basic blocks for 32 pixels and 10 classes, stem of 16 channels. arXiv:1512.03385 section 4.2."""
    rows = stages((blocks,) * 3, mids, mids)
    return ResNetConfig(rows, stem="cifar", stem_widths=(16,), pool="none", num_classes=10, resolution=32)


def cifar_bottleneck(
    blocks: int, mids: tuple[int, ...] = (16, 32, 64), groups: int = 1, stem: int = 16
) -> ResNetConfig:
    """Bottlenecks that give 4, 8, 16 times the stem's channels. Stride on the 3x3 (the authors' Lua: on the 1x1)."""
    rows = stages((blocks,) * 3, mids, (4 * stem, 8 * stem, 16 * stem), groups)
    return replace(cifar(blocks), block="bottleneck", stages=rows, stem_widths=(stem,))


def wide(depth: int, k: int) -> ResNetConfig:
    """WRN-depth-k: pre-activation basic blocks k times as wide; the paper also has dropout=0.3. arXiv:1605.07146."""
    return preact(cifar((depth - 4) // 6, (16 * k, 32 * k, 64 * k)))


def nonlocal_net(config: ResNetConfig) -> ResNetConfig:
    """A net for small pictures with one scaled non-local block, in front of the last block of its second stage.

    As the authors' script for WRN; the position code is their default. arXiv:2207.13423.
    """
    first, second, *others = config.stages
    return replace(config, stages=(first, replace(second, before_last="nonlocal_scaled(position=True)"), *others))


def plain(config: ResNetConfig) -> ResNetConfig:
    """The same net without shortcuts: what arXiv:1512.03385 compares with."""
    return replace(config, shortcut="none")


X4D, X8D = (128, 256, 512, 1024), (256, 512, 1024, 2048)  # inner widths: cardinality x base width of each stage
RESNEXT = {
    "resnext50_32x4d": imagenet(50, X4D, groups=32),
    "resnext101_32x4d": imagenet(101, X4D, groups=32),
    "resnext101_32x8d": imagenet(101, X8D, groups=32),
    "resnext101_64x4d": imagenet(101, X8D, groups=64),
}
BASIC_CIFAR = {20: 3, 32: 5, 44: 7, 56: 9, 110: 18, 1202: 200}  # depth 6n + 2 -> n
BOTTLENECK_CIFAR = {164: 18, 1001: 111}  # depth 9n + 2 -> n
WIDE = ((16, 4), (16, 8), (16, 10), (22, 8), (28, 10), (28, 12), (40, 1), (40, 2), (40, 4), (40, 8), (40, 10))

TWEAKED = ("18d", "34d", "50c", "50d", "50s", "50t", "101c", "101d", "101s", "152c", "152d", "152s")

VARIANTS: dict[str, ResNetConfig] = {
    **{f"resnet{d}": imagenet(d) for d in DEPTHS},
    **{f"resnet{t}": tweaked(int(t[:-1]), t[-1]) for t in TWEAKED},
    **{f"resnet{d}_caffe": replace(imagenet(d), stride_on="1x1") for d in (50, 101, 152)},  # the paper's stride
    **{f"resnetv2_{d}": preact(imagenet(d)) for d in (18, 34, 50, 101, 152)},
    "preresnet200": replace(imagenet(200), order="pre", stride_on="1x1"),  # the authors' stride; a norm after the stem
    **RESNEXT,
    "wide_resnet50_2": imagenet(50, X4D),
    "wide_resnet101_2": imagenet(101, X4D),
    **{f"seresnet{d}": squeezed(imagenet(d), "se(divisor=8)") for d in (18, 34, 50, 101, 152)},
    **{f"se{name}": squeezed(RESNEXT[name], "se(divisor=8)") for name in ("resnext50_32x4d", "resnext101_32x4d")},
    **{f"legacy_seresnet{d}": replace(legacy(imagenet(d)), act_before_attn=True) for d in (18, 34)},
    **{f"legacy_seresnet{d}": legacy(imagenet(d)) for d in (50, 101, 152)},
    **{f"legacy_se{name}": legacy(RESNEXT[name]) for name in ("resnext50_32x4d", "resnext101_32x4d")},
    **{f"resnet{d}_cifar": replace(cifar(n), shortcut="pad") for d, n in BASIC_CIFAR.items()},
    **{f"plain{d}_cifar": plain(cifar(BASIC_CIFAR[d])) for d in (20, 32, 44, 56, 110)},
    **{f"plain{d}": plain(imagenet(d)) for d in (18, 34)},
    **{f"resnet{d}_cifar_conv": cifar(BASIC_CIFAR[d]) for d in (20, 32, 44, 56, 110)},  # the paper pads
    **{f"resnet{d}_cifar": cifar_bottleneck(n) for d, n in BOTTLENECK_CIFAR.items()},
    **{f"preresnet{d}_cifar": preact(cifar(BASIC_CIFAR[d])) for d in (20, 56, 110)},
    **{f"preresnet{d}_cifar": preact(cifar_bottleneck(n)) for d, n in BOTTLENECK_CIFAR.items()},
    **{f"wrn{d}_{k}_cifar": wide(d, k) for d, k in WIDE},
    "resnext29_32x4d_cifar": cifar_bottleneck(3, (128, 256, 512), groups=32, stem=64),
    "resnext29_8x64d_cifar": cifar_bottleneck(3, (512, 1024, 2048), groups=8, stem=64),
    "resnext29_16x64d_cifar": cifar_bottleneck(3, (1024, 2048, 4096), groups=16, stem=64),
    **{f"seresnet{d}_cifar": squeezed(cifar(BASIC_CIFAR[d])) for d in (20, 56, 110)},
    "seresnet164_cifar": squeezed(cifar_bottleneck(18)),
    **{f"preresnet{d}_nl_cifar": nonlocal_net(preact(cifar(BASIC_CIFAR[d]))) for d in (56, 110)},
    **{f"wrn{d}_{k}_nl_cifar": nonlocal_net(wide(d, k)) for d, k in ((16, 8), (28, 10))},
    "ghost_resnet56_cifar": replace(cifar(9), shortcut="pad", layers=Layers(conv="ghost")),  # arXiv:1911.11907
    "wrn16_8_nl_tiny": replace(nonlocal_net(wide(16, 8)), num_classes=200, resolution=64),  # Tiny-ImageNet
}


def scale(config: ResNetConfig, depth: float, width: float) -> ResNetConfig:
    """Layers of every stage times depth, to the nearest, at least 1; widths times width, stem too; groups stay."""
    rows = []
    for s in config.stages:
        # groups keep their number, so an inner width is a multiple of it
        mid = tuple(scale_width(m, width, s.groups if s.groups > 1 else 0) for m in repeat_last(s.mid, depth))
        rows.append(replace(s, width=scale_width(s.width, width), mid=mid))
    stem = tuple(scale_width(c, width) for c in config.stem_widths)
    return replace(config, stages=tuple(rows), stem_widths=stem)


def explicit(config: ResNetConfig) -> ResNetConfig:
    """The same net with a width for each convolution of its stem."""
    return replace(config, stem_widths=config.stem_convs)


TIMM = (  # of timm's resnetv2 and legacy SENet; its other ResNets have the keys of this file
    (r"^stem\.conv\.", "conv1."),
    (r"^stages\.(\d+)\.blocks\.", lambda m: f"layer{int(m[1]) + 1}."),
    (r"\.norm(\d)\.", r".bn\1."),
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"^head\.fc\.", "fc."),
    (r"^layer0\.", ""),
    (r"\.se_module\.", ".se."),
    (r"^last_linear\.", "fc."),
)


def from_timm(key: str) -> str:
    """A key of a timm checkpoint as ours. resnetv2 stores fc.weight as a 1x1 convolution, (K, C, 1, 1)."""
    return rename(key, TIMM)


TINY = ResNetConfig(
    stages=(Stage(16, (8,), 1), Stage(32, (8, 8), 2)),
    block="bottleneck",
    stem="cifar",
    pool="none",
    stem_widths=(8,),
)

FAMILY = Family(
    ResNetConfig,
    ResNet,
    VARIANTS,
    ("fc.",),
    {"timm": from_timm},
    published(VARIANTS),
    folds=True,
    tiny=TINY,
    scale=scale,
    explicit=explicit,
)
