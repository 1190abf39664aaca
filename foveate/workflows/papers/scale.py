"""The size of an experiment that fits a budget of wall time: pictures, epochs, seeds.

The time of a training picture is measured on a few steps of every network, so the size depends on how busy the machine
is; it is recorded, printed, and can be given instead (--pictures, --epochs, --seeds).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from foveate.config import record, replace
from foveate.train.form import settle
from foveate.train.recipe import Recipe
from foveate.zoo.family import Config

BATCH, STEPS = 16, 2  # of the probe
TRIAL_S = 2.0  # opening the data, making the net, writing: what a training takes beside its steps
BEGIN_S = 8.0  # before the first and after the last training
OVERHEAD = 1.3  # augmentation, the optimiser, checkpoints: over forward and backward
FORWARD = 1 / 3  # a picture that is only looked at, of one that is trained on
LEAST_PICTURES, LEAST_TEST, MOST_VAL = 500, 1000, 500
STEP = 0.85  # from one size that is tried to the next


@record
class Scale:
    """What is trained: pictures (0: all there are), epochs, seeds; tested on `test` pictures (0: all)."""

    pictures: int
    epochs: int
    seeds: int
    test: int = 0
    expected_s: float = 0.0  # what it should take; 0: not known


@dataclass(frozen=True)
class Pool:
    """Pictures that there are. cut: whether a part of them can be taken."""

    train: int
    val: int
    test: int
    cut: bool = True


def picture_ms(config: Config, recipe: Recipe, size: int, device: str) -> float:
    """Milliseconds of one training picture, forward and backward, in the form that training would choose."""
    import torch
    import torch.nn.functional as F

    from foveate.zoo import build

    place = torch.device(device)
    form = settle(config, replace(recipe, batch=max(BATCH, recipe.batch)), size, place)
    torch.manual_seed(0)
    model = build(config).to(place).train()
    x = torch.randn(BATCH, config.in_chans, size, size, device=place).to(memory_format=torch.channels_last)
    y = torch.arange(BATCH, device=place) % config.num_classes
    times, half = [], form.precision in ("bf16", "fp16")
    for _ in range(STEPS + 1):
        begun = time.perf_counter()
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=half):
            out = model(x)
        F.cross_entropy((out[0] if isinstance(out, tuple) else out).float(), y).backward()
        if place.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return 1e3 * min(times[1:]) / BATCH


def expected_s(ms: Sequence[float], scale: Scale, pool: Pool) -> float:
    """Seconds of all trainings of a size, one after the other. ms: of a training picture, an entry an arm."""
    pictures, test = scale.pictures or pool.train, scale.test or pool.test
    looked = scale.epochs * min(pool.val, MOST_VAL) + test
    one = [OVERHEAD * m / 1e3 * (scale.epochs * pictures + FORWARD * looked) + TRIAL_S for m in ms]
    return BEGIN_S + scale.seeds * sum(one)


def fitting(
    ms: Sequence[float],
    budget_s: float,
    pool: Pool,
    target: Scale,
    *,
    given_seeds: bool = False,
    workers: int = 1,
) -> Scale:
    """The largest size that takes at most the budget: that of `target`, else less of pictures and epochs, then seeds.

    With given_seeds their number stays. Where even the smallest does not fit it is returned, with what it takes.
    """
    pictures = min(target.pictures or pool.train, pool.train) if pool.cut else pool.train
    counts = [target.seeds] if given_seeds else [n for n in (target.seeds, 3, 2) if n <= target.seeds]
    best = Scale(pictures, target.epochs, target.seeds)
    for seeds in counts:
        share = 1.0
        while True:
            few = max(min(LEAST_PICTURES, pictures), _round(pictures * share**0.5)) if pool.cut else pictures
            epochs = max(1, round(target.epochs * (share**0.5 if pool.cut else share)))
            test = min(pool.test, max(LEAST_TEST, few)) if pool.cut else pool.test
            best = Scale(few, epochs, seeds, test)
            best = replace(best, expected_s=expected_s(ms, best, pool) / workers)
            if best.expected_s <= budget_s:
                return best
            if epochs == 1 and (few <= LEAST_PICTURES or not pool.cut):
                break
            share *= STEP
    return best


def _round(pictures: float) -> int:
    """To hundreds: a number that can be said."""
    return max(100, round(pictures / 100) * 100)
