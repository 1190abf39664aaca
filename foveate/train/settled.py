"""Whether running statistics have settled, and what takes their place where they have not.

A running average that has seen few steps, or weights that moved fast, is not what the norms saw in training: training
reports 100 %, evaluation is at chance. It is measured here, not guessed from the number of steps.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from foveate.config import replace
from foveate.data.load import Pictures
from foveate.data.preprocess import Preprocess
from foveate.train import ranks
from foveate.train.draw import drawer
from foveate.train.evaluate import cross_entropy, labels_of, shared_logits
from foveate.train.optim import has_statistics
from foveate.train.recipe import Augment, Recipe
from foveate.train.statistics import refresh

TOLERANCE = 0.25  # of the median channel: shift of the mean in deviations, or logarithm of the ratio of variances
BATCH = 64  # pictures of a batch that statistics are compared on and taken from; a batch this large errs by 0.1
PICTURES = 512  # of a pass over the training pictures, at most
STREAM = 2**31 + 2  # stands where an epoch does, for these batches
RUNNING, AUGMENTED, PLAIN = "running averages", "training pictures, augmented", "training pictures"

Buffers = dict[str, torch.Tensor]


class Settled(NamedTuple):
    """Which statistics a network has, and its logits (N, K) on the validation pictures with them."""

    statistics: str  # RUNNING, AUGMENTED or PLAIN
    logits: torch.Tensor


def settle_statistics(
    model: nn.Module,
    kept: Iterable[nn.Module],
    source: nn.Module,
    training: Pictures,
    val: Pictures,
    preprocess: Preprocess,
    recipe: Recipe,
    classes: int,
) -> Settled:
    """Give a network the running statistics with which it does best on the validation pictures, in place.

    Its own stay where they agree with those of a batch of training pictures. Where they do not, they are taken anew in
    a pass over at most PICTURES training pictures, augmented as in training and as they are, and the lowest validation
    loss decides among the three. kept: norms of `source` (the network that is trained, of the same form as model)
    whose statistics are to stay: frozen ones, which the weights have learnt to live with.
    """
    logits = shared_logits(model, val, preprocess)
    frozen = set(map(id, kept))
    names = [n for n, m in source.named_modules() if has_statistics(m) and id(m) not in frozen]
    device = next(model.parameters()).device
    norms = [dict(model.named_modules())[n] for n in names]
    if not norms or len(training) < 2:
        return Settled(RUNNING, torch.from_numpy(logits))
    augmented = plain_batches(training, preprocess, recipe, classes, device, augment=recipe.augment)
    if not ranks.highest(int(disagreement(model, norms, next(augmented)) > TOLERANCE), device):
        return Settled(RUNNING, torch.from_numpy(logits))
    labels = labels_of(val)
    found = [(_loss(logits, labels), 0, RUNNING, logits, buffers_of(norms))]
    for place, (name, changes) in enumerate(((PLAIN, Augment(flip=False)), (AUGMENTED, recipe.augment)), 1):
        refresh(model, plain_batches(training, preprocess, recipe, classes, device, augment=changes), only=norms)
        logits = shared_logits(model, val, preprocess)
        found.append((_loss(logits, labels), place, name, logits, buffers_of(norms)))
    _, _, name, logits, best = min(found, key=lambda f: f[:2])
    put_back(norms, best)
    return Settled(name, torch.from_numpy(logits))


def _loss(logits: object, labels: object) -> float:
    """The cross-entropy, infinite where it is not a number."""
    loss = cross_entropy(logits, labels)  # type: ignore[arg-type]
    return loss if math.isfinite(loss) else math.inf


@torch.no_grad()
def disagreement(model: nn.Module, norms: list[nn.Module], x: torch.Tensor) -> float:
    """How far the running statistics are from those of a batch (N, 3, H, W): the worst norm's median channel.

    For means the shift in deviations of the batch, for variances |log| of their ratio; a statistic of another form
    counts by its relative distance. The running statistics stay.
    """
    before = buffers_of(norms)
    refresh(model, [x], only=norms)
    after = buffers_of(norms)
    put_back(norms, before)
    worst = 0.0
    for old, new in zip(before, after, strict=True):
        if {"running_mean", "running_var"} <= old.keys() and old["running_mean"].shape == old["running_var"].shape:
            variance = new["running_var"].double() + 1e-5
            shift = (new["running_mean"] - old["running_mean"]).double().abs() / variance.sqrt()
            ratio = ((old["running_var"].double() + 1e-5) / variance).log().abs()
            parts = [shift.median(), ratio.median()]
        else:
            parts = [(new[n] - t).double().norm() / (new[n].double().norm() + 1e-12) for n, t in old.items()]
        worst = max(worst, *(float(p) if math.isfinite(float(p)) else math.inf for p in parts))
    return worst


def plain_batches(
    training: Pictures,
    preprocess: Preprocess,
    recipe: Recipe,
    classes: int,
    device: torch.device,
    *,
    augment: Augment,
) -> Iterator[torch.Tensor]:
    """Batches (N, 3, R, R) of about BATCH pictures each, together at most PICTURES, always the same ones."""
    count = min(len(training), PICTURES)
    parts = max(1, round(count / BATCH))
    evaluated = augment is not recipe.augment
    like = replace(recipe, batch=count // parts, augment=augment, resolution=0 if evaluated else recipe.resolution)
    draw = drawer(training, preprocess, like, classes, device, STREAM)
    return (draw(i)[0] for i in range(parts))


def buffers_of(norms: Iterable[nn.Module]) -> list[Buffers]:
    """Copies of the running statistics of norms."""
    return [{n: b.clone() for n, b in m.named_buffers(recurse=False) if n.startswith("running_")} for m in norms]


@torch.no_grad()
def put_back(norms: Iterable[nn.Module], buffers: Iterable[Buffers]) -> None:
    """Set running statistics to copies that were taken of them."""
    for norm, kept in zip(norms, buffers, strict=True):
        for name, tensor in kept.items():
            norm.get_buffer(name).copy_(tensor)
