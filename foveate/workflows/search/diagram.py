"""A network block by block: what it is made of, the map that it makes, what it costs; as text and as a picture."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from foveate.cost.count import LayerCost, cost
from foveate.zoo.family import Config


@dataclass(frozen=True)
class Part:
    """A block of a network, or a layer that stands alone."""

    name: str  # dotted, as in the state dict
    made_of: str  # "1x1, 5x5 /2 depthwise, 1x1"
    output: tuple[int, ...]  # channels, height, width; or channels
    macs: int
    params: int


def parts(config: Config, resolution: int | None = None) -> list[Part]:
    """The blocks of a config as they are registered, with exact costs, which add up to the network's."""
    counted = cost(config, resolution=resolution)
    modules, groups = dict(counted.network.named_modules()), dict[str, list[LayerCost]]()
    for layer in counted.layers:
        groups.setdefault(block_of(layer.name), []).append(layer)
    found: list[Part] = []
    for name, rows in groups.items():
        part = part_of(name, rows, modules)
        if part.macs:
            found.append(part)
        elif found:  # a norm or the like that stands alone belongs to what it follows
            found[-1] = replace(found[-1], params=found[-1].params + part.params)
    return found


def block_of(name: str) -> str:
    """The block that a layer is in: "blocks.1.0.conv_pw" -> "blocks.1.0", "conv_stem" -> itself."""
    words = name.split(".")
    end = 1
    while end < len(words) and words[end].isdigit():
        end += 1
    return ".".join(words[: 2 if end == 1 and len(words) > 2 else end])


def part_of(name: str, rows: list[LayerCost], modules: Mapping[str, Any]) -> Part:
    """The sum of some layers; its map is that of the last one that makes a map, or else of the last one."""
    outputs = [row.output[1:] for row in rows if row.output]
    maps = [output for output in outputs if len(output) == 3 and output[1] > 1]
    words = [word_of(row, modules) for row in rows if row.macs]
    words = [word for i, word in enumerate(words) if i == 0 or word != words[i - 1] or word[0].isdigit()]  # a gate once
    output = (maps or outputs or [()])[-1]
    return Part(name, ", ".join(words), output, sum(r.macs for r in rows), sum(r.params for r in rows))


def word_of(row: LayerCost, modules: Mapping[str, Any]) -> str:
    """A layer in a word: "5x5 /2 depthwise" of a convolution, the module around it where it sees single pixels (a
    gate), or its kind.
    """
    kind, _, rest = row.kind.partition(" ")
    module = modules[row.name]
    if not kind.startswith("Conv2d"):
        return kind
    around = row.name.rpartition(".")[0]
    if row.output[2:] == (1, 1) and around:
        return type(modules[around]).__name__
    if module.groups > 1 and module.groups == module.in_channels:
        return rest.partition(" groups=")[0] + " depthwise"
    return rest


def text(found: list[Part]) -> list[str]:
    """A table for people, one line a block, columns aligned."""
    rows = [("block", "made of", "output", "MACs, M", "params, k")]
    rows += [(p.name, p.made_of, shape(p), f"{p.macs / 1e6:.2f}", f"{p.params / 1e3:.1f}") for p in found]
    macs, params = sum(p.macs for p in found), sum(p.params for p in found)
    rows.append(("", "", "", f"{macs / 1e6:.2f}", f"{params / 1e3:.1f}"))
    wide = [max(len(row[i]) for row in rows) for i in range(5)]
    return [
        "  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, wide, strict=True)))
        for row in rows
    ]


def shape(part: Part) -> str:
    """ "40 x 8 x 8"."""
    return " x ".join(map(str, part.output))


def diagram(found: list[Part]) -> bytes:
    """PNG: a bar a block from the picture down to the classes, as wide as its map has pixels a side, as dark as its
    share of the multiply-adds. Drawn without a display.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.8 + 0.27 * max(4, len(found))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    total, most = max(1, sum(p.macs for p in found)), max(1, *(p.macs for p in found))
    sides = [p.output[1] if len(p.output) == 3 else 1 for p in found]
    for row, (part, side) in enumerate(zip(found, sides, strict=True)):
        half = 0.5 * side / max(sides)
        axes.barh(row, 2 * half, left=-half, height=0.82, color=(0.11, 0.37, 0.75, 0.12 + 0.88 * part.macs / most))
        axes.text(-0.54, row, part.name, ha="right", va="center", fontsize=8)
        about = f"{shape(part)}   {100 * part.macs / total:.0f} % of MACs   {part.made_of}"
        axes.text(0.54, row, about if len(about) < 90 else about[:87] + "...", ha="left", va="center", fontsize=8)
    axes.set(xlim=(-0.9, 2.1), ylim=(len(found) - 0.4, -0.6))
    axes.axis("off")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    return stream.getvalue()
