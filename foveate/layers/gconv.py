"""Generator convolution: every picture gets kernels of its own, a mixture of candidates. arXiv:2111.15171."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.conv import ConvShape, Pair, ShapedConv2d
from foveate.layers.norm import at_least_float32, no_autocast
from foveate.layers.traits import Traits


class Candidates(ShapedConv2d):
    """The weights of several convolutions, (candidates * c_out, c_in / groups, k_y, k_x), and how they are applied."""

    def __init__(self, shape: ConvShape, candidates: int):
        self.candidates = candidates
        super().__init__(shape._replace(c_out=candidates * shape.c_out, bias=False))

    def reset_parameters(self) -> None:
        """Normal; the mean of the candidates has the variance 2 / fan-in, by which ReLU keeps the signal's."""
        nn.init.normal_(self.weight, std=math.sqrt(2 * self.candidates / self.weight[0].numel()))

    def mixed(self, x: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """x: (N, c_in, H, W), shares: (N, candidates) -> (N, c_out, H', W'), by the mixture of each picture.

        As a matrix product of patches, not as a grouped convolution with N * groups groups: its batch may be of any
        size in an exported graph.
        """
        n, groups, fan_in = x.shape[0], self.groups, self.weight[0].numel()
        weight = shares.to(self.weight.dtype) @ self.weight.reshape(self.candidates, -1)  # (N, c_out * fan_in)
        patches, size = self.patches(x)  # (N, c_in, k^2, H' W')
        patches = patches.reshape(n, groups, fan_in, -1)  # (N, groups, c_in / groups * k^2, H' W')
        return (weight.to(x.dtype).view(n, groups, -1, fan_in) @ patches).reshape(n, -1, *size)

    def patches(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """What each tap of the kernel sees, and the size of the output: (N, c_in, k^2, H' W'), (H', W')."""
        (k_y, k_x), (d_y, d_x), (s_y, s_x) = self.kernel_size, self.dilation, self.stride
        p_y, p_x = (int(p) for p in self.padding)
        height = (x.shape[-2] + 2 * p_y - d_y * (k_y - 1) - 1) // s_y + 1
        width = (x.shape[-1] + 2 * p_x - d_x * (k_x - 1) - 1) // s_x + 1
        x = F.pad(x, (p_x, p_x, p_y, p_y))
        seen = [
            x[..., i * d_y : i * d_y + (height - 1) * s_y + 1 : s_y, j * d_x : j * d_x + (width - 1) * s_x + 1 : s_x]
            for i in range(k_y)
            for j in range(k_x)
        ]
        return torch.stack(seen, 2).flatten(3), (height, width)


class GConv(nn.Module):
    """y = conv(x, sum_k a_k W_k), a = softmax(A z + b), z = the mean of x over its pixels, picture by picture.

    x: (N, c_in, H, W) -> (N, c_out, H', W'), for any kernel, stride, padding and groups; on a 1x1 map z is x itself.
    The paper selects kernels that suit the latent vector of a generator and mixes those; neither its text nor code was
    at hand: this follows its abstract. The selection is the softmax, or, with `top`, the softmax over the `top` largest
    scores. A classifier has no latent vector: the pooled input stands for it, which makes this CondConv (arXiv:
    1904.04971) with a softmax. A and b start at 0: every picture gets the mean of all candidates.
    Weights: candidates * (c_out c_in / groups k^2 + c_in + 1). MACs a picture: the plain convolution's, and candidates
    times (c_out c_in / groups k^2 + c_in). Memory: the patches, k^2 times the input. Scores and shares are float32.
    """

    traits = Traits("conv", uncalled=True)

    def __init__(self, shape: ConvShape, candidates: int, top: int):
        super().__init__()
        self.scores = Scores(shape.c_in, candidates)
        self.kernels = Candidates(shape, candidates)
        self.bias = nn.Parameter(torch.zeros(shape.c_out, 1, 1)) if shape.bias else None
        self.top = top

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H', W')
        y = self.kernels.mixed(x, self.shares(x))
        return y if self.bias is None else y + self.bias

    def shares(self, x: torch.Tensor) -> torch.Tensor:
        """The part of each candidate in the kernels of each picture: (N, candidates), rows sum to 1."""
        with no_autocast(x):
            scores = self.scores(at_least_float32(x).mean((2, 3)))
        if self.top:
            values, places = scores.topk(self.top, dim=1)
            return torch.zeros_like(scores).scatter(1, places, values.softmax(1))
        return scores.softmax(1)

    def extra_repr(self) -> str:
        return f"top={self.top}"


class Scores(nn.Linear):
    """A linear layer in at least float32 that starts at 0. (N, c_in) -> (N, candidates)."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return F.linear(z, self.weight.to(z.dtype), self.bias.to(z.dtype))


def gconv(
    c_in: int,
    c_out: int,
    kernel: Pair,
    *,
    stride: int = 1,
    padding: Pair = 0,
    groups: int = 1,
    bias: bool = False,
    candidates: int = 4,
    top: int = 0,
) -> nn.Module:
    """GConv with 4 candidates, all of them mixed (top = 0); a plain convolution for a single candidate.

    With top = 1 the share is always 1, and the scores would learn nothing: refused.
    """
    sound = type(candidates) is int and 1 <= candidates <= 64 and type(top) is int
    if not sound or not (top == 0 or 2 <= top <= candidates):
        raise ConfigError(
            f"gconv(candidates={candidates}, top={top}): candidates from 1 to 64; top 0 (all) or from 2 to candidates"
        )
    shape = ConvShape(c_in, c_out, kernel, stride, padding, groups, bias)
    return shape.plain() if candidates == 1 else GConv(shape, candidates, top)
