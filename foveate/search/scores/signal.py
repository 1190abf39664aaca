"""Numbers of any size: a float64 tensor times exp(log), with torch's operations on it."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F

from foveate.errors import FoveateError

SAME = {  # what an activation is to a large positive number
    F.relu,
    F.relu6,
    F.leaky_relu,
    F.prelu,
    F.elu,
    F.selu,
    F.silu,
    F.gelu,
    F.hardswish,
    F.hardtanh,
    F.dropout,
    torch.relu,
    torch.relu_,
    torch.prelu,
    torch.Tensor.relu,
}
BOUNDED = {torch.sigmoid, torch.tanh, F.hardsigmoid, torch.Tensor.sigmoid, torch.Tensor.tanh, F.softmax}
MULTIPLY = {torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__}
ADD = {torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__}
LARGEST = 700.0  # exp of more overflows float64


class Signal:
    """values * exp(log): what flows through a network whose numbers no float holds. values: float64, log: a number.

    Layers that are linear (convolutions, means, sums, reshapes, padding with zeros) work on values; sums bring both
    sides to the larger log. Before a layer with weights the values are divided by their maximum, a constant to
    gradients: they are those of values. Operations that are neither linear nor in a table here are computed as if they
    were linear: it is for networks of convolutions, linear layers, shortcuts, concatenations, pools and gates.
    """

    def __init__(self, values: torch.Tensor, log: float):
        self.values, self.log = values, log

    def plain(self) -> torch.Tensor:
        """The numbers themselves; those beyond e^700 as that."""
        return self.values * math.exp(min(self.log, LARGEST))

    def unit(self) -> "Signal":
        """The same with the maximum 1."""
        top = float(self.values.detach().abs().max())
        return Signal(self.values / top, self.log + math.log(top)) if top > 0 else self

    def at(self, log: float) -> torch.Tensor:
        """The values that go with another log."""
        return self.values * math.exp(self.log - log)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func in SAME:
            return args[0]
        if func in BOUNDED:
            return func(args[0].plain(), *args[1:], **named)
        if func in MULTIPLY:
            return times(args[0], args[1])
        if func in ADD:
            return plus(args[0], args[1])
        first = args[0]
        if isinstance(first, (tuple, list)):  # cat, stack
            log = max(one.log for one in map(lifted, first))
            return Signal(func([lifted(one).at(log) for one in first], *args[1:], **named), log)
        if not isinstance(first, Signal) or any(isinstance(one, Signal) for one in (*args[1:], *named.values())):
            raise FoveateError(f"synflow: {getattr(func, '__name__', func)} of two signals is not known; take another")
        whole = first.unit()
        out = func(whole.values, *args[1:], **named)
        return Signal(out, whole.log) if isinstance(out, torch.Tensor) and out.is_floating_point() else out

    def __getattr__(self, name: str) -> Any:
        found = getattr(torch.Tensor, name)
        if not callable(found):
            return getattr(self.values, name)
        return lambda *args, **named: Signal.__torch_function__(found, (), (self, *args), named)

    def __add__(self, other: Any) -> "Signal":
        return plus(self, other)

    __radd__ = __iadd__ = __add__

    def __mul__(self, other: Any) -> "Signal":
        return times(self, other)

    __rmul__ = __imul__ = __mul__

    def __truediv__(self, other: float) -> "Signal":
        return Signal(self.values / other, self.log)

    def __getitem__(self, index: Any) -> "Signal":
        return Signal(self.values[index], self.log)


def lifted(x: Any) -> Signal:
    """A tensor or a number as a signal."""
    return x if isinstance(x, Signal) else Signal(torch.as_tensor(x, dtype=torch.float64), 0.0)


def plus(a: Any, b: Any) -> Signal:
    """a + b, at the larger log of those that are not all zero."""
    both = [lifted(a).unit(), lifted(b).unit()]
    alive = [bool(one.values.detach().any()) for one in both]
    log = max((one.log for one, some in zip(both, alive, strict=True) if some), default=0.0)
    left, right = (one.at(log) if some else one.values for one, some in zip(both, alive, strict=True))
    return Signal(left + right, log)


def times(a: Any, b: Any) -> Signal:
    """a * b."""
    one, other = lifted(a).unit(), lifted(b).unit()
    return Signal(one.values * other.values, one.log + other.log)
