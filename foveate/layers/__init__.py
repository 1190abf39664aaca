"""Plug-in layers: the record Layers names what fills each slot of a host; four tables hold what there is.

A new layer is one file here, which says what it is (traits.py), and one line in a table. Slots and their makers:

    norm  (channels)                                   (N, C, H, W) -> same
    act   (channels)                                   any shape    -> same
    attn  (channels, base)                             (N, C, H, W) -> same; base: the width that squeeze ratios refer
    to
    conv  (c_in, c_out, kernel, stride=, padding=, groups=, bias=)  (N, c_in, H, W) -> (N, c_out, H', W')
"""

from collections.abc import Callable, Mapping

from torch import nn

from foveate.config import make, record
from foveate.layers.act import (
    elu,
    gelu,
    gelu_tanh,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    prelu,
    relu,
    relu6,
    scaled,
    selu,
    silu,
)
from foveate.layers.bn_small_init import bn_small_init
from foveate.layers.cbam import CBAM
from foveate.layers.conv import Pair, conv2d, conv2d_bias
from foveate.layers.conv_norm import conv_norm
from foveate.layers.coord import CoordAttention
from foveate.layers.eca import ECA
from foveate.layers.gconv import gconv
from foveate.layers.ghost import ghost
from foveate.layers.gn_plus import GNPlus
from foveate.layers.group_shuffle import group_shuffle
from foveate.layers.invariant_norm import InvariantNorm, invariant_conv
from foveate.layers.iter_norm import IterNorm
from foveate.layers.low_rank import low_rank
from foveate.layers.mask import residual_mask
from foveate.layers.mgic import mgic
from foveate.layers.mix_conv import mix_conv
from foveate.layers.non_local import nonlocal_scaled, nonlocal_softmax
from foveate.layers.norm import batch_norm, group_norm, instance_norm, layer_norm
from foveate.layers.se import SqueezeExcite
from foveate.layers.sk import sk
from foveate.layers.ws_conv import ws_conv

Maker = Callable[..., nn.Module]


def identity(*_: int) -> nn.Module:
    """No layer: holds no tensors, so no key appears in a checkpoint."""
    return nn.Identity()


NORMS: Mapping[str, Maker] = {
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "instance_norm": instance_norm,
    "iter_norm": IterNorm,
    "gn_plus": GNPlus,
    "bn_small_init": bn_small_init,
    "invariant_norm": InvariantNorm,
    "none": identity,
}
ACTS: Mapping[str, Maker] = {
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "prelu": prelu,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "hard_swish": hard_swish,
    "hard_sigmoid": hard_sigmoid,
    "elu": elu,
    "selu": selu,
    "scaled": scaled,
    "none": identity,
}
ATTNS: Mapping[str, Maker] = {
    "none": identity,
    "se": SqueezeExcite,
    "eca": ECA,
    "cbam": CBAM,
    "coord": CoordAttention,
    "nonlocal": nonlocal_softmax,
    "nonlocal_scaled": nonlocal_scaled,
    "residual_mask": residual_mask,
}
CONVS: Mapping[str, Maker] = {
    "conv2d": conv2d,
    "conv2d_bias": conv2d_bias,
    "ws_conv": ws_conv,
    "ghost": ghost,
    "invariant_conv": invariant_conv,
    "conv_norm": conv_norm,
    "gconv": gconv,
    "group_shuffle": group_shuffle,
    "low_rank": low_rank,
    "mgic": mgic,
    "mix_conv": mix_conv,
    "sk": sk,
}


@record
class Layers:
    """Which layer fills each slot; a value is a name or a call: "group_norm(groups=16)"."""

    norm: str = "batch_norm"
    act: str = "relu"
    attn: str = "none"
    conv: str = "conv2d"

    def make_norm(self, channels: int) -> nn.Module:
        """A normalisation of (N, channels, H, W)."""
        return make(NORMS, self.norm, "norm", channels)

    def make_act(self, channels: int) -> nn.Module:
        """An activation of (N, channels, ...)."""
        return make(ACTS, self.act, "act", channels)

    def make_attn(self, channels: int, base: int) -> nn.Module:
        """A gate of (N, channels, H, W); base is the width that its squeeze ratio refers to."""
        return make(ATTNS, self.attn, "attn", channels, base)

    def make_conv(
        self,
        c_in: int,
        c_out: int,
        kernel: Pair,
        *,
        stride: int = 1,
        padding: Pair | None = None,
        groups: int = 1,
        bias: bool = False,
    ) -> nn.Module:
        """A convolution; padding None means kernel // 2 on both sides of each axis."""
        if padding is None:
            padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
        return make(
            CONVS, self.conv, "conv", c_in, c_out, kernel, stride=stride, padding=padding, groups=groups, bias=bias
        )
