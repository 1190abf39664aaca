"""Scaled weight standardisation: convolutions that keep the variance of the signal. arXiv:2101.08692, 2102.06171."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.conv import ConvShape, Pair, ShapedConv2d, both
from foveate.layers.tracing import whole


def standardise(rows: torch.Tensor, scale: torch.Tensor, floor: float) -> torch.Tensor:
    """scale * (rows - mean) / sqrt(max(var, floor)), row by row. rows: (C, fan_in); scale: (C,) -> (C, fan_in)."""
    centred = rows - rows.mean(1, keepdim=True)
    return centred * (scale * centred.square().mean(1).clamp(min=floor).rsqrt())[:, None]


class Standardise(torch.autograd.Function):
    """The function above with a quicker gradient: that of a batch norm over rows, one fused kernel.

    A step on a large weight takes a quarter of the time. Where a second derivative is asked for, the plain formula is
    differentiated.
    """

    generate_vmap_rule = True  # torch.func's transforms

    @staticmethod
    def forward(rows: torch.Tensor, scale: torch.Tensor, floor: float) -> tuple[torch.Tensor, ...]:
        mean = rows.mean(1, keepdim=True)
        centred = rows - mean
        std = torch.linalg.vector_norm(centred, dim=1) / rows.shape[1] ** 0.5
        inverse = std.clamp(min=floor**0.5).reciprocal()
        return centred * (scale * inverse)[:, None], mean.flatten(), inverse, std < floor**0.5

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        rows, scale, ctx.floor = inputs
        ctx.save_for_backward(rows, scale, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        rows, scale, mean, inverse, low = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            out = standardise(rows, scale, ctx.floor)
            by_rows, by_scale = torch.autograd.grad(out, (rows, scale), grads[0], create_graph=True)
            return by_rows, by_scale, None
        # A row under the floor is divided by a constant. To the kernel it is a row of enormous variance, whose part of
        # the gradient vanishes (1e-12), with a scale that makes up for it.
        known = torch.where(low, 1e-6, inverse)
        by_rows, by_scale, _ = torch.ops.aten.native_batch_norm_backward(
            grads[0][None], rows[None], scale * inverse / known, None, None, mean, known, True, 0.0, [True, True, False]
        )
        return by_rows[0], by_scale * inverse / known, None


@whole
def standardised(rows: torch.Tensor, scale: torch.Tensor, floor: float) -> torch.Tensor:
    """standardise with the quicker gradient."""
    made: torch.Tensor = Standardise.apply(rows, scale, floor)[0]
    return made


class WSConv2d(ShapedConv2d):
    """A convolution whose kernels have, before their gains, mean 0 and variance 1 / fan-in: noise keeps its variance.

    kernel = gamma * gain * (weight - mean) / sqrt(max(fan_in * var, eps)), mean and var over the fan-in of one output
    channel, var without Bessel's correction, anew in every forward pass.
    x: (N, c_in, H, W) -> (N, c_out, H', W').  weight: (c_out, c_in / groups, k, k), from N(0, 1 / fan_in) at the start.
    gain: (c_out, 1, 1, 1), learned, 1 at the start.  gamma: a constant, for an activation in front (act.GAMMA).
    eps stands inside a maximum, as in DeepMind's code; add_eps: sqrt(fan_in * (var + eps)), as in timm. The two differ
    where var is small: with eps 1e-5 by 1 % for a fan-in of 2048.
    MACs: those of the plain convolution, and a few operations a weight that are not counted.
    """

    def __init__(self, shape: ConvShape, gamma: float = 1.0, eps: float = 1e-4, add_eps: bool = False):
        if not (0 < gamma < math.inf and 0 < eps < math.inf):
            raise ConfigError(f"ws_conv(gamma={gamma}, eps={eps}): both must be positive and finite")
        super().__init__(shape)
        self.gain = nn.Parameter(torch.ones(shape.c_out, 1, 1, 1))
        self.gamma, self.eps, self.add_eps = gamma, eps, add_eps

    def reset_parameters(self) -> None:
        """The weights of the official code; nn.Conv2d calls this before there is a gain."""
        nn.init.normal_(self.weight, std=self.weight[0].numel() ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def kernel(self) -> torch.Tensor:  # (c_out, c_in / groups, k, k)
        """The standardised weight: centred, then divided by sqrt(fan_in * var)."""
        fan_in, rows = self.weight[0].numel(), self.weight.flatten(1)
        scale = (self.gamma * fan_in**-0.5 * self.gain).flatten()
        if self.add_eps:  # what a batch norm does to a batch of one with the filters as channels
            hat = F.batch_norm(rows[None], None, None, weight=scale, training=True, momentum=0.0, eps=self.eps)
        else:
            hat = standardised(rows, scale, self.eps / fan_in)
        return hat.reshape_as(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.kernel(), self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, gamma={self.gamma:g}, eps={self.eps:g}, add_eps={self.add_eps}"


def ws_conv(
    c_in: int,
    c_out: int,
    kernel: Pair,
    *,
    stride: int = 1,
    padding: Pair = 0,
    groups: int = 1,
    bias: bool = False,
    gamma: float = 1.0,
    eps: float = 1e-4,
    add_eps: bool = False,
) -> nn.Module:
    """WSConv2d; a kernel of a single weight, which less its mean would be zero, stays a plain convolution."""
    shape = ConvShape(c_in, c_out, kernel, stride, padding, groups, bias)
    single = c_in // groups * math.prod(both(kernel)) == 1
    return shape.plain() if single else WSConv2d(shape, gamma, eps, add_eps)
