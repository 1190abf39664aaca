"""Receptive field of the last feature map: how far apart the pixels are that one of its positions can depend on.

Position i of a map sees pixels i * stride + low to i * stride + high. A window of k taps (dilation d, padding p, stride
s) turns (low, high, stride) into (low - p * stride, high + ((k - 1) * d - p) * stride, stride * s); where maps meet the
field is their union. Read off the operations that run on the meta device, so any module works.

Left out by convention: gates that see the whole picture (squeeze-and-excitation), or every network with them would
have the field of its picture; norms' statistics too. Araujo et al. 2019, distill.pub/2019/computing-receptive-fields.
"""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from foveate.cost.live import flat
from foveate.cost.places import Places
from foveate.cost.shadow import picture, shadow, sizes, without_data
from foveate.errors import FoveateError


@dataclass(frozen=True)
class Field:
    """Pixels, of a picture that is large enough."""

    height: int
    width: int
    stride: int  # pixels between two neighbours of the map


class Axis(NamedTuple):
    """One side of the picture: position i sees pixels i * stride + low to i * stride + high."""

    low: int
    high: int
    stride: int


Axes = tuple[Axis, Axis]  # height, width
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "addbmm"}


def receptive_field(config_or_model: Any, resolution: int | None = None, in_chans: int | None = None) -> Field | None:
    """Of the last (N, C, H, W) tensor in a forward pass that is no summary of the whole picture; None if there is none.

    A config or any nn.Module. FoveateError with the layer where the network can not run without data, and for
    transposed convolutions and interpolation, whose windows are not the same everywhere.
    """
    network = shadow(config_or_model)
    shape = sizes(network, resolution, 1, in_chans)
    places, trace = Places(network), _Trace()
    with ExitStack() as stack:
        stack.enter_context(without_data())
        places.attach(stack)
        x = picture(network, shape)
        trace.begin(x)
        stack.enter_context(trace)
        try:
            network(x)
        except Exception as error:
            what = f"{type(network).__name__}: no receptive field at {shape[2]} pixels"
            raise FoveateError(f"{what}: {places.told(error)}") from error
    if trace.last is None:
        return None
    high, wide = trace.last
    return Field(high.high - high.low + 1, wide.high - wide.low + 1, max(high.stride, wide.stride))


class _Trace(TorchDispatchMode):
    """Carries fields from tensor to tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[Any, Axes] = {}
        self.last: Axes | None = None
        self._kept: list[torch.Tensor] = []  # so that no storage gets the address of one that died; without data

    def begin(self, x: torch.Tensor) -> None:
        """The picture sees itself."""
        self.fields[_place(x)] = (Axis(0, 0, 1), Axis(0, 0, 1))
        self._kept.append(x)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        sources = [field for t in flat(args) if (field := self.fields.get(_place(t))) is not None]
        shapes = [t.shape for t in flat(args)]
        out = func(*args, **(kwargs or {}))
        name = str(func._overloadpacket).removeprefix("aten.").rstrip("_")
        axes = _through(name, args, kwargs or {}, flat(out), shapes, sources) if sources else None
        for tensor in flat(out):
            self._kept.append(tensor)
            if axes is not None:
                self.fields[_place(tensor)] = axes
        if axes is not None and flat(out)[0].ndim == 4:
            self.last = axes
        return out


def _place(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Which part of which storage a tensor is."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape)


def _through(
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    out: list[torch.Tensor],
    shapes: list[torch.Size],
    sources: list[Axes],
) -> Axes | None:
    """The field of an operation's result; None where it sees the whole picture or is no map."""
    if not out or name in PRODUCTS:
        return None
    height, width = (_union([s[i] for s in sources]) for i in (0, 1))
    if name == "convolution":
        if args[6]:
            raise FoveateError("a transposed convolution has no window of one size")
        kernel = shapes[1][2:]
        return _window(height, width, tuple(kernel), args[3], args[4], args[5])
    if name in ("max_pool2d_with_indices", "avg_pool2d"):
        strides = args[2] if len(args) > 2 and args[2] else args[1]
        dilations = args[4] if name.startswith("max") and len(args) > 4 else (1,)
        return _window(height, width, args[1], strides, args[3] if len(args) > 3 else (0,), dilations)
    if name == "constant_pad_nd":
        left, _, top = (*args[1], 0, 0, 0)[:3]
        return _shift(height, -top), _shift(width, -left)
    if name == "slice" and args[1] % len(shapes[0]) >= len(shapes[0]) - 2 and len(shapes[0]) == 4:
        start, step = (args[2] if len(args) > 2 else 0) or 0, args[4] if len(args) > 4 else 1
        start = start if start >= 0 else start + shapes[0][args[1]]
        if args[1] % 4 == 2:
            return _thin(height, start, step), width
        return height, _thin(width, start, step)
    if name.startswith("upsample"):
        raise FoveateError("interpolation has no window of one size")
    spatial = [tuple(s[2:]) for s in shapes if len(s) == 4]
    if out[0].ndim == 4 and spatial and math.prod(out[0].shape[2:]) < max(map(math.prod, spatial)):
        return None  # means and adaptive pooling over the picture
    if out[0].ndim < 4 and name in ("mean", "sum", "amax", "max", "var", "var_mean"):
        return None
    return height, width


def _window(height: Axis, width: Axis, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Axes:
    made = []
    for axis, side in enumerate((height, width)):
        k, s, p, d = (int(v[axis] if len(v) > 1 else v[0]) for v in (kernel, stride, padding, dilation))
        low, high = side.low - p * side.stride, side.high + ((k - 1) * d - p) * side.stride
        made.append(Axis(low, high, side.stride * s))
    return made[0], made[1]


def _shift(side: Axis, positions: int) -> Axis:
    return Axis(side.low + positions * side.stride, side.high + positions * side.stride, side.stride)


def _thin(side: Axis, start: int, step: int) -> Axis:
    moved = _shift(side, start)
    return Axis(moved.low, moved.high, side.stride * step)


def _union(sides: list[Axis]) -> Axis:
    """Of maps that meet. One of a coarser stride would have been refused by the shapes, so strides agree."""
    return Axis(min(s.low for s in sides), max(s.high for s in sides), max(s.stride for s in sides))
