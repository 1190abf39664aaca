"""MobileNetV4, arXiv:2404.10518: the tables of the convolutional and the hybrid nets."""

from foveate.config import replace
from foveate.layers import Layers
from foveate.zoo.families.mobilenet.blocks import Attention, Block, MobileNetConfig, Stage

Blocks = tuple[Block | Attention, ...]


def last(width: int) -> Stage:
    """The 1x1 convolution that ends v3 and v4: a block, since what follows it reads the mean."""
    return Stage((Block("conv", width, 1, attn="none"),))


def uib(lead: int, kernel: int, mid: int, width: int, stride: int = 1, depth: int = 1) -> Blocks:
    """Universal inverted bottlenecks: leading and middle kernel (0: none), inner and output width."""
    return (Block("universal", width, kernel, stride, mid, lead),) * depth


def universal(stem: int, stages: tuple[Blocks, ...]) -> MobileNetConfig:
    """MobileNetV4 of these stages: stem of 32, and 1x1 convolutions to 960 and, after the mean, to 1280 channels."""
    return MobileNetConfig(
        (*(Stage(blocks) for blocks in stages), last(960)),
        stem=stem,
        head_at="pool",
        layers=Layers("batch_norm", "relu"),
    )


def fused(c_in: int, width: int) -> Blocks:
    """The first stage of the larger nets."""
    return (Block("fused", width, 3, 2, 4 * c_in),)


V4_SMALL = universal(
    32,
    (
        (Block("conv", 32, 3, 2), Block("conv", 32, 1)),
        (Block("conv", 96, 3, 2), Block("conv", 64, 1)),
        (*uib(5, 5, 192, 96, 2), *uib(0, 3, 192, 96, depth=4), *uib(3, 0, 384, 96)),
        (
            *uib(3, 3, 576, 128, 2),
            *uib(5, 5, 512, 128),
            *uib(0, 5, 512, 128),
            *uib(0, 5, 384, 128),
            *uib(0, 3, 512, 128, depth=2),
        ),
    ),
)
V4_MEDIUM = universal(
    32,
    (
        fused(32, 48),
        (*uib(3, 5, 192, 80, 2), *uib(3, 3, 160, 80)),
        (
            *uib(3, 5, 480, 160, 2),
            *uib(3, 3, 640, 160, depth=2),
            *uib(3, 5, 640, 160),
            *uib(3, 3, 640, 160),
            *uib(3, 0, 640, 160),
            *uib(0, 0, 320, 160),
            *uib(3, 0, 640, 160),
        ),
        (
            *uib(5, 5, 960, 256, 2),
            *uib(5, 5, 1024, 256),
            *uib(3, 5, 1024, 256, depth=2),
            *uib(0, 0, 1024, 256),
            *uib(3, 0, 1024, 256),
            *uib(3, 5, 512, 256),
            *uib(5, 5, 1024, 256),
            *uib(0, 0, 1024, 256, depth=2),
            *uib(5, 0, 512, 256),
        ),
    ),
)
V4_LARGE = universal(
    24,
    (
        fused(24, 48),
        (*uib(3, 5, 192, 96, 2), *uib(3, 3, 384, 96)),
        (
            *uib(3, 5, 384, 192, 2),
            *uib(3, 3, 768, 192, depth=3),
            *uib(3, 5, 768, 192),
            *uib(5, 3, 768, 192, depth=5),
            *uib(3, 0, 768, 192),
        ),
        (
            *uib(5, 5, 768, 512, 2),
            *uib(5, 5, 2048, 512, depth=3),
            *uib(5, 0, 2048, 512),
            *uib(5, 3, 2048, 512),
            *uib(5, 0, 2048, 512, depth=2),
            *uib(5, 3, 2048, 512),
            *uib(5, 5, 2048, 512),
            *uib(5, 0, 2048, 512, depth=3),
        ),
    ),
)


def pairs(attention: Attention, blocks: Blocks) -> Blocks:
    """The attention in front of each block."""
    return tuple(b for block in blocks for b in (attention, block))


def hybrid(config: MobileNetConfig, middle: Blocks, deep: Blocks) -> MobileNetConfig:
    """A net with attention in its last two stages, which are given, and a gain on every branch."""
    first, second, _, _, end = config.stages
    return replace(config, stages=(first, second, Stage(middle), Stage(deep), end), layer_scale=1e-5)


V4_HYBRID_MEDIUM = hybrid(
    V4_MEDIUM,
    (
        *uib(3, 5, 480, 160, 2),
        *uib(0, 0, 320, 160),
        *uib(3, 3, 640, 160),
        *uib(3, 5, 640, 160),
        *pairs(Attention(4, 64, kv_stride=2), (*uib(3, 3, 640, 160), *uib(3, 0, 640, 160)) * 2),
    ),
    (
        *uib(5, 5, 960, 256, 2),
        *uib(5, 5, 1024, 256),
        *uib(3, 5, 1024, 256, depth=2),
        *uib(0, 0, 512, 256),
        *uib(3, 5, 512, 256),
        *uib(0, 0, 512, 256),
        *uib(0, 0, 1024, 256),
        *pairs(Attention(4, 64), (*uib(3, 0, 1024, 256), *uib(5, 5, 1024, 256), *uib(5, 0, 1024, 256, depth=2))),
    ),
)
V4_HYBRID_LARGE = hybrid(
    replace(V4_LARGE, layers=replace(V4_LARGE.layers, act="gelu")),
    (
        *uib(3, 5, 384, 192, 2),
        *uib(3, 3, 768, 192, depth=3),
        *uib(3, 5, 768, 192),
        *uib(5, 3, 768, 192, depth=2),
        *pairs(Attention(8, 48, kv_stride=2), (*uib(5, 3, 768, 192, depth=3), *uib(3, 0, 768, 192))),
    ),
    (
        *uib(5, 5, 768, 512, 2),
        *uib(5, 5, 2048, 512, depth=3),
        *uib(5, 0, 2048, 512),
        *uib(5, 3, 2048, 512),
        *uib(5, 0, 2048, 512, depth=2),
        *uib(5, 3, 2048, 512),
        *uib(5, 5, 2048, 512),
        *pairs(Attention(8, 64), uib(5, 0, 2048, 512, depth=4)),
    ),
)
