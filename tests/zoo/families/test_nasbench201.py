"""NAS-Bench-201 against the benchmark's counts and a plain reading of its skeleton."""

import pytest
import torch
import torch.nn.functional as F
from compare import counts, randomise

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.zoo.families.nasbench201 import EDGES, NASBench201, NASBench201Config, Stage

OPS = ("none", "skip", "conv1x1", "conv3x3", "avg3x3")
ROWS = {  # digits of the six edges -> parameters, MACs: six nets of the benchmark's table
    "421211": (129_306, 15_647_360),
    "334131": (802_426, 113_951_360),
    "433444": (559_386, 78_561_920),
    "410001": (73_306, 7_783_040),
    "212304": (372_346, 51_036_800),
    "000000": (73_306, 7_783_040),
    "222222": (241_306, 31_376_000),
    "333123": (1_073_466, 153_272_960),
}


def of(digits):
    return NASBench201Config(tuple(OPS[int(d)] for d in digits))


@pytest.mark.parametrize("digits", ROWS)
def test_counts_are_those_of_the_table(digits):
    with torch.device("meta"):
        assert counts(NASBench201(of(digits)), 32) == ROWS[digits]


def plain(state, config, x):
    """The same net written down with functions and keys alone."""

    def bn(x, key):
        return F.batch_norm(
            x, state[f"{key}.running_mean"], state[f"{key}.running_var"], state[f"{key}.weight"], state[f"{key}.bias"]
        )

    def rcb(x, key, stride=1):
        w = state[f"{key}.conv.weight"]
        return bn(F.conv2d(x.relu(), w, stride=stride, padding=w.shape[-1] // 2), f"{key}.bn")

    def edge(x, op, key):
        if op == "avg3x3":
            ones = F.avg_pool2d(torch.ones_like(x), 3, 1, 1)
            return F.avg_pool2d(x, 3, 1, 1) / ones
        return {"none": lambda: 0 * x, "skip": lambda: x}.get(op, lambda: rcb(x, key))()

    x = bn(F.conv2d(x, state["conv_stem.weight"], padding=1), "bn_stem")
    for s, stage in enumerate(config.stages):
        if s:
            key = f"reductions.{s - 1}"
            short = F.conv2d(F.avg_pool2d(x, 2), state[f"{key}.conv.weight"])
            x = short + rcb(rcb(x, f"{key}.conv_a", 2), f"{key}.conv_b")
        for c in range(stage.cells):
            nodes = [x, 0, 0, 0]
            for (a, b), op in zip(EDGES, config.cell, strict=True):
                nodes[b] = nodes[b] + edge(nodes[a], op, f"stages.{s}.{c}.edges.{a}{b}")
            x = nodes[3]
    return bn(x, "bn").relu().mean((2, 3)) @ state["classifier.weight"].T + state["classifier.bias"]


@pytest.mark.parametrize("digits", ["333123", "421211", "433444", "100234", "000000", "300000"])
def test_the_net_computes_what_the_skeleton_says(digits):
    config = replace(of(digits), stages=(Stage(16, 2), Stage(32, 1, 24), Stage(64, 1)))
    model = randomise(NASBench201(config))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        assert (model(x) - plain(model.state_dict(), config, x)).abs().max() < 1e-10


def test_a_cell_that_is_cut_off_sees_no_picture():
    model = randomise(NASBench201(of("010030")))  # node 1 is nothing, node 2 leads nowhere
    with torch.no_grad():
        a, b = model(torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert torch.equal(a, b)


def test_what_is_wrong_is_named():
    with pytest.raises(ConfigError, match="stem = 8"):
        replace(of("333333"), stem=8)
    with pytest.raises(ConfigError, match="cell"):
        NASBench201Config(cell=("conv5x5",) * 6)
    with pytest.raises(ConfigError, match="at most 512"):
        replace(of("333333"), stages=(Stage(16, 4000),))
