"""The three-step probe: which precision and memory layout train this network fastest on this device, and how fast
that is.
"""

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
from foveate.train.allocator import memory_kept
from foveate.train.optim import freeze, has_statistics
from foveate.train.recipe import Recipe
from foveate.train.step import autocast
from foveate.zoo import build
from foveate.zoo.family import Config
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


def check_step(config: Config, recipe: Recipe) -> None:
    """ConfigError where a network can not take a step on pictures from files: RGB, recipe.batch of them at once."""
    if config.in_chans != 3:
        raise ConfigError(f"in_chans = {config.in_chans}: expected 3; pictures are read as RGB, grey ones too")
    if recipe.batch == 1 and not recipe.frozen_norms and not recipe.freeze:
        side = recipe.resolution or config.resolution
        with shapes_only():
            try:
                build(config).train()(torch.empty(1, config.in_chans, side, side))
            except ValueError as error:  # of torch's batch norm, for a map of one position
                wanted = "expected 2 or more, or another norm"
                raise ConfigError(f"batch = 1: this network normalises single values ({error}); {wanted}") from None


def probe(config: Config, recipe: Recipe, size: int, device: torch.device, repeats: int = 3) -> list[Timing]:
    """Timings of every candidate form, interleaved, on a throw-away network with random pictures.

    A form that takes over TOO_SLOW times the quickest one in the warm-up is not repeated.
    """
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
        seconds = {form: [run()] for form, run in runs.items()}  # the warm-up
        quickest = min(s[0] for s in seconds.values())
        again = [form for form, s in seconds.items() if s[0] <= TOO_SLOW * quickest]
        for _ in range(repeats):
            for form in again:
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


def settle(config: Config, recipe: Recipe, size: int, device: torch.device) -> tuple[Recipe, list[Timing]]:
    """The recipe with "auto" precision, layout and threads replaced by what the probe chose, and the timings.

    Plain float32 on all threads stays unless another form is clearly quicker. A recipe that leaves nothing open is not
    probed.
    """
    if "auto" not in (recipe.precision, recipe.layout) and recipe.threads:
        return recipe, []
    timings = probe(config, recipe, size, device)
    plain, best = timings[0], min(timings, key=lambda t: t.image_s)
    chosen = best if best.image_s < GAIN * plain.image_s else plain
    return replace(recipe, precision=chosen.precision, layout=chosen.layout, threads=chosen.threads), timings
