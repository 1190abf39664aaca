"""Batch normalisation that starts with a small scale, learnt slowly. arXiv:2110.13989."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.norm import check, lone

SIGMA_RELU = 0.58  # the authors' number for the std of ReLU(z), z from N(0, 1): sqrt(1/2 - 1/(2 pi)) = 0.5838


class SmallInitNorm(nn.BatchNorm2d):
    """Batch norm whose scale is `scale` at the start; lr_factors says how fast it is to be learnt.

    x: (N, C, H, W) -> same.  lr_factors: name of an own parameter -> what an optimiser multiplies its learning rate by;
    here {"weight": 1 / lr_divisor}. The factor must multiply the schedule (a warm-up that sets the rate of all groups
    alike loses it); learning_rate_factors(model) gathers them for param_groups. Without such an optimiser only the
    start differs from batch norm.
    One value a channel in training (a batch of one on a 1x1 map): the running statistics serve as in evaluation, and
    stay.
    """

    def __init__(self, channels: int, scale: float, lr_divisor: float, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__(channels, eps=eps, momentum=momentum)
        nn.init.constant_(self.weight, scale)
        self.lr_factors: Mapping[str, float] = {"weight": 1 / lr_divisor}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        learn = self.training and not lone(x)
        assert self.num_batches_tracked is not None and self.momentum is not None  # it tracks, by a fixed momentum
        if learn:
            self.num_batches_tracked.add_(1)
        values = self.running_mean, self.running_var, self.weight, self.bias
        return F.batch_norm(x, *values, learn, self.momentum, self.eps)


def bn_small_init(
    channels: int, scale: float = 0.1, lr_divisor: float = 100.0, eps: float = 1e-5, momentum: float = 0.1
) -> nn.Module:
    """SmallInitNorm with the authors' start, scale 0.1, and rate, a hundredth. Weight decay does not belong on either.

    scale from above 0 to 1 (the official code turns 0 and less into 1 unasked). A host that starts the last gains of
    its branches at 0 (zero_gamma) does so here too: use one of the two. Where several processes train, each has batch
    statistics of its own. Parameters and cost: batch norm's.
    """
    if not (0 < scale <= 1 and 1 <= lr_divisor <= 1e6):
        raise ConfigError(f"bn_small_init(scale={scale}, lr_divisor={lr_divisor}): scale in (0, 1], divisor 1 to 1e6")
    check("bn_small_init", eps, momentum)
    return SmallInitNorm(channels, scale, lr_divisor, eps, momentum)


def input_norm(
    channels: int = 3, scale: float = 0.1, lr_divisor: float = 100.0, eps: float = 1e-5, momentum: float = 0.1
) -> nn.Module:
    """For mean and std of a data set, on pictures from 0 to 1: batch norm of scale 0.58 * scale, whose shift stays 0.

    0.58 is what ReLU makes of unit variance: the first convolution sees what the others see. Every network has it by
    the field input_norm of its config.
    """
    norm = bn_small_init(channels, scale, lr_divisor, eps, momentum)
    assert isinstance(norm, SmallInitNorm)
    nn.init.constant_(norm.weight, SIGMA_RELU * scale)
    norm.bias.requires_grad_(False)
    return norm


def learning_rate_factors(model: nn.Module) -> dict[str, float]:
    """Name of each parameter that wants a learning rate of its own -> its factor, from the lr_factors of modules."""
    return {
        f"{name}.{own}" if name else own: factor
        for name, module in model.named_modules()
        if isinstance(module, SmallInitNorm)
        for own, factor in module.lr_factors.items()
    }
