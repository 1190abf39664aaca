"""safeguard: no strided 1x1 convolution of few channels learns in channels-last, on no processor; nothing else changes.

There oneDNN writes past its memory: with AVX2 below 8 channels, with AVX-512 below 16 on maps of 56 pixels and more.
"""

import copy
import os
import subprocess
import sys

import pytest
import torch
from prunable import PLUGS, SIDES, prunable
from torch import nn
from torch._prims_common import suggest_memory_format
from torch.utils._python_dispatch import TorchDispatchMode

from foveate.compress.narrow import narrow
from foveate.compress.plan import random_plan
from foveate.config import replace
from foveate.cost.count import cost
from foveate.data.preprocess import Preprocess
from foveate.deploy.export import export_for_timing
from foveate.layers import Layers
from foveate.layers.conv import safeguard
from foveate.zoo import FAMILIES, build
from foveate.zoo.families.resnet.network import ResNetConfig, Stage
from foveate.zoo.graft import graft

LAYOUTS = ("permuted", "memory format", "weights", "both")
CAPS = {"all": {}, "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}}
CHILD = """
import torch
from test_conv import laid_out, shrinking
from foveate.zoo import build

torch.set_num_threads(1)
for unit in ("conv2d", "ws_conv", "conv_norm", "invariant_conv"):
    for channels in (3, 5, 8, 12) if unit == "conv2d" else (5,):
        for side in (8, 32, 56):
            for layout in ("permuted", "weights"):
                model, x = laid_out(build(shrinking(channels, unit)), torch.randn(4, 3, side, side), layout)
                for _ in range(8):
                    model(x).sum().backward()
                    assert all(p.grad.isfinite().all() for p in model.parameters())
    print(unit, flush=True)
"""


def shrinking(channels, unit="conv2d"):
    """A network whose second stage begins with a strided 1x1 convolution of so many channels, on maps of x's size."""
    stages = (Stage(channels, (channels,), 1), Stage(8, (8,), 2))
    config = ResNetConfig(stages=stages, block="basic", stem="cifar", pool="none", stem_widths=(channels,))
    norm = "none" if unit == "invariant_conv" else "batch_norm"
    return replace(config, layers=Layers(norm=norm, conv=unit), num_classes=3)


def laid_out(model, x, layout):
    """In channels-last by the strides of what the name says."""
    if layout in ("permuted", "both"):
        x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    elif layout == "memory format":
        x = x.contiguous(memory_format=torch.channels_last)
    return (model.to(memory_format=torch.channels_last) if layout in ("weights", "both") else model), x


def unguarded(model):
    for module in model.modules():
        module.__dict__.pop("_conv_forward", None)
    return model


class Dangerous(TorchDispatchMode):
    """The convolutions, of both passes, that oneDNN gets in the form of the fault."""

    def __init__(self):
        super().__init__()
        self.found, self.passes = [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__
        if name in ("convolution", "convolution_backward"):
            self.passes.add(name)
            x, weight = args[:2] if name == "convolution" else args[1:3]
            stride, groups = (args[3], args[8]) if name == "convolution" else (args[4], args[9])
            last = torch.channels_last in (suggest_memory_format(x), suggest_memory_format(weight))
            if last and weight.shape[2:] == (1, 1) and max(stride) > 1 and groups == 1 and x.shape[1] < 16:
                self.found.append((name, *x.shape))
        return func(*args, **(kwargs or {}))


def dangerous(model, x, backward=True):
    with Dangerous() as seen:
        y = model(x)
        if backward:
            y.sum().backward()
    assert seen.passes == {"convolution", "convolution_backward"} if backward else {"convolution"}
    return seen.found


@pytest.mark.parametrize("cap", CAPS)
def test_the_process_lives_through_what_would_end_it(cap):
    paths = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    env = os.environ | CAPS[cap] | {"PYTHONPATH": paths}
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=280, env=env)
    assert (child.returncode, len(child.stdout.splitlines())) == (0, 4), child.stdout + child.stderr[-800:]


@pytest.mark.parametrize("layout", ["permuted", "both"])
def test_no_family_gives_onednn_the_form_of_the_fault(layout):
    """By the strides that arrive, so it holds on every processor; narrowed networks have more of them than others."""
    met = []
    for family in FAMILIES:
        whole = prunable(family, PLUGS["plain"])
        side = SIDES.get(family, 32)
        for config in (whole, narrow(whole, random_plan(whole, 1))):
            model, x = laid_out(build(config).train(), torch.rand(2, 3, side, side), layout)
            assert dangerous(model, x) == [], family
            met += dangerous(unguarded(model), x, backward=False)
    assert len(met) > 5  # without the guard


@pytest.mark.parametrize("unit", ["conv2d", "ws_conv", "conv_norm", "invariant_conv", "low_rank", "mgic(group=2)"])
def test_no_unit_gives_onednn_the_form_of_the_fault(unit):
    for layout in LAYOUTS:
        assert dangerous(*laid_out(build(shrinking(12, unit)), torch.rand(2, 3, 8, 8), layout)) == []


@pytest.mark.parametrize("stride", [2, 3, (1, 2)])
@pytest.mark.parametrize("side", [7, 8])
def test_outputs_and_gradients_are_those_of_the_plain_layout(stride, side):
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 8, 1, stride)
    x = torch.randn(4, 5, side, side)
    rows = []
    for layout in ("plain", *LAYOUTS):
        model = copy.deepcopy(plain)
        safeguard(model)
        model, given = laid_out(model, x.clone(), layout)
        given.requires_grad_()
        y = model(given)
        y.square().sum().backward()
        rows.append((y, given.grad, model.weight.grad, model.bias.grad))
    for other in rows[1:]:
        for a, b in zip(rows[0], other, strict=True):
            torch.testing.assert_close(a, b)


def test_the_plain_layout_computes_what_it_did_to_the_last_bit():
    torch.manual_seed(0)
    model, x = build(shrinking(5)), torch.rand(2, 3, 8, 8)
    bare = unguarded(copy.deepcopy(model))
    for net in (model, bare):
        net(x).sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), bare.parameters(), strict=True))


def test_names_types_costs_and_exported_graphs_are_those_of_the_bare_network():
    torch.manual_seed(0)
    model = build(shrinking(5)).eval()
    copied, bare = copy.deepcopy(model), unguarded(copy.deepcopy(model))
    assert [(n, type(m)) for n, m in model.named_modules()] == [(n, type(m)) for n, m in bare.named_modules()]
    assert model.state_dict().keys() == bare.state_dict().keys()
    assert cost(model, 32) == cost(bare, 32)
    p = Preprocess(resolution=32, resize=32)
    assert export_for_timing(model, p) == export_for_timing(bare, p)
    with torch.no_grad():  # a prediction runs as it did, in channels-last too
        _, x = laid_out(model, torch.rand(2, 3, 32, 32), "permuted")
        assert torch.equal(model(x), bare(x))
    guarded = [m for m in copied.modules() if "_conv_forward" in m.__dict__]
    assert guarded and all(m._conv_forward.args == (m,) for m in guarded)  # a copy keeps to its own parameters


def test_a_compiled_network_is_one_graph_and_learns_the_same():
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(5, 8, 1, 2))
    safeguard(conv)
    _, x = laid_out(conv, torch.randn(2, 5, 8, 8), "permuted")
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    grads = []
    for net in (conv, compiled):
        conv.zero_grad()
        net(x).square().sum().backward()
        grads.append(conv[0].weight.grad.clone())
    torch.testing.assert_close(*grads)


def test_a_grafted_network_is_guarded():
    foreign = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 1, 2), nn.Flatten(), nn.Linear(256, 3))
    grafted, _ = graft(foreign, {"conv": "ws_conv"})
    assert dangerous(*laid_out(grafted, torch.rand(2, 3, 8, 8), "both")) == []
