"""The layer-wise space of Neural Architecture Search, arXiv:1611.01578 section 3.2.

Per layer, in the order of the paper's controller: kernel height and width (1, 3, 5, 7), stride height and width (1, 2,
3; only where asked for), filters (24, 36, 48, 64), and for every layer before it whether it is an input. Without
strides 64^L x 2^(L (L - 1) / 2) nets of L layers: 5 x 10^58 for the paper's 15. Its search begins at 6 layers and adds
two after every 1,600 nets.

Repair rules (foveate.zoo.families.nas): a layer without inputs takes the picture; outputs that nothing reads go to the
classifier; smaller maps are padded with zeros.

Trap: skips that are drawn evenly are half on, and such nets are large; a search is best started from fewer
(arXiv:1802.03268 draws 0.4 of them).

Equal nets: layers that do not read each other may change places. They are ordered by how far they stand from the
picture, and by what is before and behind them; that merges most such nets and never two different ones.

Small pictures: without strides and pools every map has the picture's size, so there is nothing to adapt.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from foveate.errors import ConfigError
from foveate.search.space import Choice, Space, Tokens, Value
from foveate.zoo.families.nas import NASConfig, Node

SIDES, FILTERS, STRIDES = (1, 3, 5, 7), (24, 36, 48, 64), (1, 2, 3)


def space(
    *,
    layers: int = 6,
    least: int = 0,
    strides: bool = False,
    pools: Sequence[int] = (),
    resolution: int = 32,
    num_classes: int = 10,
    in_chans: int = 3,
) -> Space:
    """The space; its nets are NASConfig.

    least: nets have from so many to `layers` layers, in steps of two; 0: all have `layers`. strides: they are chosen
    too. pools: numbers of layers, from 0, with a 2x2 maximum behind them, in every net (the paper's third net has two);
    then the place of a layer matters and no nets are merged.
    """
    if not 1 <= layers <= 64 or any(not 0 <= p < layers for p in pools):
        raise ConfigError(f"nas(layers={layers}, pools={tuple(pools)}): expected 1 to 64 layers, and pools among them")
    if least and not (2 <= least < layers and (layers - least) % 2 == 0 and not pools):
        raise ConfigError(
            f"nas(layers={layers}, least={least}): expected from 2 on, less by a multiple of 2, and no pools"
        )
    depths = tuple(range(least, layers + 1, 2)) if least else ()
    own = ("height", "width", *(("stride_h", "stride_w") if strides else ()), "filters")
    lists: Mapping[str, tuple[Value, ...]] = {
        "height": SIDES,
        "width": SIDES,
        "stride_h": STRIDES,
        "stride_w": STRIDES,
        "filters": FILTERS,
    }
    choices: list[Choice] = [Choice("depth", depths)] if depths else []
    for i in range(layers):
        when = (("depth", tuple(d for d in depths if d > i)),) if i >= least > 0 else ()
        choices += [Choice(f"{i}.{name}", lists[name], when) for name in own]
        choices += [Choice(f"{i}.from{j}", (False, True), when) for j in range(i)]

    def make(values: Mapping[str, Value]) -> NASConfig:
        v: Mapping[str, Any] = values
        nodes = []
        for i in range(v.get("depth", layers)):
            kernel = v[f"{i}.height"], v[f"{i}.width"]
            stride = v.get(f"{i}.stride_h", 1), v.get(f"{i}.stride_w", 1)
            inputs = tuple(j for j in range(i) if v[f"{i}.from{j}"])
            nodes.append(Node(v[f"{i}.filters"], kernel, stride, inputs, i in pools))
        return NASConfig(tuple(nodes), num_classes=num_classes, in_chans=in_chans, resolution=resolution)

    def read(config: NASConfig) -> Mapping[str, Value]:
        out: dict[str, Value] = {"depth": len(config.nodes)} if depths else {}
        for i, node in enumerate(config.nodes):
            found = {"height": node.kernel[0], "width": node.kernel[1], "filters": node.width}
            found |= {"stride_h": node.stride[0], "stride_w": node.stride[1]} if strides else {}
            out |= {f"{i}.{name}": value for name, value in found.items()}
            out |= {f"{i}.from{j}": j in node.inputs for j in range(i)}
        return out

    def canonical(tokens: Tokens) -> Tokens:
        if not depths:
            return ordered(tokens, layers, len(own))
        depth = depths[tokens[0]]
        stop = 1 + depth * len(own) + depth * (depth - 1) // 2
        return (tokens[0], *ordered(tokens[1:stop], depth, len(own)), *tokens[stop:])

    return Space(choices, name="nas", canonical=None if pools else canonical, make=make, read=read)


def ordered(tokens: Tokens, layers: int, own: int) -> Tokens:
    """The net with its layers in the order of their distance from the picture, then of their surroundings."""
    at = [i * own + i * (i - 1) // 2 for i in range(layers + 1)]
    words = [tokens[at[i] : at[i] + own] for i in range(layers)]
    inputs = [[j for j in range(i) if tokens[at[i] + own + j]] for i in range(layers)]
    level, before, behind = [0] * layers, [0] * layers, [0] * layers
    for i in range(layers):  # hashes of whole numbers are the same in every process
        level[i] = 1 + max((level[j] for j in inputs[i]), default=-1)
        before[i] = hash((words[i], tuple(sorted(before[j] for j in inputs[i]))))
    for i in reversed(range(layers)):
        readers = sorted(behind[k] for k in range(i + 1, layers) if i in inputs[k])
        behind[i] = hash((words[i], before[i], tuple(readers)))
    order = sorted(range(layers), key=lambda i: (level[i], before[i], behind[i]))
    place = {old: new for new, old in enumerate(order)}
    out: list[int] = []
    for new, old in enumerate(order):
        read = {place[j] for j in inputs[old]}
        out += [*words[old], *(int(j in read) for j in range(new))]
    return tuple(out)
