"""The three-step probe: which precision and memory layout train this network fastest on this device, and how fast
that is.
"""

import statistics
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from foveate.config import replace
from foveate.train.loop import autocast
from foveate.train.recipe import Recipe
from foveate.zoo import build

GAIN = 0.9  # another form must take less than this share of the time of plain float32 to be chosen


@dataclass(frozen=True)
class Timing:
    """seconds of one training step (forward, loss, backward), median of three after one warm-up."""

    precision: str
    layout: str
    step_s: float


def candidates(device: torch.device, recipe: Recipe) -> list[tuple[str, str]]:
    """The forms worth a probe here. bf16 on a CPU only where the processor has instructions for it, and then
    channels-last.
    """
    precisions = (
        [recipe.precision] if recipe.precision != "auto" else ["fp32", "bf16"] if has_bf16(device) else ["fp32"]
    )
    layouts = [recipe.layout] if recipe.layout != "auto" else ["nchw", "nhwc"]
    return [(p, y) for p in precisions for y in layouts if (p, y) != ("bf16", "nchw") or recipe.layout == "nchw"]


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is native on this device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def probe(
    config: object, recipe: Recipe, size: int, batch: int, device: torch.device, repeats: int = 3
) -> list[Timing]:
    """Timings of every candidate form, interleaved, on a throw-away network with random pictures."""
    state = torch.random.get_rng_state()
    models: list[tuple[str, str, nn.Module, torch.Tensor]] = []
    for precision, layout in candidates(device, recipe):
        memory = torch.channels_last if layout == "nhwc" else torch.contiguous_format
        model = build(config).to(device).to(memory_format=memory)
        x = torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=memory)
        models.append((precision, layout, model, x))
    target = torch.zeros(batch, dtype=torch.int64, device=device)
    seconds: dict[int, list[float]] = {i: [] for i in range(len(models))}
    for round_ in range(repeats + 1):
        for i, (precision, _, model, x) in enumerate(models):
            begun = time.perf_counter()
            with autocast(device, precision):
                logits = model(x)
            F.cross_entropy(logits.float(), target).backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if round_:
                seconds[i].append(time.perf_counter() - begun)
            model.zero_grad(set_to_none=True)
    torch.random.set_rng_state(state)
    return [Timing(p, y, statistics.median(seconds[i])) for i, (p, y, _, _) in enumerate(models)]


def settle(config: object, recipe: Recipe, size: int, batch: int, device: torch.device) -> tuple[Recipe, list[Timing]]:
    """The recipe with "auto" precision and layout replaced by what the probe chose; plain float32 stays unless it
    loses clearly.
    """
    if "auto" not in (recipe.precision, recipe.layout):
        return recipe, []
    timings = probe(config, recipe, size, batch, device)
    plain, best = timings[0], min(timings, key=lambda t: t.step_s)
    chosen = best if best.step_s < GAIN * plain.step_s else plain
    return replace(recipe, precision=chosen.precision, layout=chosen.layout), timings
