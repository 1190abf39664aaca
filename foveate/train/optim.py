"""Optimiser, learning rate, weight average: the parts of a training step that hold state."""

import torch
from torch import nn

from foveate.config import make
from foveate.layers.bn_small_init import learning_rate_factors
from foveate.layers.traits import kernel_names
from foveate.train.optimizers import OPTIMIZERS
from foveate.train.recipe import Optim, Schedule
from foveate.train.schedules import SCHEDULES, Curve
from foveate.zoo.family import get_config
from foveate.zoo.survey import distances


def peak_rate(optim: Optim, batch: int) -> float:
    """The peak for this batch: linear scaling (arXiv:1706.02677) where the recipe says which batch its lr is for."""
    return optim.lr * batch / optim.lr_batch if optim.lr_batch else optim.lr


def learning_rate(schedule: Schedule, peak: float, step: int, steps: int, steps_per_epoch: int) -> float:
    """The rate of step `step` (from 0) of `steps`: warm-up to the peak, then the curve, `final` times the peak at the
    end.

    Warm-up as arXiv:1812.01187 section 2.2: step i of the first m has (i + 1) / m of the peak (where it starts at 0).
    """
    warm = min(round(schedule.warmup * steps_per_epoch), steps - 1)
    if step < warm:
        return peak * (schedule.start + (1 - schedule.start) * (step + 1) / warm)
    curve: Curve = make(SCHEDULES, schedule.kind, "schedule")
    falls = curve(step - warm, max(1, steps - warm), step / steps_per_epoch)
    return peak * (schedule.final + (1 - schedule.final) * falls)


def parameter_groups(model: nn.Module, optim: Optim, head: tuple[str, ...]) -> list[dict[str, object]]:
    """Groups by {backbone, head} x {decayed, not decayed}, and by the factors that layers ask for (bn_small_init).

    Decayed are the kernels, by what the layers say of themselves (layers/traits.py); gains, biases and the like are not
    unless decay_all.
    """
    kernels = kernel_names(model)
    asked = learning_rate_factors(model)
    far = distances(get_config(model)) if optim.stage_decay < 1 else {}
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            factor = asked.get(name, 1.0) * optim.stage_decay ** far.get(name, 0)
            decays = name in kernels or optim.decay_all
            groups.setdefault((name.startswith(head), decays, factor), []).append(p)
    return [
        {
            "params": params,
            "weight_decay": optim.weight_decay if decayed else 0.0,
            "head": in_head,
            "factor": (1.0 if in_head else optim.backbone) * factor,
        }
        for (in_head, decayed, factor), params in sorted(groups.items(), key=lambda group: group[0])
    ]


def make_optimizer(model: nn.Module, optim: Optim, head: tuple[str, ...]) -> torch.optim.Optimizer:
    """The optimiser that optim.name calls, over parameter_groups; each group carries its learning-rate `factor`, and
    its rate begins as optim.lr times that.
    """
    groups = parameter_groups(model, optim, head)
    made: torch.optim.Optimizer = make(OPTIMIZERS, optim.name, "optim.name", groups, optim)
    set_lr(made, optim.lr)
    return made


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of every group, times its factor (1 where a group says nothing)."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("factor", 1.0)


class Average:
    """Exponential moving average of weights and running statistics; it starts fast: decay min(d, (1 + t) / (10 + t)).

    `shadow` is a model of its own, so evaluating it needs no swapping.
    """

    def __init__(self, model: nn.Module, shadow: nn.Module, decay: float):
        self.decay, self.count, self.shadow = decay, 0, shadow
        shadow.load_state_dict(model.state_dict())
        self._pairs = _float_pairs(model, shadow)
        self._others = [
            (b, s) for (b, s) in zip(model.buffers(), shadow.buffers(), strict=True) if not b.dtype.is_floating_point
        ]

    @torch.no_grad()
    def update(self) -> None:
        """One step towards the model."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        ours, theirs = self._pairs
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for source, copy in self._others:  # counters
            copy.copy_(source)


def _float_pairs(model: nn.Module, shadow: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    ours, theirs = shadow.state_dict(), model.state_dict()
    names = [n for n, t in ours.items() if t.dtype.is_floating_point]
    return [ours[n] for n in names], [theirs[n] for n in names]


def freeze(model: nn.Module, share: float) -> list[nn.Module]:
    """Switch off the gradients of the first `share` of the layers that hold weights, and return their norms (kept in
    eval mode).

    Layers are counted in registration order, which is forward order in every family of the zoo. The classifier never
    freezes.
    """
    layers = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    frozen = layers[: int(share * (len(layers) - 1))]
    for layer in frozen:
        for p in layer.parameters(recurse=False):
            p.requires_grad_(False)
    return [m for m in frozen if has_statistics(m)]


def has_statistics(module: nn.Module) -> bool:
    """Whether a module keeps running statistics: buffers of its own named running_..., as torch's norms do."""
    return any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False))
