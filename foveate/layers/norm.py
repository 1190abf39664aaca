"""Normalisations of one mean and one variance: batch, layer, instance, group. Each maker takes the number of channels.

All: y = gamma * (x - mean) / sqrt(var + eps) + beta, var without Bessel's correction; gamma and beta one a channel.
What they share with the norms of other files stands here too: the sum over processes and the switch for autocast.
"""

import contextlib
import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.tracing import is_traced


def batch_norm(
    channels: int, eps: float = 1e-5, momentum: float = 0.1, sync: bool = False, scale: bool = True
) -> nn.Module:
    """Batch normalisation, arXiv:1502.03167: statistics over (N, H, W) a channel, running averages for evaluation.

    momentum is PyTorch's: the weight of the new statistic (TF momentum m is 1 - m here). The running variance is
    unbiased. sync: statistics of the whole batch where torch.distributed runs several processes. scale=False: gamma
    stays 1, as in the CIFAR-10 speed runs (arXiv:2404.00498).
    Training with one value a channel (a batch of one and a 1x1 map) is an error, as everywhere in PyTorch.
    """
    check("batch_norm", eps, momentum)
    norm = (SyncBatchNorm if sync else nn.BatchNorm2d)(channels, eps=eps, momentum=momentum)
    norm.weight.requires_grad_(scale)
    return norm


def group_norm(channels: int, groups: int = 32, eps: float = 1e-5) -> nn.Module:
    """Group normalisation, arXiv:1803.08494: statistics over (C / groups, H, W) a picture.

    Widths that groups does not divide take the greatest common divisor. groups=1 is layer normalisation over (C, H, W)
    as in arXiv:1607.06450, but with gains a channel, so that any H and W fit.
    """
    if groups < 1:
        raise ConfigError(f"group_norm(groups={groups}): at least 1 group")
    check("group_norm", eps)
    groups = math.gcd(groups, channels)
    return (GroupNorm if groups == channels else nn.GroupNorm)(groups, channels, eps=eps)


def instance_norm(channels: int, eps: float = 1e-5, affine: bool = True) -> nn.Module:
    """Instance normalisation, arXiv:1607.08022: statistics over (H, W) a picture and channel: a group a channel.

    affine: PyTorch's is off; here on, for the convolutions of the zoo have no bias. No running statistics.
    On a 1x1 map every value is its own mean: the output is beta, and no gradient passes.
    """
    check("instance_norm", eps)
    return GroupNorm(channels, channels, eps=eps, affine=affine)


def layer_norm(channels: int, eps: float = 1e-5) -> nn.Module:
    """Layer normalisation over C at each position, as in ConvNeXt (whose eps is 1e-6); arXiv:1607.06450.

    Over (C, H, W) it is group_norm(groups=1). With a single channel the output is beta.
    """
    check("layer_norm", eps)
    return LayerNorm(channels, eps=eps)


class GroupNorm(nn.GroupNorm):
    """nn.GroupNorm that takes one picture on a 1x1 map with a channel a group, in training and evaluation.

    PyTorch refuses that, though it takes two pictures. The output is beta for any number of them.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> same
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm of the channels of maps, in at least float32.

    In bfloat16 torch sums the gradients of gain and bias over all positions in bfloat16 on a CPU: of 16 maps of 56 x 56
    a tenth is left.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> same
        y = at_least_float32(x).permute(0, 2, 3, 1)  # (N, H, W, C)
        y = F.layer_norm(y, self.normalized_shape, self.weight.to(y.dtype), self.bias.to(y.dtype), self.eps)
        return y.permute(0, 3, 1, 2).to(x.dtype)


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the pictures of all processes. With one process, and in evaluation, nn.BatchNorm2d.

    torch's own nn.SyncBatchNorm runs on accelerators only.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> same
        if not self.training or processes() == 1:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        y = at_least_float32(x)
        count = over_processes(y.new_tensor(y.numel() // y.shape[1]))
        mean = over_processes(y.sum((0, 2, 3))) / count  # (C,)
        y = y - mean.view(-1, 1, 1)
        var = over_processes(y.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            follow(self.running_mean, mean, self.momentum)
            follow(self.running_var, var * count / (count - 1), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        return (y * scale.view(-1, 1, 1) + self.bias.view(-1, 1, 1)).to(x.dtype)


def check(name: str, eps: float, momentum: float = 0.0) -> None:
    """ConfigError for constants that no norm can have."""
    if not (0 <= eps < math.inf and 0 <= momentum <= 1):
        raise ConfigError(f"{name}(eps={eps}, momentum={momentum}): eps finite, at least 0; momentum from 0 to 1")


def for_pooled(norm: nn.Module) -> nn.Module:
    """The norm, if it may stand behind a mean over all positions; ConfigError for one that leaves nothing of 1x1 maps.

    With a channel a group every value is its own mean: the output would be the bias whatever the input.
    """
    if isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels:
        raise ConfigError(
            f"norm with {norm.num_groups} groups of one channel: behind a mean over positions only its bias is left; "
            "use a norm with more channels a group"
        )
    return norm


def lone(x: torch.Tensor) -> bool:
    """Whether x (N, C, H, W) has one value a channel, of which no statistic can be taken; torch.fx traces more."""
    return not is_traced(x) and x.numel() == x.shape[1]


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """x in the precision of statistics: float64 stays, all else becomes float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def no_autocast(x: torch.Tensor) -> contextlib.AbstractContextManager[object]:
    """A context in which matrix products on x's device keep their precision; the meta device knows no
    autocast, and torch.fx writes none down.
    """
    return contextlib.nullcontext() if is_traced(x) or x.is_meta else torch.autocast(x.device.type, enabled=False)


def follow(running: torch.Tensor, new: torch.Tensor, momentum: float) -> None:
    """running <- (1 - momentum) * running + momentum * new, in place and without gradient."""
    running.lerp_(new.detach().to(running.dtype), momentum)


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def over_processes(x: torch.Tensor) -> torch.Tensor:
    """The sum of x over all processes. Its gradient is summed over them too: each process has a part of the loss."""
    return x if processes() == 1 else _Sum.apply(x)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, grad: torch.Tensor) -> torch.Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total
