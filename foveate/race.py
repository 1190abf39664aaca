"""The race: candidates compete on the validation split in rounds, and half of them stay (successive halving,
arXiv:1502.07943).

With published weights a round fits a linear classifier on frozen features of part of the training split, more of it
every round. From
scratch a round trains every candidate for the same wall time, and survivors train on from where they were.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from foveate.candidates import Measured
from foveate.config import replace
from foveate.data.index import Dataset, Split
from foveate.data.load import Pictures, evaluation_pictures, training_pictures
from foveate.data.random import epoch_order
from foveate.run import read, store_side
from foveate.train.engine import Listener
from foveate.train.evaluate import accuracy, cross_entropy, labels_of, predict_logits
from foveate.train.head import features, linear_probe
from foveate.train.intervals import wilson
from foveate.train.loop import State, train
from foveate.train.recipe import Recipe, Schedule
from foveate.zoo import FAMILIES, build
from foveate.zoo.weights import load_weights

STEP_COST, LEAST_EPOCHS = 10.0, 2.0
SHARES = (0.35, 1.0)  # of the training split, by round, for linear classifiers


@dataclass
class Entry:
    """A candidate in the race and how it stands."""

    measured: Measured
    val_accuracy: float = 0.0
    val_loss: float = float("inf")
    rounds: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    runner: Callable[[int, float], tuple[float, float]] | None = None  # (round, until when) -> (accuracy, loss)

    @property
    def label(self) -> str:
        """Model and resolution."""
        return f"{self.measured.candidate.model} ({self.measured.candidate.preprocess.resolution} px)"


def entrants(fitting: Sequence[Measured], pictures: int, seconds: float) -> list[Measured]:
    """Who takes part: from scratch those that can see the training split LEAST_EPOCHS times in the first round, at
    least the quickest.

    A training step takes about STEP_COST times as long a picture as the measured inference on the same device.
    """
    if fitting[0].candidate.weights is not None:
        return list(fitting)
    quickest_first = sorted(fitting, key=lambda m: m.latency.median_ms)
    for n in range(len(quickest_first), 1, -1):
        epoch_s = sum(m.latency.median_ms for m in quickest_first[:n]) / 1000 * STEP_COST * pictures
        if LEAST_EPOCHS * epoch_s <= seconds / rounds_for(n):
            return quickest_first[:n]
    return quickest_first[:1]


def rounds_for(entries: int) -> int:
    """Rounds of halving until one is left."""
    return max(1, (entries - 1).bit_length())


def race(
    field_: Sequence[Measured], dataset: Dataset, recipe: Recipe, seconds: float, bad_files: str, listener: Listener
) -> list[Entry]:
    """Run the rounds within about `seconds` and return all entries, the winner first."""
    squares = Squares(dataset, bad_files, listener)
    entries = [Entry(m) for m in field_]
    published = field_[0].candidate.weights is not None
    rounds = len(SHARES) if published else rounds_for(len(entries))
    running = list(entries)
    for number in range(rounds):
        listener("stage", {"text": f"race, round {number + 1} of {rounds}: {len(running)} candidates"})
        for entry in running:
            begun, until = time.monotonic(), time.monotonic() + seconds / rounds / len(running)
            if entry.runner is None:
                entry.runner = (
                    probing(entry.measured, dataset, squares)
                    if published
                    else training(entry, recipe, dataset, squares)
                )
            entry.val_accuracy, entry.val_loss = entry.runner(number, until)
            entry.seconds += time.monotonic() - begun
            entry.rounds.append({"round": number + 1, "val_accuracy": entry.val_accuracy})
        running = ranking(running, squares.count)
        keep = max(1, (len(running) + 1) // 2) if number < rounds - 1 else 1
        for i, entry in enumerate(running):
            c = entry.measured.candidate
            fields = {"model": c.model, "resolution": c.preprocess.resolution, "val_accuracy": entry.val_accuracy}
            listener("race", {**fields, "round": number + 1, "kept": i < keep})
            if i >= keep:
                entry.runner = None  # frees its network
        running = running[:keep]
    return running + sorted(
        (e for e in entries if e is not running[0]), key=lambda e: (-len(e.rounds), -e.val_accuracy)
    )


def ranking(entries: Sequence[Entry], n: int) -> list[Entry]:
    """Best first. Accuracies within one standard error of the best count as equal; among equals the lower loss wins."""
    best = max(e.val_accuracy for e in entries)
    error = np.sqrt(best * (1 - best) / n)
    return sorted(entries, key=lambda e: (0, e.val_loss) if e.val_accuracy >= best - error else (1, 1 - e.val_accuracy))


class Squares:
    """Decoded pictures by resolution, shared by the candidates that want the same."""

    def __init__(self, dataset: Dataset, bad_files: str, listener: Listener):
        self.dataset, self.bad_files, self.listener = dataset, bad_files, listener
        self.count = len(dataset.splits["val"])
        self.made: dict[object, Pictures] = {}

    def get(self, key: object, make: Callable[[], Pictures]) -> Pictures:
        """The pictures under this key, read once."""
        if key not in self.made:
            self.made[key] = read(make(), self.bad_files, self.listener)
        return self.made[key]


def probing(m: Measured, dataset: Dataset, squares: Squares) -> Callable[[int, float], tuple[float, float]]:
    """Rounds of a network with published weights: a linear classifier on more and more of the training split."""
    c = m.candidate
    model = build(c.config)
    load_weights(model, str(c.weights), except_head=True)
    split = dataset.splits["train"]
    order = epoch_order(len(split), 0, 0)
    val = squares.get(("val", c.preprocess), lambda: evaluation_pictures(dataset.splits["val"], c.preprocess))
    parts: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    seen: list[np.ndarray] = []

    def run(number: int, _: float) -> tuple[float, float]:
        begin, end = (round(s * len(split)) for s in ((0.0, *SHARES)[number], SHARES[number]))
        part = squares.get(
            ("part", c.preprocess, number), lambda: evaluation_pictures(subset(split, order[begin:end]), c.preprocess)
        )
        parts.append(features(model, part, c.preprocess))
        labels.append(labels_of(part))
        if not seen:
            seen.append(features(model, val, c.preprocess))
        probe = linear_probe(
            np.concatenate(parts), np.concatenate(labels), seen[0], labels_of(val), len(dataset.classes)
        )
        return probe.val_accuracy, probe.val_loss

    return run


def subset(split: Split, picks: np.ndarray) -> Split:
    """Some samples of a split."""
    pixels = None if split.pixels is None else split.pixels[picks]
    return Split(tuple(split.paths[i] for i in picks), tuple(split.labels[i] for i in picks), pixels)


def training(
    entry: Entry, recipe: Recipe, dataset: Dataset, squares: Squares
) -> Callable[[int, float], tuple[float, float]]:
    """Rounds of a network from scratch: train on for the given seconds at a steady rate, then evaluate the weight
    average.
    """
    c = entry.measured.candidate
    size = c.preprocess.resolution
    form = replace(recipe, precision="fp32", layout="nhwc")  # no probe here: it would cost what the round has
    recipe = replace(
        form, epochs=4096, ema=recipe.ema or 0.99, schedule=Schedule(kind="constant", warmup=0.5), mixup=0.0
    )
    side = store_side(size, dataset)
    pictures = squares.get(("train", side), lambda: training_pictures(dataset.splits["train"], side))
    val = squares.get(("val", c.preprocess), lambda: evaluation_pictures(dataset.splits["val"], c.preprocess))
    torch.manual_seed(recipe.seed)
    state = State(build(c.config), build(c.config), recipe, FAMILIES[c.config.family].head, "cpu")
    steps = train(state, pictures, c.preprocess, recipe, len(dataset.classes))

    def run(_: int, until: float) -> tuple[float, float]:
        next(steps)
        while time.monotonic() < until:
            next(steps)
        logits, labels = predict_logits(state.best, val, c.preprocess), labels_of(val)
        return accuracy(logits, labels), cross_entropy(logits, labels)

    return run


def rows(
    entries: Sequence[Entry], measured: Sequence[Measured], fitting: Sequence[Measured], chosen: Measured, n: int
) -> list[dict[str, object]]:
    """All candidates as rows of the report: the raced ones with their accuracy, the others with their cost alone."""
    raced = {id(e.measured): e for e in entries}
    found = []
    for m in measured:
        entry = raced.get(id(m))
        row = m.row(m in fitting)
        if entry is not None and entry.rounds:
            interval = list(wilson(round(entry.val_accuracy * n), n))
            row |= {
                "val_accuracy": entry.val_accuracy,
                "val_interval": interval,
                "rounds": entry.rounds,
                "seconds": entry.seconds,
            }
        found.append({**row, "chosen": m is chosen})
    return found
