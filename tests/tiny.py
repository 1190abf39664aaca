"""Small hosts of every family, in which the tests and scripts/layer_matrix try layers: what FAMILIES says of them."""

import functools
import math

import torch

from foveate.config import replace
from foveate.layers import ACTS, ATTNS, CONVS, NORMS, Layers
from foveate.zoo import FAMILIES, build, variant
from foveate.zoo.catalogue import counts

TABLES = (NORMS, ACTS, ATTNS, CONVS)  # in the order of the fields of Layers
TINY = {name: family.tiny for name, family in FAMILIES.items()}
RAGGED = {name for name, family in FAMILIES.items() if family.ragged}  # maps' sides do not divide the picture's
HEAVY = 100_000_000  # parameters: above it the tiny host stands for the small variant


def cheapest(family: str) -> str:
    """The variant that the real forwards take."""
    return FAMILIES[family].small or min(FAMILIES[family].variants, key=lambda name: counts()[name]["macs"])


SMALL = {name: cheapest(name) for name in FAMILIES}


def side(family: str, wanted: int) -> int:
    """Pixels a side, or as many as the family needs."""
    return max(wanted, FAMILIES[family].least)


def small_config(family: str):
    name = SMALL[family]
    return TINY[family] if counts()[name]["params"] > HEAVY else variant(name)


NARROW = {"mgic": "mgic(group=2, coarsest=2)"}


def host(family: str, layers: Layers):
    """The tiny config of a family with these layers, for three classes; wide units get narrow groups."""
    layers = replace(layers, conv=NARROW.get(layers.conv, layers.conv))
    return replace(TINY[family], layers=layers, num_classes=3)


@functools.cache
def has_depthwise(family: str) -> bool:
    """Whether a convolution of the tiny host sees each channel alone, and more than one pixel."""
    with torch.device("meta"):
        modules = build(replace(TINY[family], layers=Layers())).modules()
    kinds = [m for m in modules if isinstance(m, torch.nn.Conv2d) and min(m.kernel_size) > 1]
    return any(m.groups == m.in_channels == m.out_channels > 1 for m in kinds)


def refusal(family: str, layers: Layers) -> str | None:
    """A part of the reason why the tiny host of a family has to refuse these layers, if it has to."""
    if layers.norm in FAMILIES[family].refuses:
        return "only its bias is left"
    idle = layers.conv in FAMILIES[family].refuses or (layers.conv == "mix_conv" and not has_depthwise(family))
    return "changes no convolution" if idle else None


def train_once(config, make=build) -> torch.nn.Module:
    """The network of a config after one forward and backward pass over 4 pictures of 32 x 32, always the same.

    ArithmeticError where the loss or a gradient is not finite, or a parameter has none.
    """
    torch.manual_seed(0)
    model = make(config).train()
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    loss = torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 0]))
    if not math.isfinite(loss.item()):
        raise ArithmeticError(f"the loss is {loss.item()}")
    loss.backward()
    for name, p in model.named_parameters():
        if p.requires_grad and (p.grad is None or not p.grad.isfinite().all()):
            raise ArithmeticError(f"{name} has {'no' if p.grad is None else 'an infinite'} gradient")
    return model
