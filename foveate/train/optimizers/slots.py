"""What our own optimisers share: slots of state, steps counted alike, and work cut so that it stays in the cache.

Slots are tensors shaped as their parameter, counters plain numbers: what train/checkpoint.py keeps.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

import torch

from foveate.errors import ConfigError

Tensors = list[torch.Tensor]
Groups = list[dict[str, Any]]
O = TypeVar("O", bound=torch.optim.Optimizer)  # noqa: E741

PIECE = 2**17  # elements a thread takes at a time: more leave the cache, fewer cost more calls than they save


def moving(group: dict[str, Any]) -> Tensors:
    """The parameters of a group that have a gradient."""
    return [p for p in group["params"] if p.grad is not None]


def counted(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> list[tuple[int, Tensors]]:
    """The same, by their number of steps with this one (from 1).

    One entry as a rule. A parameter that had no gradient at times has steps of its own, as in PyTorch's Adam.
    """
    parts: dict[int, Tensors] = {}
    for p in moving(group):
        state = optimizer.state[p]
        state["step"] = state.get("step", 0) + 1
        parts.setdefault(state["step"], []).append(p)
    return list(parts.items())


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


def keep_layout(optimizer: O) -> O:
    """The optimizer, whose slots take the memory layout of their parameter again when a state is loaded.

    Files hold tensors in row-major order. Without this the slots of channels-last weights would stay so after a resume:
    elementwise work on two layouts takes twice as long (SGD and AdamW of resnet18 on a CPU), and a sum over a slot
    would run in another order, so that the last bit could differ.
    """
    optimizer.register_load_state_dict_post_hook(match_layout)
    return optimizer


def in_one_layout(optimizer: O) -> O:
    """keep_layout for fused optimisers, which read the memory of weights, gradients and slots side by side and on a CPU
    do not ask whether it is laid out alike. autograd sees to that; whoever else puts a gradient in place may not.
    """

    def check(given: torch.optim.Optimizer, *_: object) -> None:
        for group in given.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.grad.stride() != p.stride():
                    p.grad = torch.empty_like(p, dtype=p.grad.dtype).copy_(p.grad)

    optimizer.register_step_pre_hook(check)
    return keep_layout(optimizer)


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


class Grouped(torch.optim.Optimizer):
    """Moves the parameters of a group by _move."""

    def __init__(self, groups: Groups, defaults: dict[str, Any]):
        super().__init__(groups, defaults)
        keep_layout(self)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # the loop never gives a closure
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            if params := moving(group):
                self._move(group, params)

    def _move(self, group: dict[str, Any], params: Tensors) -> None:
        raise NotImplementedError
