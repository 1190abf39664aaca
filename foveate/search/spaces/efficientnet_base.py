"""The space in which EfficientNet-B0 was found, arXiv:1905.11946 section 4: MnasNet's, searched for multiply-adds.

Per stage: expansion, kernel, gate, filters, layers. The paper prints no lists; B0's filters are the middle of ours.
Deliberate differences: no plain convolutions and no other skip than the identity, which the family does not have.
The nets of Accel-NASBench (afzalxo/Accel-NASBench) lie in this space: filters of B0, expansion 1, 4 or 6.

Expansion 1 is a block without expanding convolution. Equal nets: none but those with the same values.

Pictures below 128 pixels: see strides.fitted; the stem keeps its stride of 2.
"""

from collections.abc import Mapping
from typing import Any

from foveate.config import replace
from foveate.search.space import Choice, Space, Value
from foveate.search.spaces.strides import fitted_behind
from foveate.zoo.families.efficientnet.network import VARIANTS, EfficientNetConfig, Stage

STRIDES = (1, 2, 2, 2, 1, 2, 1)
WIDTHS = ((8, 16, 24), (16, 24, 32), (32, 40, 48), (64, 80, 96), (88, 112, 136), (160, 192, 224), (240, 320, 400))
DEPTHS = ((1, 2, 3), (1, 2, 3), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4, 5), (1, 2, 3))


def space(*, resolution: int = 224, num_classes: int = 1000, in_chans: int = 3) -> Space:
    """The space; its nets are EfficientNetConfig with B0's stem, head and layers."""
    strides = fitted_behind(2, STRIDES, resolution)
    base = replace(VARIANTS["efficientnet_b0"], resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    bare = replace(base.layers, attn="none")
    choices: list[Choice] = []
    for i, (widths, depths) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        choices += [
            Choice(f"{i}.expand", (1, 3, 4, 6)),
            Choice(f"{i}.kernel", (3, 5)),
            Choice(f"{i}.se", (True, False)),
            Choice(f"{i}.width", widths),
            Choice(f"{i}.depth", depths),
        ]

    def make(values: Mapping[str, Value]) -> EfficientNetConfig:
        stages = []
        for i, stride in enumerate(strides):
            v: dict[str, Any] = {name: values[f"{i}.{name}"] for name in ("expand", "kernel", "se", "width", "depth")}
            layers = None if v["se"] else bare
            stages.append(Stage(v["depth"], v["width"], v["expand"], v["kernel"], stride, layers=layers))
        return replace(base, stages=tuple(stages))

    def read(config: EfficientNetConfig) -> Mapping[str, Value]:
        out: dict[str, Value] = {}
        for i, s in enumerate(config.stages):
            out |= {f"{i}.expand": s.expand, f"{i}.kernel": s.kernel, f"{i}.se": s.layers is None}
            out |= {f"{i}.width": s.width, f"{i}.depth": s.depth}
        return out

    return Space(choices, name="efficientnet_base", make=make, read=read)
