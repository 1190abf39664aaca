"""MixConv: a convolution whose channels are split into parts, each with a kernel of its own. arXiv:1907.09595."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.conv import ConvShape, Pair, both, conv2d
from foveate.layers.same import Padding, padding_for
from foveate.layers.traits import Traits

Split = Literal["equal", "exponential"]


def split_channels(channels: int, parts: int, split: Split = "equal") -> list[int]:
    """The widths of the parts, largest first; ConfigError where a part would be empty.

    equal: channels // parts each, the remainder goes to the first part (the official code): 10 in 3 is 4, 3, 3.
    exponential: every part takes half of what is left, rounded up, the last one all of it: 32 in 4 is 16, 8, 4, 4 as in
    the paper (section 3.2), which does not say how to round.
    """
    widths = [channels // parts] * parts
    if split == "equal":
        widths[0] += channels % parts
    else:
        left = channels
        for i in range(parts - 1):
            widths[i] = (left + 1) // 2
            left -= widths[i]
        widths[-1] = left
    if min(widths) < 1:
        raise ConfigError(f"{channels} channels can not be split into {parts} parts ({split}): one would be empty")
    return widths


class MixConv(nn.Module):
    """Convolutions side by side: part i of the channels goes through kernels[i], then the parts are concatenated.

    x: (N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride)).  Depthwise it has as many weights, and MACs a
    position, as the sum of c_i * k_i ** 2.  One kernel: the plain convolution.  Even kernels are refused.

    depthwise: c_in == c_out, one filter a channel. False: each part is a full convolution of its input channels;
    kernels (1, 1) make the "grouped 1x1" of MixNet. Both sides are split by the same rule.
    dilated: a k x k kernel becomes a 3x3 with dilation (k - 1) / 2, of the same reach; at stride 1 only, larger strides
    keep the full kernel (the official code).
    make_conv makes the parts: layers.make_conv, or any maker of the table CONVS.
    """

    traits = Traits("conv")

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernels: Sequence[int],
        *,
        stride: int = 1,
        padding: Padding = "same",
        depthwise: bool = True,
        split: Split = "equal",
        dilated: bool = False,
        make_conv: Callable[..., nn.Module] = conv2d,
    ):
        super().__init__()
        if not kernels or any(k < 1 or k % 2 == 0 for k in kernels):
            raise ConfigError(f"mix_conv: kernels {tuple(kernels)}; must be odd (3, 5, 7), at least one")
        if depthwise and c_in != c_out:
            raise ConfigError(f"mix_conv: {c_in} channels in, {c_out} out; a depthwise convolution keeps their number")
        self.widths = split_channels(c_in, len(kernels), split)
        self.pads, self.convs = nn.ModuleList(), nn.ModuleList()
        for k, c, c_part in zip(kernels, self.widths, split_channels(c_out, len(kernels), split), strict=True):
            pad, margin = padding_for(padding, k, stride)
            dilation = (k - 1) // 2 if dilated and stride == 1 and k > 3 else 1
            taps = 3 if dilation > 1 else k
            groups = c if depthwise else 1
            conv = make_conv(c, c_part, taps, stride=stride, padding=margin, groups=groups, bias=False)
            self.pads.append(pad)
            self.convs.append(dilate(conv, dilation))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        if len(self.convs) == 1:  # nothing to split and to copy
            return self.convs[0](self.pads[0](x))
        parts = x.split(self.widths, dim=1)
        layers = zip(self.pads, self.convs, strict=True)
        return torch.cat([conv(pad(parts[i])) for i, (pad, conv) in enumerate(layers)], dim=1)


def dilate(conv: nn.Module, dilation: int) -> nn.Module:
    """The convolution with its taps `dilation` apart; its padding stays. Only plain convolutions have that freedom."""
    if dilation > 1:
        if not isinstance(conv, nn.Conv2d):
            raise ConfigError(f"dilation {dilation}: {type(conv).__name__} can not be dilated; use conv2d")
        conv.dilation = (dilation, dilation)
    return conv


def mix_conv(
    c_in: int,
    c_out: int,
    kernel: Pair,
    *,
    stride: int = 1,
    padding: Pair = 0,
    groups: int = 1,
    bias: bool = False,
    parts: int = 4,
    split: Split = "equal",
    dilated: bool = False,
) -> nn.Module:
    """For the conv slot: a depthwise k x k becomes a MixConv of k, k + 2, ... (section 3.2), others stay plain.

    Each kernel lies in the middle of where the host's would, whatever its padding, so that sizes stay. 4 parts as the
    paper has in MobileNets, or as many as there are channels. Plain stay 1x1, even and oblong kernels, and whatever is
    not depthwise: the paper mixes kernels where a channel costs k^2 weights, not c_in k^2.
    dilated: as in MixConv; the host's own kernel has to be 3x3, of which every part then has nine taps at stride 1.
    """
    if type(parts) is not int or not 1 <= parts <= 8 or split not in get_args(Split):
        raise ConfigError(f'mix_conv(parts={parts}, split="{split}"): parts from 1 to 8; split equal or exponential')
    k_y, k_x = both(kernel)
    p_y, p_x = both(padding)
    if k_y != k_x or k_y == 1 or k_y % 2 == 0 or not groups == c_in == c_out:
        return ConvShape(c_in, c_out, kernel, stride, padding, groups, bias).plain()
    if dilated and k_y != 3 and stride == 1:
        raise ConfigError(f"mix_conv(dilated=True): the host has a depthwise {k_y}x{k_y}; it must be 3x3")

    count, biased = min(parts, c_in), bias
    while split == "exponential" and 2 ** (count - 1) > c_in:  # a part would be empty
        count -= 1

    def part(c: int, c_part: int, taps: int, *, stride: int, padding: int, groups: int, bias: bool) -> nn.Module:
        more = padding - k_y // 2  # padding: half of the reach of this part
        return conv2d(c, c_part, taps, stride=stride, padding=(p_y + more, p_x + more), groups=groups, bias=biased)

    kernels = [k_y + 2 * i for i in range(count)]
    symmetric: Padding = "symmetric"
    return MixConv(c_in, c_out, kernels, stride=stride, padding=symmetric, split=split, dilated=dilated, make_conv=part)
