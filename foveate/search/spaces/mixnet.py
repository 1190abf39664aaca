"""The space of MixNet, arXiv:1907.09595: MnasNet's blocks with mixed depthwise kernels.

Per stage: gate (squeeze ratio), swish or ReLU, filters; per row (the first block, and those behind it): kernels,
expansion, groups ("parts") of the expanding and of the projecting 1x1 convolution. Kernels are 3; 3, 5; ... 3 to 11, in
equal parts: the choice is how many. One width multiplier for all stages.

The paper does not print its space, only what it chooses from (section 3.2: one to five kernels; section 4.1: swish,
squeeze-and-excitation, grouped 1x1). The lists here contain MixNet-S and M, and L with width 1.3. The official code
repeats rows of equal blocks; here a stage has two rows, as its tables do. The first stage is one block without
expansion. The stem is as wide as the first stage.

With forms=True a row of several kernels also chooses what section 3.2 compares: parts equal or exponential (of three
kernels on, where they differ), and 3x3 with dilation in place of large kernels (where the stride is 1).

Equal nets: filters that a multiplier brings to the same numbers; the multiplier nearest 1 names them.

Pictures below 128 pixels: see strides.fitted; the stem keeps its stride of 2.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from foveate.config import replace
from foveate.search.space import Choice, Space, Tokens, Value
from foveate.search.spaces.strides import fitted_behind
from foveate.zoo.families.mixnet import VARIANTS, Block, MixNetConfig, Stage
from foveate.zoo.widths import round_width

STRIDES = (2, 2, 2, 1, 2)  # of the stages behind the first
FIRST = (16, 24)
WIDTHS = ((16, 24, 32), (32, 40, 48), (64, 80, 96), (96, 120, 144), (160, 200, 240))
LISTS = (FIRST, *WIDTHS)
MULTIPLIERS = (0.75, 1.0, 1.3)
DEPTHS = (0, 1, 2, 3)  # blocks of the second row
ROW = ("kernels", "expand", "expand_parts", "project_parts")
FORMS = ("split", "dilated")


def space(
    *, resolution: int = 224, num_classes: int = 1000, in_chans: int = 3, dropout: float = 0.2, forms: bool = False
) -> Space:
    """The space; its nets are MixNetConfig. dropout: before the classifier (MixNet-M and L: 0.25). forms: kinds of
    mixing are chosen too.
    """
    strides = fitted_behind(2, STRIDES, resolution)
    base = replace(
        VARIANTS["mixnet_s"], resolution=resolution, num_classes=num_classes, in_chans=in_chans, dropout=dropout
    )
    choices = [Choice("width", MULTIPLIERS), Choice("0.width", FIRST)]
    for i, (widths, stride) in enumerate(zip(WIDTHS, strides, strict=True), 1):
        choices += [
            Choice(f"{i}.se", (0.0, 0.25, 0.5)),
            Choice(f"{i}.act", ("relu", "silu")),
            Choice(f"{i}.width", widths),
            *row(f"{i}.0", forms=forms, stride=stride),
            Choice(f"{i}.depth", DEPTHS),
            *row(f"{i}.1", ((f"{i}.depth", DEPTHS[1:]),), forms=forms),
        ]

    def make(values: Mapping[str, Value]) -> MixNetConfig:
        v: Mapping[str, Any] = values
        c_in = stem = round_width(v["0.width"] * v["width"])
        made = [Stage((Block(stem, 0, (3,)),))]
        for i, stride in enumerate(strides, 1):
            width = round_width(v[f"{i}.width"] * v["width"])
            blocks = []
            for j in range(1 + v[f"{i}.depth"]):
                at = f"{i}.{min(j, 1)}"
                parts = v[f"{at}.expand_parts"], v[f"{at}.project_parts"]
                mid, step = v[f"{at}.expand"] * c_in, stride if j == 0 else 1
                how = {key: v[f"{at}.{key}"] for key in FORMS if f"{at}.{key}" in v}
                blocks.append(Block(width, mid, mixed(v[f"{at}.kernels"]), step, *parts, **how))
                c_in = width
            ratio, act = v[f"{i}.se"], v[f"{i}.act"]
            attn = f"se(ratio={ratio}, act='{act}')" if ratio else None
            made.append(Stage(tuple(blocks), act if act != base.layers.act else None, attn))
        return replace(base, stages=tuple(made), stem=stem)

    rows = [next(i for i, c in enumerate(choices) if c.name == f"{stage}.width") for stage in range(1 + len(WIDTHS))]

    def canonical(tokens: Tokens) -> Tokens:
        exact = [choices[at].values[tokens[at]] for at in rows]
        token, chosen = factored([round_width(float(c) * MULTIPLIERS[tokens[0]]) for c in exact])
        out = [token, *tokens[1:]]
        for at, value in zip(rows, chosen, strict=True):
            out[at] = choices[at].values.index(value)
        return tuple(out)

    known = {choice.name for choice in choices}
    return Space(choices, name="mixnet", canonical=canonical, make=make, read=lambda config: read(config, known))


def factored(found: Sequence[int]) -> tuple[int, list[int]]:
    """Filters of the stages -> (token of a multiplier, a value of each list); of several, the multiplier nearest 1."""
    for width in sorted(MULTIPLIERS, key=lambda w: abs(w - 1)):
        exact = [next((c for c in row if round_width(c * width) == w), 0) for row, w in zip(LISTS, found, strict=True)]
        if all(exact):
            return MULTIPLIERS.index(width), exact
    raise ValueError(f"widths {list(found)} are no multiple of its lists")


def row(
    name: str, when: tuple[tuple[str, tuple[Value, ...]], ...] = (), *, forms: bool = False, stride: int = 1
) -> list[Choice]:
    """The choices of blocks that are alike. stride: of the first."""
    split = Choice(f"{name}.split", ("equal", "exponential"), (*when, (f"{name}.kernels", (3, 4, 5))))
    dilated = Choice(f"{name}.dilated", (False, True), (*when, (f"{name}.kernels", (2, 3, 4, 5))))
    return [
        Choice(f"{name}.kernels", (1, 2, 3, 4, 5), when),
        Choice(f"{name}.expand", (3, 6), when),
        Choice(f"{name}.expand_parts", (1, 2), when),
        Choice(f"{name}.project_parts", (1, 2), when),
        *([split] if forms else []),
        *([dilated] if forms and stride == 1 else []),
    ]


def mixed(count: int) -> tuple[int, ...]:
    """The first of 3, 5, 7, 9, 11."""
    return tuple(range(3, 3 + 2 * count, 2))


def read(config: MixNetConfig, known: Container[str]) -> Mapping[str, Value]:
    """The values of a net. known: names of the space's choices."""
    found = [stage.blocks[0].width for stage in config.stages]
    token, exact = factored(found)
    out: dict[str, Value] = {"width": MULTIPLIERS[token], "0.width": exact[0]}
    c_in = found[0]
    for i, stage in enumerate(config.stages[1:], 1):
        first, *rest = stage.blocks
        ratio = float(stage.attn.partition("ratio=")[2].partition(",")[0]) if stage.attn else 0.0
        out |= {f"{i}.se": ratio, f"{i}.act": stage.act or config.layers.act, f"{i}.width": exact[i]}
        out[f"{i}.depth"] = len(rest)
        for j, block in enumerate((first, *rest[:1])):
            row_values = (len(block.kernels), block.mid // c_in, block.expand_parts, block.project_parts)
            out |= {f"{i}.{j}.{name}": value for name, value in zip(ROW, row_values, strict=True)}
            count, at = len(block.kernels), f"{i}.{j}"
            out |= {f"{at}.split": block.split} if f"{at}.split" in known and count > 2 else {}
            out |= {f"{at}.dilated": block.dilated} if f"{at}.dilated" in known and count > 1 else {}
            c_in = block.width
    return out
