"""What our own optimisers share: slots of state, steps counted alike, and work cut so that it stays in the cache.

Slots are tensors shaped as their parameter, counters plain numbers: what train/checkpoint.py keeps.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from foveate.errors import ConfigError

Tensors = list[torch.Tensor]
Groups = list[dict[str, Any]]
O = TypeVar("O", bound=torch.optim.Optimizer)  # noqa: E741

PIECE = 2**17  # elements a thread takes at a time: more leave the cache, fewer cost more calls than they save


def moving(group: dict[str, Any]) -> list[Tensors]:
    """The parameters of a group that have a gradient, those of one device and type together.

    One list as a rule. RuntimeError for a sparse gradient, which no rule here reads.
    """
    kinds: dict[tuple[torch.device, torch.dtype], Tensors] = {}
    for p in group["params"]:
        if p.grad is not None:
            if p.grad.is_sparse:
                raise RuntimeError("a gradient is sparse; expected dense ones: make the embedding with sparse=False")
            kinds.setdefault((p.device, p.dtype), []).append(p)
    return list(kinds.values())


def counted(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> list[tuple[int, Tensors]]:
    """The same, by their number of steps with this one (from 1).

    One entry as a rule. A parameter that had no gradient at times has steps of its own, as in PyTorch's Adam.
    """
    found: list[tuple[int, Tensors]] = []
    for params in moving(group):
        parts: dict[int, Tensors] = {}
        for p in params:
            state = optimizer.state[p]
            state["step"] = state.get("step", 0) + 1
            parts.setdefault(state["step"], []).append(p)
        found += parts.items()
    return found


def gradients(params: Tensors) -> Tensors:
    """Their gradients, all there."""
    return [p.grad for p in params if p.grad is not None]


def slots(optimizer: torch.optim.Optimizer, params: Tensors, name: str, start: float | None = 0.0) -> Tensors:
    """The slot `name` of each parameter, made where it is missing: filled with start, or a copy of the parameter."""
    found = []
    for p in params:
        state = optimizer.state[p]
        if name not in state:
            state[name] = p.detach().clone() if start is None else torch.full_like(p, start)
        found.append(state[name])
    return found


def pieces(*lists: Tensors) -> Iterator[tuple[Tensors, ...]]:
    """The lists (the i-th tensors of all shaped alike, or one number for it), cut for a rule of several operations.

    On an accelerator as they are: one kernel an operation. On a CPU in pieces of about PIECE elements a thread, one
    after the other, so that a rule of ten operations reads each number from memory once and not ten times.
    """
    if not lists[0] or not lists[0][0].is_cpu:
        yield lists
        return
    most = PIECE * torch.get_num_threads()
    small: list[tuple[torch.Tensor, ...]] = []
    size = 0
    for row in zip(*lists, strict=True):
        count = row[0].numel()
        if count > most and all(t.ndim == 0 or dense_alike(row[0], t) for t in row):
            starts = range(0, count, most)
            flat = [[t] * len(starts) if t.ndim == 0 else t.as_strided((count,), (1,)).split(most) for t in row]
            for part in zip(*flat, strict=True):
                yield tuple([t] for t in part)
            continue
        small.append(row)
        size += count
        if size > most:
            yield tuple(list(column) for column in zip(*small, strict=True))
            small, size = [], 0
    if small:
        yield tuple(list(column) for column in zip(*small, strict=True))


def portions(params: Tensors) -> Iterator[Tensors]:
    """The parameters, on a CPU a few at a time: for rules with norms of whole tensors between two elementwise parts.

    What such a rule keeps between the parts is then as large as one tensor, and not as large as the network.
    """
    if not params or not params[0].is_cpu:
        yield params
        return
    part: Tensors = []
    for p in params:
        part.append(p)
        if sum(q.numel() for q in part) > PIECE * torch.get_num_threads():
            yield part
            part = []
    if part:
        yield part


def dense_alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether both fill their memory without gaps and in the same order."""
    return a.stride() == b.stride() and (
        a.is_contiguous() or (a.ndim == 4 and a.is_contiguous(memory_format=torch.channels_last))
    )


class Fused:
    """What PyTorch's fused optimisers lack, for a class that inherits from one of them as well.

    They read the memory of weights, gradients and slots side by side, and on a CPU do not ask whether it is laid out
    alike. autograd sees to that; whoever else puts a gradient in place may not. The hooks are there again in a copy and
    after unpickling, which leave an optimiser's hooks behind.
    """

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]  # the optimiser's
        if not getattr(self, "_optimizer_step_pre_hooks", None):
            watch(self)  # type: ignore[type-var]


def watch(optimizer: O) -> O:
    """The optimiser, which evaluates a closure itself and then looks at gradients and slots, before every step."""
    optimizer.register_step_pre_hook(before_step)
    return keep_layout(optimizer)


def keep_layout(optimizer: O) -> O:
    """The optimiser, whose slots take the memory layout of their parameter again when a state is loaded (Ours)."""
    optimizer.register_load_state_dict_post_hook(match_layout)
    return optimizer


def before_step(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Evaluate the closure, so that its gradients are seen too; lay gradients out as weights; begin velocities at 0.

    0 gives the same as to begin with the gradient. PyTorch's fused SGD would take velocities uninitialised where the
    first step is left out (float16), and fails where some weights have theirs later.
    """
    _, *rest = args
    loss = evaluate(rest[0] if rest else kwargs.get("closure"))
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is None:
                continue
            if p.grad.stride() != p.stride() and not p.grad.is_sparse:
                p.grad = torch.empty_like(p, dtype=p.grad.dtype).copy_(p.grad)
            if group.get("momentum") and optimizer.state[p].get("momentum_buffer") is None:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return (optimizer, None if loss is None else lambda: loss), {}


def match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give every slot that is shaped as its parameter the parameter's strides."""
    for p, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == p.shape and value.stride() != p.stride():
                state[name] = torch.empty_like(p, dtype=value.dtype).copy_(value)


def refuse(what: str, rule: str, good: bool) -> None:
    """ConfigError for options that an optimiser can not have."""
    if not good:
        raise ConfigError(f"{what}: {rule}")


def evaluate(closure: Callable[[], Any] | None) -> Any:
    """What a closure of step() returns, the loss, with gradients on; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


class Ours(torch.optim.Optimizer):
    """PyTorch's contract for our rules: step(closure) returns the loss, groups may come later, with what they lack
    taken from the defaults (weight_decay 0, factor 1), and copies and loaded states go on as if nothing had been.

    Slots take the memory layout of their parameter again when a state is loaded. Files hold tensors in row-major order:
    without this the slots of channels-last weights would stay so after a resume, elementwise work on two layouts takes
    twice as long (SGD and AdamW of resnet18 on a CPU), and a sum over a slot would run in another order, so that the
    last bit could differ.
    """

    def __init__(self, groups: Any, defaults: dict[str, Any]):
        super().__init__(groups, {"weight_decay": 0.0, "factor": 1.0, "head": False, **defaults})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate the closure, where one is given, then move every parameter that has a gradient; returns the loss."""
        loss = evaluate(closure)
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        raise NotImplementedError

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """PyTorch's, and every slot is laid out as its parameter."""
        super().load_state_dict(state_dict)
        match_layout(self)


class Grouped(Ours):
    """Moves the parameters of a group, those of one device and type together, by _move."""

    def _step_group(self, group: dict[str, Any]) -> None:
        for params in moving(group):
            self._move(group, params)

    def _move(self, group: dict[str, Any], params: Tensors) -> None:
        raise NotImplementedError
