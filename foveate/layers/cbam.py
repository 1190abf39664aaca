"""CBAM: a gate a channel, then a gate a pixel, each from a mean and a maximum. arXiv:1807.06521."""

import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.se import squeeze_width
from foveate.layers.traits import Traits


class ChannelGate(nn.Module):
    """x * sigmoid(f(mean(x)) + f(max(x))), f(s) = W2 relu(W1 s), with biases; mean and max over (H, W).

    x: (N, C, H, W) -> same shape.  W1: (S, C), W2: (C, S).
    """

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, inner, 1)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(inner, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = torch.cat((x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)), 2)  # (N, C, 2, 1)
        return x * self.fc2(self.act(self.fc1(s))).sum(2, keepdim=True).sigmoid()


class SpatialGate(nn.Module):
    """x * sigmoid(norm(conv([mean(x), max(x)]))), mean and max over C, conv k x k to one map without bias.

    x: (N, C, H, W) -> same shape.  norm is a batch norm whose gain starts at 0: the gate is 1/2 everywhere at first.
    """

    def __init__(self, kernel: int):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)  # (N, 2, H, W)
        return x * self.bn(self.conv(s)).sigmoid()


class CBAM(nn.Module):
    """The channel gate, then the spatial gate of its result.

    x: (N, C, H, W) -> same shape.  S = ratio * base, at least 1.  Defaults are the paper's: ratio 1/16, kernel 7.
    Sections 3.1 and 3.2, and the authors' code (Jongchan/attention-module), from which come the biases, the batch norm
    (momentum 0.01) and its gain of 0 at the start. timm's CbamModule has no biases and starts with gain 1. The spatial
    convolution reads the mean first, as in the paper; the authors' code reads the maximum first.

    Not the identity at the start: the gates are near 1/2 each, x comes out at about a quarter.
    On a 1x1 map mean and maximum over (H, W) are equal and the convolution sees its middle tap only. There, training
    with a batch of one is an error: batch norm has one value.
    Parameters 2 C S + S + C + 2 k^2 + 2; MACs 4 C S + 2 k^2 H W.
    """

    traits = Traits("gate", fixed="cbam reads the mean and the maximum over all channels")

    def __init__(self, channels: int, base: int, ratio: float = 0.0625, kernel: int = 7):
        super().__init__()
        if not 0 < ratio <= 1 or type(kernel) is not int or not 1 <= kernel <= 31 or kernel % 2 == 0:
            raise ConfigError(f"cbam(ratio={ratio}, kernel={kernel}): ratio in (0, 1]; kernel odd, from 1 to 31")
        self.channel = ChannelGate(channels, squeeze_width(base, ratio, 0))
        self.spatial = SpatialGate(kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, C, H, W)
        return self.spatial(self.channel(x))
