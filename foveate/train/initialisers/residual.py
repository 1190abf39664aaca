"""The residual branches of any network, and the parameters at their ends: read from one pass on the meta device.

The pass is written down operation by operation. A residual sum adds two maps of one shape that both come from one
earlier map: the shortcut, which is that map (pooled, padded or projected, perhaps), and the branch, which has gone
through twice as many convolutions at least and is used nowhere else. By this rule the separable convolutions that stand
beside an identity in a cell of NASNet are a branch too.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from foveate.cost.count import DEFAULT_RESOLUTION, shadow
from foveate.zoo.family import find_config

# f(0) = 0, and a gradient passes there. ReLU is not among them: behind zeros it passes none, and what stands before it
# would stay silent for ever.
THROUGH = {
    *("view", "_unsafe_view", "permute", "transpose", "t", "expand", "slice", "select", "clone", "alias", "_to_copy"),
    *("unsqueeze", "squeeze", "unbind", "split", "split_with_sizes", "neg", "mean", "sum", "constant_pad_nd"),
    *("avg_pool2d", "_adaptive_avg_pool2d", "upsample_nearest2d", "upsample_bilinear2d"),
    *("_prelu_kernel", "leaky_relu", "silu", "gelu", "elu", "hardswish"),
}
SUMS = ("add", "sub", "cat", "stack")
PRODUCTS = ("mul", "mm", "bmm")
NORMS = ("batch_norm", "group_norm", "layer_norm")

Names = frozenset[str]


@dataclass(frozen=True)
class Op:
    """One operation. inputs: the numbers of those that made its arguments, in order; -1 for constants."""

    kind: str  # torch's name of it; "parameter", "picture"
    inputs: tuple[int, ...] = ()
    name: str = ""  # of a parameter
    joins: bool = False  # adds two maps of one shape


class Trace(TorchDispatchMode):
    """Writes down every operation on the picture and on parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[Op] = []
        self.before: list[int] = []  # bit k of before[i]: operation i depends on operation k, or is it
        self.numbers: dict[int, int] = {}  # id of a tensor -> number of what made it
        self.alive: list[torch.Tensor] = []  # so that no id comes twice; they hold no data

    def note(self, op: Op, made: Iterable[Any]) -> None:
        """Adds an operation and what came out of it. In-place operations give their tensor a new number."""
        bits = 1 << len(self.ops)
        for i in op.inputs:
            bits |= self.before[i] if i >= 0 else 0
        for tensor in made:
            if isinstance(tensor, torch.Tensor):
                self.numbers[id(tensor)] = len(self.ops)
                self.alive.append(tensor)
        self.ops.append(op)
        self.before.append(bits)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        lists = ("cat", "stack")  # of maps; all other lists are sizes, and one argument
        kind = str(func._overloadpacket).removeprefix("aten.").rstrip("_")
        flat = [*args[0], *args[1:]] if kind in lists else list(args)
        inputs = tuple(self.numbers.get(id(a), -1) if isinstance(a, torch.Tensor) else -1 for a in flat)
        maps = [tuple(a.shape) for a in flat[:2] if isinstance(a, torch.Tensor) and a.ndim == 4]
        out = func(*args, **(kwargs or {}))
        joins = kind == "add" and len(maps) == 2 and maps[0] == maps[1]
        self.note(Op(kind, inputs, joins=joins), out if isinstance(out, (tuple, list)) else (out,))
        return out


class Branches:
    """The residual branches of a model, whatever its family; the model itself is not touched."""

    def __init__(self, model: nn.Module):
        twin, trace = shadow(model), Trace()
        config = find_config(model)
        side, channels = getattr(config, "resolution", DEFAULT_RESOLUTION), getattr(config, "in_chans", 3)
        self.sizes = {name: p.numel() for name, p in twin.named_parameters()}
        with torch.no_grad(), torch.device("meta"):
            picture = torch.empty(1, channels, side, side)
            trace.note(Op("picture"), [picture])
            for name, p in twin.named_parameters():
                if p.requires_grad:  # what is frozen would stay 0 for ever
                    trace.note(Op("parameter", name=name), [p])
            with trace:
                twin(picture)
        self.ops, self.before = trace.ops, trace.before
        self.uses = Counter(i for op in self.ops for i in op.inputs)

    def ends(self) -> list[Names]:
        """For every residual branch, in forward order, the parameters that must all be 0 for it to add nothing.

        They are the last that can do it: a learned factor, the gain and shift of a norm, or the weight and bias of a
        convolution. Left out are branches that no learned parameter can silence (norms without gains), those that end
        in ReLU, sums of branches of about equal depth, which have no shortcut, and branches inside of branches: where
        an outer and an inner gain are both 0, neither may have a gradient.
        """
        found, inside = [], 0
        for number, op in enumerate(self.ops):
            if op.joins and min(op.inputs[:2]) >= 0 and (end := self.end(*op.inputs[:2])):
                inside |= end[1]
                found.append((number, end[0]))
        return [names for number, names in found if not inside >> number & 1]

    def end(self, left: int, right: int) -> tuple[Names, int] | None:
        """That of the branch among two maps that are added, and what is part of the branch, as bits.

        None where the sum is not residual.
        """
        shared = self.before[left] & self.before[right]
        if not shared & 1 or self.sources(left, shared) != self.sources(right, shared):
            return None
        sides = [(self.depth(i, shared, {}), i, self.silence(i, shared, {})) for i in (left, right)]
        (low, _, other), (high, branch, names) = sorted(sides, key=lambda side: side[0])
        projected = low > 0 or other is None or names is None  # two that can be silenced: both have layers
        if names is None or not projected or high < max(1, 2 * low) or self.uses[branch] > 1:
            return None
        return names, self.before[branch] & ~shared

    def sources(self, i: int, shared: int) -> set[int]:
        """The shared maps that value i is computed from directly."""
        found, seen, todo = set(), set(), [i]
        while todo:
            k = todo.pop()
            if k < 0 or k in seen or not self.before[k] & 1:  # a constant, or a parameter
                continue
            seen.add(k)
            if shared >> k & 1:
                found.add(k)
            else:
                todo.extend(self.ops[k].inputs)
        return found

    def silence(self, i: int, shared: int, known: dict[int, Names | None]) -> Names | None:
        """The parameters that make value i zero when they are; None where none can without touching what is shared."""
        if i < 0 or (shared >> i & 1 and self.ops[i].kind != "parameter"):
            return None
        if i not in known:
            known[i] = self._silence(self.ops[i], shared, known)
        return known[i]

    def _silence(self, op: Op, shared: int, known: dict[int, Names | None]) -> Names | None:
        given = [i for i in op.inputs if i >= 0]

        def both(parts: Iterable[Names | None]) -> Names | None:
            made = list(parts)
            return None if not made or any(p is None for p in made) else frozenset().union(*(p for p in made if p))

        def fewest(parts: Iterable[Names | None]) -> Names | None:
            return min((p for p in parts if p), key=lambda names: sum(self.sizes[n] for n in names), default=None)

        if op.kind == "parameter":
            return frozenset({op.name})
        if op.kind in ("convolution", "addmm"):
            x, weight, bias = op.inputs[:3] if op.kind == "convolution" else (op.inputs[1], op.inputs[2], op.inputs[0])
            factor = self.silence(weight, shared, known) or self.silence(x, shared, known)
            return factor if bias < 0 else both([factor, self.silence(bias, shared, known)])
        if any(norm in op.kind for norm in NORMS):
            weight, bias = op.inputs[2:4] if "layer_norm" in op.kind else op.inputs[1:3]
            gain = self.silence(weight, shared, known)
            return gain if bias < 0 else both([gain, self.silence(bias, shared, known)])
        if op.kind in PRODUCTS:
            return fewest(self.silence(i, shared, known) for i in given)
        if op.kind in SUMS:
            return both(self.silence(i, shared, known) for i in given)
        return self.silence(op.inputs[0], shared, known) if op.kind in THROUGH else None

    def depth(self, i: int, shared: int, known: dict[int, int]) -> int:
        """The most convolutions on a way from what is shared to value i."""
        if i < 0 or shared >> i & 1:
            return 0
        if i not in known:
            most = max((self.depth(k, shared, known) for k in self.ops[i].inputs), default=0)
            known[i] = most + (self.ops[i].kind == "convolution")
        return known[i]
