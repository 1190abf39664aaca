"""Cost of a network, read from the real module on the meta device: parameters, MACs, activations, layer by layer.

1 MAC is one multiply and one add. Counted are convolutions, linear layers and matrix products; papers mean this number
when they write "FLOPs" (ResNet-50: 4.09 G). All other arithmetic is a column of its own, element-wise FLOPs, by the
rules of cost/elementwise.py. No weight and no picture is held in memory while counting.
"""

import functools
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.conv import _ConvNd

from foveate.cost.shadow import DEFAULT_RESOLUTION as DEFAULT_RESOLUTION
from foveate.cost.shadow import picture, sizes, without_data
from foveate.cost.shadow import shadow as shadow
from foveate.cost.watch import Watch
from foveate.errors import FoveateError
from foveate.zoo.family import Config

if TYPE_CHECKING:
    from foveate.cost.memory import Memory
    from foveate.cost.plan import Plan
    from foveate.cost.receptive_field import Field


@dataclass(frozen=True)
class LayerCost:
    """One row of the table: a module that holds numbers or does arithmetic itself, not in a module within it."""

    name: str  # dotted, as in the state dict; "" is the network itself
    kind: str  # "Conv2d 3x3 /2 groups=32", "Linear", "BatchNorm2d", ...
    output: tuple[int, ...]  # shape with the batch; () for a layer that this input does not reach
    params: int
    macs: int
    elementwise_flops: int = 0
    buffers: int = 0


@dataclass(frozen=True)
class Cost:
    """What a network costs for `batch` pictures of resolution x resolution. The layers add up to the totals.

    Bytes and the receptive field are computed when they are first asked for, the bytes of training for SGD with
    momentum in float32; memory(plan) answers for others.
    """

    params: int  # learnable numbers; shared ones count once
    buffers: int  # numbers that are stored but not learnt, such as running means
    macs: int  # of the whole batch
    elementwise_flops: int  # of the whole batch, by the rules of cost/elementwise.py; in neither macs nor flops
    activations: int  # elements of all convolution outputs, of the whole batch
    layers: tuple[LayerCost, ...]
    operations: tuple[tuple[str, int], ...]  # (operation, its element-wise FLOPs), largest first
    not_counted: tuple[str, ...]  # operations that ran and are in no number above
    resolution: int
    batch: int
    in_chans: int
    network: nn.Module = field(repr=False, compare=False)  # without data, on the meta device

    def __repr__(self) -> str:
        numbers = f"{self.params:,} parameters, {self.macs:,} MACs, {self.activations:,} activations"
        shape = f"{self.batch} x {self.in_chans} x {self.resolution} x {self.resolution}"
        return f"<Cost {numbers} for {shape}, {len(self.layers)} layers>"

    @property
    def flops(self) -> int:
        """2 x MACs: what torch's flop counter, calflops and Keras print."""
        return 2 * self.macs

    @property
    def activation_bytes(self) -> int:
        """Bytes that the forward pass of training keeps for the backward pass, each storage once."""
        return self._memory.activation_bytes

    @property
    def train_bytes(self) -> int:
        """The highest number of bytes in tensors at any moment of a training step."""
        return self._memory.peak_bytes

    @functools.cached_property
    def inference_bytes(self) -> int:
        """The highest number of bytes in tensors, weights included, at any moment of a prediction."""
        from foveate.cost.memory import inference_bytes

        return inference_bytes(self.network, self.resolution, self.batch, self.in_chans)

    @functools.cached_property
    def receptive_field(self) -> "Field | None":
        """Of the last feature map; None where there is none."""
        from foveate.cost.receptive_field import receptive_field

        return receptive_field(self.network, self.resolution, self.in_chans)

    def memory(self, plan: "Plan") -> "Memory":
        """Memory of training by another plan."""
        from foveate.cost.memory import training_memory

        return training_memory(self.network, plan, self.resolution, self.batch, self.in_chans)

    @functools.cached_property
    def _memory(self) -> "Memory":
        from foveate.cost.plan import Plan

        return self.memory(Plan())


def cost(
    config_or_model: Config | nn.Module, resolution: int | None = None, batch: int = 1, in_chans: int | None = None
) -> Cost:
    """Count a config or any nn.Module, in eval mode. The model itself is not touched: a copy without data is counted.

    resolution: pixels, square; None is the config's, or 224. in_chans: None is the config's or the first convolution's.
    ConfigError for numbers below 1; FoveateError with the layer where the network can not run without data, or where
    counts disagree.
    """
    network = shadow(config_or_model)
    shape = sizes(network, resolution, batch, in_chans)
    watch = Watch(network)
    with ExitStack() as stack:
        stack.enter_context(without_data())
        x = picture(network, shape)
        watch.attach(stack)
        try:
            network(x)
        except Exception as error:
            what = f"{type(network).__name__} can not be counted at {shape[1]} x {shape[2]} x {shape[3]}"
            raise FoveateError(f"{what}: {watch.places.told(error)}") from error
    watch.compare()
    return Cost(
        params=sum(p.numel() for p in network.parameters()),
        buffers=sum(b.numel() for b in network.buffers()),
        macs=sum(watch.macs.values()),
        elementwise_flops=sum(watch.elementwise.values()),
        activations=watch.activations,
        layers=_table(watch),
        operations=tuple(watch.operations.most_common()),
        not_counted=tuple(sorted(watch.ignored)),
        resolution=shape[2],
        batch=batch,
        in_chans=shape[1],
        network=network,
    )


def _table(watch: Watch) -> tuple[LayerCost, ...]:
    """A row for every module with parameters, buffers or arithmetic of its own."""
    rows, seen = [], set()
    for module, name in watch.places.names.items():
        own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        kept = [b for b in module.buffers(recurse=False) if id(b) not in seen]
        seen |= {id(t) for t in (*own, *kept)}
        params, buffers = sum(p.numel() for p in own), sum(b.numel() for b in kept)
        if params or buffers or watch.macs[name] or watch.elementwise[name]:
            output = watch.outputs.get(name, ())
            rows.append(
                LayerCost(name, kind(module), output, params, watch.macs[name], watch.elementwise[name], buffers)
            )
    return tuple(rows)


def kind(module: nn.Module) -> str:
    """What a module is, in a few words: "Conv2d 3x3 /2 groups=32"."""
    text = type(module).__name__
    if isinstance(module, _ConvNd):
        text += " " + "x".join(map(str, module.kernel_size))
        if max(module.stride) > 1:
            text += f" /{max(module.stride)}"
        if module.groups > 1:
            text += f" groups={module.groups}"
    return text
