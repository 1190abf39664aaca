"""Normaliser-free nets: NFNet-F, arXiv:2102.06171, and NF-ResNet, arXiv:2101.08692.

In place of norms: convolutions whose weights are standardised, and constants that keep the signal's variance known.
Keys are timm's (dm_nfnet_f0, nf_resnet50), but for stem.conv1, attn, skip_gain and fc.
"""

from functools import partial

import torch
from torch import nn

from foveate.config import replace
from foveate.layers import Layers
from foveate.layers.act import GAMMA
from foveate.layers.ws_conv import WSConv2d
from foveate.zoo.families.nfnet.blocks import Block, NFNetConfig, Stage, betas, make_stem
from foveate.zoo.families.resnet.blocks import input_norm
from foveate.zoo.family import Family, Network, Published, rename

__all__ = ["FAMILY", "VARIANTS", "NFNet", "NFNetConfig", "Stage"]


class NFNet(Network):
    """Stem, stages, 1x1 head, global average, dropout, classifier. x: (N, in_chans, H, W) -> (N, num_classes)."""

    def __init__(self, config: NFNetConfig):
        super().__init__()
        layers, width = config.layers, config.stem_widths[-1]
        self.stem = make_stem(config)
        self.leaves_stride_2 = "pad4" if config.stem == "deep" else "pool"

        blocks = sum(len(stage.mid) for stage in config.stages)
        rates, factors = iter([config.drop_path * i / blocks for i in range(blocks)]), iter(betas(config))
        stages, stride = [], 4
        self.strides: list[int] = []  # of every stage's output against the picture
        for stage in config.stages:
            members: list[nn.Module] = []
            for i, mid in enumerate(stage.mid):
                step, beta, rate = stage.stride if i == 0 else 1, next(factors), next(rates)
                members.append(Block(config, stage, c_in=width, mid=mid, stride=step, beta=beta, drop_path=rate))
                width = stage.width
            stages.append(nn.Sequential(*members))
            stride *= stage.stride
            self.strides.append(stride)
        self.stages = nn.Sequential(*stages)

        bias, self.num_features = layers.norm == "none", config.head or width
        self.final_conv = layers.make_conv(width, config.head, 1, bias=bias) if config.head else nn.Identity()
        self.final_norm = (layers.make_norm if config.head else partial(input_norm, layers))(self.num_features)
        self.final_act = layers.make_act(self.num_features)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(self.num_features, config.num_classes)
        self.init_weights(config)

    def init_weights(self, config: NFNetConfig) -> None:
        """As in the official code: plain convolutions (the gates' too) N(0, 1 / fan-in), classifier N(0, 0.01^2)."""
        for module in self.modules():
            if type(module) is nn.Conv2d or module is self.fc:
                nn.init.normal_(module.weight, std=0.01 if module is self.fc else module.weight[0].numel() ** -0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, Block) and isinstance(module.conv3, WSConv2d) and not config.skip_init:
                nn.init.zeros_(module.conv3.gain)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        return self.finish(self.stages(self.stem(x)))

    def finish(self, x: torch.Tensor) -> torch.Tensor:  # (N, width, h, w) -> (N, num_features, h, w)
        """What stands behind the stages."""
        return self.final_act(self.final_norm(self.final_conv(x)))

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.fc(self.dropout(features.mean((2, 3))))

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of every stride, finest first. The last one is forward_features(x), the others of the stages are
        sums that no activation has seen.
        """
        maps: dict[int, torch.Tensor] = {}
        for name, layer in self.stem.named_children():
            if name == self.leaves_stride_2:
                maps[2] = x
            x = layer(x)
        maps[4] = x
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = maps[stride] = stage(x)
        maps[self.strides[-1]] = self.finish(x)
        return list(maps.values())


def stages(
    depths: tuple[int, ...], widths: tuple[int, ...], squeeze: int, group_width: int | None = None
) -> tuple[Stage, ...]:
    """Stages of even inner widths, 1 / squeeze of the outer, in groups of group_width; strides 1, 2, 2, 2."""
    rows = [(width, width // squeeze, depth) for width, depth in zip(widths, depths, strict=True)]
    return tuple(
        Stage(width, (mid,) * depth, 2 if i else 1, mid // (group_width or mid))
        for i, (width, mid, depth) in enumerate(rows)
    )


def nfnet_f(n: int, resolution: int, dropout: float) -> NFNetConfig:
    """NFNet-F of any n: depths (n + 1) times those of F0."""
    depths = (n + 1, 2 * (n + 1), 6 * (n + 1), 3 * (n + 1))
    rows = stages(depths, (256, 512, 1536, 1536), squeeze=2, group_width=128)
    return NFNetConfig(rows, dropout=dropout, resolution=resolution)


def nf_resnet(depths: tuple[int, ...], resolution: int = 224) -> NFNetConfig:
    """NF-ResNet in timm's form: 1x1, 3x3, 1x1 without gates, and a stem like that of ResNet."""
    return NFNetConfig(
        stages(depths, (256, 512, 1024, 2048), squeeze=4),
        stem="7x7",
        stem_widths=(64,),
        extra_conv=False,
        skip_init=False,
        head=0,
        padding="symmetric",
        dropout=0.0,
        drop_path=0.0,
        layers=Layers("none", "relu", "none", f"ws_conv(gamma={GAMMA['relu']}, eps=1e-05, add_eps=True)"),
        resolution=resolution,
    )


def deepmind(config: NFNetConfig) -> NFNetConfig:
    """An NF-ResNet in the form of DeepMind's nf_resnet.py. Its gates, where wanted: "se(ratio=0.25, gain=2.0)"."""
    layers = replace(config.layers, act="scaled(act='relu')", conv="ws_conv")
    return replace(config, shortcut="conv", skip_init=True, padding="same", drop_path=0.1, layers=layers)


VARIANTS: dict[str, NFNetConfig] = {  # the F-nets are trained at 192, 224, 256, 320, 384, 416, 448, 480 pixels
    "nfnet_f0": nfnet_f(0, 256, 0.2),
    "nfnet_f1": nfnet_f(1, 320, 0.3),
    "nfnet_f2": nfnet_f(2, 352, 0.4),
    "nfnet_f3": nfnet_f(3, 416, 0.4),
    "nfnet_f4": nfnet_f(4, 512, 0.5),
    "nfnet_f5": nfnet_f(5, 544, 0.5),
    "nfnet_f6": nfnet_f(6, 576, 0.5),
    "nfnet_f7": nfnet_f(7, 608, 0.5),
    "nf_resnet26": nf_resnet((2, 2, 2, 2)),
    "nf_resnet50": nf_resnet((3, 4, 6, 3), 256),
    "nf_resnet101": nf_resnet((3, 4, 23, 3)),
}


_F = "High-Performance Large-Scale Image Recognition Without Normalization"
_NF = "Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets"


def _f(n: int, top1: float | None = None, source: str = "official README") -> Published:
    """The official evaluation squashes a picture to 32 pixels more than the crop."""
    size = VARIANTS[f"nfnet_f{n}"].resolution
    if top1 is None:
        return Published(_F, "2102.06171", None, "", "", size + 32, size, "bicubic")
    return Published(_F, "2102.06171", top1, source, f"timm dm_nfnet_f{n}.dm_in1k", size + 32, size, "bicubic")


PUBLISHED = {
    "nfnet_f0": _f(0, 83.6),
    "nfnet_f1": _f(1, 84.7),
    "nfnet_f2": _f(2, 85.1),
    "nfnet_f3": _f(3, 85.7),
    "nfnet_f4": _f(4, 85.9),
    "nfnet_f5": _f(5, 86.0),
    "nfnet_f6": _f(6, 86.5, "official README, with SAM"),
    "nfnet_f7": _f(7),
    "nf_resnet26": Published(_NF, "2101.08692", resize=248, interpolation="bicubic"),
    "nf_resnet50": Published(
        _NF, "2101.08692", 80.236, "timm results csv", "timm nf_resnet50.ra2_in1k", 272, 256, "bicubic"
    ),
    "nf_resnet101": Published(_NF, "2101.08692", resize=248, interpolation="bicubic"),
}

TIMM = (
    (r"^stem\.conv\.", "stem.conv1."),
    (r"\.attn_last\.", ".attn."),
    (r"\.skipinit_gain$", ".skip_gain"),
    (r"^head\.fc\.", "fc."),
)


def from_timm(key: str) -> str:
    """A key of timm's dm_nfnet_*, nfnet_f* and nf_resnet* as ours."""
    return rename(key, TIMM)


TINY = NFNetConfig((Stage(16, (8,), 1), Stage(32, (8, 8), 2)), stem_widths=(4, 4, 8, 8), head=32)

FAMILY = Family(
    NFNetConfig,
    NFNet,
    VARIANTS,
    ("fc.",),
    {"timm": from_timm},
    PUBLISHED,
    tiny=TINY,
)
