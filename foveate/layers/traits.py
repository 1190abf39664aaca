"""Traits: what a layer is, said by the layer, for whoever changes networks without knowing each layer by name.

A layer of ours has `traits`, a class attribute or a property; torch's own stand in TORCH. traits_of() knows both.
Compression, backbones and whatever freezes ask here, so that a new layer needs no line in any of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn


@dataclass(frozen=True)
class Traits:
    """What a layer is, and what of it must not change with the number of its channels."""

    kind: Literal["norm", "gate", "conv"]  # the slot that it fills; a norm has its gains and biases one a channel
    together: int = 1  # of a norm: neighbouring channels that share statistics, so that they go or stay together
    fixed: str = ""  # why no channel that it reads can be removed; "": each can
    counting: bool = False  # its form follows from the number of channels, so that fewer may make another layer of it
    nature: str = ""  # in words what must stay as it is, of layers that are neither norms nor nn.Conv2d
    uncalled: bool = False  # it reads the tensors of modules inside it without calling these
    kernels: tuple[str, ...] | None = None  # parameters of its own that weigh inputs; None: kernels_of sees it


# torch's modules and their subclasses that declare nothing themselves; the first that fits
TORCH: tuple[tuple[type[nn.Module], Callable[[Any], Traits]], ...] = (
    (nn.BatchNorm2d, lambda norm: Traits("norm")),
    (nn.GroupNorm, lambda norm: Traits("norm", norm.num_channels // norm.num_groups, counting=True)),
    (nn.LayerNorm, lambda norm: Traits("norm", norm.normalized_shape[0])),
    (nn.LocalResponseNorm, lambda norm: Traits("norm", fixed="local response norm reads neighbouring channels")),
    (nn.Conv2d, lambda conv: Traits("conv")),
)


def traits_of(module: nn.Module) -> Traits | None:
    """What a layer declares, or what TORCH says of it; None for blocks, activations and all else."""
    own = getattr(module, "traits", None)
    if isinstance(own, Traits):
        return own
    return next((say(module) for kind, say in TORCH if isinstance(module, kind)), None)


def is_norm(module: nn.Module) -> bool:
    """Whether a layer normalises."""
    traits = traits_of(module)
    return traits is not None and traits.kind == "norm"


def kernels_of(module: nn.Module) -> tuple[str, ...]:
    """Names of the parameters of its own (not its children's) by which a layer weighs its inputs.

    The weight of a convolution or linear layer; what a layer's traits name; of other layers that hold matrices, such as
    nn.MultiheadAttention, those. Gains and biases, whatever their shape, norms and activations have none.
    """
    own = dict(module.named_parameters(recurse=False))
    traits = traits_of(module)
    if traits is not None and traits.kernels is not None:
        return traits.kernels
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd | nn.Bilinear):
        return ("weight",) if "weight" in own else ()
    if traits is not None and traits.kind == "norm":
        return ()
    return tuple(name for name, p in own.items() if sum(side > 1 for side in p.shape) > 1)


def kernel_names(model: nn.Module) -> set[str]:
    """Names of all kernels of a network: what weight decay is for."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        for name in kernels_of(module)
    }
