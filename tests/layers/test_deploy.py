"""Every layer once in a host that it changes: exported to ONNX, and compiled as one graph, with equal outputs."""

import copy
import shutil

import pytest
import torch
from onnx_file import check_logits
from tiny import TABLES, host
from torch import nn

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.drop import DropPath
from foveate.zoo import build

# A host for each row, in which all its layers are found: asked of the networks by a test, as it takes seconds.
HOSTS = (
    *("efficientnet", "shufflenet", "resnet", "vgg", "efficientnet", "shufflenet", "resnet", "vgg"),
    *("efficientnet", "resnet", "efficientnet", "vgg", "efficientnet"),
)
PLAIN = Layers("none", "none", "none", "conv2d")
SIDE = 32


def rows():
    """Layers so that every line of every table occurs: as many rows as the longest table has lines."""
    names = [list(table) for table in TABLES]
    return [Layers(*(column[i % len(column)] for column in names)) for i in range(max(map(len, names)))]


def shape_of(family, layers):
    with torch.device("meta"):
        return repr(build(host(family, layers)))


def changes(family, layers):
    """Whether each layer of the row is to be found in this host; one that is not may be refused."""
    less = [replace(layers, **{slot: getattr(PLAIN, slot)}) for slot in Layers.__dataclass_fields__]
    try:
        return all(other == layers or shape_of(family, other) != shape_of(family, layers) for other in less)
    except ConfigError:
        return False


ROWS = list(zip(HOSTS, rows(), strict=True))
IDS = ["-".join((family, s.norm, s.act, s.attn, s.conv)) for family, s in ROWS]


def trained(family, layers):
    """A network whose running statistics and gains are not those of the start.

    Nothing is dropped at random: machine code would draw other numbers.
    """
    torch.manual_seed(0)
    model = build(host(family, layers)).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, DropPath):
            module.rate = 0.0
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
        for _ in range(2):
            model(torch.randn(8, 3, SIDE, SIDE))
    return model


def near(a, b):
    return (a - b).abs().max() <= 1e-4 * b.abs().max().clamp(min=1.0)


def agrees(model, backend, training):
    """Compiled as one graph the model gives its outputs; in training its gradients and statistics too."""
    x = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    plain, twin = copy.deepcopy(model).train(training), copy.deepcopy(model).train(training)
    torch._dynamo.reset()
    expected, found = plain(x), torch.compile(twin, fullgraph=True, backend=backend)(x)
    assert near(found, expected)
    if training:
        expected.square().sum().backward()
        found.square().sum().backward()
        for (name, p), q in zip(plain.named_parameters(), twin.parameters(), strict=True):
            assert near(q.grad, p.grad), name
        for (name, p), q in zip(plain.named_buffers(), twin.buffers(), strict=True):
            assert near(q, p), name


def test_every_layer_stands_in_a_row():
    for slot, table in zip(Layers.__dataclass_fields__, TABLES, strict=True):
        assert {getattr(layers, slot) for _, layers in ROWS} == set(table)


def test_every_layer_of_a_row_is_found_in_its_host():
    assert [row for row in ROWS if not changes(*row)] == []


@pytest.mark.parametrize(("family", "layers"), ROWS, ids=IDS)
def test_it_exports_to_onnx_with_equal_logits(family, layers):
    check_logits(trained(family, layers).eval(), SIDE)


@pytest.mark.parametrize(("family", "layers"), ROWS, ids=IDS)
def test_a_training_step_compiles_as_one_graph(family, layers):
    agrees(trained(family, layers), "eager", True)


@pytest.mark.thorough
@pytest.mark.parametrize(("family", "layers"), ROWS, ids=IDS)
def test_evaluation_compiles_as_one_graph(family, layers):
    """Chosen points are in the files of the layers that evaluate another way than they train; the export traces all."""
    agrees(trained(family, layers), "eager", False)


# Seconds each: a training step of the first row, evaluation of two rows of the shortest host.
MACHINE_CODE = [(0, True), (3, False), pytest.param(7, False, marks=pytest.mark.thorough)]


@pytest.mark.parametrize(("row", "training"), MACHINE_CODE)
def test_it_compiles_to_machine_code(row, training):
    if not any(shutil.which(name) for name in ("g++", "clang++")):
        pytest.fail("torch.compile needs a C++ compiler, and there is none: install g++ or clang++")
    agrees(trained(*ROWS[row]), "inductor", training)
