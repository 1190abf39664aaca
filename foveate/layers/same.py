"""TensorFlow's SAME padding as a module of its own, so that the convolution keeps its checkpoint key."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from foveate.layers.tracing import larger

Padding = Literal["same", "symmetric"]


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis for ceil(size / stride) outputs of a convolution; the odd one goes after."""
    # not -(-size // stride): an export by tracing writes a division that truncates
    total = ((size + stride - 1) // stride - 1) * stride + kernel - size
    if kernel < stride:  # else it is never negative
        total = larger(total, 0)
    return total // 2, total - total // 2


class SamePad(nn.Module):
    """Pads with zeros by the input's size. Stride 2, even side: (0, 1) for k=3, (1, 2) for k=5; odd side: symmetric.

    x: (N, C, H, W) -> (N, C, H + ph, W + pw).  No parameters. torch.jit.trace fixes the sizes.
    """

    def __init__(self, kernel: int, stride: int):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        top, bottom = same_pads(x.shape[-2], self.kernel, self.stride)
        left, right = same_pads(x.shape[-1], self.kernel, self.stride)
        return F.pad(x, (left, right, top, bottom))

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}"


def padding_for(padding: Padding, kernel: int, stride: int) -> tuple[nn.Module, int]:
    """What stands before a convolution, and the convolution's own padding.

    At stride 1 an odd kernel is padded alike on both sides either way: nothing stands before it.
    """
    if padding == "symmetric" or (stride == 1 and kernel % 2 == 1):
        return nn.Identity(), kernel // 2
    return SamePad(kernel, stride), 0
