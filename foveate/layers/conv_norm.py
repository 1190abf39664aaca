"""ConvNorm: a convolution each of whose outputs is an isometry, made so in the Fourier domain. arXiv:2103.00673."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.conv import ConvShape, Pair, ShapedConv2d
from foveate.layers.norm import at_least_float32, no_autocast
from foveate.layers.traits import Traits

TINY = 1e-12  # the least power that is divided by: a filter of zeros gives zeros


class ConvNorm(ShapedConv2d):
    """Each map of the convolution, divided in the Fourier domain by the root of its filters' joint power spectrum.

    y_k = IDFT( DFT(sum_j a_kj * x_j) / sqrt(max(P_k, eps * mean P_k)) ), P_k(w) = sum_j |DFT(a_kj)(w)|^2, j over the
    inputs that the filter reads: the operator of an output channel has the singular values 1, all of them together none
    above sqrt(c_out). The scale of a filter means nothing. Then, with affine, a depthwise convolution with a bias, of
    the same kernel (an even one less 1); the authors put a batch norm behind that: here the host's norm.
    x: (N, c_in, H, W) -> (N, c_out, H', W'), the sizes of nn.Conv2d for any stride, padding, dilation and map down to
    1x1. The convolution runs at stride 1 on the map padded by k - 1, where linear and circular are the same (by the
    padding, where that is more); cropping and striding follow.
    Kernels 1x1 need no transform: each filter is divided by its norm (weight normalisation), the stride stays inside.
    Parameters: those of the convolution, and c_out (k^2 + 1) with affine. MACs: with n = H + k - 1, the plain ones of
    an n x n output at stride 1 (4 times as many at stride 2), 2 c_out transforms of n x n a picture, c_out n^2 (k^2 + n
    k^4) for the spectra a batch, and c_out k^2 an output pixel. Float32 for spectra and transforms, also in autocast.

    No gradient passes through P, as in the authors' code. Differences from it: P is computed anew in evaluation as in
    training, so there is no running average of it that fits only one size of map, and the two modes agree (batch norms
    apart); eps and TINY, for a bank of filters that cancel in some frequency has P = 0 there; the depthwise kernels
    start as a centred 1, not at random, so that a fresh layer has the property. Groups, dilation, kernels that are not
    square and paddings above k - 1 are ours.
    """

    traits = Traits("conv", uncalled=True)

    def __init__(self, shape: ConvShape, affine: bool, eps: float):
        if not 0 <= eps < 1:
            raise ConfigError(f"conv_norm(eps={eps}): from 0 to below 1")
        super().__init__(shape._replace(bias=shape.bias and not affine))
        self.pointwise = self.kernel_size == (1, 1)
        self.affine = Depthwise(shape.c_out, self.kernel_size) if affine else nn.Identity()
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H', W')
        y = self.point(x) if self.pointwise else self.area(x)
        return self.affine(y if self.bias is None else y + self.bias.view(-1, 1, 1))

    def point(self, x: torch.Tensor) -> torch.Tensor:
        """Filters of norm 1, and a plain convolution with them."""
        weight = at_least_float32(self.weight)
        scale = self.root(weight.detach().square().sum((1, 2, 3), keepdim=True), 1)
        return self._conv_forward(x, (weight * scale).to(self.weight.dtype), None)

    def area(self, x: torch.Tensor) -> torch.Tensor:
        """The general case, by DFT."""
        (k_y, k_x), (d_y, d_x), (p_y, p_x) = self.kernel_size, self.dilation, (int(p) for p in self.padding)
        pads = max(d_y * (k_y - 1), p_y), max(d_x * (k_x - 1), p_x)
        z = F.conv2d(x, self.weight, None, 1, pads, self.dilation, self.groups)
        height, width = z.shape[-2:]
        with no_autocast(x):
            scale = self.spectrum(height, width)  # (c_out, height, width // 2 + 1)
            maps = torch.view_as_real(torch.fft.rfft2(at_least_float32(z)))
            maps = torch.view_as_complex(maps * scale.to(maps.dtype).unsqueeze(-1))
            y = torch.fft.irfft2(maps, s=(height, width)).to(z.dtype)
        top, left = pads[0] - p_y, pads[1] - p_x
        return y[..., top : height - top : self.stride[0], left : width - left : self.stride[1]]

    @torch.no_grad()
    def spectrum(self, height: int, width: int) -> torch.Tensor:
        """What each frequency of a height x width map is multiplied by: (c_out, height, width // 2 + 1).

        P from the products of every two taps, summed over the inputs, so that no filter is transformed on its own:
        those would be c_out * c_in maps.
        """
        taps = at_least_float32(self.weight).flatten(2)  # (c_out, c_in / groups, k^2)
        gram = taps.mT @ taps  # (c_out, k^2, k^2)
        k_y, k_x = self.kernel_size
        gram = gram.view(-1, k_y, k_x, k_y, k_x)
        cos_y, sin_y = waves(height, height, k_y, self.dilation[0], gram)
        cos_x, sin_x = waves(width, width // 2 + 1, k_x, self.dilation[1], gram)
        equation = "oyxab,uya,vxb->ouv"  # cos(s + t) = cos(s) cos(t) - sin(s) sin(t)
        power = torch.einsum(equation, gram, cos_y, cos_x) - torch.einsum(equation, gram, sin_y, sin_x)
        return self.root(power, taps.square().sum((1, 2)).view(-1, 1, 1))

    def root(self, power: torch.Tensor, mean: torch.Tensor | float) -> torch.Tensor:
        """1 / sqrt(power), where power is not too small."""
        least = torch.as_tensor(mean * self.eps, dtype=power.dtype, device=power.device).clamp(min=TINY)
        return torch.maximum(power, least).rsqrt()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, eps={self.eps:g}"


def waves(size: int, count: int, taps: int, dilation: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of 2 pi u dilation (a - b) / size, u < count, for all taps a and b: (count, taps, taps) each."""
    place = torch.arange(taps, device=like.device)
    turns = torch.arange(count, device=like.device).view(-1, 1, 1) * ((place[:, None] - place) * dilation)
    angle = (turns % size).to(like.dtype) * (2 * math.pi / size)  # whole turns are taken away exactly
    return angle.cos(), angle.sin()


class Depthwise(nn.Conv2d):
    """One filter a channel, a centred 1 at the start, and a bias of 0: the identity. x: (N, C, H, W) -> same."""

    def __init__(self, channels: int, kernel: tuple[int, ...]):
        k_y, k_x = (k - 1 + k % 2 for k in kernel)
        super().__init__(channels, channels, (k_y, k_x), padding=(k_y // 2, k_x // 2), groups=channels)

    def reset_parameters(self) -> None:
        nn.init.dirac_(self.weight, groups=self.groups)
        assert self.bias is not None
        nn.init.zeros_(self.bias)


def conv_norm(
    c_in: int,
    c_out: int,
    kernel: Pair,
    *,
    stride: int = 1,
    padding: Pair = 0,
    groups: int = 1,
    bias: bool = False,
    affine: bool = True,
    eps: float = 1e-6,
) -> nn.Module:
    """ConvNorm; a kernel of a single weight, of which nothing but its sign would be left, stays a plain convolution."""
    shape = ConvShape(c_in, c_out, kernel, stride, padding, groups, bias)
    return shape.plain() if kernel in (1, (1, 1)) and groups == c_in else ConvNorm(shape, affine, eps)
