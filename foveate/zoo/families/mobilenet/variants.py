"""The published mobile nets as configs, and scaling. Tables follow the papers; widths are absolute.

Each variant has the padding and the norm that its public weights want: TensorFlow's for MobileNetV3 (timm's tf_*),
symmetric padding for the others (timm, torchvision). TensorFlow's own v1 and v2 have padding="same" and eps 1e-3.
"""

import math

from foveate.config import replace
from foveate.layers import Layers
from foveate.zoo.families.mobilenet.blocks import Attention, Block, MobileNetConfig, Stage
from foveate.zoo.families.mobilenet.v4 import V4_HYBRID_LARGE, V4_HYBRID_MEDIUM, V4_LARGE, V4_MEDIUM, V4_SMALL, last
from foveate.zoo.widths import round_width

Rows = tuple[tuple[int, int, int, int, int], ...]  # (expansion, kernel, width, blocks, stride of the first)


def scale(
    config: MobileNetConfig,
    width: float,
    depth: float = 1.0,
    *,
    keep_ends: bool = False,
    resolution: int | None = None,
) -> MobileNetConfig:
    """Widths times width, rounded to multiples of 8; stages but the first and the last times depth, rounded up.

    An inner width keeps its ratio to the input of its block. A deeper stage repeats its last block, a shallower one
    loses it. The head grows with width and never shrinks (arXiv:1801.04381 section 4). keep_ends: stem and head keep
    their widths.
    resolution (px): None keeps the config's.
    """
    stages = []
    old, stem = config.stem, config.stem if keep_ends else round_width(config.stem * width)
    new = stem  # widths of the input of the next block, in the old net and in the new one
    for i, stage in enumerate(config.stages):
        blocks = list(stage.blocks)
        if 0 < i < len(config.stages) - 1:
            again = blocks[-1] if isinstance(blocks[-1], Attention) else replace(blocks[-1], stride=1)
            deep = math.ceil(depth * len(blocks))
            blocks = [*blocks, *[again] * deep][:deep]
        for j, block in enumerate(blocks):
            if isinstance(block, Block):
                c_out = round_width(block.width * width)
                mid = None if block.mid is None else round_width(new * block.mid / old)
                blocks[j], old, new = replace(block, width=c_out, mid=mid), block.width, c_out
        stages.append(replace(stage, blocks=tuple(blocks)))
    head = config.head if config.head is None or keep_ends else max(config.head, round_width(config.head * width))
    resolution = config.resolution if resolution is None else resolution
    return replace(config, stages=tuple(stages), stem=stem, head=head, resolution=resolution)


def inverted(c_in: int, stages: tuple[Rows, ...]) -> tuple[Stage, ...]:
    """Stages of inverted bottlenecks."""
    made = []
    for rows in stages:
        blocks = []
        for expand, kernel, width, depth, stride in rows:
            for j in range(depth):
                blocks.append(Block("inverted", width, kernel, stride if j == 0 else 1, mid=expand * c_in))
                c_in = width
        made.append(Stage(tuple(blocks)))
    return tuple(made)


def separable(width: int, depth: int, stride: int = 2) -> Stage:
    """Depthwise separable blocks."""
    return Stage((Block("separable", width, stride=stride), *(Block("separable", width),) * (depth - 1)))


# arXiv:1704.04861, table 1. TF-slim drops one feature in a thousand before the classifier.
_V1 = MobileNetConfig(
    (separable(64, 1, 1), separable(128, 2), separable(256, 2), separable(512, 6), separable(1024, 2)),
    head=None,
    dropout=0.001,
)

# arXiv:1801.04381, table 2; the first bottleneck has expansion 1 and no 1x1
_V2_ROWS = (
    ((6, 3, 24, 2, 2),),
    ((6, 3, 32, 3, 2),),
    ((6, 3, 64, 4, 2),),
    ((6, 3, 96, 3, 1),),
    ((6, 3, 160, 3, 2),),
    ((6, 3, 320, 1, 1),),
)
_V2 = MobileNetConfig((Stage((Block("inverted", 16),)), *inverted(16, _V2_ROWS)))


def bneck(kernel: int, mid: int | None, width: int, gate: bool, act: str, stride: int = 1) -> Block:
    """A row of MobileNetV3's tables. RE: ReLU; HS: the net's hard-swish. mid None: as wide as the input, no 1x1."""
    return Block(
        "inverted",
        width,
        kernel,
        stride,
        mid,
        act="relu" if act == "RE" else None,
        attn=None if gate else "none",
    )


V3_LAYERS = Layers(
    "batch_norm(eps=0.001, momentum=0.01)", "hard_swish", "se(ratio=0.25, divisor=8, gate='hard_sigmoid')"
)

# arXiv:1905.02244, table 1
_V3_LARGE = MobileNetConfig(
    (
        Stage((bneck(3, None, 16, False, "RE"),)),
        Stage((bneck(3, 64, 24, False, "RE", 2), bneck(3, 72, 24, False, "RE"))),
        Stage((bneck(5, 72, 40, True, "RE", 2), bneck(5, 120, 40, True, "RE"), bneck(5, 120, 40, True, "RE"))),
        Stage(
            (
                bneck(3, 240, 80, False, "HS", 2),
                bneck(3, 200, 80, False, "HS"),
                bneck(3, 184, 80, False, "HS"),
                bneck(3, 184, 80, False, "HS"),
            )
        ),
        Stage((bneck(3, 480, 112, True, "HS"), bneck(3, 672, 112, True, "HS"))),
        Stage((bneck(5, 672, 160, True, "HS", 2), bneck(5, 960, 160, True, "HS"), bneck(5, 960, 160, True, "HS"))),
        last(960),
    ),
    stem=16,
    head=1280,
    head_at="pool",
    head_norm=False,
    padding="same",
    layers=V3_LAYERS,
)

# arXiv:1905.02244, table 2
_V3_SMALL = replace(
    _V3_LARGE,
    stages=(
        Stage((bneck(3, None, 16, True, "RE", 2),)),
        Stage((bneck(3, 72, 24, False, "RE", 2), bneck(3, 88, 24, False, "RE"))),
        Stage((bneck(5, 96, 40, True, "HS", 2), bneck(5, 240, 40, True, "HS"), bneck(5, 240, 40, True, "HS"))),
        Stage((bneck(5, 120, 48, True, "HS"), bneck(5, 144, 48, True, "HS"))),
        Stage((bneck(5, 288, 96, True, "HS", 2), bneck(5, 576, 96, True, "HS"), bneck(5, 576, 96, True, "HS"))),
        last(576),
    ),
    head=1024,
)


def minimal(config: MobileNetConfig) -> MobileNetConfig:
    """MobileNetV3 for hardware that is slow at its new parts: only 3x3 and ReLU, no gates (TF-slim's README)."""

    def poorer(block: Block | Attention) -> Block | Attention:
        return replace(block, kernel=min(block.kernel, 3), act=None, attn=None) if isinstance(block, Block) else block

    stages = tuple(replace(stage, blocks=tuple(map(poorer, stage.blocks))) for stage in config.stages)
    return replace(config, stages=stages, layers=replace(config.layers, act="relu", attn="none"))


def plain(config: MobileNetConfig, norm: str = "batch_norm") -> MobileNetConfig:
    """The same net with symmetric padding, for weights that were not born in TensorFlow."""
    return replace(config, padding="symmetric", layers=replace(config.layers, norm=norm))


# arXiv:1812.03443; the head of 1984 as in timm and pytorchcv
_FBNET_ROWS = (
    ((1, 3, 16, 1, 1),),
    ((6, 3, 24, 1, 2), (1, 3, 24, 2, 1)),
    ((6, 5, 32, 1, 2), (3, 5, 32, 1, 1), (6, 5, 32, 1, 1), (6, 3, 32, 1, 1)),
    ((6, 5, 64, 1, 2), (3, 5, 64, 1, 1), (6, 5, 64, 2, 1)),
    ((6, 5, 112, 3, 1), (3, 5, 112, 1, 1)),
    ((6, 5, 184, 4, 2),),
    ((6, 3, 352, 1, 1),),
)
_FBNET_C = MobileNetConfig(
    inverted(16, _FBNET_ROWS), stem=16, head=1984, layers=Layers("batch_norm(eps=0.001, momentum=0.1)", "relu")
)


def grouped(config: MobileNetConfig, places: tuple[tuple[int, int], ...]) -> MobileNetConfig:
    """The same net with two groups in the 1x1 convolutions of some blocks, given by stage and block."""
    stages = [list(stage.blocks) for stage in config.stages]
    for i, j in places:
        stages[i][j] = replace(stages[i][j], groups=2)
    return replace(config, stages=tuple(Stage(tuple(blocks)) for blocks in stages))


# arXiv:1812.03443, from the authors' table in facebookresearch/mobile-vision, "skip" left out. Blocks of expansion 1
# have their first 1x1 as in figure 3, timm and pytorchcv: A then has the paper's 249 million MACs and 4.3 million
# parameters. B has more than the paper's 4.5 and 295 million with it (4.9 and 306), and 4.8 and 291 without
_FBNET_A_ROWS = (
    ((3, 3, 24, 1, 2), (1, 3, 24, 1, 1)),
    ((6, 5, 32, 1, 2), (3, 3, 32, 1, 1), (1, 5, 32, 1, 1), (3, 3, 32, 1, 1)),
    ((6, 5, 64, 1, 2), (3, 5, 64, 1, 1), (1, 5, 64, 1, 1), (6, 5, 64, 1, 1)),
    ((6, 3, 112, 1, 1), (1, 5, 112, 1, 1), (3, 5, 112, 1, 1), (1, 3, 112, 1, 1)),
    ((6, 5, 184, 2, 2), (3, 5, 184, 1, 1), (6, 5, 184, 1, 1)),
    ((6, 5, 352, 1, 1),),
)
_FBNET_B_ROWS = (
    ((1, 3, 16, 1, 1),),
    ((6, 3, 24, 1, 2), (1, 5, 24, 1, 1), (1, 3, 24, 2, 1)),
    ((6, 5, 32, 1, 2), (3, 5, 32, 1, 1), (6, 3, 32, 1, 1), (6, 5, 32, 1, 1)),
    ((6, 5, 64, 1, 2), (6, 5, 64, 1, 1), (3, 5, 64, 1, 1)),
    ((6, 5, 112, 1, 1), (1, 3, 112, 1, 1), (1, 5, 112, 1, 1), (3, 5, 112, 1, 1)),
    ((6, 5, 184, 1, 2), (1, 5, 184, 1, 1), (6, 5, 184, 2, 1)),
    ((6, 3, 352, 1, 1),),
)
_FBNET_A = grouped(replace(_FBNET_C, stages=inverted(16, _FBNET_A_ROWS), head=1504), ((2, 2), (3, 1), (3, 3)))
_FBNET_B = replace(_FBNET_C, stages=inverted(16, _FBNET_B_ROWS))

VARIANTS: dict[str, MobileNetConfig] = {
    **{f"mobilenetv1_{w:03}": scale(_V1, w / 100) for w in (25, 50, 75, 100, 125)},
    "mobilenetv1_100h": replace(_V1, head=1024),  # timm's: a 1x1 convolution before the mean
    **{f"mobilenetv2_{w:03}": scale(_V2, w / 100) for w in (35, 50, 75, 100, 140)},
    "mobilenetv2_110d": scale(_V2, 1.1, 1.2, keep_ends=True),
    "mobilenetv2_120d": scale(_V2, 1.2, 1.4, keep_ends=True),
    "mobilenetv3_large_075": scale(_V3_LARGE, 0.75),
    "mobilenetv3_large_100": _V3_LARGE,
    "mobilenetv3_large_minimal_100": minimal(_V3_LARGE),
    "mobilenetv3_small_050": plain(scale(_V3_SMALL, 0.5, keep_ends=True)),  # timm's
    "mobilenetv3_small_075": scale(_V3_SMALL, 0.75),
    "mobilenetv3_small_100": _V3_SMALL,
    "mobilenetv3_small_minimal_100": minimal(_V3_SMALL),
    "mobilenet_v3_large": plain(_V3_LARGE, V3_LAYERS.norm),  # torchvision's
    "mobilenet_v3_small": plain(_V3_SMALL, V3_LAYERS.norm),
    "mobilenetv4_conv_small_035": scale(V4_SMALL, 0.35, keep_ends=True),  # timm's, and 050
    "mobilenetv4_conv_small_050": scale(V4_SMALL, 0.5, keep_ends=True),
    "mobilenetv4_conv_small": V4_SMALL,
    "mobilenetv4_conv_medium": replace(V4_MEDIUM, resolution=256),
    "mobilenetv4_conv_large": replace(V4_LARGE, resolution=384),
    "mobilenetv4_hybrid_medium": replace(V4_HYBRID_MEDIUM, resolution=256),
    "mobilenetv4_hybrid_large": replace(V4_HYBRID_LARGE, resolution=384),
    "fbnet_a": _FBNET_A,
    "fbnet_b": _FBNET_B,
    "fbnet_c": _FBNET_C,
}
