"""The training loop: a generator that yields once a step. The caller logs, evaluates, saves and stops.

Every random number of a step is a pure function of (seed, step) or (seed, epoch, sample), so a run that goes on from
a saved step does the same arithmetic as one that never stopped.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from foveate.data.load import Batch, Pictures
from foveate.data.preprocess import Preprocess
from foveate.errors import FoveateError
from foveate.layers.drop import set_progress
from foveate.train import ranks
from foveate.train.allocator import memory_kept
from foveate.train.clipping import clip_adaptive
from foveate.train.optim import learning_rate, peak_rate, set_lr
from foveate.train.recipe import Recipe
from foveate.train.sam import ascend, descend, quiet_statistics
from foveate.train.state import State
from foveate.train.step import Moment, Task, gradient


@dataclass(frozen=True)
class Step:
    """What one step reports. loss and correct stay tensors: the caller decides when to wait for the device."""

    number: int  # steps done, from 1
    loss: torch.Tensor  # ()
    correct: torch.Tensor  # () pictures whose stronger label is predicted
    count: int
    lr: float
    skipped: bool = False  # the loss was not finite: the weights stayed as they were
    samples: np.ndarray | None = None  # of a skipped step: which pictures it held


def train(
    state: State,
    pictures: Pictures,
    preprocess: Preprocess,
    recipe: Recipe,
    classes: int,
    workers: int = 0,
    total: int = 0,
) -> Iterator[Step]:
    """Yield one Step a step, from state.step to the end of the recipe. The process keeps freed memory meanwhile.

    total: how many steps there are in all, in place of the recipe's epochs; the last epoch may be cut.
    Raises FoveateError when the loss is not finite in more steps than the recipe passes over, or when the memory is
    too small for a single picture.
    """
    with memory_kept():
        yield from steps(state, pictures, preprocess, recipe, classes, workers, total)


def steps(
    state: State, pictures: Pictures, preprocess: Preprocess, recipe: Recipe, classes: int, workers: int, total: int
) -> Iterator[Step]:
    """The steps of train."""
    labels = pictures.labels.numpy()[pictures.keep] if recipe.balance == "weights" else None
    task, batch = Task(recipe, preprocess, classes, len(pictures.split), labels), min(recipe.batch, len(pictures))
    if ranks.world() > batch:
        raise FoveateError(f"{ranks.world()} processes for a batch of {batch}: at least one picture each")
    per_epoch = pictures.steps(batch)
    total = total or recipe.epochs * per_epoch
    peak = peak_rate(recipe.optim, batch)
    state.join()
    while state.step < total:
        epoch, start = divmod(state.step, per_epoch)
        share, repeats = (ranks.rank(), ranks.world()), recipe.augment.repeats
        balanced = recipe.balance == "draws"
        for item in pictures.epoch(
            recipe.seed, epoch, batch, start, workers, share=share, repeats=repeats, balanced=balanced
        ):
            moment = Moment(state.step, epoch, state.step / total)
            state.model.train()  # the caller may have evaluated since
            for norm in state.quiet_norms:
                norm.eval()
            set_progress(state.model, moment.progress)  # drop rates that grow during training
            lr = learning_rate(recipe.schedule, peak, state.step, total, per_epoch)
            set_lr(state.optimizer, lr)
            loss, correct = fitting_gradient(state, item, moment, task)
            skipped = bool(ranks.highest(int(not torch.isfinite(loss)), state.device))
            if skipped:
                pass_over(state, item, loss, recipe)
            else:
                state.skipped = 0
                update(state, recipe, last=state.step + 1 == total)
            state.step += 1
            yield report(state, item, loss, correct, lr, skipped)
            if state.step == total:
                return


def fitting_gradient(state: State, item: Batch, moment: Moment, task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """gradient(), in twice as many parts whenever the memory is too small. The effective batch stays.

    Norms then see smaller batches. With several processes the error ends the run: the others can not know of it.
    """
    while True:
        state.optimizer.zero_grad(set_to_none=True)
        try:
            loss, correct = gradient(state, item, moment, task)
            if task.recipe.optim.sam and moment.step % task.recipe.optim.sam_every == 0:
                sharpen(state, item, moment, task)
            return loss, correct
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            n = len(item.labels)
            if state.parts >= n or ranks.world() > 1:
                raise FoveateError(
                    f"not enough memory for {-(-n // state.parts)} of {n} pictures at {task.size(moment.progress)}"
                    " pixels; lower batch or resolution, or raise parts"
                ) from None
        state.parts = min(n, 2 * state.parts)
        if state.device.type == "cuda":
            torch.cuda.empty_cache()


def sharpen(state: State, item: Batch, moment: Moment, task: Task) -> None:
    """Put the gradient at the worst point nearby in place of the one that is there (SAM, arXiv:2010.01412)."""
    before = ascend(state.model.parameters(), task.recipe.optim.sam)
    try:
        state.optimizer.zero_grad(set_to_none=True)
        with quiet_statistics(state.model):
            gradient(state, item, moment, task)
    finally:
        descend(before)


def out_of_memory(error: BaseException) -> bool:
    """Whether torch says that memory ran out, on a device or on the host."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def pass_over(state: State, item: Batch, loss: torch.Tensor, recipe: Recipe) -> None:
    """Leave the weights as they are after a loss that is not finite; stop where this happens too often in a row."""
    state.skipped += 1
    if state.skipped > recipe.skip_steps:
        raise FoveateError(
            f"the loss is {loss.item()} at step {state.step + 1}; lower optim.lr (now {recipe.optim.lr:g})"
        )
    state.optimizer.zero_grad(set_to_none=True)


def update(state: State, recipe: Recipe, last: bool) -> None:
    """One step of the optimiser by the gradients that are there, and of what averages the weights."""
    if state.scaler.is_enabled():
        state.scaler.unscale_(state.optimizer)
    if recipe.optim.agc:
        body = [p for group in state.optimizer.param_groups if not group.get("head") for p in group["params"]]
        clip_adaptive(body, recipe.optim.agc)
    if recipe.optim.clip_norm:
        nn.utils.clip_grad_norm_(state.model.parameters(), recipe.optim.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.scaler.is_enabled() and state.scaler.get_scale() < 1:
        raise FoveateError(f"float16 overflows at step {state.step + 1} at any loss scale; take precision=bf16 or fp32")
    if state.lookahead is not None:
        state.lookahead.update(state.step + 1)
        if last:
            state.lookahead.finish()
    if state.average is not None and (state.step + 1) % recipe.ema_every == 0:
        state.average.update()


def report(state: State, item: Batch, loss: torch.Tensor, correct: torch.Tensor, lr: float, skipped: bool) -> Step:
    """The step of all processes together: the mean loss, all hits, all pictures."""
    count, samples = len(item.labels), item.samples if skipped else None
    if ranks.world() > 1:
        loss, correct, seen = ranks.summed(loss / ranks.world(), correct, torch.tensor(count, device=loss.device))
        count = int(seen)
    return Step(state.step, loss, correct, count, lr, skipped, samples)
