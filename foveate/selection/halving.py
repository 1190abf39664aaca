"""The race: candidates compete on the validation split in rounds, and half of them stay (successive halving,
arXiv:1502.07943).

With published weights a round fits a linear classifier on frozen features of part of the training split, more of it
every round. From scratch a round trains every candidate for the same wall time; survivors go on from where they were.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from foveate.config import replace
from foveate.data.index import Dataset, subset
from foveate.data.load import Pictures, evaluation_pictures, training_pictures
from foveate.data.random import epoch_order
from foveate.data.sample import store_side
from foveate.deploy.features import feature_session, features
from foveate.errors import WeightsError
from foveate.events import HalvingEvent, Listener, StageEvent, WarningEvent
from foveate.recipes.adapt import IMBALANCE
from foveate.runs.setup import make_state, read
from foveate.selection.candidates import Candidate, Measured
from foveate.selection.fetching import Fetching
from foveate.selection.published import promise
from foveate.train.evaluate import cross_entropy, labels_of
from foveate.train.head import FEW, Folds, Probe, cross_validate, linear_probe
from foveate.train.intervals import wilson
from foveate.train.loop import train
from foveate.train.metric import score
from foveate.train.recipe import Recipe, Schedule
from foveate.train.settled import settle_statistics
from foveate.zoo import build
from foveate.zoo.hub import PREFIX as HUB_PREFIX
from foveate.zoo.weights import load_weights, weights_info

STEP_COST, LEAST_EPOCHS = 10.0, 2.0  # see choose_entrants
TUNE_COST, TUNE_EPOCHS, TUNE_LONG, TUNE_MOST = 3.3, 2.5, 8.0, 3
FIRST = 32  # pictures by which features are timed
SHARES = (0.15, 0.4)  # of the training split, by round, for linear classifiers


class Runner(Protocol):
    """A candidate that can run a round."""

    def run(self, number: int, until: float) -> tuple[float, float]: ...  # -> validation (accuracy, loss)


@dataclass
class Entry:
    """A candidate in the race and how it stands after its last round."""

    measured: Measured
    runner: Runner | None = None  # its network and data; None before its first round and once it is out of the race
    val_accuracy: float = 0.0  # 0 to 1, on the whole validation split: the metric that is asked for, else accuracy
    val_loss: float = math.inf  # mean cross-entropy there, in nats
    rounds: list[dict[str, float]] = field(default_factory=list)  # {round (from 1), val_accuracy} of each round
    seconds: float = 0.0  # wall time of all its rounds


def choose_entrants(fitting: Sequence[Measured], pictures: int, seconds: float, race_share: float) -> list[Measured]:
    """Who takes part, given the time for everything and the share of it that the race may take.

    From scratch: those that can see the training split LEAST_EPOCHS times in the first round. With published weights:
    every network at its largest resolution that leaves time for TUNE_LONG epochs after the race, else at its smallest
    (epochs are worth more than pixels); of these, among those that can be fine-tuned for TUNE_EPOCHS epochs, the
    TUNE_MOST (of several families: twice as many) that promise most: by published accuracy, then by multiply-adds, for
    larger published networks are better ones; fewer where the race has no time for the features of all. In both cases
    at least the quickest. A training step takes about STEP_COST (fine-tuning: TUNE_COST) times as long a picture as the
    measured inference on the same device.
    """
    quickest_first = sorted(fitting, key=lambda m: m.latency.median_ms)
    if fitting[0].candidate.weights is not None:
        at: dict[str, Measured] = {}
        for m in sorted(fitting, key=lambda m: m.macs):
            if m.candidate.model not in at or epochs_left(m, pictures, seconds * (1 - race_share)) >= TUNE_LONG:
                at[m.candidate.model] = m
        able = [m for m in at.values() if epochs_left(m, pictures, seconds * (1 - race_share)) >= TUNE_EPOCHS]
        families = {m.candidate.config.family for m in able}
        best = sorted(able, key=promise_of)[-(TUNE_MOST if len(families) == 1 else 2 * TUNE_MOST) :]
        while len(best) > TUNE_MOST and probe_seconds(best, pictures) > seconds * race_share:
            best = best[1:]
        return best or quickest_first[:1]
    seconds *= race_share
    for n in range(len(quickest_first), 1, -1):
        epoch_s = sum(m.latency.median_ms for m in quickest_first[:n]) / 1000 * STEP_COST * pictures
        if LEAST_EPOCHS * epoch_s <= seconds / rounds_for(n):
            return quickest_first[:n]
    return quickest_first[:1]


def promise_of(m: Measured) -> tuple[float, int]:
    """What to sort networks with published weights by, the best last: what is published, then multiply-adds."""
    return promise(m.candidate.model, m.candidate.preprocess.resolution), m.macs


def probe_seconds(entering: Sequence[Measured], pictures: int) -> float:
    """About how long the first round takes: features of its share of the pictures, and of a validation split."""
    return sum(m.latency.p10_ms for m in entering) / 1000 * pictures * (SHARES[0] + 0.2)


def slowest_ms(pictures: int, seconds: float) -> float:
    """The latency of a network from scratch that could just see the training split LEAST_EPOCHS times in this time."""
    return 1000 * seconds / (STEP_COST * pictures * LEAST_EPOCHS)


def epochs_left(m: Measured, pictures: int, seconds: float) -> float:
    """How often fine-tuning could see the training split, by the quick tenth of the latencies: load passes."""
    return 1000 * seconds / (TUNE_COST * pictures * m.latency.p10_ms)


def rounds_for(entries: int) -> int:
    """Rounds of halving until one is left."""
    return max(1, (entries - 1).bit_length())


def successive_halving(
    entering: Sequence[Measured],
    recipe: Recipe,
    seconds: float,
    threads: int,
    shared: "SharedPictures",
    listener: Listener,
) -> list[Entry]:
    """Run the rounds within about `seconds` and return all entries, the winner first.

    Published weights come in meanwhile; a network whose weights do not come or do not fit is left out, with a warning.
    WeightsError where that is so of all.
    """
    entries = [Entry(m) for m in entering]
    shared.fetch(entering)
    published = entering[0].candidate.weights is not None
    rounds = len(SHARES) if published else rounds_for(len(entries))
    running = list(entries)
    for number in range(rounds):
        listener(StageEvent(f"race, round {number + 1} of {rounds}: {len(running)} candidates"))
        for entry in list(running):
            begun = time.monotonic()
            if entry.runner is None:
                try:
                    entry.runner = make_runner(entry.measured.candidate, recipe, threads, shared)
                except WeightsError as error:
                    running.remove(entry)
                    if not running:
                        raise
                    entries.remove(entry)
                    listener(WarningEvent(f"{entry.measured.candidate.model} does not race: {error}"))
                    continue
            entry.val_accuracy, entry.val_loss = entry.runner.run(number, begun + seconds / rounds / len(running))
            entry.seconds += time.monotonic() - begun
            entry.rounds.append({"round": number + 1, "val_accuracy": entry.val_accuracy})
        running = rank(running, counted_on(shared.dataset, published))
        keep = (len(running) + 1) // 2 if number < rounds - 1 else 1
        for i, entry in enumerate(running):
            c = entry.measured.candidate
            listener(HalvingEvent(c.model, c.preprocess.resolution, entry.val_accuracy, number + 1, kept=i < keep))
            if i >= keep:
                entry.runner = None  # frees its network
        running = running[:keep]
    others = [e for e in entries if e is not running[0]]
    return running + sorted(others, key=lambda e: (-len(e.rounds), -e.val_accuracy))


def make_runner(candidate: Candidate, recipe: Recipe, threads: int, shared: "SharedPictures") -> Runner:
    """What runs a candidate's rounds."""
    if candidate.weights is not None:
        return LinearProbeRunner(candidate, threads, shared)
    return FromScratchRunner(candidate, recipe, shared)


def split_heats(fitting: Sequence[Measured], small: bool) -> list[list[Measured]]:
    """Who races against whom: networks with published weights, and networks from scratch.

    Photographs: the first alone where there are any, for they end far ahead. Thumbnails (small): both, one heat after
    the other; best_of_heats decides.
    """
    published = [m for m in fitting if m.candidate.weights is not None]
    scratch = [m for m in fitting if m.candidate.weights is None]
    return [heat for heat in (published, scratch if small or not published else []) if heat]


def best_of_heats(heats: Sequence[Sequence[Entry]], n: int) -> list[Entry]:
    """All entries, the winner of the heats first: by accuracy; among equals (see rank) the lower loss wins."""
    firsts = [heat[0] for heat in heats]
    best = max(e.val_accuracy for e in firsts)
    error = math.sqrt(2 * best * (1 - best) / n)
    winner = min((e for e in firsts if e.val_accuracy >= best - error), key=lambda e: e.val_loss)
    return [winner, *(e for heat in heats for e in heat if e is not winner)]


def counted_on(dataset: Dataset, published: bool) -> int:
    """How many pictures an accuracy of the race is of: validation, or all but test where it is cross-validated."""
    train, val = len(dataset.splits["train"]), len(dataset.splits["val"])
    return train + val if published and train + val < FEW else val


def rank(entries: Sequence[Entry], n: int) -> list[Entry]:
    """Best first. Accuracies within one standard error of their difference count as equal to the best.

    Among equals from scratch the lower loss wins. With published weights the larger network does: a linear classifier
    says little of what fine-tuning makes of a network, and those of which more is published, or larger ones of which
    nothing is, end better (docs/benchmarks.md).
    """
    best = max(e.val_accuracy for e in entries)
    error = math.sqrt(2 * best * (1 - best) / n)

    def place(e: Entry) -> tuple[int, float, float]:
        if e.val_accuracy < best - error:
            return 1, -e.val_accuracy, 0
        if e.measured.candidate.weights is None:
            return 0, e.val_loss, 0
        promised, macs = promise_of(e.measured)
        return 0, -promised, -macs

    return sorted(entries, key=place)


class SharedPictures:
    """Decoded pictures by resolution, shared by the candidates that want the same."""

    def __init__(
        self, dataset: Dataset, bad_files: str, listener: Listener, device: str = "cpu", metric: str = "accuracy"
    ):
        self.metric = metric  # that the race is decided by
        self.dataset, self.bad_files, self.listener, self.device = dataset, bad_files, listener, device
        self.made: dict[object, Pictures] = {}
        self.fetching = Fetching((), listener)

    def fetch(self, entering: Sequence[Measured]) -> None:
        """Begin to fetch the weights of these that are not here, in the background."""
        self.fetching = Fetching([m.candidate.weights for m in entering], self.listener)

    def val(self, candidate: Candidate) -> Pictures:
        """The validation split as the candidate wants it."""
        p = candidate.preprocess
        return self._once(("val", p), lambda: evaluation_pictures(self.dataset.splits["val"], p))

    def training(self, side: int) -> Pictures:
        """The training split as squares."""
        return self._once(("train", side), lambda: training_pictures(self.dataset.splits["train"], side))

    def part(self, candidate: Candidate, picks: np.ndarray) -> Pictures:
        """Some samples of the training split, prepared as for evaluation."""
        p = candidate.preprocess
        key = ("part", p, int(picks[0]), len(picks))
        return self._once(key, lambda: evaluation_pictures(subset(self.dataset.splits["train"], picks), p))

    def _once(self, key: object, make: Callable[[], Pictures]) -> Pictures:
        if key not in self.made:
            self.made[key] = read(make(), self.bad_files, self.listener)
        return self.made[key]


class LinearProbeRunner:
    """Features of a candidate with published weights, grown over a fixed random order of the training split."""

    def __init__(self, candidate: Candidate, threads: int, shared: SharedPictures):
        address = shared.fetching.wait(str(candidate.weights))
        candidate = replace(candidate, weights=address)
        if address.startswith(HUB_PREFIX):  # the repository may want other pictures than the catalogue says
            p, said = candidate.preprocess, weights_info(candidate.config, address)
            known = {key: said[key] for key in ("kernel", "mean", "std") if key in said}
            candidate = replace(candidate, preprocess=replace(p, **known))
        self.candidate, self.shared = candidate, shared
        model = build(candidate.config)
        load_weights(model, address, except_head=True)
        self.session = feature_session(model, candidate.preprocess, threads)
        self.val = features(self.session, shared.val(candidate))
        self.order = epoch_order(len(shared.dataset.splits["train"]), 0, 0)
        self.done, self.seconds = 0, 0.0  # training pictures whose features are there, and the time that they took
        self.parts: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []

    def grow(self, share: float) -> None:
        """Features of this share of the training split, where they are not there yet."""
        end, begun = round(share * len(self.order)), time.monotonic()
        if end > self.done:
            part = self.shared.part(self.candidate, self.order[self.done : end])
            self.parts.append(features(self.session, part))
            self.labels.append(labels_of(part))
            self.done, self.seconds = end, self.seconds + time.monotonic() - begun

    def probe(self, seconds: float = math.inf) -> Probe:
        """A linear classifier on the features of the training split, of as much of it as there are seconds for."""
        few = min(1.0, max(FIRST, 4 * len(self.shared.dataset.classes)) / len(self.order))
        self.grow(few if math.isfinite(seconds) else 1.0)
        per_picture = self.seconds / max(1, self.done)
        room = seconds / per_picture if per_picture > 0 else math.inf
        self.grow(min(1.0, (self.done + room) / len(self.order)))
        return self.fit()

    def fit(self) -> Probe:
        """A linear classifier on the features that are there."""
        dataset = self.shared.dataset
        labels, counts = labels_of(self.shared.val(self.candidate)), np.bincount(dataset.splits["train"].labels)
        weighted = bool(counts.max() > IMBALANCE * counts[counts > 0].min())
        found = (np.concatenate(self.parts), np.concatenate(self.labels), self.val, labels, len(dataset.classes))
        metric = lambda logits, labels: score(self.shared.metric, logits, labels, dataset.classes)  # noqa: E731
        return linear_probe(*found, metric=metric, weighted=weighted)

    def cross_validated(self) -> Folds | None:
        """The classifier on FOLDS parts of training and validation pictures in turn, where they are too few for one
        split to say much; None where they are not.
        """
        dataset, val = self.shared.dataset, labels_of(self.shared.val(self.candidate))
        if len(self.order) + len(val) >= FEW:
            return None
        self.grow(1.0)
        x, y = np.concatenate([*self.parts, self.val]), np.concatenate([*self.labels, val])
        return cross_validate(x, y, len(dataset.classes), lambda z, t: score(self.shared.metric, z, t, dataset.classes))

    def run(self, number: int, until: float) -> tuple[float, float]:
        """One round: the share of that round, however long it takes; of few pictures all, cross-validated."""
        if (folds := self.cross_validated()) is not None:
            return folds.score, folds.loss
        self.grow(SHARES[number])
        probe = self.fit()
        return probe.score, probe.val_loss


class FromScratchRunner:
    """A candidate that trains from scratch at a steady rate, a while every round."""

    def __init__(self, candidate: Candidate, recipe: Recipe, shared: SharedPictures):
        size = candidate.preprocess.resolution
        steady = Schedule(kind="constant", warmup=0.5)
        # no probe of precision and layout here: it would take what the round has
        recipe = replace(recipe, epochs=4096, ema=recipe.ema or 0.99, schedule=steady, precision="fp32", layout="nhwc")
        self.preprocess, self.val, self.batch = candidate.preprocess, shared.val(candidate), recipe.batch
        self.state = make_state(candidate.config, recipe, shared.device)
        self.pictures, self.recipe = shared.training(store_side(size, shared.dataset)), recipe
        self.names, self.classes = shared.dataset.classes, len(shared.dataset.classes)
        self.steps = train(self.state, self.pictures, self.preprocess, recipe, self.classes)

    def run(self, number: int, until: float) -> tuple[float, float]:
        """One round: at least one step, and as many as the time allows."""
        next(self.steps)
        while time.monotonic() < until:
            next(self.steps)
        state, pictures = self.state, (self.pictures, self.val)
        settled = settle_statistics(
            state.best, state.quiet_norms, state.model, *pictures, self.preprocess, self.recipe, self.classes
        )
        logits, labels = settled.logits.numpy(), labels_of(self.val)
        return score(self.recipe.metric, logits, labels, self.names), cross_entropy(logits, labels)

    def initial_weights(self) -> tuple[int, dict[str, torch.Tensor]]:
        """How many pictures the race has shown, and the weights that came of it."""
        return self.state.step * self.batch, self.state.best.state_dict()


def make_rows(
    entries: Sequence[Entry], measured: Sequence[Measured], fitting: Sequence[Measured], chosen: Measured, n: int
) -> list[dict[str, object]]:
    """All candidates as rows of the report: the raced ones with their accuracy, the others with their cost alone."""
    raced = {id(e.measured): e for e in entries}
    found = []
    for m in measured:
        row: dict[str, object] = {**m.row(m in fitting), "chosen": m is chosen}
        if (entry := raced.get(id(m))) is not None:
            interval = list(wilson(round(entry.val_accuracy * n), n))
            row |= {"val_accuracy": entry.val_accuracy, "val_interval": interval}
            row |= {"rounds": entry.rounds, "seconds": entry.seconds}
        found.append(row)
    return found
