"""Cost of a network, read from the real module on the meta device: parameters, MACs, activations, layer by layer.

1 MAC is one multiply and one add. Counted are convolutions, linear layers and matrix products; papers mean this number
when they write "FLOPs" (ResNet-50: 4.09 G). No weight and no picture is held in memory while counting.
"""

import copy
import math
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from foveate.errors import ConfigError, FoveateError
from foveate.zoo import build

DEFAULT_RESOLUTION = 224


@dataclass(frozen=True)
class LayerCost:
    """One row of the table: a module that holds parameters or does MACs itself."""

    name: str  # dotted, as in the state dict; "" is the network itself
    kind: str  # "Conv2d 3x3 /2 groups=32", "Linear", "BatchNorm2d", ...
    output: tuple[int, ...]  # shape with the batch; () for a layer that this input does not reach
    params: int
    macs: int


@dataclass(frozen=True)
class Cost:
    """What a network costs for `batch` pictures of resolution x resolution. The layers add up to params and macs."""

    params: int  # learnable numbers; shared ones count once
    buffers: int  # numbers that are stored but not learnt, such as running means
    macs: int  # of the whole batch
    activations: int  # elements of all convolution outputs, of the whole batch
    layers: tuple[LayerCost, ...]
    not_counted: tuple[str, ...]  # operations that ran and are in no number above
    resolution: int
    batch: int


def cost(config_or_model: Any, resolution: int | None = None, batch: int = 1, in_chans: int | None = None) -> Cost:
    """Count a config or any nn.Module, in eval mode. The model itself is not touched: a copy without data is counted.

    resolution: pixels, square; None is the config's, or 224. in_chans: None is the config's or the first convolution's.
    ConfigError for numbers below 1; FoveateError where the network can not run without data, or counts disagree.
    """
    model = shadow(config_or_model)
    config: Any = getattr(model, "config", None)
    resolution = int(getattr(config, "resolution", DEFAULT_RESOLUTION) if resolution is None else resolution)
    in_chans = int(getattr(config, "in_chans", _first_channels(model)) if in_chans is None else in_chans)
    if min(resolution, batch, in_chans) < 1:
        raise ConfigError(f"cost: resolution {resolution}, batch {batch}, in_chans {in_chans}: each at least 1")
    watch = _Watch(model)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.device("meta"))  # for networks that make tensors in forward
        watch.attach(stack)
        try:
            model(torch.empty(batch, in_chans, resolution, resolution))
        except Exception as error:
            raise FoveateError(
                f"{type(model).__name__} can not be counted at {in_chans} x {resolution} x {resolution}: {_line(error)}"
            ) from error
    watch.compare()
    return Cost(
        params=sum(p.numel() for p in model.parameters()),
        buffers=sum(b.numel() for b in model.buffers()),
        macs=sum(watch.macs.values()),
        activations=watch.activations,
        layers=watch.table(),
        not_counted=tuple(sorted(watch.ignored)),
        resolution=resolution,
        batch=batch,
    )


def shadow(config_or_model: Any) -> nn.Module:
    """The network of a config, or a copy of a model, in eval mode on the meta device. No weights are allocated."""
    if not isinstance(config_or_model, nn.Module):
        with torch.device("meta"):
            return build(config_or_model).eval()
    held = [*config_or_model.parameters(), *config_or_model.buffers()]
    memo: dict[int, Any] = {}  # deepcopy takes these in place of the tensors, so that no weight is copied
    for tensor in held:
        twin = tensor.detach().to("meta")
        memo[id(tensor)] = nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
    made: nn.Module = copy.deepcopy(config_or_model, memo)
    return made.to("meta").eval()  # .to: tensors that are neither parameter nor buffer follow where a module knows them


def _first_channels(model: nn.Module) -> int:
    return next((m.in_channels for m in model.modules() if isinstance(m, _ConvNd)), 3)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _Watch(TorchDispatchMode):
    """Sees every operation and the module it ran in."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.names = {module: name for name, module in model.named_modules()}
        self.inside: list[str] = []  # the modules being run, outermost first
        self.macs: Counter[str] = Counter()  # what each module computed itself, by the flop formulas of torch
        self.expected: Counter[str] = Counter()  # the same by our formula, for plain convolutions and linear layers
        self.outputs: dict[str, tuple[int, ...]] = {}
        self.activations = 0
        self.ignored: set[str] = set()

    def attach(self, stack: ExitStack) -> None:
        """Hook all modules and watch all operations until the stack is left."""
        for module in self.names:
            stack.callback(module.register_forward_pre_hook(self._enter).remove)
            stack.callback(module.register_forward_hook(self._leave).remove)
        stack.enter_context(self)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.macs[self.inside[-1]] += formula(*args, **(kwargs or {}), out_val=out) // 2
        elif not func.is_view and (op := str(func._overloadpacket).removeprefix("aten.").rstrip("_")) not in _FREE:
            self.ignored.add(op)
        return out

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self.inside.append(self.names[module])

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        name = self.inside.pop()
        if isinstance(output, torch.Tensor):
            self.outputs[name] = tuple(output.shape)
            if isinstance(module, _ConvNd):
                self.activations += output.numel()
            self.expected[name] += _formula(module, inputs, output)

    def compare(self) -> None:
        """Two ways of counting must agree wherever both can count."""
        for module, name in self.names.items():
            if type(module) in _PLAIN and self.macs[name] != self.expected[name]:
                by_sizes, by_operations = self.expected[name], self.macs[name]
                raise FoveateError(
                    f"{name}: {by_sizes:,} MACs by its sizes, {by_operations:,} by what ran; report this"
                )

    def table(self) -> tuple[LayerCost, ...]:
        """A row for every module with parameters of its own or MACs of its own."""
        rows, seen = [], set()
        for module, name in self.names.items():
            own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
            seen |= {id(p) for p in own}
            params = sum(p.numel() for p in own)
            if params or self.macs[name]:
                output = self.outputs.get(name, ())
                rows.append(LayerCost(name, _kind(module), output, params, self.macs[name]))
        return tuple(rows)


_FREE = {
    "_to_copy",
    "_unsafe_view",
    "cat",
    "clone",
    "constant_pad_nd",
    "copy",
    "empty",
    "fill",
}  # move data, no arithmetic
_PLAIN = {nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear}


def _formula(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> int:
    """MACs of a plain convolution or linear layer by its sizes: kernel * c_in / groups for each output element."""
    if type(module) not in _PLAIN:
        return 0
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    assert isinstance(module, _ConvNd)
    taps = math.prod(module.kernel_size)
    if module.transposed:  # each input element is spread over the kernel and the outputs of its group
        return int(inputs[0].numel() * taps * module.out_channels // module.groups)
    return output.numel() * taps * module.in_channels // module.groups


def _kind(module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, _ConvNd):
        kind += " " + "x".join(map(str, module.kernel_size))
        if max(module.stride) > 1:
            kind += f" /{max(module.stride)}"
        if module.groups > 1:
            kind += f" groups={module.groups}"
    return kind
