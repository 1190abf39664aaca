"""A network without data: a config built, or a model copied, on the meta device, and a picture that fits it."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from foveate.errors import ConfigError
from foveate.zoo import build
from foveate.zoo.family import Config, find_config

DEFAULT_RESOLUTION = 224


def shadow(config_or_model: Any) -> nn.Module:
    """The network of a config, or a copy of a model, in eval mode on the meta device. No weights are allocated."""
    if isinstance(config_or_model, nn.Module):
        return _twin(config_or_model)
    if not dataclasses.is_dataclass(config_or_model) or isinstance(config_or_model, type):
        kind = type(config_or_model).__name__
        raise ConfigError(f"cost: got {kind} {config_or_model!r:.60}; expected a config (variant(name)) or a module")
    with torch.device("meta"):
        return build(cast(Config, config_or_model)).eval()


def _twin(model: nn.Module) -> nn.Module:
    """The copy: deepcopy takes the memo's tensors in place of the model's, so that no weight is ever copied."""
    loose = (v for m in model.modules() for v in vars(m).values() if isinstance(v, torch.Tensor))  # weight_norm's
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers(), *loose):
        twin = tensor.detach().to("meta")
        memo[id(tensor)] = nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
    made: nn.Module = copy.deepcopy(model, memo)
    return made.to("meta").eval()  # .to: tensors that are neither parameter nor buffer follow where a module knows them


def sizes(network: nn.Module, resolution: int | None, batch: int, in_chans: int | None) -> tuple[int, int, int, int]:
    """The input's shape (batch, channels, pixels, pixels); ConfigError for numbers below 1.

    None is the config's number where the network carries one, else 224 pixels and the first convolution's channels.
    """
    config = find_config(network)
    pixels = int(getattr(config, "resolution", DEFAULT_RESOLUTION) if resolution is None else resolution)
    channels = int(getattr(config, "in_chans", _first_channels(network)) if in_chans is None else in_chans)
    if min(pixels, batch, channels) < 1:
        raise ConfigError(f"cost: resolution {pixels}, batch {batch}, in_chans {channels}: each at least 1")
    return batch, channels, pixels, pixels


@contextlib.contextmanager
def without_data() -> Iterator[None]:
    """What a network runs in here: no gradients, and tensors that it makes in forward are on the meta device."""
    with torch.inference_mode(False), torch.no_grad(), torch.device("meta"):
        yield


def picture(network: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    """A batch without data, of the type of the network's weights."""
    kind = next((p.dtype for p in network.parameters() if p.dtype.is_floating_point), torch.float32)
    return torch.empty(shape, dtype=kind, device="meta")


def one_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _first_channels(network: nn.Module) -> int:
    return next((m.in_channels for m in network.modules() if isinstance(m, _ConvNd)), 3)
