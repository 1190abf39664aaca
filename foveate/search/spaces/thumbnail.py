"""Nets for small pictures, about 16 to 64 pixels: four kinds of blocks between a stem and a linear classifier.

plain      airbench (arXiv:2404.00498): convolutions of a group with a maximum behind the first, whitened or free
           patches as stem, a shortcut over the group or none. airbench94, 95, medium and small are nets of it.
residual   CIFAR ResNets (arXiv:1512.03385 section 4.2), post-activation, with convolutions as shortcuts.
wide       pre-activation residual blocks (arXiv:1605.07146): wrn16_4 and wrn16_8 are nets of it.
inverted   mobile blocks (arXiv:1801.04381) at the strides of small pictures.

Common choices: width of the first stage, how widths grow, blocks a stage, gate, activation; where the two or three
strides stand is one for all but plain, whose every group halves the map. Pictures below 16 pixels: no plain nets.
The recipe cifar_fast is made for the plain nets, and a search trains them by it; the others, by cifar_standard.
"""

from collections.abc import Mapping
from typing import Any

from foveate.config import replace
from foveate.layers import Layers
from foveate.search.space import Choice, Space, Tokens, Value
from foveate.zoo.families.airbench import NORM, AirbenchConfig, Group
from foveate.zoo.families.mobilenet import Block, MobileNetConfig
from foveate.zoo.families.mobilenet import Stage as MobileStage
from foveate.zoo.families.resnet.network import ResNetConfig, stages
from foveate.zoo.widths import round_width

BLOCKS = ("plain", "residual", "wide", "inverted")
WIDTHS = (16, 24, 32, 48, 64, 96, 128)
GROWTHS = {
    "2-4": (1, 2, 4),
    "3-3": (1, 3, 3),
    "3-4": (1, 3, 4),
    "4-4": (1, 4, 4),
    "2-2": (1, 2, 2),
    "1.5-2": (1, 1.5, 2),
    "3.3-3.3": (1, 10 / 3, 10 / 3),
}
DEPTHS = (1, 2, 3, 4)
STRIDES = {"late": (1, 2, 2), "early": (2, 2, 1), "all": (2, 2, 2)}
GATES = {"none": "none", "se": "se(divisor=8)", "eca": "eca"}
ACTS = ("relu", "gelu", "silu")
PATCHES = 24  # filters of the plain nets' stem: both signs of the eigenvectors of 2 x 2 x 3 patches
LEAST_PLAIN = 16  # pixels, below which four halvings leave nothing
HEAD = 4  # times as wide as the last stage is the layer before an inverted net's classifier


def space(*, resolution: int = 32, num_classes: int = 10, in_chans: int = 3) -> Space:
    """The space; its nets are AirbenchConfig, ResNetConfig and MobileNetConfig."""
    blocks = BLOCKS if resolution >= LEAST_PLAIN else BLOCKS[1:]
    rest = tuple(b for b in blocks if b != "plain")
    choices = [
        Choice("block", blocks),
        Choice("width", WIDTHS),
        Choice("growth", tuple(GROWTHS)),
        *(Choice(f"depth{i}", DEPTHS) for i in range(3)),
        Choice("attn", tuple(GATES)),
        Choice("act", ACTS),
        Choice("strides", tuple(STRIDES), when=(("block", rest),)),
        Choice("expand", (2, 4, 6), when=(("block", ("inverted",)),)),
        Choice("kernel", (3, 5), when=(("block", ("inverted",)),)),
    ]
    if "plain" in blocks:
        choices += [
            Choice("stem", ("whitened", "free"), when=(("block", ("plain",)),)),
            Choice("shortcut", (False, True), when=(("block", ("plain",)),)),
        ]
    common: Mapping[str, Any] = {"resolution": resolution, "num_classes": num_classes, "in_chans": in_chans}

    def make(values: Mapping[str, Value]) -> Any:
        v: Mapping[str, Any] = values
        widths = tuple(round(v["width"] * times) for times in GROWTHS[v["growth"]])
        depths = tuple(v[f"depth{i}"] for i in range(3))
        makers = {"plain": plain, "residual": residual, "wide": residual, "inverted": inverted}
        return makers[v["block"]](v, widths, depths, common)

    at = {choice.name: i for i, choice in enumerate(choices)}

    def canonical(tokens: Tokens) -> Tokens:
        """A shortcut over groups of one convolution is none."""
        single = all(DEPTHS[tokens[at[f"depth{i}"]]] == 1 for i in range(3))
        return (*tokens[:-1], 0) if "plain" in blocks and single and tokens[-1] == 1 else tokens

    return Space(choices, name="thumbnail", canonical=canonical, make=make, read=read)


def plain(v: Mapping[str, Any], widths: tuple[int, ...], depths: tuple[int, ...], common: Mapping[str, Any]) -> Any:
    """A net of airbench's; a shortcut stands where a group has two convolutions or more."""
    groups = tuple(Group((w,) * d, v["shortcut"] and d > 1) for w, d in zip(widths, depths, strict=True))
    layers = Layers(NORM, v["act"], GATES[v["attn"]])
    fixed = v["stem"] == "whitened"
    return AirbenchConfig(groups, stem=PATCHES, fixed_patches=fixed, layers=layers, **common)


def residual(v: Mapping[str, Any], widths: tuple[int, ...], depths: tuple[int, ...], common: Mapping[str, Any]) -> Any:
    """A ResNet of basic blocks; wide: pre-activation, its stem of 16 channels."""
    wide = v["block"] == "wide"
    rows = stages(depths, widths, widths)
    return ResNetConfig(
        tuple(replace(row, stride=stride) for row, stride in zip(rows, STRIDES[v["strides"]], strict=True)),
        order="pre" if wide else "post",
        stem="cifar",
        stem_widths=(min(16, widths[0]) if wide else widths[0],),
        stem_norm=not wide,
        pool="none",
        layers=Layers("batch_norm", v["act"], GATES[v["attn"]]),
        **common,
    )


def inverted(v: Mapping[str, Any], widths: tuple[int, ...], depths: tuple[int, ...], common: Mapping[str, Any]) -> Any:
    """A MobileNetV2 whose stem and first stage keep the picture's size, unless the strides stand early."""
    rows, before = [], widths[0]
    for width, depth, stride in zip(widths, depths, STRIDES[v["strides"]], strict=True):
        blocks = []
        for i in range(depth):
            mid = round_width(before * v["expand"])
            blocks.append(Block("inverted", width, kernel=v["kernel"], stride=stride if i == 0 else 1, mid=mid))
            before = width
        rows.append(MobileStage(tuple(blocks)))
    layers = Layers("batch_norm", v["act"], GATES[v["attn"]])
    head = HEAD * widths[-1]
    return MobileNetConfig(tuple(rows), stem=widths[0], stem_stride=1, head=head, dropout=0.0, layers=layers, **common)


def read(config: Any) -> Mapping[str, Value]:
    """The values of a net."""
    layers = config.layers
    out: dict[str, Value] = {
        "act": layers.act,
        "attn": next(name for name, call in GATES.items() if call == layers.attn),
    }
    if isinstance(config, AirbenchConfig):
        widths, depths = zip(*((g.widths[-1], len(g.widths)) for g in config.groups), strict=True)
        out |= {"block": "plain", "stem": "whitened" if config.fixed_patches else "free"}
        out["shortcut"] = any(g.residual for g in config.groups)
    elif config.family == "mobilenet":
        widths, depths = zip(*((s.blocks[0].width, len(s.blocks)) for s in config.stages), strict=True)
        first = config.stages[0].blocks[0]
        before = config.stem
        out |= {
            "block": "inverted",
            "kernel": first.kernel,
            "strides": _strides(s.blocks[0].stride for s in config.stages),
        }
        out["expand"] = next(e for e in (2, 4, 6) if round_width(before * e) == first.mid)
    else:
        widths, depths = zip(*((s.width, len(s.mid)) for s in config.stages), strict=True)
        out |= {
            "block": "wide" if config.order == "pre" else "residual",
            "strides": _strides(s.stride for s in config.stages),
        }
    out |= {"width": widths[0]} | {f"depth{i}": depth for i, depth in enumerate(depths)}
    out["growth"] = next(
        name for name, times in GROWTHS.items() if tuple(round(widths[0] * t) for t in times) == tuple(widths)
    )
    return out


def _strides(found: Any) -> str:
    held = tuple(found)
    return next(name for name, strides in STRIDES.items() if strides == held)
