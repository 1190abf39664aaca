"""Layer-wise spaces of inverted bottlenecks: Once-for-All's (arXiv:1908.09791) and FBNet's (arXiv:1812.03443).

Per unit: gate, layers; per layer that there is: kernel, expansion. One width multiplier for the whole net.

skeleton "ofa"    MobileNetV3-Large with its first block fixed and five units of 2 to 4 layers, kernels 3, 5, 7,
                  expansions 3, 4, 6, as in Once-for-All. There the gates are fixed; here each unit may have them, and
                  there are four widths in place of one supernet each.
skeleton "fbnet"  FBNet's seven stages, five of them of 1 to 4 layers, kernels 3, 5, expansions 1, 3, 6. FBNet-C is a
                  net of it. FBNet's "skip" in place of a layer is one layer less here, wherever it stands, and its
                  grouped 1x1 convolutions are left out; gates and widths are added.

Equal nets: none but those with the same values, for a layer that is not there has no values.

Pictures below 128 pixels: see strides.fitted; the stem's stride is the first to go.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from foveate.config import pick, replace
from foveate.search.space import Choice, Space, Value
from foveate.search.spaces.strides import fitted
from foveate.zoo.families.mobilenet.network import VARIANTS, Block, MobileNetConfig, Stage, scale
from foveate.zoo.widths import round_width

WIDTHS = (0.5, 0.75, 1.0, 1.25)


class Unit(NamedTuple):
    """A searched stage."""

    width: int
    stride: int
    depths: tuple[int, ...]
    act: str | None = None


class Skeleton(NamedTuple):
    """Fixed stages before and behind the units; what a block's attn says with and without a gate."""

    base: MobileNetConfig
    before: tuple[Stage, ...]
    units: tuple[Unit, ...]
    behind: tuple[Stage, ...]
    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    gate: str | None
    bare: str | None


_V3, _C = VARIANTS["mobilenetv3_large_100"], VARIANTS["fbnet_c"]
SKELETONS = {
    "ofa": Skeleton(
        _V3,
        _V3.stages[:1],
        (
            Unit(24, 2, (2, 3, 4), "relu"),
            Unit(40, 2, (2, 3, 4), "relu"),
            Unit(80, 2, (2, 3, 4)),
            Unit(112, 1, (2, 3, 4)),
            Unit(160, 2, (2, 3, 4)),
        ),
        _V3.stages[-1:],
        (3, 5, 7),
        (3, 4, 6),
        gate=None,  # the net's own
        bare="none",
    ),
    "fbnet": Skeleton(
        _C,
        (),
        (
            Unit(16, 1, (1,)),
            Unit(24, 2, (1, 2, 3, 4)),
            Unit(32, 2, (1, 2, 3, 4)),
            Unit(64, 2, (1, 2, 3, 4)),
            Unit(112, 1, (1, 2, 3, 4)),
            Unit(184, 2, (1, 2, 3, 4)),
            Unit(352, 1, (1,)),
        ),
        (),
        (3, 5),
        (1, 3, 6),
        gate="se(ratio=0.25)",
        bare=None,  # the net has none
    ),
}


def space(
    *,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    skeleton: Literal["ofa", "fbnet"] = "ofa",
    widths: tuple[float, ...] = WIDTHS,
) -> Space:
    """The space; its nets are MobileNetConfig. widths=(0.5,) is Once-for-All's own form: one width a supernet."""
    frame = pick(SKELETONS, skeleton, "skeleton")
    strides = fitted((2, *(1 for _ in frame.before), *(unit.stride for unit in frame.units)), resolution)
    base = replace(
        frame.base, stem_stride=strides[0], resolution=resolution, num_classes=num_classes, in_chans=in_chans
    )
    unit_strides = strides[1 + len(frame.before) :]
    choices = [Choice("width", widths)]
    for i, unit in enumerate(frame.units):
        choices += [Choice(f"{i}.se", (False, True)), Choice(f"{i}.depth", unit.depths)]
        for j in range(max(unit.depths)):
            deep = tuple(d for d in unit.depths if d > j)
            when = () if deep == unit.depths else ((f"{i}.depth", deep),)
            choices += [
                Choice(f"{i}.{j}.kernel", frame.kernels, when),
                Choice(f"{i}.{j}.expand", frame.expansions, when),
            ]

    def make(values: Mapping[str, Value]) -> MobileNetConfig:
        v: Mapping[str, Any] = values
        stages, c_in = list(frame.before), base.stem
        for block in (block for stage in frame.before for block in stage.blocks if isinstance(block, Block)):
            c_in = block.width
        for i, (unit, stride) in enumerate(zip(frame.units, unit_strides, strict=True)):
            gate = frame.gate if v[f"{i}.se"] else frame.bare
            blocks = []
            for j in range(v[f"{i}.depth"]):
                mid = v[f"{i}.{j}.expand"] * c_in
                kernel = v[f"{i}.{j}.kernel"]
                blocks.append(
                    Block("inverted", unit.width, kernel, stride if j == 0 else 1, mid, act=unit.act, attn=gate)
                )
                c_in = unit.width
            stages.append(Stage(tuple(blocks)))
        made = replace(base, stages=(*stages, *frame.behind))
        return made if v["width"] == 1.0 else scale(made, v["width"])

    def read(config: MobileNetConfig) -> Mapping[str, Value]:
        searched = config.stages[len(frame.before) : len(config.stages) - len(frame.behind)]
        ends: list[Any] = [stage.blocks[-1] for stage in searched]
        found = [unit.width for unit in frame.units]
        width = next(w for w in widths if [round_width(c * w) for c in found] == [end.width for end in ends])
        out: dict[str, Value] = {"width": width}
        c_in: Any = round_width(16 * width)  # what the units read, in both skeletons
        for i, stage in enumerate(searched):
            blocks: tuple[Any, ...] = stage.blocks
            out |= {f"{i}.se": blocks[0].attn == frame.gate, f"{i}.depth": len(blocks)}
            for j, block in enumerate(blocks):
                out |= {f"{i}.{j}.kernel": block.kernel, f"{i}.{j}.expand": block.mid // c_in}
                c_in = block.width
        return out

    return Space(choices, name="mobilenet", make=make, read=read)
