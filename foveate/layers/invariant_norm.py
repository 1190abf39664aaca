"""Input scaled by its neighbourhood, then whitened over the batch. arXiv:2103.16634.

The paper's text was not at hand and there is no official code: this follows its abstract, and for the constants the
network deconvolution of the same first author (arXiv:1905.11926). Whether the paper's window runs over all channels is
not known. Two forms: a norm, for positions; a convolution unit, for whole patches, as the abstract has it.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.conv import ConvShape, Pair, ShapedConv2d
from foveate.layers.iter_norm import MOST_STEPS, identities, inverse_root, moments, transform
from foveate.layers.norm import at_least_float32, check, follow, lone, no_autocast, processes
from foveate.layers.traits import Traits


class LocalScale(nn.Module):
    """x / sqrt(q + eps), q(p) the mean of x^2 over all channels and the window around p, as far as it lies in the map.

    x: (N, C, H, W) -> same.  A factor on x changes nothing (but for eps), a rotation of the channels rotates the
    output. An even window reaches one further up and left. No parameters.
    """

    def __init__(self, window: tuple[int, int], eps: float):
        super().__init__()
        self.window, self.eps = window, eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return scale_locally(x, self.window, self.eps)

    def extra_repr(self) -> str:
        return f"window={self.window}, eps={self.eps:g}"


def scale_locally(x: torch.Tensor, window: tuple[int, int], eps: float) -> torch.Tensor:
    """What LocalScale does."""
    high, wide = window
    q = at_least_float32(x).square().mean(1, keepdim=True)  # (N, 1, H, W)
    if high * wide > 1:
        q = F.avg_pool2d(q, window, 1, (high // 2, wide // 2), count_include_pad=False)
    if high % 2 == 0 or wide % 2 == 0:
        q = q[..., : x.shape[-2], : x.shape[-1]]
    return x * (q + eps).rsqrt().to(x.dtype)


def whitening(x: torch.Tensor, size: int, steps: int, eps: float, sync: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (C,) and about (covariance + eps I)^(-1/2) (C / size, size, size), from Newton steps begun at the Frobenius
    norm. x: (N, C, ...)."""
    mean, cov = moments(x, size, sync)
    cov = cov + eps * torch.eye(size, dtype=cov.dtype, device=cov.device)
    return mean, inverse_root(cov, cov.square().sum((1, 2), keepdim=True).sqrt(), steps)


class InvariantNorm(nn.Module):
    """D (x~ - mean): x~ by LocalScale, D about the inverse root of the covariance of blocks of channels over the batch.

    x: (N, C, H, W) -> same.  For the norm slot, best right before a convolution: it whitens the channels of a position,
    InvariantConv2d those of a whole patch. No gain and no bias. window: the side of LocalScale's, odd; 0: no scaling.
    block: channels of a covariance, the greatest common divisor where it does not divide C. steps: Newton's; 5 do not
    whiten badly conditioned data fully, but the whitened gradient descent is the closer to independent of the basis of
    x the more they are. sample: the statistics read every third row and column.
    Running averages of mean and D, from 0 and I, serve in evaluation. Statistics and steps are float32 at least, also
    inside autocast. sync: over the pictures of all processes.

    Below block positions in the sample the covariance is singular; D then multiplies by up to 1.5^steps / sqrt(its
    norm) what the sample does not show. One position (a batch of one on a map of 3x3 or less): the running statistics
    serve as in evaluation, and stay.
    No parameters. MACs of a picture H W C block, and in training H W C block / sample^2 + 3 steps C block^2 a batch.
    """

    running_mean: torch.Tensor
    running_whitening: torch.Tensor

    def __init__(
        self,
        channels: int,
        window: int = 3,
        block: int = 64,
        steps: int = 5,
        eps: float = 1e-5,
        momentum: float = 0.1,
        sample: int = 3,
        sync: bool = False,
    ):
        super().__init__()
        if window and not window % 2:
            raise ConfigError(f"invariant_norm(window={window}): must be odd, or 0 for no local scale")
        check_whitening("invariant_norm", block, steps, sample)
        check("invariant_norm", eps, momentum)
        self.size = math.gcd(block, channels)
        self.steps, self.eps, self.momentum, self.sample, self.sync = steps, eps, momentum, sample, sync
        self.scale = LocalScale((window, window), eps) if window else nn.Identity()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_whitening", identities(channels // self.size, self.size))

    @property
    def traits(self) -> Traits:
        """Channels of a block are whitened together; a scale of its own reads them all."""
        fixed = "" if isinstance(self.scale, nn.Identity) else "invariant_norm divides by a mean over all channels"
        return Traits("norm", self.size, fixed, counting=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.scale(x)
        mean, matrix = self.running_mean, self.running_whitening
        seen = x[:, :, :: self.sample, :: self.sample]
        if self.training and not (lone(seen) and (not self.sync or processes() == 1)):
            with no_autocast(x):
                mean, matrix = whitening(at_least_float32(seen), self.size, self.steps, self.eps, self.sync)
            follow(self.running_mean, mean, self.momentum)
            follow(self.running_whitening, matrix, self.momentum)
        return transform(x, mean, matrix)

    def extra_repr(self) -> str:
        return f"{len(self.running_mean)}, block={self.size}, steps={self.steps}, sample={self.sample}"


class InvariantConv2d(ShapedConv2d):
    """A convolution of x~ (LocalScale of the kernel's reach) with the kernel W D and the bias b - sum(W D mean).

    x: (N, c_in, H, W) -> (N, c_out, H', W').  D is about the inverse root of the covariance of patches: rows of
    d = block * k * k values, the zeros of the padding among them, a matrix for every block of channels. So each output
    is W D (patch - mean) + b: the least-squares problem of W has about the Hessian I, in any basis of the patches.
    block: as in InvariantNorm; with groups it is c_in / groups where that is less. The statistics read every sample-th
    output's patch. One patch in the sample: the running statistics serve as in evaluation, and stay.
    It replaces the norm: use norm "none". Buffers c_in k^2 (d + 1). MACs beyond the convolution's, in training: c_in
    k^2 d for each sampled patch; 3 steps c_in k^2 d^2 and c_out c_in / groups k^2 d a batch (d = 576 for 3x3 kernels
    and block 64: take a smaller block where that is too much). In evaluation only the last; fused() is free of it.
    """

    traits = Traits("conv", fixed="invariant_conv divides by a mean over all channels")

    running_mean: torch.Tensor
    running_whitening: torch.Tensor

    def __init__(
        self,
        shape: ConvShape,
        block: int = 64,
        steps: int = 5,
        eps: float = 1e-5,
        momentum: float = 0.1,
        sample: int = 3,
        sync: bool = False,
    ):
        check_whitening("invariant_conv", block, steps, sample)
        check("invariant_conv", eps, momentum)
        super().__init__(shape)
        per = shape.c_in // shape.groups
        width = per if shape.groups > 1 and per < block else math.gcd(block, per)
        self.size = width * math.prod(self.kernel_size)
        self.steps, self.eps, self.momentum, self.sample, self.sync = steps, eps, momentum, sample, sync
        blocks = shape.c_in // width
        self.register_buffer("running_mean", torch.zeros(blocks * self.size))
        self.register_buffer("running_whitening", identities(blocks, self.size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = scale_locally(x, self.reach(), self.eps)
        mean, matrix = self.running_mean, self.running_whitening
        if self.training:
            patches = self.patches(x)
            if not (lone(patches) and (not self.sync or processes() == 1)):
                with no_autocast(x):
                    mean, matrix = whitening(at_least_float32(patches), self.size, self.steps, self.eps, self.sync)
                follow(self.running_mean, mean, self.momentum)
                follow(self.running_whitening, matrix, self.momentum)
        kernel, bias = self.folded(x, mean, matrix)
        return self._conv_forward(x, kernel, bias)

    def scale(self) -> LocalScale:
        """LocalScale with the reach of the kernel."""
        return LocalScale(self.reach(), self.eps)

    def reach(self) -> tuple[int, int]:
        """The window of the kernel, which other layers may have dilated."""
        high, wide = ((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        return high, wide

    def patches(self, x: torch.Tensor) -> torch.Tensor:
        """(N, c_in * k * k, L): the patches of every sample-th output of both axes."""
        assert not isinstance(self.padding, str)
        stride = (self.stride[0] * self.sample, self.stride[1] * self.sample)
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, stride)

    def folded(self, x: torch.Tensor, mean: torch.Tensor, matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """W D and b - sum(W D mean), in x's precision."""
        with no_autocast(x):
            rows = at_least_float32(self.weight).reshape(self.groups, -1, matrix.shape[0] // self.groups, self.size)
            kernel = torch.einsum("gobd,gbde->gobe", rows, matrix.reshape(self.groups, -1, self.size, self.size))
            shift = torch.einsum("gobd,gbd->go", kernel, mean.reshape(self.groups, -1, self.size)).flatten()
            bias = -shift if self.bias is None else self.bias - shift
        return kernel.reshape(self.weight.shape).to(x.dtype), bias.to(x.dtype)

    @torch.no_grad()
    def fused(self) -> nn.Module:
        """The layer of evaluation as LocalScale and a plain convolution."""
        kernel, bias = self.folded(self.weight, self.running_mean, self.running_whitening)
        made = nn.Conv2d(self.in_channels, self.out_channels, 1)
        made.kernel_size, made.stride, made.padding = self.kernel_size, self.stride, self.padding
        made.dilation, made.groups = self.dilation, self.groups
        made.weight, made.bias = nn.Parameter(kernel), nn.Parameter(bias)
        return nn.Sequential(self.scale(), made)


def invariant_conv(
    c_in: int,
    c_out: int,
    kernel: Pair,
    *,
    stride: int = 1,
    padding: Pair = 0,
    groups: int = 1,
    bias: bool = True,
    block: int = 64,
    steps: int = 5,
    sample: int = 3,
    sync: bool = False,
) -> nn.Module:
    """For the conv slot: InvariantConv2d, always with a bias, for it stands in place of a norm.

    sync: statistics over the pictures of all processes.
    """
    shape = ConvShape(c_in, c_out, kernel, stride, padding, groups, bias=True)
    return InvariantConv2d(shape, block=block, steps=steps, sample=sample, sync=sync)


def check_whitening(name: str, block: int, steps: int, sample: int) -> None:
    """ConfigError for a whitening that can not be."""
    if block < 1 or not 1 <= steps <= MOST_STEPS or sample < 1:
        raise ConfigError(
            f"{name}(block={block}, steps={steps}, sample={sample}): block and sample at least 1, steps 1 to 20"
        )
