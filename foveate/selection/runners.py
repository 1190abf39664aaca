"""What runs the rounds of a race: a linear classifier on frozen features, or a training from scratch.

Both keep to the clock: features come in pieces, steps one by one, and what an evaluation takes is kept free.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from foveate.config import replace
from foveate.data.index import Dataset, subset
from foveate.data.load import Pictures, evaluation_pictures, training_pictures
from foveate.data.random import epoch_order
from foveate.data.sample import store_side
from foveate.deploy.features import feature_session, features
from foveate.deploy.runtime import Session
from foveate.events import Listener
from foveate.recipes.adapt import IMBALANCE
from foveate.runs.setup import make_state, read
from foveate.selection.candidates import Candidate, Measured
from foveate.selection.fetching import Fetching
from foveate.train import checkpoint
from foveate.train.evaluate import cross_entropy, labels_of
from foveate.train.head import FEW, Folds, Probe, cross_validate, linear_probe
from foveate.train.loop import train
from foveate.train.metric import score
from foveate.train.recipe import Recipe, Schedule
from foveate.train.settled import settle_statistics
from foveate.zoo import build
from foveate.zoo.hub import PREFIX as HUB_PREFIX
from foveate.zoo.weights import load_weights, weights_info

FIRST = 32  # pictures of a split, at least, and four of a class: however late it is
PIECE = 128  # pictures between two looks at the clock
VAL_TIME = 0.4  # of a round's time, at most, for the features of validation pictures
SHARES = (0.15, 0.4)  # of the training split, by round, for linear classifiers
EVALUATION = 0.5  # a forward pass and what is around it, in training steps, until one is timed
MOST_KEPT = 0.5  # of a round's time, at most, that is kept for its evaluation


class Runner(Protocol):
    """A candidate that can run a round."""

    def run(self, number: int, until: float) -> tuple[float, float]: ...  # -> validation (accuracy, loss)

    def keep(self, place: Path) -> None: ...  # what a later session needs to go on after this round


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

    def part(self, candidate: Candidate, split: str, picks: np.ndarray) -> Pictures:
        """Some samples of a split, prepared as for evaluation."""
        p = candidate.preprocess
        key = ("part", split, p, int(picks[0]), len(picks))
        return self._once(key, lambda: evaluation_pictures(subset(self.dataset.splits[split], picks), p))

    def _once(self, key: object, make: Callable[[], Pictures]) -> Pictures:
        if key not in self.made:
            self.made[key] = read(make(), self.bad_files, self.listener)
        return self.made[key]


class Features:
    """Features of one split for one candidate, grown over a fixed random order of it."""

    def __init__(
        self,
        split: str,
        candidate: Candidate,
        session: Session,
        shared: SharedPictures,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.split, self.candidate, self.session, self.shared, self.clock = split, candidate, session, shared, clock
        self.order = epoch_order(len(shared.dataset.splits[split]), 0, 0)
        self.least = max(FIRST, 4 * len(shared.dataset.classes))
        self.done, self.seconds = 0, 0.0  # pictures whose features are there, and the time that they took
        self.parts: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []

    @property
    def x(self) -> np.ndarray:
        """What is there, float32 (N, C)."""
        return np.concatenate(self.parts)

    @property
    def y(self) -> np.ndarray:
        """The labels of what is there, int64 (N,)."""
        return np.concatenate(self.labels)

    def grow(self, end: int, until: float) -> None:
        """Features of the first `end` pictures, where they are not there yet; no piece is begun that would not end
        before `until` by what the others took, but for the least that is needed.
        """
        end = max(min(self.least, len(self.order)), min(end, len(self.order)))
        while self.done < end:
            begun = self.clock()
            piece = min(end, self.least if self.done < self.least else (self.done // PIECE + 1) * PIECE)
            if self.done >= self.least and begun + self.seconds / self.done * (piece - self.done) > until:
                return
            part = self.shared.part(self.candidate, self.split, self.order[self.done : piece])
            self.parts.append(features(self.session, part))
            self.labels.append(labels_of(part))
            self.done, self.seconds = piece, self.seconds + self.clock() - begun


class LinearProbeRunner:
    """A linear classifier on frozen features of a candidate with published weights, on more of them every round."""

    def __init__(
        self, candidate: Candidate, threads: int, shared: SharedPictures, clock: Callable[[], float] = time.monotonic
    ):
        address = shared.fetching.wait(str(candidate.weights))
        candidate = replace(candidate, weights=address)
        if address.startswith(HUB_PREFIX):  # the repository may want other pictures than the catalogue says
            p, said = candidate.preprocess, weights_info(candidate.config, address)
            known = {key: said[key] for key in ("kernel", "mean", "std") if key in said}
            candidate = replace(candidate, preprocess=replace(p, **known))
        self.candidate, self.shared, self.clock = candidate, shared, clock
        model = build(candidate.config)
        load_weights(model, address, except_head=True)
        session = feature_session(model, candidate.preprocess, threads)
        self.train, self.val = (Features(split, candidate, session, shared, clock) for split in ("train", "val"))

    def grow(self, share: float, until: float) -> None:
        """Features of the validation split and of this share of the training split, as far as there is time."""
        now = self.clock()
        self.val.grow(len(self.val.order), now + VAL_TIME * (until - now))
        self.train.grow(round(share * len(self.train.order)), until)

    def probe(self, seconds: float = math.inf) -> Probe:
        """A linear classifier on the features of the training split, of as much of it as there are seconds for."""
        self.grow(1.0, self.clock() + seconds)
        return self.fit()

    def fit(self) -> Probe:
        """A linear classifier on the features that are there."""
        dataset, counts = self.shared.dataset, np.bincount(self.shared.dataset.splits["train"].labels)
        weighted = bool(counts.max() > IMBALANCE * counts[counts > 0].min())
        found = (self.train.x, self.train.y, self.val.x, self.val.y, len(dataset.classes))
        metric = lambda logits, labels: score(self.shared.metric, logits, labels, dataset.classes)  # noqa: E731
        return linear_probe(*found, metric=metric, weighted=weighted)

    def cross_validated(self, until: float) -> Folds | None:
        """The classifier on FOLDS parts of training and validation pictures in turn, where they are too few for one
        split to say much; None where they are not, or the time is over before all features are there.
        """
        dataset = self.shared.dataset
        if len(self.train.order) + len(self.val.order) >= FEW:
            return None
        self.grow(1.0, until)
        if self.train.done < len(self.train.order) or self.val.done < len(self.val.order):
            return None
        x, y = np.concatenate((self.train.x, self.val.x)), np.concatenate((self.train.y, self.val.y))
        return cross_validate(x, y, len(dataset.classes), lambda z, t: score(self.shared.metric, z, t, dataset.classes))

    def run(self, number: int, until: float) -> tuple[float, float]:
        """One round: the share of that round, less where its time is over; of few pictures all, cross-validated."""
        if (folds := self.cross_validated(until)) is not None:
            return folds.score, folds.loss
        self.grow(SHARES[number], until)
        probe = self.fit()
        return probe.score, probe.val_loss

    def keep(self, place: Path) -> None:
        """Nothing: features are computed again."""


class FromScratchRunner:
    """A candidate that trains from scratch at a steady rate, a while every round."""

    def __init__(
        self,
        candidate: Candidate,
        recipe: Recipe,
        shared: SharedPictures,
        place: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        size = candidate.preprocess.resolution
        steady = Schedule(kind="constant", warmup=0.5)
        # no probe of precision and layout here: it would take what the round has
        recipe = replace(recipe, epochs=4096, ema=recipe.ema or 0.99, schedule=steady, precision="fp32", layout="nhwc")
        self.preprocess, self.val, self.batch = candidate.preprocess, shared.val(candidate), recipe.batch
        self.clock, self.step_s, self.evaluate_s = clock, 0.0, 0.0
        self.state = make_state(candidate.config, recipe, shared.device)
        if place is not None and place.is_dir():
            checkpoint.restore(place, self.state, lambda text: None)
        self.pictures, self.recipe = shared.training(store_side(size, shared.dataset)), recipe
        self.names, self.classes = shared.dataset.classes, len(shared.dataset.classes)
        self.steps = train(self.state, self.pictures, self.preprocess, recipe, self.classes)

    def run(self, number: int, until: float) -> tuple[float, float]:
        """One round: at least one step, and as many as the time allows, with the evaluation that follows."""
        begun = before = self.clock()
        while True:
            next(self.steps)
            now = self.clock()
            self.step_s, before = max(0.7 * self.step_s, now - before), now
            kept = self.evaluate_s or EVALUATION * len(self.val) / self.batch * self.step_s
            if now + min(kept, MOST_KEPT * (until - begun)) >= until:
                break
        state, pictures = self.state, (self.pictures, self.val)
        settled = settle_statistics(
            state.best, state.quiet_norms, state.model, *pictures, self.preprocess, self.recipe, self.classes
        )
        logits, labels = settled.logits.numpy(), labels_of(self.val)
        self.evaluate_s = self.clock() - before
        return score(self.recipe.metric, logits, labels, self.names), cross_entropy(logits, labels)

    def keep(self, place: Path) -> None:
        """The network, its average and its optimiser, for a later session."""
        place.mkdir(parents=True, exist_ok=True)
        checkpoint.save(place, self.state, checkpoint.Progress())

    def initial_weights(self) -> tuple[int, dict[str, torch.Tensor]]:
        """How many pictures the race has shown, and the weights that came of it."""
        return self.state.step * self.batch, self.state.best.state_dict()


def make_runner(
    candidate: Candidate, recipe: Recipe, threads: int, shared: SharedPictures, place: Path | None = None
) -> Runner:
    """What runs a candidate's rounds. place: where an earlier session kept its network, or may have."""
    if candidate.weights is not None:
        return LinearProbeRunner(candidate, threads, shared)
    return FromScratchRunner(candidate, recipe, shared, place)
