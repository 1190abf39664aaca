"""torch.fx traces every family, and torch.func maps over the weights of one whose kernels are computed."""

import pytest
import torch
from tiny import TINY, host
from torch import fx
from torch.func import functional_call, stack_module_state, vmap

from foveate.config import replace
from foveate.layers import Layers
from foveate.layers.drop import DropBlock, DropPath, ScheduledDropPath
from foveate.layers.same import same_pads
from foveate.layers.tracing import larger, smaller
from foveate.zoo import FAMILIES, build


def check(model, sides=((32, 32), (45, 37))):
    """The graph gives what the network gives, at other sizes and batches too."""
    graph = fx.symbolic_trace(model)
    for side in sides:
        x = torch.randn(2, 3, *side, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(graph(x), model(x), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_traced(family):
    torch.manual_seed(0)
    check(build(replace(TINY[family], num_classes=3)).eval())


@pytest.mark.parametrize(
    "layers",
    [
        Layers(norm="bn_small_init"),
        Layers(norm="iter_norm"),
        Layers(norm="gn_plus(faithful=True)"),
        Layers(attn="nonlocal_scaled(position=True)"),
        Layers(attn="residual_mask"),
        Layers(conv="conv_norm"),
        Layers(conv="invariant_conv"),
        Layers(conv="ws_conv"),
        Layers(conv="mix_conv"),
    ],
    ids=lambda layers: f"{layers.norm}-{layers.attn}-{layers.conv}",
)
def test_layers_with_steps_that_depend_on_sizes_are_traced(layers):
    torch.manual_seed(0)
    check(build(host("mobilenet", layers)).eval())


@pytest.mark.parametrize("norm", ["bn_small_init", "iter_norm", "invariant_norm", "gn_plus"])
def test_norms_are_traced_in_training(norm):
    model = build(host("resnet", Layers(norm=norm))).train()
    graph = fx.symbolic_trace(model)
    graph(torch.randn(4, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in graph.parameters())


@pytest.mark.parametrize("layer", [DropPath(0.5), ScheduledDropPath(0.5), DropBlock(0.3, 3)])
def test_what_drops_is_traced_in_training(layer):
    graph, x = fx.symbolic_trace(layer.train()), torch.ones(8, 4, 6, 6)
    torch.manual_seed(3)
    expected = layer(x)
    torch.manual_seed(3)
    assert torch.equal(graph(x), expected) and not torch.equal(expected, x)


def test_pads_are_tensorflows():
    for size in range(1, 40):
        for kernel in range(1, 8):
            for stride in range(1, 5):
                total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
                assert same_pads(size, kernel, stride) == (total // 2, total - total // 2)
    assert larger(2, 3) == larger(torch.tensor(3), 2) == 3 and smaller(2, 3) == 2


def test_weights_of_several_networks_are_mapped_over():
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(build(replace(TINY["nfnet"], num_classes=3)).eval())
    weights, buffers = stack_module_state(models)
    x = torch.randn(2, 3, 32, 32)
    found = vmap(lambda w, b: functional_call(models[0], (w, b), (x,)))(weights, buffers)
    for y, model in zip(found, models, strict=True):
        torch.testing.assert_close(y, model(x), atol=1e-4, rtol=1e-3)
