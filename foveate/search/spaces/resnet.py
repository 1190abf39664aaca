"""Residual nets of four stages: depth, width, block, order, stem, shortcut, gate, activation, norm.

resnet18 to 152, their d forms, seresnet, resnetv2 and resnext (32x4d) are nets of it at 224 pixels; width multiplies
all of them. Bottlenecks give four times their inner width; 32 groups double the inner widths, as in ResNeXt.

Equal nets: where no stage has a stride both shortcuts are the same convolution.

Pictures below 128 pixels: see strides.fitted; the pool behind the stem goes first, then the stem's stride. Below 64
pixels the stem is a 3x3 convolution of stride 1 and no choice.
"""

from collections.abc import Mapping
from typing import Any

from foveate.config import replace
from foveate.layers import Layers
from foveate.search.space import Choice, Space, Tokens, Value
from foveate.search.spaces.strides import fitted
from foveate.zoo.families.resnet.network import MIDS, ResNetConfig, stages
from foveate.zoo.widths import round_width

DEPTHS = ((1, 2, 3, 4), (1, 2, 3, 4, 6, 8), (1, 2, 3, 4, 6, 9, 23, 36), (1, 2, 3, 4))
WIDTHS = (0.25, 0.5, 0.75, 1.0, 1.25)
GATES = {"none": "none", "se": "se(divisor=8)", "eca": "eca"}
STEMS = {"imagenet": (64,), "deep": (32, 32, 64), "cifar": (64,)}


def space(*, resolution: int = 224, num_classes: int = 1000, in_chans: int = 3) -> Space:
    """The space; its nets are ResNetConfig."""
    pool, first, *strides = fitted((2, 2, 1, 2, 2, 2), resolution)
    base = ResNetConfig(
        stages((1,) * 4, MIDS, MIDS),
        pool="max" if pool > 1 else "none",
        resolution=resolution,
        num_classes=num_classes,
        in_chans=in_chans,
    )
    stems = ("imagenet", "deep") if first > 1 else ("cifar",)
    choices = [
        Choice("block", ("basic", "bottleneck")),
        Choice("groups", (1, 32), when=(("block", ("bottleneck",)),)),
        Choice("order", ("post", "pre")),
        Choice("stem", stems),
        Choice("shortcut", ("conv", "avg")),
        Choice("attn", tuple(GATES)),
        Choice("act", ("relu", "silu")),
        Choice("norm", ("batch_norm", "group_norm")),
        Choice("width", WIDTHS),
        *(Choice(f"depth{i}", depths) for i, depths in enumerate(DEPTHS)),
    ]
    shortcut = next(i for i, choice in enumerate(choices) if choice.name == "shortcut")

    def make(values: Mapping[str, Value]) -> ResNetConfig:
        v: Mapping[str, Any] = values
        groups = v.get("groups", 1)
        narrow = tuple(round_width(mid * v["width"]) for mid in MIDS)
        mids = narrow if groups == 1 else tuple(round(2 * mid / groups) * groups for mid in narrow)
        widths = narrow if v["block"] == "basic" else tuple(4 * mid for mid in narrow)
        rows = stages(tuple(v[f"depth{i}"] for i in range(4)), mids, widths, groups)
        return replace(
            base,
            stages=tuple(replace(row, stride=stride) for row, stride in zip(rows, strides, strict=True)),
            block=v["block"],
            order=v["order"],
            shortcut=v["shortcut"],
            stem=v["stem"],
            stem_widths=tuple(round_width(c * v["width"]) for c in STEMS[v["stem"]]),
            stem_norm=v["order"] == "post",
            layers=Layers(v["norm"], v["act"], GATES[v["attn"]]),
        )

    def canonical(tokens: Tokens) -> Tokens:
        if max(strides) > 1:
            return tokens
        return (*tokens[:shortcut], 0, *tokens[shortcut + 1 :])

    return Space(choices, name="resnet", canonical=canonical, make=make, read=read)


def read(config: ResNetConfig) -> Mapping[str, Value]:
    """The values of a net."""
    layers, narrow = config.layers, config.stages[0].width // (4 if config.block == "bottleneck" else 1)
    out: dict[str, Value] = {
        "block": config.block,
        "order": config.order,
        "stem": config.stem,
        "shortcut": config.shortcut,
        "attn": next(name for name, call in GATES.items() if call == layers.attn),
        "act": layers.act,
        "norm": layers.norm,
        "width": next(w for w in WIDTHS if round_width(MIDS[0] * w) == narrow),
    }
    out |= {f"depth{i}": len(stage.mid) for i, stage in enumerate(config.stages)}
    return out | ({"groups": config.stages[0].groups} if config.block == "bottleneck" else {})
