"""The form of the arithmetic (precision, memory layout, threads) where a recipe leaves it open.

It follows from the network, the size and the processor, never from a stopwatch: the same command with the same seed
gives the same weights on the same machine, however busy that is. The numbers below are measured (docs/benchmarks.md);
`foveate doctor` times the alternatives and names a quicker one.
"""

import torch
from torch import nn

from foveate.config import replace
from foveate.cost.count import cost
from foveate.train.recipe import Recipe
from foveate.zoo import build
from foveate.zoo.family import Config
from foveate.zoo.meta import shapes_only

LIGHT = 10e6  # multiply-adds of a picture below which bf16 saves nothing: casts take what products give
DEPTHWISE = 0.1  # share of depthwise convolutions from which on bf16 is slower on a processor, up to 2 times
SHARED = 2e8  # multiply-adds of a batch below which threads wait for each other longer than they work


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is native on this device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def settle(config: Config, recipe: Recipe, size: int, device: torch.device) -> Recipe:
    """The recipe with "auto" precision and layout, and 0 threads, replaced by what suits the network here.

    size: of a picture in pixels. Channels last; bf16 where the device has it and the network is neither light nor, on
    a processor, depthwise; all threads of torch, but one for a small step.
    """
    precision, layout, threads = recipe.precision, recipe.layout, recipe.threads
    if layout == "auto":
        layout = "nhwc"
    macs = 0
    if (precision == "auto" and has_bf16(device)) or (not threads and torch.get_num_threads() > 1):
        macs = cost(config, resolution=size).macs
    if precision == "auto":
        slow = device.type == "cpu" and depthwise_share(config) >= DEPTHWISE
        precision = "bf16" if has_bf16(device) and macs >= LIGHT and not slow else "fp32"
    if not threads:
        threads = torch.get_num_threads() if macs * recipe.batch // recipe.parts >= SHARED else 1
    return replace(recipe, precision=precision, layout=layout, threads=threads)


def depthwise_share(config: Config) -> float:
    """How many of a network's convolutions see one channel each, as a share of them all; 0 without convolutions."""
    with shapes_only():
        convolutions = [m for m in build(config).modules() if isinstance(m, nn.Conv2d)]
    return sum(1 < m.groups == m.in_channels for m in convolutions) / max(1, len(convolutions))
