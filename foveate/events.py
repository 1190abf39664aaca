"""What a run says while it works: one record a kind of event, and the listener that hears them.

A listener is a function of one event; fit, train, search, compress, ablate and analyse take one. It is called in the
thread that works, so it should be quick; what it raises ends the run. Without one Python prints lines on stderr.

    def listener(event: Event) -> None:
        if isinstance(event, EpochEvent):
            print(event.label, event.epoch, event.loss, event.val_accuracy)

    fv.train("photos", "resnet18", listener=listener)
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class StageEvent:
    """What the run begins to do now, or what it found: one line for people. left_s of whole_s seconds: of the time that
    everything may take, where there is a limit.
    """

    text: str
    left_s: float | None = None
    whole_s: float | None = None


@dataclass(frozen=True)
class ReadingEvent(StageEvent):
    """Pictures are read now: what a command that trains many times leaves out after the first."""


@dataclass(frozen=True)
class WarningEvent:
    """Something that the user should know of, and that stops nothing: one line."""

    text: str


@dataclass(frozen=True)
class DataEvent:
    """The data that was found: pictures a split, classes, files that were left out."""

    name: str
    train: int
    val: int
    test: int
    classes: int
    left_out: int


@dataclass(frozen=True)
class CandidateEvent:
    """A network that was measured: what one picture costs, and whether that is within the budget."""

    model: str
    resolution: int
    latency_ms: float
    size_bytes: int
    macs: int  # multiply-adds
    fits: bool


@dataclass(frozen=True)
class HalvingEvent:
    """A network after a round (from 1) of successive halving, and whether it goes on."""

    model: str
    resolution: int
    val_accuracy: float  # 0 to 1
    round: int
    kept: bool


@dataclass(frozen=True)
class StepEvent:
    """A training step. step and epoch count from 1; loss and accuracy (0 to 1) are those of the epoch so far."""

    label: str
    step: int
    steps: int
    epoch: int
    epochs: int
    images_per_s: float
    loss: float | None = None
    accuracy: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class EpochEvent:
    """The end of an epoch: a row of metrics.jsonl. The validation numbers are None where it was not evaluated."""

    label: str
    epoch: int
    epochs: int
    step: int
    images_per_s: float
    lr: float
    loss: float
    train_accuracy: float  # 0 to 1, on the augmented pictures
    val_accuracy: float | None
    val_loss: float | None
    val_score: float | None = None  # 0 to 1, of the metric that chooses, where that is not the accuracy


@dataclass(frozen=True)
class TrialEvent:
    """A trial of an ablation begins: its row and the place of its seed."""

    row: int
    place: int


Event = StageEvent | WarningEvent | DataEvent | CandidateEvent | HalvingEvent | StepEvent | EpochEvent | TrialEvent
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that hears nothing."""
