"""A convolution as the product of two: the kernel, seen as a matrix, has the rank r. arXiv:1405.3866, 2204.05566."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Count, near, record
from foveate.errors import ConfigError
from foveate.layers.conv import ConvShape, Pair, both
from foveate.layers.traits import Traits

FORMS = ("channel", "spatial")


@record
class Rank:
    """One convolution of a network that is a LowRank: where it stands, by way of how many channels, cut how."""

    at: Annotated[str, Field(min_length=1, max_length=200)]  # name of the module: "layer1.0.conv2"
    rank: Count  # where the full rank is less, that
    form: Literal["channel", "spatial"] = "channel"  # spatial: kernels above 1 in both directions


# a field of every family's config: its convolutions in two factors; compression writes it
Ranks = Annotated[tuple[Rank, ...], Field(max_length=4096)]


def full_rank(c_in: int, c_out: int, kernel: tuple[int, int], form: str) -> int:
    """The lesser side of the matrix: channel (c_out) x (c_in k_y k_x); spatial (c_in k_y) x (c_out k_x)."""
    k_y, k_x = kernel
    return min(c_out, c_in * k_y * k_x) if form == "channel" else min(c_in * k_y, c_out * k_x)


class LowRank(nn.Module):
    """second(first(x)), both without anything between them, by way of `rank` channels.

    channel: k_y x k_x from c_in to rank with the stride and the padding, then 1x1 (arXiv:2204.05566). Weights
    rank (c_in k_y k_x + c_out). spatial: k_y x 1 with the vertical stride and padding, then 1 x k_x with the horizontal
    ones (arXiv:1405.3866, scheme 2). Weights rank (c_in k_y + c_out k_x). MACs: weights an output pixel (spatial with a
    stride: the first convolution has that many columns more). The bias is the second one's.
    x: (N, c_in, H, W) -> (N, c_out, H', W').
    """

    traits = Traits("conv", counting=True)

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: tuple[int, int],
        rank: int,
        *,
        form: str = "channel",
        stride: int = 1,
        padding: Pair = 0,
        bias: bool = False,
    ):
        super().__init__()
        if form not in FORMS or not 1 <= rank <= full_rank(c_in, c_out, kernel, form):
            most = full_rank(c_in, c_out, kernel, form)
            raise ConfigError(f'LowRank(rank={rank}, form="{form}"): form channel or spatial, rank from 1 to {most}')
        self.spatial = form == "spatial"
        if self.spatial:
            (k_y, k_x), (p_y, p_x) = kernel, both(padding)
            self.first = nn.Conv2d(c_in, rank, (k_y, 1), (stride, 1), (p_y, 0), bias=False)
            self.second = nn.Conv2d(rank, c_out, (1, k_x), (1, stride), (0, p_x), bias=bias)
        else:
            self.first = nn.Conv2d(c_in, rank, kernel, stride, padding, bias=False)
            self.second = nn.Conv2d(rank, c_out, 1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, rank, ..) -> (N, c_out, H', W')
        return self.second(self.first(x))

    @torch.no_grad()
    def approximate(self, weight: torch.Tensor) -> None:
        """Take the two factors nearest to a plain convolution's weight (c_out, c_in, k_y, k_x), by its SVD.

        What is lost is, in squares, the sum of the squared singular values beyond the rank. Each factor gets the root
        of every singular value that stays. The SVD is in float64.
        """
        c_out, c_in, k_y, k_x = weight.shape
        rank = self.first.out_channels
        # (c_in, k_y) x (c_out, k_x), or (c_in, k_y, k_x) x (c_out)
        matrix = (weight.permute(1, 2, 0, 3) if self.spatial else weight.permute(1, 2, 3, 0)).double()
        matrix = matrix.reshape(c_in * k_y, c_out * k_x) if self.spatial else matrix.reshape(-1, c_out)
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        root = s[:rank].sqrt()
        left, right = (u[:, :rank] * root).T, root.view(-1, 1) * vh[:rank]  # (rank, rows), (rank, columns)
        self.first.weight.copy_(left.reshape(self.first.weight.shape))
        self.second.weight.copy_(right.unflatten(1, (c_out, 1, -1)).transpose(0, 1))

    @torch.no_grad()
    def product(self) -> torch.Tensor:
        """The weight (c_out, c_in, k_y, k_x) of the one convolution that does the same."""
        left, right = self.first.weight, self.second.weight  # (rank, c_in, k_y, k_x or 1), (c_out, rank, 1, 1 or k_x)
        weight: torch.Tensor
        if self.spatial:
            weight = torch.einsum("orx,riy->oiyx", right[:, :, 0], left[..., 0])
        else:
            weight = torch.einsum("or,riyx->oiyx", right[:, :, 0, 0], left)
        return weight


def low_rank(
    c_in: int,
    c_out: int,
    kernel: Pair,
    *,
    stride: int = 1,
    padding: Pair = 0,
    groups: int = 1,
    bias: bool = False,
    rank: int | float = 0.25,
    form: str = "channel",
) -> nn.Module:
    """LowRank; rank from 0 to below 1 is a share of the full rank (rounded, at least 1), from 1 a number, at most full.

    A plain convolution where the two would not have fewer weights (for 1x1 kernels of equal widths from half the full
    rank on), and where the host has groups: a depthwise kernel is a matrix of rank 1 a channel already.
    form: "channel" or "spatial"; spatial means nothing for a kernel that is 1 in a direction, which takes channel.
    """
    if isinstance(rank, bool) or not (0 < rank < 1 or (isinstance(rank, int) and rank >= 1)) or form not in FORMS:
        raise ConfigError(
            f'low_rank(rank={rank}, form="{form}"): rank a share above 0 and below 1, or a whole number from 1; '
            f"form one of {', '.join(FORMS)}"
        )
    size = both(kernel)
    k_y, k_x = size
    form = "channel" if 1 in size else form
    most = full_rank(c_in, c_out, size, form)
    r = max(1, round(rank * most)) if rank < 1 else min(int(rank), most)
    weights = r * (c_in * k_y * k_x + c_out if form == "channel" else c_in * k_y + c_out * k_x)
    if groups > 1 or weights >= c_in * c_out * k_y * k_x:
        return ConvShape(c_in, c_out, kernel, stride, padding, groups, bias).plain()
    return LowRank(c_in, c_out, size, r, form=form, stride=stride, padding=padding, bias=bias)


def why_not(conv: nn.Module) -> str:
    """Why a layer can not be a LowRank, in words; "" where it can."""
    if type(conv) is not nn.Conv2d:
        return f"a {type(conv).__name__}, not a plain convolution"
    if conv.groups > 1:
        return f"in {conv.groups} groups"
    if conv.dilation != (1, 1) or conv.stride[0] != conv.stride[1]:
        return f"of stride {conv.stride} and dilation {conv.dilation}; only one stride and dilation 1 fit"
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return f"padded by {conv.padding_mode} ({conv.padding}); only a number of zeros fits"
    return ""


def sides(kernel: Sequence[int]) -> tuple[int, int]:
    """(vertical, horizontal) of a kernel size, which torch types as any number of numbers."""
    high, wide = kernel
    return high, wide


def like(conv: nn.Conv2d, rank: int, form: str) -> LowRank:
    """A LowRank in place of a convolution; rank: at most the full one. Its weights are fresh."""
    kernel = sides(conv.kernel_size)
    most = full_rank(conv.in_channels, conv.out_channels, kernel, form)
    assert not isinstance(conv.padding, str)
    return LowRank(
        conv.in_channels,
        conv.out_channels,
        kernel,
        min(rank, most),
        form=form,
        stride=conv.stride[0],
        padding=sides(conv.padding),
        bias=conv.bias is not None,
    )


def factorise(model: nn.Module, ranks: Sequence[Rank]) -> None:
    """Put a fresh LowRank where each of `ranks` says, in place: the last step of making a network, so that a factored
    one is a config like any other. Both factors start as Kaiming draws them by fan-out, biases at 0.

    ConfigError for a place that the network has not, for one that is named twice, and for what is no plain convolution.
    """
    modules = dict(model.named_modules())
    seen: set[str] = set()
    for number, own in enumerate(ranks):
        if own.at in seen:
            raise ConfigError(f"ranks.{number}: {own.at} is named twice")
        if own.at not in modules:
            names = [name for name, module in modules.items() if not why_not(module)]
            raise ConfigError(f"ranks.{number}: the network has no {own.at}; {near(own.at, names)}")
        conv = modules[own.at]
        if reason := why_not(conv):
            raise ConfigError(f"ranks.{number}: {own.at} is {reason}")
        assert isinstance(conv, nn.Conv2d)
        if own.form == "spatial" and 1 in conv.kernel_size:
            raise ConfigError(f'ranks.{number}: {own.at} has a kernel of {conv.kernel_size}; take form "channel"')
        seen.add(own.at)
        pair = like(conv, own.rank, own.form)
        for factor in (pair.first, pair.second):
            nn.init.kaiming_normal_(factor.weight, mode="fan_out", nonlinearity="relu")
        if pair.second.bias is not None:
            nn.init.zeros_(pair.second.bias)
        model.set_submodule(own.at, pair)
