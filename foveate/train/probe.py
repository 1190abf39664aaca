"""Whether a network can take a training step as a recipe has it, and how long one takes."""

import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.train import ranks
from foveate.train.allocator import memory_kept
from foveate.train.optim import freeze, has_statistics
from foveate.train.recipe import Recipe
from foveate.train.step import autocast
from foveate.zoo import build
from foveate.zoo.family import Config
from foveate.zoo.fold import can_fold, folded
from foveate.zoo.meta import shapes_only

PICTURES = 16
LARGE = 128  # pixels: above it half as many pictures say as much


def check_step(config: Config, recipe: Recipe, size: int = 0, pictures: int | None = None) -> None:
    """ConfigError where a network can not take a step on pictures from files: in colour or grey, as many at once as the
    recipe takes (batch over parts and processes).

    size: of the pictures in pixels; 0: the recipe's or the network's. pictures: of the training split, if it is known.
    """
    if config.in_chans not in (1, 3):
        wanted = "expected 3 (colour) or 1 (grey: the luminance of each picture)"
        raise ConfigError(f"model.in_chans = {config.in_chans}: {wanted}")
    batch = min(recipe.batch, pictures or recipe.batch)
    if batch // (recipe.parts * ranks.world()) > 1 or recipe.frozen_norms:
        return
    side = round((recipe.resolution or size or config.resolution) * recipe.grow_from)
    with shapes_only():
        net = build(folded(config) if recipe.fold_norms and can_fold(config) else config).train()
        for norm in freeze(net, recipe.freeze):
            norm.eval()
        try:
            net(torch.empty(1, config.in_chans, side, side))
        except ValueError as error:  # of torch's batch norm, for a map of one position
            few = f"{pictures} training picture" if batch < recipe.batch else f"batch = {recipe.batch}"
            few += f" in {recipe.parts} parts" if recipe.parts > 1 else ""
            raise ConfigError(
                f"{few}: a norm of this network would see one value a channel at {side} px"
                f" ({str(error).partition(',')[0].lower()}); take 2 pictures or more at once (batch=2), or"
                " model.layers.norm=group_norm"
            ) from None


def time_step(config: Config, recipe: Recipe, size: int, device: torch.device, repeats: int = 3) -> float:
    """Wall seconds of a training step (forward, loss, backward) per picture, without the optimiser: the median of some
    after a warm-up, on a throw-away network with random pictures. recipe: a settled one (form.settle).
    """
    before, threads_before = torch.random.get_rng_state(), torch.get_num_threads()
    batch = min(recipe.batch, PICTURES if size <= LARGE else PICTURES // 2)
    target = torch.zeros(batch, dtype=torch.int64, device=device)
    memory = torch.channels_last if recipe.layout == "nhwc" else torch.contiguous_format
    model = build(config).to(device).to(memory_format=memory)
    quiet = freeze(model, recipe.freeze)
    quiet = [m for m in model.modules() if has_statistics(m)] if recipe.frozen_norms else quiet
    for norm in quiet:
        norm.eval()
    x = torch.rand(batch, config.in_chans, size, size, device=device).contiguous(memory_format=memory)
    try:
        torch.set_num_threads(recipe.threads or threads_before)
        with memory_kept():  # as in training
            seconds = [_step_s(model, x, target, recipe.precision) for _ in range(1 + repeats)]
    finally:
        torch.random.set_rng_state(before)
        torch.set_num_threads(threads_before)
    return statistics.median(seconds[1:]) / batch


def _step_s(model: nn.Module, x: torch.Tensor, target: torch.Tensor, precision: str) -> float:
    """Wall seconds of one step without the optimiser."""
    begun = time.perf_counter()
    with autocast(x.device, precision):
        logits = model(x)
    F.cross_entropy(logits.float(), target).backward()
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    spent = time.perf_counter() - begun
    model.zero_grad(set_to_none=True)
    return spent
