"""The three-step probe: which precision and memory layout train this network fastest on this device, and how fast
that is.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from foveate.config import replace
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

PICTURES, TOO_SLOW = 16, 1.5
LARGE = 128  # pixels: above it half as many pictures say as much
GAIN = 0.9  # another form must take less than this share of the time of plain float32 to be chosen


@dataclass(frozen=True)
class Timing:
    """image_s: seconds of a training step (forward, loss, backward) per picture, median of three after a warm-up."""

    precision: str
    layout: str
    threads: int
    image_s: float


def candidates(device: torch.device, recipe: Recipe) -> list[tuple[str, str, int]]:
    """The forms (precision, layout, threads) worth a probe here.

    bf16 on a CPU only where the processor has instructions for it, and then channels-last.
    """
    precisions = (
        [recipe.precision] if recipe.precision != "auto" else ["fp32", "bf16"] if has_bf16(device) else ["fp32"]
    )
    layouts = [recipe.layout] if recipe.layout != "auto" else ["nchw", "nhwc"]
    # on a busy machine, and for very small networks, one thread can beat several that wait for each other
    threads = [recipe.threads] if recipe.threads else sorted({torch.get_num_threads(), 1}, reverse=True)
    forms = [(p, y, t) for p in precisions for y in layouts for t in threads]
    return [f for f in forms if f[:2] != ("bf16", "nchw") or recipe.layout == "nchw"]


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is native on this device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


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


def probe(
    config: Config,
    recipe: Recipe,
    size: int,
    device: torch.device,
    repeats: int = 3,
    most_s: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Timings of every candidate form, interleaved, on a throw-away network with random pictures.

    A form that takes over TOO_SLOW times the quickest one in the warm-up is not repeated. After most_s seconds no
    further step is begun but the first, of plain float32; forms that were not warmed up are left out.
    """
    until = clock() + most_s
    before, threads_before = torch.random.get_rng_state(), torch.get_num_threads()
    batch = min(recipe.batch, PICTURES if size <= LARGE else PICTURES // 2)
    target = torch.zeros(batch, dtype=torch.int64, device=device)
    runs: dict[tuple[str, str, int], Callable[[], float]] = {}
    for precision, layout, threads in candidates(device, recipe):
        memory = torch.channels_last if layout == "nhwc" else torch.contiguous_format
        model = build(config).to(device).to(memory_format=memory)
        quiet = freeze(model, recipe.freeze)
        quiet = [m for m in model.modules() if has_statistics(m)] if recipe.frozen_norms else quiet
        for norm in quiet:
            norm.eval()
        x = torch.rand(batch, config.in_chans, size, size, device=device).contiguous(memory_format=memory)
        runs[precision, layout, threads] = partial(_step_s, model, x, target, precision, threads)
    with memory_kept():  # as in training
        seconds: dict[tuple[str, str, int], list[float]] = {}
        for form, run in runs.items():  # the warm-up
            if not seconds or clock() < until:
                seconds[form] = [run()]
        quickest = min(s[0] for s in seconds.values())
        again = [form for form, s in seconds.items() if s[0] <= TOO_SLOW * quickest]
        for _ in range(repeats):
            for form in again:
                if clock() < until:
                    seconds[form].append(runs[form]())
    torch.random.set_rng_state(before)
    torch.set_num_threads(threads_before)
    return [Timing(*form, statistics.median(s[1:] or s) / batch) for form, s in seconds.items()]


def _step_s(model: nn.Module, x: torch.Tensor, target: torch.Tensor, precision: str, threads: int) -> float:
    """Wall seconds of one step without the optimiser."""
    torch.set_num_threads(threads)
    begun = time.perf_counter()
    with autocast(x.device, precision):
        logits = model(x)
    F.cross_entropy(logits.float(), target).backward()
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    spent = time.perf_counter() - begun
    model.zero_grad(set_to_none=True)
    return spent


def settle(
    config: Config, recipe: Recipe, size: int, device: torch.device, most_s: float = math.inf
) -> tuple[Recipe, list[Timing]]:
    """The recipe with "auto" precision, layout and threads replaced by what the probe chose in about most_s seconds,
    and the timings.

    Plain float32 on all threads stays unless another form is clearly quicker. A recipe that leaves nothing open is not
    probed.
    """
    if "auto" not in (recipe.precision, recipe.layout) and recipe.threads:
        return recipe, []
    timings = probe(config, recipe, size, device, most_s=most_s)
    plain, best = timings[0], min(timings, key=lambda t: t.image_s)
    chosen = best if best.image_s < GAIN * plain.image_s else plain
    return replace(recipe, precision=chosen.precision, layout=chosen.layout, threads=chosen.threads), timings
