"""The gradient of one batch: augmented, mixed, forward, loss, backward, in as many parts as the memory wants.

All here is a pure function of the weights and of (seed, step, samples): computed again, it gives the same numbers.
"""

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from foveate.config import make, replace
from foveate.data.augment import COLUMNS, augment, mirrored_in
from foveate.data.balance import class_weights
from foveate.data.load import Batch
from foveate.data.policies import make_policy
from foveate.data.preprocess import Preprocess, normalise_own
from foveate.data.random import uniforms
from foveate.data.repeat import virtual_samples
from foveate.train import ranks
from foveate.train.losses import LOSSES, Measure, distillation, smooth
from foveate.train.mix import mix
from foveate.train.optim import has_statistics
from foveate.train.recipe import Recipe
from foveate.train.state import State


@dataclass(frozen=True)
class Moment:
    """Where in the training a step is."""

    step: int  # from 0
    epoch: int
    progress: float  # share of the training that is over


class Task:
    """What a run asks of every step: recipe, input, classes, and the functions that the recipe names."""

    def __init__(
        self, recipe: Recipe, preprocess: Preprocess, classes: int, samples: int, labels: np.ndarray | None = None
    ):
        """labels: of the training pictures, where their classes count by their size."""
        self.weights = None if labels is None else torch.from_numpy(class_weights(labels, classes))  # (classes,)
        self.recipe, self.preprocess, self.classes, self.samples = recipe, preprocess, classes, samples
        self.measure: Measure = make(LOSSES, recipe.loss.name, "loss.name")
        self.policy = make_policy(recipe.augment.policy)

    def size(self, progress: float) -> int:
        """Training resolution now: it grows from grow_from to the full one, in multiples of 4 pixels."""
        r = self.recipe
        full = r.resolution or self.preprocess.resolution
        if r.grow_from >= 1 or progress >= r.grow_until:
            return full
        share = r.grow_from + (1 - r.grow_from) * progress / r.grow_until
        return min(full, max(4, 4 * round(share * full / 4)))


def gradient(state: State, item: Batch, moment: Moment, task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the gradient of the mean loss over the batch of all processes to the weights; returns (loss, correct).

    loss: () mean over this process's pictures; correct: () of them whose stronger label is predicted. torch's
    out-of-memory error passes through, with the gradients in disorder.
    """
    n, world = len(item.labels), ranks.world()
    # DistributedDataParallel averages over processes; where their shares differ by a picture the weights mend it
    whole = item.whole * n / item.planned if item.planned else n * world
    total, correct = [], []
    ends = np.array_split(np.arange(n), state.parts)
    pieces = [slice(int(p[0]), int(p[-1]) + 1) for p in ends if len(p)]
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        x, targets = pictures(item, piece, moment, task, state.device)
        place = ranks.rank() * state.parts + number
        torch.manual_seed(task.recipe.seed * 1_000_003 + moment.step + place * 2**40)  # dropout and drop path
        with _alone(state, not last):
            loss, hits = (_loss if len(x) > 1 else _loss_of_one)(state, x, targets, task)
            share = len(x) * world / whole
            state.scaler.scale(loss * share).backward()
        total.append(loss.detach() * (len(x) / n))
        correct.append(hits)
    return torch.stack(total).sum(), torch.stack(correct).sum()


def pictures(
    item: Batch, piece: slice, moment: Moment, task: Task, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Some pictures of a batch as the network gets them but for normalisation, in [0, 1], and their targets (N, K)."""
    recipe = task.recipe
    drawn = virtual_samples(item.samples[piece], item.copies[piece], task.samples)
    u = uniforms(recipe.seed, moment.epoch, drawn, COLUMNS)
    turned = torch.from_numpy(mirrored_in(recipe.seed, moment.epoch, drawn)) if recipe.augment.alternate else None
    stored, aspect, size = item.pictures[piece].to(device), item.aspect[piece], task.size(moment.progress)
    changes = replace(recipe.augment, crop=0.0, shift=0.0) if item.cut else recipe.augment
    x = augment(stored, aspect, u, size, changes, policy=task.policy, mirrored=turned)  # (N, 3, size, size)
    targets = F.one_hot(item.labels[piece].to(device), task.classes).float()
    return mix(x, targets, recipe.mix, recipe.seed, moment.step, moment.progress)


def _loss(state: State, x: torch.Tensor, targets: torch.Tensor, task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean loss, number of hits) of prepared pictures."""
    recipe = task.recipe
    loss_of, goal = recipe.loss, smooth(targets, recipe.loss.smoothing, recipe.loss.spread)
    taught = state.teacher(x) if state.teacher is not None else None
    x = normalise_own(x, task.preprocess)  # the pictures of a step are its own
    x = x.contiguous(memory_format=torch.channels_last if recipe.layout == "nhwc" else torch.contiguous_format)
    with autocast(x.device, recipe.precision):
        logits, *others = (z.to(torch.promote_types(z.dtype, torch.float32)) for z in state.network(x))
    goal = goal.to(logits.dtype)
    counts = () if task.weights is None else (targets @ task.weights.to(targets),)  # how much each picture counts
    loss = task.measure(logits, goal, *counts)
    for z in others:
        loss = loss + state.aux_weight * task.measure(z, goal, *counts)
    if taught is not None:
        loss = loss + loss_of.distill * distillation(logits, taught, loss_of.temperature)
    return loss, (logits.argmax(1) == targets.argmax(1)).sum()


def _loss_of_one(state: State, x: torch.Tensor, targets: torch.Tensor, task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """_loss of a picture that is left alone (bad files, parts for want of memory): a norm that would see one value a
    channel, which has no spread, takes its running statistics, as all norms then do; counted in state.alone.
    """
    try:
        return _loss(state, x, targets, task)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
    state.alone += 1
    norms = [m for m in state.network.modules() if m.training and has_statistics(m)]
    for norm in norms:
        norm.eval()
    try:
        return _loss(state, x, targets, task)
    finally:
        for norm in norms:
            norm.train()


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Autocast to the 16-bit type that the recipe names; float32 without."""
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.autocast(device.type, kinds[precision]) if precision in kinds else contextlib.nullcontext()


def _alone(state: State, alone: bool) -> contextlib.AbstractContextManager[Any]:
    """Gradients of other processes are not waited for within the block."""
    network = state.network
    return network.no_sync() if alone and isinstance(network, DistributedDataParallel) else contextlib.nullcontext()
