"""Which channels belong together, read from one run of a network in which every channel carries a label, not a value.

A convolution gives its outputs fresh labels, a norm or a pool passes labels on, a sum makes two labels one, and
concatenations, splits and shuffles move them as they move channels. What a network does to the order of its channels
is so found in its own forward pass, and no family has to state it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from foveate.errors import FoveateError


@dataclass(frozen=True)
class Axis:
    """What stands along one axis of a tensor: a class of channels at every position.

    groups > 1: the inputs of a convolution in groups; the axis is so many times shorter, and position i of it holds
    labels i, i + length, ... one a group.
    """

    labels: tuple[int, ...]  # 0: a channel of zeros
    groups: int = 1


@dataclass(frozen=True)
class Trace:
    """What one run on labels saw."""

    axes: dict[tuple[str, int], Axis]  # (key of a tensor, axis) -> what stands along it
    reasons: dict[int, str]  # class that may not be removed -> why
    shuffles: tuple[tuple[int, int], ...]  # sizes of the two axes of channels that each transposition swaps


class Tracer(TorchFunctionMode):
    """Runs a network on labels. Tensors of labels are float64 (integers are exact), (1, C, 1, 1), 0 for zeros.

    follows: names of convolutions whose number of groups grows with the width: whole groups go. fixed: for each
    transposition which of its two axes keeps its size when widths change (0, 1, or None: unknown).
    """

    def __init__(self, follows: Iterable[str], fixed: Sequence[int | None]):
        super().__init__()
        self.follows, self.fixed = frozenset(follows), fixed
        self.parent = [0]
        self.reasons: dict[int, str] = {}
        self.axes: dict[tuple[str, int], Axis] = {}
        self.shuffles: list[tuple[int, int]] = []

    def fresh(self, count: int) -> list[int]:
        """New labels."""
        start = len(self.parent)
        self.parent.extend(range(start, start + count))
        return list(range(start, start + count))

    def find(self, label: int) -> int:
        """The one label that stands for a class."""
        while self.parent[label] != label:
            self.parent[label] = label = self.parent[self.parent[label]]
        return label

    def join(self, labels: Iterable[int]) -> None:
        """Make these one class."""
        first, *others = sorted({self.find(i) for i in labels if i}) or [0]
        for other in others:
            self.parent[other] = first

    def keep(self, labels: Iterable[int], reason: str) -> None:
        """None of these may be removed."""
        for label in {i for i in labels if i}:
            self.reasons.setdefault(label, reason)

    def record(self, key: str, axis: int, labels: Sequence[int], groups: int = 1) -> list[int]:
        """Note what stands along an axis. A module that runs twice joins what it saw each time."""
        if (known := self.axes.get((key, axis))) is not None:
            for a, b in zip(known.labels, labels, strict=True):
                self.join((a, b))
            return list(known.labels)
        self.axes[key, axis] = Axis(tuple(labels), groups)
        return list(labels)

    def trace(self) -> Trace:
        """What was seen, every label replaced by its class."""
        axes = {at: Axis(tuple(self.find(i) for i in axis.labels), axis.groups) for at, axis in self.axes.items()}
        return Trace(axes, {self.find(i): reason for i, reason in self.reasons.items()}, tuple(self.shuffles))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        if name in _SIZES:
            return func(*args, **kwargs)
        if name in _PAIRS:
            return self.pair(*args[:2])
        if name in _SAME or any(name.startswith(word) for word in _SPATIAL):
            return args[0]
        if name in _REDUCE:
            return self.reduce(name, *args, **kwargs)
        if name in ("softmax", "normalize"):
            return self.across(name, *args, **kwargs)
        if name == "transpose":
            self.shuffle(*args)
        if name == "pad":
            return pad(*args[:2])
        if name not in _MOVES:
            raise FoveateError(f"compress: can not follow channels through {name}; report this")
        return func(*args, **kwargs)

    def pair(self, a: Any, b: Any) -> torch.Tensor:
        """A sum or a product: what stands at one place becomes one class."""
        if not isinstance(a, torch.Tensor) or a.is_meta:
            a, b = b, a
        if not isinstance(b, torch.Tensor) or (b.is_meta and b.numel() == 1):
            return a
        if b.is_meta:
            raise FoveateError("compress: a parameter meets channels outside a known layer; report this")
        a, b = torch.broadcast_tensors(a, b)
        for i, j in torch.stack((a.flatten(), b.flatten())).unique(dim=1).T.tolist():
            self.join((int(i), int(j)))
        return torch.where(a == 0, b, a)

    def reduce(self, name: str, x: torch.Tensor, dim: Any = None, keepdim: bool = False, **others: Any) -> torch.Tensor:
        """A mean, sum or maximum over an axis. Over channels it makes all of them necessary."""
        dims = dim if dim is not None else tuple(range(x.ndim))
        high = x.amax(dims, keepdim)
        if not torch.equal(high, x.amin(dims, keepdim)):
            self.keep(map(int, x.flatten().tolist()), f"a {name} over all channels reads it")
        return high

    def across(self, name: str, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """A function of all values along an axis."""
        dim = kwargs.get("dim", args[0] if args and name == "softmax" else 1)
        high, low = x.amax(dim), x.amin(dim)
        if not torch.equal(high, low):
            if name == "normalize":
                self.keep(map(int, x.flatten().tolist()), "it is divided by a norm over all channels")
            for row in x.movedim(dim, -1).flatten(0, -2).unique(dim=0).tolist():
                self.join(map(int, row))
        return x

    def shuffle(self, x: torch.Tensor, a: int, b: int) -> None:
        """A transposition of two axes of channels: what lies along the one that keeps its size goes together."""
        rows = x.movedim((a, b), (0, 1)).flatten(2)[..., 0]
        fixed = self.fixed[len(self.shuffles)] if len(self.shuffles) < len(self.fixed) else None
        self.shuffles.append((rows.shape[0], rows.shape[1]))
        if torch.equal(rows.amax(0), rows.amin(0)) and torch.equal(rows.amax(1), rows.amin(1)):
            return  # one channel, at many places
        if fixed is None:
            self.keep(map(int, rows.flatten().tolist()), "a shuffle whose parts do not grow with the width moves it")
        else:
            for together in (rows.T if fixed == 0 else rows).tolist():
                self.join(map(int, together))


def pad(x: torch.Tensor, margins: Sequence[int]) -> torch.Tensor:
    """Zeros around maps change no label; zeros behind channels are labels 0."""
    left, right, top, bottom, *channels = (int(m) for m in (*margins, 0, 0, 0)[: max(4, len(margins))])
    x = x[..., :1, :1].expand(*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right)
    if any(channels):
        before, after = (x.new_zeros(1, n, *x.shape[2:]) for n in channels[:2])
        x = torch.cat((before, x, after), 1)
    return x


def labels_of(x: torch.Tensor) -> list[int]:
    """The labels of the channels of a map (1, C, h, w) or of features (1, C)."""
    flat = x.reshape(x.shape[0], x.shape[1], -1)[0, :, 0]
    return [int(i) for i in flat.tolist()]


def as_map(labels: Sequence[int]) -> torch.Tensor:
    """Labels as a map (1, C, 1, 1)."""
    return torch.tensor(labels, dtype=torch.float64, device="cpu").view(1, -1, 1, 1)


Rule = Callable[[Tracer, str, Any, torch.Tensor], torch.Tensor]


def attach(tracer: Tracer, module: nn.Module, name: str, rule: Rule) -> None:
    """Let the module answer by the rule instead of its forward. The module is spoilt for anything else."""

    def forward(x: torch.Tensor, *others: Any) -> torch.Tensor:
        return rule(tracer, name, module, x)

    module.forward = forward


def spread(x: torch.Tensor, size: Any) -> torch.Tensor:
    """A map of labels at another size."""
    high, wide = (size, size) if isinstance(size, int) else size
    return x[..., :1, :1].expand(*x.shape[:2], math.ceil(high), math.ceil(wide))


_PAIRS = {"add", "mul", "sub", "div", "radd", "rmul", "iadd", "imul", "rsub", "truediv", "multiply", "true_divide"}
_SAME = {"sigmoid", "relu", "square", "rsqrt", "clamp", "to", "clone", "double", "float", "type_as", "contiguous"}
_SPATIAL = ("max_pool2d", "avg_pool2d", "interpolate", "dropout", "silu", "hard", "gelu", "_max_pool", "boolean_disp")
_REDUCE = {"mean", "sum", "amax", "max", "amin"}
_SIZES = {"larger", "smaller", "position_code"}  # of numbers, without a map (foveate.layers.tracing.whole)
_MOVES = {"getitem", "cat", "reshape", "view", "flatten", "unflatten", "transpose", "split", "chunk", "expand"}
_MOVES |= {"unsqueeze", "squeeze", "permute", "get", "size", "dim", "numel", "stack", "select", "tensor", "tolist"}
_MOVES |= {"movedim", "new_zeros", "item", "split_with_sizes", "T", "is_floating_point", "len", "promote_types"}
