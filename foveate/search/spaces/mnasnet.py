"""The factorized hierarchical space of MnasNet, arXiv:1807.11626 section 4.1: seven blocks, each repeats one layer.

Per block: operation, expansion (of MBConv only), kernel, gate, skip, filters, layers.

The paper counts 432 choices a block and does not print how. Its six lists multiply to 3 x 2 x 2 x 3 x 3 x 3 = 324. The
nets that it found use MBConv with expansion 3 and with 6 (figure 7), which no list names; with these two as operations
of their own the lists multiply to 4 x 2 x 2 x 3 x 3 x 3 = 432. So is it here: 432 nets a block. The paper's estimate of
10^13 is 432^5, five blocks; with the seven of its figure the space has 432^7 = 2.8 x 10^18 nets, before equal ones are
merged.

Deliberate differences. The paper's filters are 0.75, 1 and 1.25 times MobileNetV2's and its layers MobileNetV2's -1, 0,
+1. A1 and B1 are not among those (112 and 192 filters), and one layer less than one is none: the lists here are of the
same length, contain A1 and B1 (skeleton "mobile") or the small net (skeleton "small"), and begin at one layer. "pool"
as a skip is read as foveate.zoo.families.mnasnet.network.Stage says.

Equal nets: in a block of one layer a skip that can not add (other width, or "identity" at stride 2) does nothing.

Pictures below 128 pixels: see strides.fitted; the stem keeps its stride of 2.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from foveate.config import pick, replace
from foveate.search.space import Choice, Space, Tokens, Value
from foveate.search.spaces.strides import fitted_behind
from foveate.zoo.families.mnasnet.network import VARIANTS, MnasNetConfig, Stage

STRIDES = (1, 2, 2, 2, 1, 2, 1)
GATE = "se(ratio=0.25)"
FIELDS = ("op", "expand", "kernel", "se", "skip", "width", "depth")


class Skeleton(NamedTuple):
    """Stem, head and dropout are those of the base; filters and layers a block."""

    base: MnasNetConfig
    widths: tuple[tuple[int, int, int], ...]
    depths: tuple[tuple[int, int, int], ...] = (
        (1, 2, 3),
        (1, 2, 3),
        (2, 3, 4),
        (3, 4, 5),
        (2, 3, 4),
        (2, 3, 4),
        (1, 2, 3),
    )


SKELETONS = {
    "mobile": Skeleton(
        VARIANTS["mnasnet_a1"],
        (
            (8, 16, 24),
            (16, 24, 32),
            (24, 32, 40),
            (48, 64, 80),
            (80, 96, 112),
            (128, 160, 192),
            (240, 320, 400),
        ),
    ),
    "small": Skeleton(
        VARIANTS["mnasnet_small"],
        ((8, 16, 24), (8, 16, 24), (8, 16, 24), (24, 32, 40), (32, 40, 48), (72, 88, 104), (112, 144, 176)),
    ),
}


def space(
    *,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    skeleton: Literal["mobile", "small"] = "mobile",
) -> Space:
    """The space; its nets are MnasNetConfig."""
    frame = pick(SKELETONS, skeleton, "skeleton")
    strides = fitted_behind(2, STRIDES, resolution)
    base = replace(frame.base, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    choices: list[Choice] = []
    for i, (widths, depths) in enumerate(zip(frame.widths, frame.depths, strict=True)):
        choices += [
            Choice(f"{i}.op", ("sepconv", "mbconv", "conv")),
            Choice(f"{i}.expand", (3, 6), when=((f"{i}.op", ("mbconv",)),)),
            Choice(f"{i}.kernel", (3, 5)),
            Choice(f"{i}.se", (False, True)),
            Choice(f"{i}.skip", ("identity", "pool", "none")),
            Choice(f"{i}.width", widths),
            Choice(f"{i}.depth", depths),
        ]

    def make(values: Mapping[str, Value]) -> MnasNetConfig:
        return replace(base, stages=tuple(stage_of(values, i, stride) for i, stride in enumerate(strides)))

    position = {choice.name: i for i, choice in enumerate(choices)}

    def canonical(tokens: Tokens) -> Tokens:
        out, c_in = list(tokens), base.stem
        for i, stride in enumerate(strides):
            at = {name: position[f"{i}.{name}"] for name in FIELDS}
            width = frame.widths[i][tokens[at["width"]]]
            skip = choices[at["skip"]].values[tokens[at["skip"]]]
            adds = width == c_in and (skip == "pool" or (skip == "identity" and stride == 1))
            if frame.depths[i][tokens[at["depth"]]] == 1 and not adds:
                # the name of all that add nothing: the first kind of skip that adds nothing here
                out[at["skip"]] = 0 if width != c_in or stride > 1 else 2
            c_in = width
        return tuple(out)

    return Space(choices, name="mnasnet", canonical=canonical, make=make, read=read)


def stage_of(values: Mapping[str, Value], i: int, stride: int) -> Stage:
    """The record of block i."""
    chosen: dict[str, Any] = {name: values[f"{i}.{name}"] for name in FIELDS if f"{i}.{name}" in values}
    gate = GATE if chosen["se"] else None
    return Stage(
        depth=chosen["depth"],
        width=chosen["width"],
        expand=chosen.get("expand", 1),
        kernel=chosen["kernel"],
        stride=stride,
        op=chosen["op"],
        skip=chosen["skip"],
        attn=gate,
    )


def read(config: MnasNetConfig) -> Mapping[str, Value]:
    """The values of a net."""
    out: dict[str, Value] = {}
    for i, s in enumerate(config.stages):
        out |= {f"{i}.op": s.op, f"{i}.kernel": s.kernel, f"{i}.se": s.attn == GATE, f"{i}.skip": s.skip}
        out |= {f"{i}.width": s.width, f"{i}.depth": s.depth}
        out |= {f"{i}.expand": s.expand} if s.op == "mbconv" else {}
    return out
