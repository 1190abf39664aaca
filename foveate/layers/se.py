"""Squeeze-and-excitation: one gate a channel from globally pooled features. arXiv:1709.01507."""

import math

import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.act import Scaled
from foveate.layers.traits import Traits


def squeeze_width(base: int, ratio: float, divisor: int) -> int:
    """The inner width: ratio * base, at least 1; with a divisor, rounded to its multiples and never more than 10 %
    down.
    """
    if not divisor:
        return max(1, int(base * ratio))
    width = max(divisor, int(base * ratio + divisor / 2) // divisor * divisor)
    return width + divisor if width < 0.9 * base * ratio else width


class SqueezeExcite(nn.Module):
    """gain * x * gate(W2 act(W1 mean(x))), with biases.

    x: (N, C, H, W) -> same shape.  W1: (S, C), W2: (C, S), S = squeeze_width(base, ratio, divisor).
    Defaults are SENet's: ratio 1/16, ReLU, sigmoid. EfficientNet: ratio 0.25 of the block *input*, the net's
    activation (act="silu"). NFNet: ratio 0.5 and gain 2, since a sigmoid gate starts near 1/2.
    squeeze "max" or "none" (a gate for every pixel), gate "tanh" or "relu": what the paper's section 7 compares with.
    groups: channels gate their own group only, whose inner width is S / groups, rounded by itself; linear in C then.
    Parameters 2*C*S/groups + S + C; MACs 2*C*S, of squeeze "none" 2*C*S*H*W.
    """

    traits = Traits("gate")

    def __init__(
        self,
        channels: int,
        base: int,
        ratio: float = 0.0625,
        divisor: int = 0,
        act: str = "relu",
        gate: str = "sigmoid",
        gain: float = 1.0,
        squeeze: str = "mean",
        groups: int = 1,
    ):
        super().__init__()
        acts = {"relu": nn.ReLU, "silu": nn.SiLU, "relu6": nn.ReLU6}
        gates = {"sigmoid": nn.Sigmoid, "hard_sigmoid": nn.Hardsigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
        squeezes = ("mean", "max", "none")
        sound = 0 < ratio <= 1 and divisor >= 0 and 0 < gain < math.inf
        if groups < 1 or channels % groups:
            raise ConfigError(f"se(groups={groups}): {channels} channels must be a multiple of it")
        if act not in acts or gate not in gates or squeeze not in squeezes or not sound:
            raise ConfigError(
                f"se: act one of {', '.join(acts)}; gate one of {', '.join(gates)}; squeeze one of"
                f" {', '.join(squeezes)}; ratio in (0, 1]; divisor >= 0; gain > 0"
            )
        self.squeeze = squeeze
        inner = groups * squeeze_width(base // groups if groups > 1 else base, ratio, divisor)
        self.fc1 = nn.Conv2d(
            channels, inner, 1, groups=groups
        )  # 1x1 convolutions on (N, C, 1, 1): the shapes of public checkpoints
        self.act = acts[act]()
        self.fc2 = nn.Conv2d(inner, channels, 1, groups=groups)
        self.gate = gates[gate]() if gain == 1 else Scaled(gates[gate](), gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, C, H, W)
        s = x  # (N, C, 1, 1), but with squeeze "none" as it is
        if self.squeeze != "none":
            s = x.mean((2, 3), keepdim=True) if self.squeeze == "mean" else x.amax((2, 3), keepdim=True)
        return x * self.gate(self.fc2(self.act(self.fc1(s))))
