"""Parts of NASNet, arXiv:1707.07012: the genotype of a cell as a value, its operations, the cell.

Cells are those of the official code (TF-Slim); it has the operations of NASNet-A only, the others follow the text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from foveate.config import Width, record
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.drop import ScheduledDropPath
from foveate.layers.mix_conv import dilate
from foveate.layers.same import Padding, padding_for, same_pads

# the 13 operations of section 3.2; sep: depthwise-separable, applied twice; dil: dilation 2
Op = Literal[
    "identity",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_3x3",
    "avg_3x3",
    "max_3x3",
    "max_5x5",
    "max_7x7",
    "conv_1x1",
    "conv_3x3",
    "sep_3x3",
    "sep_5x5",
    "sep_7x7",
]
State = Annotated[int, Field(ge=0, le=11)]


@record
class Block:
    """Five decisions: two states, an operation for each, and how the results are combined."""

    left: State
    left_op: Op
    right: State
    right_op: Op
    combine: Literal["add", "concat"] = "add"


@record
class Genotype:
    """A cell. State 0 is the cell's input, 1 the input of the cell before it, 2 the first block, 3 the second, ...

    The input is first brought to the cell's filters by a 1x1 convolution, and state 1 where its size or width differs.
    """

    blocks: Annotated[tuple[Block, ...], Field(min_length=1, max_length=10)]  # the paper searched with 5
    # the states that are concatenated, rising; (): those that no block reads, the paper's rule
    outputs: tuple[State, ...] = ()

    def __post_init__(self) -> None:
        for i, block in enumerate(self.blocks):
            for side, state in (("left", block.left), ("right", block.right)):
                if state >= i + 2:
                    raise ConfigError(f"Genotype.blocks.{i}.{side} = {state}: at most {i + 1}, a state before it")
        if list(self.outputs) != sorted(set(self.outputs)) or max(self.outputs, default=0) >= len(self.blocks) + 2:
            limit = len(self.blocks) + 1
            raise ConfigError(f"Genotype.outputs = {self.outputs}: expected rising states, each at most {limit}")
        if self.outputs and (dead := set(self.unread) - set(self.outputs)):
            raise ConfigError(f"Genotype.outputs = {self.outputs}: nothing reads state {min(dead)}; it must be one")

    @property
    def unread(self) -> tuple[int, ...]:
        """The states that no block reads."""
        read = {s for b in self.blocks for s in (b.left, b.right)}
        return tuple(s for s in range(len(self.blocks) + 2) if s not in read)

    @property
    def doubles(self) -> int:
        """Operations that are two convolutions in a row, each with an inner width."""
        return sum(is_double(op) for b in self.blocks for op in (b.left_op, b.right_op))

    def width(self, filters: int) -> int:
        """Output channels of the cell."""
        concat = {i + 2 for i, b in enumerate(self.blocks) if b.combine == "concat"}
        return filters * sum(2 if s in concat else 1 for s in self.outputs or self.unread)


def is_double(op: str) -> bool:
    """Whether an operation is two convolutions in a row."""
    return op.startswith("sep") or op in ("conv_1x3_3x1", "conv_1x7_7x1")


@record
class CellWidths:
    """The widths of one cell."""

    filters: Width  # channels of every block
    mid: tuple[Width, ...] = ()  # inner width of each operation that has one, left before right; (): filters each


@dataclass(frozen=True)
class Place:
    """Where a cell stands: what its operations need to know."""

    layers: Layers
    padding: Padding
    filters: int
    stride: int  # 2: a reduction cell
    drop: float  # rate of ScheduledDropPath
    skipped: bool  # the next cell reads what this one read as "previous"
    counted: bool = False  # a strided mean counts the zeros around the picture (NASNetConfig.count_padding)

    def stride_of(self, state: int) -> int:
        """The stride of an operation that reads a state: only the cell's two inputs still have to be reduced."""
        return self.stride if state < 2 else 1

    def make_drop(self, op: str) -> nn.Module:
        """What drops the result of an operation; an identity is never dropped (the official code)."""
        return ScheduledDropPath(self.drop) if self.drop and op != "identity" else nn.Identity()


def fresh_act(layers: Layers, channels: int) -> nn.Module:
    """An activation that does not write into its input: a state has many readers."""
    act: Any = layers.make_act(channels)
    for module in act.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    return act


class SidedPad(nn.Module):
    """SAME padding of a kernel of two sides."""

    def __init__(self, kernel: tuple[int, int], stride: int):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, C, H + ph, W + pw)
        top, bottom = same_pads(x.shape[-2], self.kernel[0], self.stride)
        left, right = same_pads(x.shape[-1], self.kernel[1], self.stride)
        return F.pad(x, (left, right, top, bottom))


class ActConvNorm(nn.Module):
    """Activation, k x k convolution, norm: the order of every convolution in a cell."""

    def __init__(
        self, layers: Layers, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, padding: Padding = "same"
    ):
        super().__init__()
        self.act = fresh_act(layers, c_in)
        self.pad, margin = padding_for(padding, kernel, stride)
        self.conv = layers.make_conv(c_in, c_out, kernel, stride=stride, padding=margin)
        self.bn = layers.make_norm(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        return self.bn(self.conv(self.pad(self.act(x))))


class Dilated(nn.Module):
    """Activation, 3x3 convolution of dilation 2, norm."""

    def __init__(self, place: Place, c_in: int, stride: int):
        super().__init__()
        self.act = fresh_act(place.layers, c_in)
        self.pad, margin = padding_for(place.padding, 5, stride)  # its reach is that of a 5x5
        self.conv = dilate(place.layers.make_conv(c_in, place.filters, 3, stride=stride, padding=margin), 2)
        self.bn = place.layers.make_norm(place.filters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, filters, H/stride, W/stride)
        return self.bn(self.conv(self.pad(self.act(x))))


class Separable(nn.Module):
    """Twice: activation, depthwise k x k, 1x1, norm; nothing between depthwise and 1x1. The first takes the stride."""

    def __init__(self, place: Place, c_in: int, mid: int, kernel: int, stride: int):
        super().__init__()
        layers = place.layers
        self.act1 = fresh_act(layers, c_in)
        self.pad, margin = padding_for(place.padding, kernel, stride)
        self.dw1 = layers.make_conv(c_in, c_in, kernel, stride=stride, padding=margin, groups=c_in)
        self.pw1 = layers.make_conv(c_in, mid, 1)
        self.bn1 = layers.make_norm(mid)
        self.act2 = layers.make_act(mid)
        self.dw2 = layers.make_conv(mid, mid, kernel, groups=mid)
        self.pw2 = layers.make_conv(mid, place.filters, 1)
        self.bn2 = layers.make_norm(place.filters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, filters, H/stride, W/stride)
        y = self.bn1(self.pw1(self.dw1(self.pad(self.act1(x)))))
        return self.bn2(self.pw2(self.dw2(self.act2(y))))


class Factored(nn.Module):
    """1 x k, then k x 1, each with activation before and norm after. The first takes the stride, on both axes.

    Not in the official code; the paper gives the kernels and the order activation, convolution, norm.
    """

    def __init__(self, place: Place, c_in: int, mid: int, kernel: int, stride: int):
        super().__init__()
        layers, same = place.layers, place.padding == "same" and stride > 1
        self.act1 = fresh_act(layers, c_in)
        self.pad = SidedPad((1, kernel), stride) if same else nn.Identity()
        margin = 0 if same else (0, kernel // 2)
        self.conv1 = layers.make_conv(c_in, mid, (1, kernel), stride=stride, padding=margin)
        self.bn1 = layers.make_norm(mid)
        self.act2 = layers.make_act(mid)
        self.conv2 = layers.make_conv(mid, place.filters, (kernel, 1))
        self.bn2 = layers.make_norm(place.filters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, filters, H/stride, W/stride)
        y = self.bn1(self.conv1(self.pad(self.act1(x))))
        return self.bn2(self.conv2(self.act2(y)))


class Pool(nn.Module):
    """k x k mean or maximum of what lies inside the picture: padding counts for nothing, as in TensorFlow.

    counted: a strided mean with SAME padding counts the zeros that it pads, as timm's nasnetalarge does; this is the
    only difference to it.
    x: (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride)).  No parameters.
    """

    def __init__(self, kind: Literal["avg", "max"], kernel: int, stride: int, padding: Padding, counted: bool = False):
        super().__init__()
        self.kind, self.kernel, self.stride, self.padding = kind, kernel, stride, padding
        self.counted = counted and kind == "avg" and stride > 1 and padding == "same"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        margin = [self.kernel // 2] * 2
        if self.counted:
            top, bottom = same_pads(x.shape[-2], self.kernel, self.stride)
            left, right = same_pads(x.shape[-1], self.kernel, self.stride)
            return F.avg_pool2d(F.pad(x, (left, right, top, bottom)), self.kernel, self.stride)
        if self.padding == "same":  # where SAME pads one more after than before, ceil_mode adds that last window
            margin = [same_pads(x.shape[i], self.kernel, self.stride)[0] for i in (-2, -1)]
        ceil = self.padding == "same"
        if self.kind == "max":
            return F.max_pool2d(x, self.kernel, self.stride, margin, ceil_mode=ceil)
        return F.avg_pool2d(x, self.kernel, self.stride, margin, ceil_mode=ceil, count_include_pad=False)

    def extra_repr(self) -> str:
        counted = ", counted" if self.counted else ""
        return f"{self.kind}, kernel={self.kernel}, stride={self.stride}, padding={self.padding}{counted}"


class PoolOp(nn.Module):
    """A pool; then 1x1 and norm where the width must change."""

    def __init__(self, place: Place, c_in: int, kind: Literal["avg", "max"], kernel: int, stride: int):
        super().__init__()
        same = c_in == place.filters
        self.pool = Pool(kind, kernel, stride, place.padding, place.counted)
        self.conv = nn.Identity() if same else place.layers.make_conv(c_in, place.filters, 1)
        self.bn = nn.Identity() if same else place.layers.make_norm(place.filters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, filters, H/stride, W/stride)
        return self.bn(self.conv(self.pool(x)))


class FactorizedReduction(nn.Module):
    """Halves the size and looks at more than every fourth pixel: the even ones through one 1x1, the odd ones through
    another, concatenation, norm.

    x: (N, c_in, H, W) -> (N, c_out, ceil(H / 2), ceil(W / 2)).  Beyond the lower and the right border stand zeros.
    """

    def __init__(self, layers: Layers, c_in: int, c_out: int):
        super().__init__()
        self.act = fresh_act(layers, c_in)
        self.conv1 = layers.make_conv(c_in, c_out - c_out // 2, 1, stride=2)
        self.conv2 = layers.make_conv(c_in, c_out // 2, 1, stride=2) if c_out > 1 else None
        self.bn = layers.make_norm(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(x)
        y = self.conv1(x)
        if self.conv2 is not None:
            y = torch.cat((y, self.conv2(F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:])), dim=1)
        return self.bn(y)


def make_op(op: str, place: Place, c_in: int, stride: int, mids: Iterator[int]) -> nn.Module:
    """One of the 13 operations: (N, c_in, H, W) -> (N, filters, ceil(H / stride), ceil(W / stride)).

    mids: inner widths; an operation that has one takes the next.
    """
    kind, _, sides = op.partition("_")
    kernel = int(sides[-1]) if sides else 1
    if kind == "sep":
        return Separable(place, c_in, next(mids), kernel, stride)
    if op in ("conv_1x3_3x1", "conv_1x7_7x1"):
        return Factored(place, c_in, next(mids), int(sides[2]), stride)
    if op == "dil_3x3":
        return Dilated(place, c_in, stride)
    if kind in ("avg", "max"):
        return PoolOp(place, c_in, "avg" if kind == "avg" else "max", kernel, stride)
    if op == "identity" and stride == 1 and c_in == place.filters:
        return nn.Identity()
    return ActConvNorm(place.layers, c_in, place.filters, kernel, stride, place.padding)


class Combine(nn.Module):
    """A block of a cell: two operations, and the sum or the concatenation of what they give."""

    def __init__(self, block: Block, place: Place, widths: Sequence[int], mids: Iterator[int]):
        super().__init__()
        self.left = make_op(block.left_op, place, widths[block.left], place.stride_of(block.left), mids)
        self.drop_left = place.make_drop(block.left_op)
        self.right = make_op(block.right_op, place, widths[block.right], place.stride_of(block.right), mids)
        self.drop_right = place.make_drop(block.right_op)
        self.states = (block.left, block.right)
        self.concat = block.combine == "concat"

    def forward(self, states: list[torch.Tensor]) -> torch.Tensor:  # -> (N, filters or 2 * filters, H/stride, W/stride)
        a = self.drop_left(self.left(states[self.states[0]]))
        b = self.drop_right(self.right(states[self.states[1]]))
        return torch.cat((a, b), dim=1) if self.concat else a + b


class Cell(nn.Module):
    """A genotype at a place: forward(x, previous), previous being the input of the cell before.

    x: (N, c_in, H, W), previous: (N, c_previous, ratio * H, ratio * W) -> (N, width, H / stride, W / stride).
    ratio 2: previous goes through FactorizedReduction; 1: through activation, 1x1, norm if it has not the cell's
    filters; 0: there is no cell before, previous is x and stays as it is.
    """

    def __init__(self, genotype: Genotype, place: Place, widths: CellWidths, *, c_in: int, c_previous: int, ratio: int):
        super().__init__()
        layers, filters = place.layers, place.filters
        self.previous: nn.Module = nn.Identity()
        if ratio == 2:
            self.previous = FactorizedReduction(layers, c_previous, filters)
        elif ratio == 1 and c_previous != filters:
            self.previous = ActConvNorm(layers, c_previous, filters)
        self.current = ActConvNorm(layers, c_in, filters)
        channels = [filters, filters if ratio else c_previous]  # of each state
        self.blocks = nn.ModuleList()
        mids = iter(widths.mid or (filters,) * genotype.doubles)
        for block in genotype.blocks:
            self.blocks.append(Combine(block, place, channels, mids))
            channels.append(2 * filters if block.combine == "concat" else filters)
        self.outputs = genotype.outputs or genotype.unread
        self.fits = nn.ModuleList(fit(place, channels[s]) if s < 2 else nn.Identity() for s in self.outputs)
        self.width = genotype.width(filters)
        self.attn = layers.make_attn(self.width, self.width)  # not in the paper: the slot of the cell's end
        self.stride, self.skipped = place.stride, place.skipped

    def forward(self, x: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        states = [self.current(x), self.previous(previous)]
        for block in self.blocks:
            states.append(block(states))
        return self.attn(torch.cat([fit(states[s]) for s, fit in zip(self.outputs, self.fits, strict=True)], dim=1))


def fit(place: Place, channels: int) -> nn.Module:
    """Brings an input of the cell that is one of its outputs to their size and width, without activation."""
    if place.stride == 1 and channels == place.filters:
        return nn.Identity()
    made: ActConvNorm | FactorizedReduction
    if place.stride == 1:
        made = ActConvNorm(place.layers, channels, place.filters)
    else:
        made = FactorizedReduction(place.layers, channels, place.filters)
    made.act = nn.Identity()
    return made
