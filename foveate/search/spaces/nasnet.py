"""The space of NASNet, arXiv:1707.07012: a normal and a reduction cell, five blocks each, five decisions a block.

A block takes two states (the cell's input, the input of the cell before, earlier blocks), one of 13 operations for
each, and adds or concatenates. The states that no block reads are concatenated: the cell's output. Two cells:
(prod over b = 0..4 of (2 + b)^2 x 13^2 x 2)^2 = 5.2 x 10^36 nets, before equal ones are merged.

NASNet-A itself breaks the paper's rule: its code also outputs a state that blocks read (1 in the normal cell, 3 in the
reduction cell). outputs="free" adds that as a choice for each state, and 12 decisions: then NASNet-A is a net of it.

Cells are stacked N @ F (stack, in the family's file): n normal cells a stage, filters by the width that six outputs of
the last stage would have together, penultimate / 24. Search small and restack the winner.

Equal nets: the two sides of a block change places; blocks that do not read each other change places; a state that no
block reads is an output anyway. The order of a concatenation only permutes the weights behind it.

Pictures below 128 pixels: the CIFAR stem, no stem cells, total stride 4 (the paper's form), at any size.
"""

import itertools
from collections.abc import Mapping
from typing import Any, Literal, get_args

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.search.space import Choice, Space, Tokens, Value
from foveate.zoo.families.nasnet.blocks import Block, Genotype, Op
from foveate.zoo.families.nasnet.network import VARIANTS, NASNetConfig, stack, stem_cells

CELLS: tuple[Literal["normal", "reduction"], ...] = ("normal", "reduction")
BLOCKS = 5
OPERATIONS: tuple[Value, ...] = get_args(Op)
FIELDS = ("left", "left_op", "right", "right_op", "combine")
KEPT = range(BLOCKS + 1)  # states that may be an output although they are read; the last block is never read


def space(
    *,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    n: int | None = None,
    penultimate: int | None = None,
    outputs: Literal["unread", "free"] = "unread",
    base: str = "",
) -> Space:
    """The space; its nets are NASNetConfig.

    n, penultimate: the stacking; None: 4 @ 1056 of the mobile net, below 128 pixels 6 @ 768 of the CIFAR net.
    base: the variant that stem and stacking come from; "": as just said.
    """
    name = base or ("nasnet_cifar" if resolution < 128 else "nasnet_mobile")
    if name not in VARIANTS:
        raise ConfigError(f'base "{base}": expected one of {", ".join(VARIANTS)}')
    frame = replace(VARIANTS[name], resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    if n is not None or penultimate is not None:
        first = frame.stages[0].cells
        frame = restack(frame, n or len(first), penultimate or 24 * first[0].filters)
    choices = [c for cell in CELLS for c in cell_choices(cell, outputs == "free")]
    width = len(choices) // 2

    def make(values: Mapping[str, Value]) -> NASNetConfig:
        normal, reduction = (genotype(values, cell) for cell in CELLS)
        return replace(frame, normal=normal, reduction=reduction)

    def read(config: NASNetConfig) -> Mapping[str, Value]:
        out: dict[str, Value] = {}
        for cell in CELLS:
            found: Genotype = getattr(config, cell)
            for b, block in enumerate(found.blocks):
                out |= {f"{cell}.{b}.{field}": getattr(block, field) for field in FIELDS}
            if outputs == "free":
                extra = set(found.outputs) - set(found.unread)
                out |= {f"{cell}.keep{s}": s in extra for s in KEPT}
        return out

    def canonical(tokens: Tokens) -> Tokens:
        return canonical_cell(tokens[:width]) + canonical_cell(tokens[width:])

    return Space(choices, name="nasnet", canonical=canonical, make=make, read=read)


def restack(config: NASNetConfig, n: int, penultimate: int) -> NASNetConfig:
    """The same cells, N @ F: the net that is trained in full, or for larger pictures."""
    if n < 1 or penultimate < 96:
        raise ConfigError(f"{n} @ {penultimate}: expected at least 1 cell and 96 channels (4 filters)")
    stem = stem_cells(penultimate // 24) if config.stem_cells else ()
    return replace(config, stages=stack(n, penultimate), stem_cells=stem)


def cell_choices(cell: str, free: bool) -> list[Choice]:
    """Five choices a block; free: and one for each state that may be an output although it is read."""
    out = []
    for b in range(BLOCKS):
        states = tuple(range(2 + b))
        values: tuple[tuple[Value, ...], ...] = (states, OPERATIONS, states, OPERATIONS, ("add", "concat"))
        out += [Choice(f"{cell}.{b}.{field}", v) for field, v in zip(FIELDS, values, strict=True)]
    return out + [Choice(f"{cell}.keep{s}", (False, True)) for s in KEPT if free]


def genotype(values: Mapping[str, Value], cell: str) -> Genotype:
    """The record of a cell."""
    v: Mapping[str, Any] = values
    made = Genotype(tuple(Block(*(v[f"{cell}.{b}.{field}"] for field in FIELDS)) for b in range(BLOCKS)))
    extra = {s for s in KEPT if v.get(f"{cell}.keep{s}", False)} - set(made.unread)
    return replace(made, outputs=tuple(sorted(extra | set(made.unread)))) if extra else made


def canonical_cell(tokens: Tokens) -> Tokens:
    """The first in the alphabet of all ways to write a cell: orders of its blocks, and sides of each."""
    size = len(FIELDS)
    blocks = [tokens[b * size : (b + 1) * size] for b in range(BLOCKS)]
    read = {s for block in blocks for s in (block[0], block[2])}
    kept = [t if s in read else 0 for s, t in enumerate(tokens[BLOCKS * size :])]
    return min(written(blocks, kept, order) for order in orders(blocks))


def orders(blocks: list[Tokens]) -> list[tuple[int, ...]]:
    """The orders in which every block stands behind those that it reads."""
    needs = [{s - 2 for s in (block[0], block[2]) if s >= 2} for block in blocks]
    found = []
    for order in itertools.permutations(range(BLOCKS)):
        place = {b: i for i, b in enumerate(order)}
        if all(place[other] < place[b] for b in order for other in needs[b]):
            found.append(order)
    return found


def written(blocks: list[Tokens], kept: list[int], order: tuple[int, ...]) -> Tokens:
    """The cell's tokens with its blocks in this order and the sides of each sorted."""
    state = {0: 0, 1: 1} | {b + 2: i + 2 for i, b in enumerate(order)}
    out: list[int] = []
    for b in order:
        left, left_op, right, right_op, combine = blocks[b]
        sides = sorted(((state[left], left_op), (state[right], right_op)))
        out += [*sides[0], *sides[1], combine]
    flags = [0] * (BLOCKS + 2)
    for s, flag in enumerate(kept):
        flags[state[s]] = flag
    return (*out, *flags[: len(kept)])
