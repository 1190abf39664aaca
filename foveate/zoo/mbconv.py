"""The branch of a mobile block, to which a family adds its shortcut. Names are timm's.

x: (N, c_in, H, W) -> (N, width, H / stride, W / stride).
"""

import torch
from torch import nn

from foveate.layers import Layers
from foveate.layers.same import Padding, padding_for


class SeparableBranch(nn.Module):
    """Depthwise k x k, gate, 1x1 projection without activation."""

    def __init__(self, layers: Layers, padding: Padding, *, c_in: int, width: int, kernel: int, stride: int):
        super().__init__()
        self.pad, margin = padding_for(padding, kernel, stride)
        self.conv_dw = layers.make_conv(c_in, c_in, kernel, stride=stride, padding=margin, groups=c_in)
        self.bn1 = layers.make_norm(c_in)
        self.act1 = layers.make_act(c_in)
        self.se = layers.make_attn(c_in, c_in)
        self.conv_pw = layers.make_conv(c_in, width, 1)
        self.bn2 = layers.make_norm(width)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act1(self.bn1(self.conv_dw(self.pad(x))))
        return self.bn2(self.conv_pw(self.se(y)))


class InvertedBranch(nn.Module):
    """1x1 expansion, depthwise k x k, gate, 1x1 projection without activation.

    base: the width that the gate's ratio refers to; None: the input's. groups: of both 1x1; a family that has more than
    one sets `shuffle`, which then stands behind the expansion.
    """

    def __init__(
        self,
        layers: Layers,
        padding: Padding,
        *,
        c_in: int,
        mid: int,
        width: int,
        kernel: int,
        stride: int,
        base: int | None = None,
        groups: int = 1,
    ):
        super().__init__()
        self.conv_pw = layers.make_conv(c_in, mid, 1, groups=groups)
        self.bn1 = layers.make_norm(mid)
        self.act1 = layers.make_act(mid)
        self.shuffle: nn.Module = nn.Identity()
        self.pad, margin = padding_for(padding, kernel, stride)
        self.conv_dw = layers.make_conv(mid, mid, kernel, stride=stride, padding=margin, groups=mid)
        self.bn2 = layers.make_norm(mid)
        self.act2 = layers.make_act(mid)
        self.se = layers.make_attn(mid, c_in if base is None else base)
        self.conv_pwl = layers.make_conv(mid, width, 1, groups=groups)
        self.bn3 = layers.make_norm(width)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        y = self.shuffle(self.act1(self.bn1(self.conv_pw(x))))
        y = self.act2(self.bn2(self.conv_dw(self.pad(y))))
        return self.bn3(self.conv_pwl(self.se(y)))
