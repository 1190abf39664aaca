"""The training loop: a generator that yields once a step. The caller logs, evaluates, saves and stops.

Every random number of a step is a pure function of (seed, step) or (seed, epoch, sample), so a run that goes on from
a saved step
does the same arithmetic as one that never stopped.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from foveate.data.augment import COLUMNS, augment
from foveate.data.load import Pictures
from foveate.data.preprocess import Preprocess, normalise_unit
from foveate.data.random import generator, uniforms
from foveate.errors import FoveateError
from foveate.layers.drop import set_progress
from foveate.train.optim import Average, freeze, has_statistics, learning_rate, make_optimizer, set_lr
from foveate.train.recipe import Recipe


@dataclass(frozen=True)
class Step:
    """What one step reports. loss and correct stay tensors: the caller decides when to wait for the device."""

    number: int  # steps done, from 1
    loss: torch.Tensor  # ()
    correct: torch.Tensor  # () pictures whose stronger label is predicted
    count: int
    lr: float


class State:
    """All that changes during training: model, optimiser, average, and how many steps are done."""

    def __init__(self, model: nn.Module, shadow: nn.Module | None, recipe: Recipe, head: tuple[str, ...], device: str):
        self.model, self.step = model.to(device), 0
        self.quiet_norms = freeze(model, recipe.freeze)
        if recipe.frozen_norms:
            self.quiet_norms = [m for m in model.modules() if has_statistics(m)]
        if recipe.layout == "nhwc":
            model.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(model, recipe.optim, head)
        self.average = Average(model, shadow.to(device), recipe.ema) if shadow is not None else None

    @property
    def best(self) -> nn.Module:
        """The network to evaluate and save: the average where there is one."""
        return self.average.shadow if self.average is not None else self.model


def train(
    state: State, pictures: Pictures, preprocess: Preprocess, recipe: Recipe, classes: int, workers: int = 0
) -> Iterator[Step]:
    """Yield one Step a step, from state.step to the end of the recipe. Raises FoveateError when the loss is not
    finite.
    """
    model, device = state.model, next(state.model.parameters()).device
    size, batch = recipe.resolution or preprocess.resolution, min(recipe.batch, len(pictures))
    per_epoch = pictures.steps(batch)
    total = recipe.epochs * per_epoch
    while state.step < total:
        epoch, start = divmod(state.step, per_epoch)
        for item in pictures.epoch(recipe.seed, epoch, batch, start, workers):
            model.train()  # the caller may have evaluated since
            for norm in state.quiet_norms:
                norm.eval()
            set_progress(model, state.step / total)  # drop rates that grow during training
            torch.manual_seed(recipe.seed * 1_000_003 + state.step)  # dropout and drop path
            lr = learning_rate(recipe.schedule, recipe.optim.lr, state.step, total, per_epoch)
            set_lr(state.optimizer, lr)
            u = uniforms(recipe.seed, epoch, item.samples, COLUMNS)
            x = augment(item.pictures.to(device), item.aspect.to(device), u, size, recipe.augment)  # (N, 3, size, size)
            targets = F.one_hot(item.labels.to(device), classes).float()  # (N, K)
            x, targets = mixup(x, targets, recipe.mixup, recipe.seed, state.step)
            x = normalise_unit(x, preprocess)
            if recipe.layout == "nhwc":
                x = x.contiguous(memory_format=torch.channels_last)
            with autocast(device, recipe.precision):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), targets, label_smoothing=recipe.smoothing)
            if not torch.isfinite(loss):
                raise FoveateError(
                    f"the loss is {loss.item()} at step {state.step + 1}; lower optim.lr (now {recipe.optim.lr:g})"
                )
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if recipe.optim.clip_norm:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip_norm)
            state.optimizer.step()
            if state.average is not None:
                state.average.update()
            state.step += 1
            correct = (logits.argmax(1) == targets.argmax(1)).sum()
            yield Step(state.step, loss.detach(), correct, len(item.labels), lr)


def mixup(
    x: torch.Tensor, targets: torch.Tensor, alpha: float, seed: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """arXiv:1710.09412: lam * (x, y) + (1 - lam) * its neighbour in the (already random) batch; one lam ~ Beta(alpha,
    alpha) a batch.
    """
    if alpha <= 0:
        return x, targets
    lam = float(generator(seed, 2**32 + step).beta(alpha, alpha))
    return torch.lerp(x.roll(1, 0), x, lam), torch.lerp(targets.roll(1, 0), targets, lam)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """bfloat16 autocast where the recipe says so."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
