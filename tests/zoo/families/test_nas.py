"""The layer-wise nets of arXiv:1611.01578 against a plain reading of their rules and a closed form of their cost."""

import pytest
import torch
import torch.nn.functional as F
from compare import counts, facts, randomise

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.zoo.families.nas import VARIANTS, NASConfig, NASNetwork, Node, side_by_side

FACTS = facts("nas")
ODD = NASConfig(
    (
        Node(5, (3, 1), (1, 2)),
        Node(4, (1, 7), (3, 3), ()),
        Node(6, (5, 3), (2, 3), (0, 1)),
        Node(3, (1, 1), (1, 1), (0,), pool=True),
        Node(7, (7, 5), (1, 1), (1, 3)),
    ),
    num_classes=4,
)


def closed_form(config):
    """(parameters, MACs) from the record alone."""
    params = macs = 0
    sizes = []
    for node in config.nodes:
        seen = [sizes[i] for i in node.inputs] or [(config.resolution,) * 2]
        high, wide = max(s[0] for s in seen), max(s[1] for s in seen)
        weights = config.reads(node.inputs) * node.kernel[0] * node.kernel[1] * node.width
        high, wide = -(-high // node.stride[0]), -(-wide // node.stride[1])
        params, macs = params + weights + 2 * node.width, macs + weights * high * wide
        sizes.append((-(-high // 2), -(-wide // 2)) if node.pool else (high, wide))
    last = sum(node.width for i, node in enumerate(config.nodes) if not any(i in n.inputs for n in config.nodes))
    return params + (last + 1) * config.num_classes, macs + last * config.num_classes


@pytest.mark.parametrize("config", [ODD, *VARIANTS.values()], ids=["odd", *VARIANTS])
def test_counts_are_those_of_the_closed_form(config):
    with torch.device("meta"):
        assert counts(NASNetwork(config), config.resolution) == closed_form(config)


def test_the_example_has_its_counts():
    fact = FACTS["nas_example_cifar"]
    assert closed_form(VARIANTS["nas_example_cifar"]) == (fact["params"], fact["macs"])


def plain(state, config, x):
    """The same net written down with functions and keys alone."""

    def joined(maps):
        out = torch.zeros(len(x), sum(m.shape[1] for m in maps), *(max(m.shape[d] for m in maps) for d in (2, 3)))
        out, at = out.to(x), 0
        for m in maps:
            out[:, at : at + m.shape[1], : m.shape[2], : m.shape[3]] = m
            at += m.shape[1]
        return out

    outputs = []
    for i, node in enumerate(config.nodes):
        key = f"nodes.{i}"
        y = joined([outputs[j] for j in node.inputs]) if node.inputs else x
        y = F.conv2d(y, state[f"{key}.conv.weight"], None, node.stride, (node.kernel[0] // 2, node.kernel[1] // 2))
        norm = (state[f"{key}.bn.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        y = F.batch_norm(y, *norm).relu()
        outputs.append(F.max_pool2d(y, 2, ceil_mode=True) if node.pool else y)
    dead = [y for i, y in enumerate(outputs) if not any(i in node.inputs for node in config.nodes)]
    return joined(dead).mean((2, 3)) @ state["classifier.weight"].T + state["classifier.bias"]


@pytest.mark.parametrize("config", [ODD, *VARIANTS.values()], ids=["odd", *VARIANTS])
def test_the_net_computes_what_the_rules_say(config):
    model = randomise(NASNetwork(config))
    x = torch.randn(2, 3, 17, 22, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        assert (model(x) - plain(model.state_dict(), config, x)).abs().max() < 1e-10


def test_a_unit_of_one_stride_is_thinned_out_to_two():
    config = NASConfig((Node(4, (3, 3), (1, 3)),))
    model, other = (
        NASNetwork(config).eval(),
        NASNetwork(replace(config, layers=replace(config.layers, conv="conv_norm"))),
    )
    x = torch.randn(1, 3, 10, 11)
    assert model.outputs(x)[0].shape == other.eval().outputs(x)[0].shape == (1, 4, 10, 4)


def test_smaller_maps_are_padded_behind():
    a, b = torch.ones(1, 1, 2, 3), 2 * torch.ones(1, 2, 3, 1)
    both = side_by_side([a, b])
    assert both.shape == (1, 3, 3, 3)
    assert both[0, 0].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]] and both[0, 2].tolist() == [[2, 0, 0]] * 3


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Node(8, (2, 3)), "must be odd"),
        (lambda: Node(8, inputs=(1, 0)), "rising"),
        (lambda: NASConfig((Node(8, inputs=(0,)),)), "layers before it"),
        (lambda: NASConfig((*[Node(60_000)] * 2,)), "at most 65,536"),
    ],
)
def test_what_is_no_net_is_named(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
