"""GhostNet (arXiv:1911.11907), GhostNetV2 (arXiv:2211.12905) and GhostNetV3 (arXiv:2404.11202).

Keys are timm's, but for se.fc1 and se.fc2, conv_last, conv_dw.0 and conv_dw.1, and the branches of version 3.
"""

import torch
from torch import nn

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.zoo.families.ghostnet.blocks import Block, Branches, GhostBottleneck, GhostNetConfig, Stage
from foveate.zoo.families.ghostnet.published import PUBLISHED
from foveate.zoo.family import Family, rename
from foveate.zoo.frame import SE_OF_TIMM, MobileFrame

__all__ = ["FAMILY", "VARIANTS", "Block", "GhostNet", "GhostNetConfig", "Stage"]


class GhostNet(MobileFrame):
    """Stem 3x3 stride 2, Ghost bottlenecks, 1x1, mean over positions, hidden layer, dropout, classifier.

    Weights start as PyTorch starts them, as in the authors' code. Feature maps of width 1: 16, 24, 40, 112, 160
    channels at strides 2 to 32.
    """

    def __init__(self, config: GhostNetConfig):
        super().__init__()
        layers = config.layers
        self.add_stem(config, "symmetric")
        stages, c_in = [], config.stem
        for stage in config.stages:
            members = []
            for j, block in enumerate(stage.blocks):
                stride = stage.stride if j == 0 else 1
                members.append(GhostBottleneck(config, stage, block, c_in=c_in, stride=stride))
                c_in = block.width
            stages.append(nn.Sequential(*members))
        self.add_stages(stages, [s.stride for s in config.stages])
        self.conv_last = layers.make_conv(c_in, config.last, 1)
        self.bn_last = layers.make_norm(config.last)
        self.act_last = layers.make_act(config.last)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv_head = layers.make_conv(config.last, config.head, 1, bias=True)
        self.act2 = layers.make_act(config.head)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.head, config.num_classes)
        self.num_features = config.last

    def forward_end(self, x: torch.Tensor) -> torch.Tensor:  # (N, c, h, w) -> (N, last, h, w)
        return self.act_last(self.bn_last(self.conv_last(x)))

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, last, h, w) -> (N, num_classes)
        hidden = self.act2(self.conv_head(self.pool(features)))  # (N, head, 1, 1)
        return self.classifier(self.dropout(hidden.flatten(1)))


def fused(config: GhostNetConfig) -> GhostNetConfig:
    """The config of the same network with the branches of every unit as one convolution, for inference."""
    slots = [config.layers, *(s.layers for s in config.stages if s.layers)]
    plain = all(layers.norm.startswith("batch_norm") and layers.conv == "conv2d" for layers in slots)
    if config.form != "branches" or not plain:
        raise ConfigError('GhostNetConfig: only form = "branches" with batch norms and plain convolutions fuses')
    return replace(config, form="fused")


@torch.no_grad()
def fuse(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict for build(fused(model.config)) that gives the outputs of model in evaluation mode."""
    units = {name: m for name, m in model.named_modules() if isinstance(m, Branches)}
    inside = tuple(f"{name}." for name in units)
    state = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith(inside)}
    for name, unit in units.items():
        state[f"{name}.0.weight"], state[f"{name}.0.bias"] = unit.folded()
    return state


def round_width(width: float) -> int:
    """The nearest multiple of 4, at least 4, and never below 90 % of the exact value."""
    rounded = max(4, int(width + 2) // 4 * 4)
    return rounded if rounded >= 0.9 * width else rounded + 4


def scale(config: GhostNetConfig, width: float) -> GhostNetConfig:
    """All widths but the head's times width, rounded to multiples of 4."""

    def wider(block: Block) -> Block:
        return replace(block, mid=round_width(block.mid * width), width=round_width(block.width * width))

    stages = tuple(replace(s, blocks=tuple(wider(b) for b in s.blocks)) for s in config.stages)
    return replace(config, stages=stages, stem=round_width(config.stem * width), last=round_width(config.last * width))


def attended(config: GhostNetConfig, first: int = 2) -> GhostNetConfig:
    """GhostNetV2: the long-range attention in every block from the third on (counted from `first` = 2)."""
    stages, index = [], 0
    for stage in config.stages:
        blocks = tuple(replace(b, dfc=index + j >= first) for j, b in enumerate(stage.blocks))
        stages.append(replace(stage, blocks=blocks))
        index += len(blocks)
    return replace(config, stages=tuple(stages))


TIMM = (
    *SE_OF_TIMM,
    (r"^blocks\.\d+\.0\.conv\.", "conv_last."),
    (r"^blocks\.\d+\.0\.bn1\.", "bn_last."),
    (r"\.conv_dw\.(weight|bias)$", r".conv_dw.0.\1"),
    (r"\.bn_dw\.", ".conv_dw.1."),
    # version 3 in training; the authors' file says bn where timm says bn1
    (r"(_rpr_\w+(?:\.\d+)?)\.conv\.", r"\1.0."),
    (r"(_rpr_\w+(?:\.\d+)?)\.bn1?\.", r"\1.1."),
    (r"\.primary_rpr_", ".primary_conv."),
    (r"\.cheap_rpr_", ".cheap_operation."),
    (r"\.dw_rpr_", ".conv_dw."),
    (r"\.(primary_conv|cheap_operation|conv_dw)\.conv\.", r".\1.convs."),
)


def from_timm(key: str) -> str:
    """A key of timm, or of the authors, as ours."""
    return rename(key, TIMM)


_V1 = GhostNetConfig(  # table 1 of arXiv:1911.11907
    (
        Stage((Block(16, 16),)),
        Stage((Block(48, 24),), stride=2),
        Stage((Block(72, 24),)),
        Stage((Block(72, 40, gate=True),), kernel=5, stride=2),
        Stage((Block(120, 40, gate=True),), kernel=5),
        Stage((Block(240, 80),), stride=2),
        Stage((Block(200, 80), Block(184, 80), Block(184, 80), Block(480, 112, True), Block(672, 112, True))),
        Stage((Block(672, 160, gate=True),), kernel=5, stride=2),
        Stage((Block(960, 160), Block(960, 160, True), Block(960, 160), Block(960, 160, True)), kernel=5),
    )
)
_V2 = attended(_V1)
_V3 = replace(_V2, form="branches")

VARIANTS: dict[str, GhostNetConfig] = {
    "ghostnet_050": scale(_V1, 0.5),
    "ghostnet_100": _V1,
    "ghostnet_130": scale(_V1, 1.3),
    "ghostnetv2_100": _V2,
    "ghostnetv2_130": scale(_V2, 1.3),
    "ghostnetv2_160": scale(_V2, 1.6),
    "ghostnetv3_050": scale(_V3, 0.5),  # as they are trained and published; fused() for what runs afterwards
    "ghostnetv3_100": _V3,
    "ghostnetv3_130": scale(_V3, 1.3),
    "ghostnetv3_160": scale(_V3, 1.6),
}

TINY = GhostNetConfig(
    (
        Stage((Block(8, 8, True),)),
        Stage((Block(12, 8, dfc=True), Block(16, 12, True, True)), 5, 2),
    ),
    stem=8,
    last=16,
    head=16,
    form="branches",
)

FAMILY = Family(
    GhostNetConfig,
    GhostNet,
    VARIANTS,
    ("classifier.",),
    {"timm": from_timm},
    PUBLISHED,
    folds=True,
    tiny=TINY,
    cost_per_mac=3.2,
)
