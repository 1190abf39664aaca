"""The space of NAS-Bench-Macro (Su et al. 2021, arXiv 2103.11922): eight layers, three operations each.

Key: eight digits, layer by layer: 0 identity, 1 MBConv of expansion 3 with a 3x3 kernel, 2 MBConv of expansion 6 with
5x5. Three stages of 2, 3 and 3 layers; the first layer of each has stride 2 and doubles the channels, where "identity"
is a 1x1 convolution of stride 2, so it counts. A later identity does nothing, so inside a stage identities may move to
the end: 6,561 keys, 3,969 different nets.

The nets stand in a table, and are nets of foveate's mobilenet family: a 3x3 stem of 32 channels and stride 1, these
layers without gates, 1x1 to 1280 channels, classifier. Pictures below 32 pixels: see strides.fitted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from foveate.search.space import Choice, Space, Tokens, Value

STAGES = (2, 3, 3)  # layers
WIDTHS = (64, 128, 256)
OPERATIONS = ("0", "1", "2")
EXPANSION, KERNEL = {"1": 3, "2": 6}, {"1": 3, "2": 5}
REFERENCE = {"mean_acc": 80.0, "flops": 110e6}  # of hypervolumes: percent; the table's flops are multiply-adds


def canonical(tokens: Tokens) -> Tokens:
    """In each stage the first token, then the operations in order, then the identities."""
    out: list[int] = []
    start = 0
    for layers in STAGES:
        first, *rest = tokens[start : start + layers]
        real = [t for t in rest if t]
        out += [first, *real, *[0] * (len(rest) - len(real))]
        start += layers
    return tuple(out)


def space(*, resolution: int = 32, num_classes: int = 10, in_chans: int = 3) -> Space:
    """The space; its nets are named like the table's keys ("22212220"). Their records: MobileNetConfig."""
    choices = [Choice(f"layer{i}", OPERATIONS) for i in range(sum(STAGES))]

    def make(values: Mapping[str, Value]) -> Any:
        word = [str(values[choice.name]) for choice in choices]
        return config(word, resolution=resolution, num_classes=num_classes, in_chans=in_chans)

    return Space(choices, name="nasbench_macro", canonical=canonical, make=make, read=read, references=REFERENCE)


def config(word: Sequence[str], *, resolution: int, num_classes: int, in_chans: int) -> Any:
    """The MobileNetConfig of eight operations. The zoo, and with it torch, is imported here: a table needs neither."""
    from foveate.layers import Layers
    from foveate.search.spaces.strides import fitted
    from foveate.zoo.families.mobilenet.network import Block, MobileNetConfig, Stage

    c_in, start, stages = 32, 0, []
    for depth, width, stride in zip(STAGES, WIDTHS, fitted((2, 2, 2), resolution), strict=True):
        blocks = []
        for j, op in enumerate(word[start : start + depth]):
            if op == "0":
                blocks += [Block("conv", width, 1, stride, act="none")] if j == 0 else []
            else:
                blocks.append(Block("inverted", width, KERNEL[op], stride if j == 0 else 1, EXPANSION[op] * c_in))
            c_in = width
        stages.append(Stage(tuple(blocks)))
        start += depth
    return MobileNetConfig(
        tuple(stages),
        stem_stride=1,
        dropout=0.0,
        layers=Layers("batch_norm", "relu"),
        num_classes=num_classes,
        in_chans=in_chans,
        resolution=resolution,
    )


def read(config: Any) -> Mapping[str, Value]:
    """The values of a net: its canonical name."""
    word = []
    for stage, depth in zip(config.stages, STAGES, strict=True):
        found = [
            "0" if b.kind == "conv" else next(op for op, k in KERNEL.items() if k == b.kernel) for b in stage.blocks
        ]
        word += [*found, *["0"] * (depth - len(found))]
    return {f"layer{i}": op for i, op in enumerate(word)}
