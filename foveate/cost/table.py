"""The layers of a network as a CSV file and as a tree that is folded by module."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from foveate.cost.count import Cost, kind
from foveate.files import cell

Numbers = tuple[int, int, int, int, int]  # params, buffers, macs, element-wise FLOPs, activation bytes
COLUMNS = ("name", "kind", "output", "params", "buffers", "macs", "elementwise_flops", "activation_bytes")


@dataclass
class Node:
    """A module with the numbers of all that is in it."""

    name: str  # last part of its path; of several alike: "0-3"
    kind: str
    numbers: Numbers = (0, 0, 0, 0, 0)
    children: list["Node"] = field(default_factory=list)
    alike: int = 1  # modules that this line stands for; the numbers are those of all of them


def rows(counted: Cost, activations: Mapping[str, int]) -> list[dict[str, object]]:
    """One dict a layer, keys as in COLUMNS. activations: bytes kept for the backward pass by module, batch as counted.

    A module that keeps tensors but has no numbers of its own (an activation in a block's forward) has a row too, so
    that every column adds up to its total.
    """
    kinds = {name: kind(module) for name, module in counted.network.named_modules()}
    own = {layer.name: layer for layer in counted.layers}
    out: list[dict[str, object]] = []
    for name in kinds:
        layer = own.get(name)
        if layer is None and not activations.get(name):
            continue
        shape = "x".join(map(str, layer.output)) if layer else ""
        four = (layer.params, layer.buffers, layer.macs, layer.elementwise_flops) if layer else (0, 0, 0, 0)
        values = (name, kinds[name], shape, *four, activations.get(name, 0))
        out.append(dict(zip(COLUMNS, values, strict=True)))
    return out


def csv_text(table: list[dict[str, object]]) -> str:
    """The rows as CSV with a header line; no cell is a formula."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: cell(v) if isinstance(v, str) else v for k, v in row.items()} for row in table)
    return stream.getvalue()


def tree(counted: Cost, activations: Mapping[str, int]) -> Node:
    """The modules as a tree, each with the sum of what is in it; neighbours that are alike are one node."""
    table = {str(row["name"]): row for row in rows(counted, activations)}
    top = Node("", kind(counted.network))
    nodes = {"": top}
    for name, module in counted.network.named_modules():
        if name:
            parent, _, last = name.rpartition(".")
            nodes[name] = Node(last, kind(module))
            nodes[parent].children.append(nodes[name])
        if name in table:
            nodes[name].numbers = _numbers(table[name])
    _add_up(top)
    _fold(top)
    return top


def walk(node: Node, depth: int = 0, deepest: int = 99) -> Iterator[tuple[int, Node]]:
    """(depth, node) of a tree in order, down to a depth; modules in which nothing was counted are left out."""
    yield depth, node
    if depth < deepest:
        for child in node.children:
            params, _, macs, flops, kept = child.numbers
            if params or macs or flops or kept:
                yield from walk(child, depth + 1, deepest)


def _numbers(row: Mapping[str, object]) -> Numbers:
    a, b, c, d, e = (int(str(row[column])) for column in COLUMNS[3:])
    return a, b, c, d, e


def _plus(a: Numbers, b: Numbers) -> Numbers:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4]


def _add_up(node: Node) -> None:
    for child in node.children:
        _add_up(child)
        node.numbers = _plus(node.numbers, child.numbers)


def _fold(node: Node) -> None:
    """Neighbours of the same kind, numbers and children become one."""
    kept: list[tuple[Node, object]] = []
    for child in node.children:
        _fold(child)
        shape = _shape(child)
        if kept and kept[-1][1] == shape and child.name.isdigit():
            first = kept[-1][0]
            first.alike += 1
            first.numbers = _plus(first.numbers, child.numbers)
            first.name = f"{first.name.partition('-')[0]}-{child.name}"
        else:
            kept.append((child, shape))
    node.children = [child for child, _ in kept]


def _shape(node: Node) -> object:
    """What two nodes have in common that are alike: all but the name."""
    return node.kind, node.numbers, node.alike, tuple((child.name, _shape(child)) for child in node.children)
