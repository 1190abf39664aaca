"""The proof of a compression: the smaller network against the larger one with the same channels silenced."""

import copy

import torch
from torch import nn

from foveate.compress.narrow import Plan, narrow
from foveate.compress.plan import random_plan
from foveate.compress.slice import mask, slice_state
from foveate.errors import ConfigError
from foveate.zoo import build
from foveate.zoo.family import Config

SIDE = 96  # pixels; Inception needs 75


def check(config: Config, seed: int = 0, share: float = 0.5) -> float:
    """max |masked - removed| over the logits of two random pictures, in float64 and evaluation mode, for a random plan
    over all widths that can shrink; divided by the largest logit where that is above 1. Random weights, norms with
    random statistics.

    ConfigError where no width of the config can shrink.
    """
    plan = random_plan(config, seed, share)
    if not plan:
        raise ConfigError(f"{config.family}: no width of this config can shrink; see couple(config).refused")
    _, masked, removed = three(config, plan, seed)
    return distance(masked, removed, pictures(config, seed))


@torch.no_grad()
def three(config: Config, plan: Plan, seed: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The whole network, the same with the plan's channels silenced, and the one without them; float64, evaluation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        whole = unsettle(build(config), seed).double().eval()
        removed = build(narrow(config, plan)).double().eval()
    removed.load_state_dict(slice_state(config, whole.state_dict(), plan))
    masked = copy.deepcopy(whole)
    mask(masked, plan)
    return whole, masked, removed


@torch.no_grad()
def distance(a: nn.Module, b: nn.Module, x: torch.Tensor) -> float:
    """max |a(x) - b(x)|, divided by max |a(x)| where that is above 1."""
    first, second = a(x), b(x)
    return float((first - second).abs().max()) / max(1.0, float(first.abs().max()))


def pictures(config: Config, seed: int) -> torch.Tensor:
    """Two random pictures, float64, of the config's resolution but at most SIDE pixels a side."""
    side = min(config.resolution, SIDE)
    shape = (2, config.in_chans, side, side)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
def unsettle(model: nn.Module, seed: int) -> nn.Module:
    """Statistics and gains that are not 0 and 1, as after training, so that no fault hides behind a start at 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(0.5 + noise.abs())
        elif tensor.numel() > 0 and (tensor.ndim < 2 or bool((tensor == tensor.flatten()[0]).all())):
            tensor.add_(0.2 * noise)
        elif name.endswith("running_whitening"):
            tensor.add_(0.1 * noise)
    return model
