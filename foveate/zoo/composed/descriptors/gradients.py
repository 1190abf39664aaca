"""What HOG, SIFT and LBP share: grey pictures, gradients, and votes for directions."""

import math

import torch
import torch.nn.functional as F


def resizing(before: int, after: int, mode: str) -> torch.Tensor:
    """(after, before): what resizes a side of pictures, m @ x @ m.T. A product, for its size is known in any file."""
    columns = torch.eye(before)[None, None]
    return F.interpolate(columns, (after, before), mode=mode, align_corners=False)[0, 0]


def grey(x: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) of whole numbers 0 to 255 -> (N, 1, H, W), whole too. Up to the division all is exact in float32, so
    that every runtime rounds alike.
    """
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, 1)
    return ((299 * red + 587 * green + 114 * blue) / 1000).round()


def gradient(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Central differences [-1, 0, 1] to the right and down, (N, C, H, W) each; 0 in the outermost columns and rows."""
    right = F.pad(x[..., 2:] - x[..., :-2], (1, 1))
    down = F.pad(x[..., 2:, :] - x[..., :-2, :], (0, 0, 1, 1))
    return right, down


def votes(right: torch.Tensor, down: torch.Tensor, bins: int, signed: bool) -> torch.Tensor:
    """The length of each gradient (N, 1, H, W), shared by the two bins next to its direction: (N, bins, H, W).

    Bin k is centred at (k + 1/2) / bins of a half turn, or of a whole one where a sign counts.
    """
    turn = 2 * math.pi if signed else math.pi
    place = torch.atan2(down, right) * (bins / turn) - 0.5
    centres = torch.arange(bins, device=right.device, dtype=right.dtype).view(1, -1, 1, 1)
    apart = (place - centres + bins / 2).remainder(bins) - bins / 2  # the shorter way round
    return (1 - apart.abs()).clamp(min=0) * (right * right + down * down).sqrt()
