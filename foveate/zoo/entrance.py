"""What stands between the picture and a network's first layer, for every family alike: the input norm of BN-init.

It hangs in front of the one layer that reads the picture, whatever its name, so no family knows of it; its tensors are
input_norm.* of the network. arXiv:2110.13989 section 4.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.bn_small_init import input_norm
from foveate.zoo.meta import shapes_only

SIDES = (320, 96)  # pixels of the pictures that are tried, on the meta device: the first that the network takes


class Before:
    """A norm in front of a layer, called before each forward pass. An object, so that a copied network has its own."""

    def __init__(self, norm: nn.Module):
        self.norm = norm

    def __call__(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return self.norm(args[0]), *args[1:]


def add_input_norm(model: nn.Module, make: Callable[[], nn.Module], in_chans: int) -> None:
    """Gives a network the input norm, as model.input_norm. make: builds the same network, for the meta device.

    ConfigError where not one layer, but none or several, read the picture.
    """
    with shapes_only():
        found = readers(make(), in_chans)
    if len(found) != 1:
        raise ConfigError(f"input_norm = True: {len(found)} layers of this network read the picture; expected one")
    norm = input_norm(in_chans)
    model.get_submodule(found[0]).register_forward_pre_hook(Before(norm))
    model.add_module("input_norm", norm)


def readers(model: nn.Module, in_chans: int) -> list[str]:
    """Names of the modules without children, but for identities, that are given the picture itself."""
    found: list[str] = []
    picture = torch.empty(0)

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def seen(_: nn.Module, args: tuple[Any, ...]) -> None:
            if args and args[0] is picture and name not in found:
                found.append(name)

        return seen

    for name, module in model.named_modules():
        if not isinstance(module, nn.Identity) and next(module.children(), None) is None:
            module.register_forward_pre_hook(note(name))
    for side in SIDES:
        picture = torch.empty(2, in_chans, side, side, device="meta")
        try:
            cast(Any, model).eval().feature_maps(picture)
        except (RuntimeError, ConfigError):
            found.clear()
        else:
            break
    return found
