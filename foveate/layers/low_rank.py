"""A convolution as the product of two: the kernel, seen as a matrix, has the rank r. arXiv:1405.3866, 2204.05566."""

import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.conv import Pair, conv2d

FORMS = ("channel", "spatial")


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
            (k_y, k_x), (p_y, p_x) = kernel, (padding, padding) if isinstance(padding, int) else padding
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
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    k_y, k_x = sides
    form = "channel" if 1 in sides else form
    most = full_rank(c_in, c_out, sides, form)
    r = max(1, round(rank * most)) if rank < 1 else min(int(rank), most)
    weights = r * (c_in * k_y * k_x + c_out if form == "channel" else c_in * k_y + c_out * k_x)
    if groups > 1 or weights >= c_in * c_out * k_y * k_x:
        return conv2d(c_in, c_out, kernel, stride=stride, padding=padding, groups=groups, bias=bias)
    return LowRank(c_in, c_out, sides, r, form=form, stride=stride, padding=padding, bias=bias)
