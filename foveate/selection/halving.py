"""The race: candidates compete on the validation split in rounds, and half of them stay (successive halving,
arXiv:1502.07943).

With published weights a round fits a linear classifier on frozen features of part of the training split, more of it
every round. From scratch a round trains every candidate for the same wall time; survivors go on from where they were.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foveate.data.index import Dataset
from foveate.errors import WeightsError
from foveate.events import HalvingEvent, Listener, StageEvent, WarningEvent
from foveate.report.units import plural
from foveate.selection.candidates import Measured
from foveate.selection.journal import Journal
from foveate.selection.published import promise
from foveate.selection.runners import SHARES, Runner, SharedPictures, make_runner
from foveate.train.head import FEW
from foveate.train.intervals import wilson
from foveate.train.recipe import Recipe
from foveate.zoo import list_models

STEP_COST, LEAST_EPOCHS = 10.0, 2.0  # see choose_entrants
TUNE_COST, TUNE_EPOCHS, TUNE_LONG, TUNE_MOST = 3.3, 2.5, 8.0, 3


@dataclass
class Entry:
    """A candidate in the race and how it stands after its last round."""

    measured: Measured
    runner: Runner | None = None  # its network and data; None before its first round and once it is out of the race
    val_accuracy: float = 0.0  # 0 to 1, on the whole validation split: the metric that is asked for, else accuracy
    val_loss: float = math.inf  # mean cross-entropy there, in nats
    rounds: list[dict[str, float]] = field(default_factory=list)  # {round (from 1), val_accuracy} of each round
    seconds: float = 0.0  # wall time of all its rounds

    def note(self, number: int, accuracy: float, loss: float, seconds: float) -> None:
        """A round (from 0) is over."""
        self.val_accuracy, self.val_loss = accuracy, loss
        self.seconds += seconds
        self.rounds.append({"round": number + 1, "val_accuracy": accuracy})


def choose_entrants(fitting: Sequence[Measured], pictures: int, seconds: float, race_share: float) -> list[Measured]:
    """Who takes part, given the time for everything and the share of it that the race may take.

    From scratch: those that can see the training split LEAST_EPOCHS times in the first round. With published weights:
    every network at its largest resolution that leaves time for TUNE_LONG epochs after the race, else at its smallest
    (epochs are worth more than pixels); of these, among those that can be fine-tuned for TUNE_EPOCHS epochs, the
    TUNE_MOST (of several families: twice as many) that promise most: by published accuracy, then by multiply-adds, for
    larger published networks are better ones; fewer where the race has no time for the features of all. In both cases
    at least the quickest. Networks that no zoo has, which a search has found on these very pictures, enter beside them.
    A training step takes about STEP_COST (fine-tuning: TUNE_COST) times as long a picture as the
    measured inference on the same device.
    """
    quickest_first = sorted(fitting, key=lambda m: m.latency.median_ms)
    if fitting[0].candidate.weights is not None:
        at: dict[str, Measured] = {}
        for m in sorted(fitting, key=lambda m: m.macs):
            if m.candidate.model not in at or epochs_left(m, pictures, seconds * (1 - race_share)) >= TUNE_LONG:
                at[m.candidate.model] = m
        able = [m for m in at.values() if epochs_left(m, pictures, seconds * (1 - race_share)) >= TUNE_EPOCHS]
        ours = [m for m in able if is_found(m)]
        able = [m for m in able if m not in ours]
        families = {m.candidate.config.family for m in able}
        best = sorted(able, key=promise_of)[-(TUNE_MOST if len(families) == 1 else 2 * TUNE_MOST) :]
        while len(best) > TUNE_MOST and probe_seconds([*ours, *best], pictures) > seconds * race_share:
            best = best[1:]
        return [*ours, *best] or quickest_first[:1]
    seconds *= race_share
    for n in range(len(quickest_first), 1, -1):
        epoch_s = sum(m.latency.median_ms for m in quickest_first[:n]) / 1000 * STEP_COST * pictures
        if LEAST_EPOCHS * epoch_s <= seconds / rounds_for(n):
            return quickest_first[:n]
    return quickest_first[:1]


def is_found(m: Measured) -> bool:
    """Whether a search has made this network and its weights: they lie in a folder, and the zoo has no such name."""
    return Path(str(m.candidate.weights)).is_dir() and m.candidate.model not in list_models()


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
    shared: SharedPictures,
    listener: Listener,
    journal: Journal | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Entry]:
    """Run the rounds within about `seconds` and return all entries, the winner first.

    Published weights come in meanwhile; a network whose weights do not come or do not fit is left out, with a warning.
    Whose turn comes when the time is over is left out, too, once another one has had its turn. journal: rounds that
    stand there are not run again. WeightsError where no network's weights come.
    """
    journal = journal or Journal()
    entries = [Entry(m) for m in entering]
    shared.fetch(entering)
    published = entering[0].candidate.weights is not None
    rounds = len(SHARES) if published else rounds_for(len(entries))
    running, began = list(entries), clock()
    for number in range(rounds):
        known_rounds = any(journal.round_of(e.measured, number + 1) for e in running)
        if number and (len(running) == 1 or (clock() >= began + seconds and not known_rounds)):
            break
        listener(StageEvent(f"race, round {number + 1} of {rounds}: {len(running)} candidates"))
        turns, ran = list(running), 0
        for i, entry in enumerate(turns):
            begun = clock()
            if (known := journal.round_of(entry.measured, number + 1)) is not None:
                entry.note(number, known.val_accuracy, known.val_loss, known.seconds)
                ran += 1
                continue
            if ran and begun >= began + seconds:
                late = [e for e in turns[i:] if journal.round_of(e.measured, number + 1) is None]
                running = [e for e in running if e not in late]
                entries = [e for e in entries if e not in late or e.rounds]
                listener(StageEvent(f"{plural(len(late), 'candidate')} left out of this round: its time is over"))
                break
            place = journal.network(entry.measured)
            if entry.runner is None:
                try:
                    entry.runner = make_runner(entry.measured.candidate, recipe, threads, shared, place)
                except WeightsError as error:
                    running.remove(entry)
                    if not running:
                        raise
                    entries.remove(entry)
                    listener(WarningEvent(f"{entry.measured.candidate.model} does not race: {error}"))
                    continue
            until = began + seconds * (number + 1) / rounds
            accuracy, loss = entry.runner.run(number, begun + max(0.0, until - begun) / (len(turns) - i))
            entry.note(number, accuracy, loss, clock() - begun)
            ran += 1
            if place is not None:
                entry.runner.keep(place)
            journal.add_round(entry.measured, number + 1, accuracy, loss, clock() - begun)
        running = rank(running, counted_on(shared.dataset, published))
        keep = (len(running) + 1) // 2 if number < rounds - 1 else 1
        for i, entry in enumerate(running):
            c = entry.measured.candidate
            listener(HalvingEvent(c.model, c.preprocess.resolution, entry.val_accuracy, number + 1, kept=i < keep))
            if i >= keep:
                entry.runner = None  # frees its network
        running = running[:keep]
    others = [e for e in entries if e is not running[0]]
    return running[:1] + sorted(others, key=lambda e: (-len(e.rounds), -e.val_accuracy))


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
