"""The operators that a network runs at inference, read from the real module on the meta device.

What a runtime fuses is one operator here: a norm goes into the convolution before it, and so does an activation that is
a clamp or a sigmoid of one number. What moves no data (views) is left out.
"""

import math
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from foveate.cost.places import Places
from foveate.cost.shadow import picture, shadow, sizes, without_data
from foveate.errors import FoveateError

NORMS = frozenset({"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"})
FUSED = frozenset({"relu", "hardtanh", "clamp_min", "clamp", "leaky_relu", "sigmoid", "hardsigmoid", "tanh"})
SAME = {"_adaptive_avg_pool2d": "mean", "adaptive_avg_pool2d": "mean", "addmm": "linear", "mm": "linear"}
POOLS = frozenset({"avg_pool2d", "max_pool2d_with_indices"})
NOTHING = frozenset({"empty", "empty_like", "zeros", "ones", "full", "arange", "scalar_tensor", "lift_fresh", "detach"})


class Operator(NamedTuple):
    """Everything that decides how long an operator takes: its type and its sizes, batch 1.

    kind "conv" and "linear": height and width of the output, 1 for a linear layer. Any other kind is the name of the
    operation in torch: c_in and c_out are the elements that are read and written at each position, height and width
    those of its largest tensor.
    """

    kind: str
    c_in: int
    c_out: int
    height: int
    width: int
    kernel: int = 1  # of a rectangle: the side of a square of as many taps, rounded up
    stride: int = 1
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-adds; 0 for an operator that only moves or maps numbers."""
        if self.kind not in ("conv", "linear"):
            return 0
        return self.c_in // self.groups * self.c_out * self.kernel**2 * self.height * self.width

    @property
    def elements(self) -> int:
        """Numbers read and written, weights left out."""
        return (self.c_in * self.stride**2 + self.c_out) * self.height * self.width

    @property
    def text(self) -> str:
        """A readable key: "conv 3x3 /2 g32 32>32 56x56"."""
        shape = f"{self.c_in}>{self.c_out} {self.height}x{self.width}"
        return f"{self.kind} {self.kernel}x{self.kernel} /{self.stride} g{self.groups} {shape}"


def operators(config_or_model: Any, resolution: int | None = None, in_chans: int | None = None) -> tuple[Operator, ...]:
    """The operators of a config or module for one picture, in the order in which they run. Nothing is computed.

    FoveateError with the layer where the network can not run without data.
    """
    network = shadow(config_or_model)
    shape = sizes(network, resolution, 1, in_chans)
    seen, places = _Seen(), Places(network)
    with ExitStack() as stack:
        stack.enter_context(without_data())
        x = picture(network, shape)
        places.attach(stack)
        stack.enter_context(seen)
        try:
            network(x)
        except Exception as error:
            what = f"{type(network).__name__} can not be read at {shape[1]} x {shape[2]} x {shape[3]}"
            raise FoveateError(f"{what}: {places.told(error)}") from error
    return tuple(seen.found)


class _Seen(TorchDispatchMode):
    """Notes each operation as an Operator, those that are fused into the one before left out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Operator] = []
        self.tail: torch.Tensor | None = None  # what the last convolution or linear layer gave, norm included

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func._overloadpacket).removeprefix("aten.").rstrip("_")
        name = SAME.get(name, name)
        first = out[0] if isinstance(out, (tuple, list)) and out else out
        if func.is_view or name in NOTHING or not isinstance(first, torch.Tensor):
            return out
        follows = bool(args) and args[0] is self.tail and self.tail is not None
        if name == "convolution":
            self.found.append(_conv(args, first))
            self.tail = first
        elif name == "linear":
            at = 1 if len(args) > 2 else 0  # addmm(bias, x, weight), mm(x, weight)
            self.found.append(Operator("linear", int(args[at].shape[-1]), int(first.shape[-1]), first.shape[0], 1))
            self.tail = first
        elif follows and name in NORMS:
            self.tail = first
        elif follows and name in FUSED:
            self.tail = None
        else:
            self.found.append(_other("norm" if name in NORMS else name, args, first))
        return out


def _conv(args: tuple[Any, ...], out: torch.Tensor) -> Operator:
    """convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)."""
    x, weight, stride, groups = args[0], args[1], args[3], args[8]
    sides = (*out.shape[2:], 1, 1)
    side = math.ceil(math.sqrt(math.prod(weight.shape[2:])))
    return Operator("conv", x.shape[1], out.shape[1], sides[0], sides[1], side, max(stride), groups)


def _other(name: str, args: tuple[Any, ...], out: torch.Tensor) -> Operator:
    inputs = [t for a in args for t in (a if isinstance(a, (list, tuple)) else (a,)) if isinstance(t, torch.Tensor)]
    largest = max((out, *inputs), key=lambda t: t.numel())
    height, width = (*largest.shape[2:], 1, 1)[:2] if largest.ndim > 2 else (1, 1)
    area = max(1, height * width)
    read, written = sum(t.numel() for t in inputs), out.numel()
    kernel = 1
    if name in POOLS:
        sides = args[1] if isinstance(args[1], (list, tuple)) else (args[1],)
        kernel = int(sides[0])
    return Operator(name, -(-read // area), -(-written // area), height, width, kernel)
