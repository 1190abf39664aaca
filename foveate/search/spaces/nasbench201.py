"""The cell space of NAS-Bench-201 (Dong & Yang 2020, arXiv 2001.00326): six edges between four nodes, 5^6 cells.

Key: six digits for the edges 0>1, 0>2, 1>2, 0>3, 1>3, 2>3; 0 none, 1 skip, 2 conv1x1, 3 conv3x3, 4 avgpool3x3. A node
is the sum of its incoming edges; node 0 is the cell's input, node 3 its output.

Canonical form: an edge that no signal enters, or whose result never reaches the output, is none, so that all 341 cells
cut off from their input are "000000". That leaves the function untouched but for the bias that a batch norm fed with
zeros can learn. Cells that differ by the order of nodes 1 and 2, or by a skip written elsewhere, keep their own names:
the table trained each by itself, so their rows differ, and `features` is how a predictor learns that they are alike.

The nets stand in a table, and are nets of foveate's nasbench201 family. Their counts are the table's; a canonical net
lacks the dead edges' parameters, which the table counts. Pictures below 16 pixels keep fewer of the two strides, by
fewer stages.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from foveate.search.space import Choice, Space, Tokens, Value
from foveate.search.spaces.strides import LEAST_SIDE

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPERATIONS = ("0", "1", "2", "3", "4")
NAMES = ("none", "skip", "conv1x1", "conv3x3", "avg3x3")
NONE, SKIP = 0, 1
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))  # positions in EDGES, input to output
WORDS = {w: i for i, w in enumerate(w for n in range(4) for w in itertools.product((2, 3, 4), repeat=n))}
REFERENCE = {"c10_test_200ep_alt": 80.0, "macs_c10": 230e6}  # of hypervolumes: percent, multiply-adds


def canonical(tokens: Tokens) -> Tokens:
    """The cell with none on every edge that lies on no path from input to output."""
    live = {edge for path in PATHS if all(tokens[e] != NONE for e in path) for edge in path}
    return tuple(t if i in live else NONE for i, t in enumerate(tokens))


def features(nets: np.ndarray) -> np.ndarray:
    """(n, 6) tokens -> (n, 40) counts: how often each sequence of operations leads from input to output.

    The path encoding (White et al. 2021, arXiv 1910.11858), which does not name the inner nodes. Deliberate difference:
    counts instead of flags, and no skips, for a skip leaves the signal as it is.
    """
    out = np.zeros((len(nets), len(WORDS)))
    for row, net in zip(out, np.asarray(nets).tolist(), strict=True):
        for path in PATHS:
            operations = [net[edge] for edge in path]
            if NONE not in operations:
                row[WORDS[tuple(o for o in operations if o != SKIP)]] += 1
    return out


def space(*, resolution: int = 32, num_classes: int = 10, in_chans: int = 3, width: int = 16, cells: int = 5) -> Space:
    """The space; its nets are named like the `ops` column of the table ("333123"). Their records: NASBench201Config.

    width: channels of the first stage, cells: a stage; the table has 16 and 5.
    """
    choices = [Choice(f"edge{a}{b}", OPERATIONS) for a, b in EDGES]

    def make(values: Mapping[str, Value]) -> Any:
        from foveate.zoo.families.nasbench201 import NASBench201Config, Stage

        factors = [f for f in (1, 2, 4) if f == 1 or LEAST_SIDE * f <= resolution]
        stages = tuple(Stage(f * width, cells, f * width if f > 1 else None) for f in factors)
        named: Any = tuple(NAMES[int(values[choice.name])] for choice in choices)
        return NASBench201Config(
            named, stages, stem=width, resolution=resolution, num_classes=num_classes, in_chans=in_chans
        )

    return Space(
        choices,
        name="nasbench201",
        canonical=canonical,
        features=features,
        make=make,
        read=lambda config: {c.name: str(NAMES.index(op)) for c, op in zip(choices, config.cell, strict=True)},
        references=REFERENCE,
    )
