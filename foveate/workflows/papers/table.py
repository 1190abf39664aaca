"""A table of a paper as a value: what it claims, what it published, and the experiment that asks for the same here.

An experiment is a comparison of trainings (Trainings), which goes through `ablate`, or a function that counts or times
(Measurement). Both end in one value a contrast and repeat, of which verdict.py says what it means for the claim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from foveate.events import Listener
from foveate.zoo.family import Config

Marked = Literal["read", "memory", "expected"]
Claim = Literal["more", "less", "same"]
POINTS = "points"  # of accuracy, 100 for all pictures


@dataclass(frozen=True)
class Published:
    """A figure of a paper, in the unit and with the sign of the contrast that it stands beside.

    value: None where the paper's figure was not found. marked: "read" in the source named; "memory": half remembered,
    not looked up; "expected": no figure of a paper, but what is expected at this size.
    """

    value: float | None
    setting: str  # "CIFAR-10, ResNet-110, 64,000 steps"
    source: str  # "arXiv:1512.03385, table 6"
    marked: Marked = "memory"
    unit: str = POINTS


@dataclass(frozen=True)
class Contrast:
    """A claim about a number: the sum of some arms' values minus that of others.

    plus, minus: labels of arms; two and two make a difference of differences. In a measurement both are empty. claim:
    the number is above 0, below 0, or within +-margin of it ("no loss"). effect: the size to ask for, in place of the
    published value; None: that, or what the power of the run can see where there is none.
    """

    label: str
    published: Published
    plus: tuple[str, ...] = ()
    minus: tuple[str, ...] = ()
    claim: Claim = "more"
    effect: float | None = None
    margin: float = 0.3  # of claim "same"
    main: bool = True  # whether the table's verdict depends on it
    times: float = 1.0  # what the sum is multiplied by: 0.25 of four arms against one taken four times

    @property
    def size(self) -> float | None:
        """How large the claimed effect is, without its sign."""
        value = self.published.value if self.effect is None else self.effect
        return None if value is None else abs(value)


def versus(
    plus: str,
    minus: str,
    published: Published,
    claim: Claim = "more",
    *,
    effect: float | None = None,
    margin: float = 0.3,
    main: bool = True,
) -> Contrast:
    """One arm against another."""
    return Contrast(f"{plus} - {minus}", published, (plus,), (minus,), claim, effect, margin, main)


@dataclass(frozen=True)
class Arm:
    """One kind of training. changes: KEY=VALUE over the host's; "@0.2" in one is 0.2 times the epochs of the run.

    network: in place of the host's; a name of the zoo or a config. "{teacher}" in a change is the folder of the
    teacher.
    """

    label: str
    changes: tuple[str, ...] = ()
    network: Config | str | None = None


@dataclass(frozen=True)
class Trainings:
    """A controlled comparison of trainings. The first arm is what `ablate` calls the base.

    pictures, epochs: the size at which the table is meant to be settled (pictures 0: all of them); a smaller budget
    takes less of both. sd: deviation over seeds of a paired difference to plan with at that size, in the measure's
    unit. resolution: of the network on scans of 8 x 8 px.
    """

    network: Config | str
    arms: tuple[Arm, ...]
    pictures: int = 10_000
    epochs: int = 20
    sd: float = 0.5
    seeds: int = 5
    recipe: str = "cifar_standard"
    changes: tuple[str, ...] = ()
    measure: str = "accuracy"  # an entry of MEASURES
    own_batch: bool = False  # the table sets batches and rates itself: few pictures do not change them
    resolution: int = 16
    teacher: Arm | None = None


@dataclass(frozen=True)
class Context:
    """What a measurement may use."""

    data: str
    folder: Path
    budget_s: float
    seeds: int
    device: str
    listener: Listener
    full: bool = False


@dataclass(frozen=True)
class Found:
    """What came out for a contrast: a value a repeat (seed, network, draw), or the interval of one estimate.

    low, high: given where the values are not repeats; an exact number (a count) has low = high = its value.
    """

    label: str
    values: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def given(self) -> bool:
        """Whether the interval is told, not to be worked out from the values."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class Measurement:
    """A table that is no comparison of trainings: counts, times, memory, correlations.

    measure: what to do; returns a Found for each contrast of the table. pictures: whether it looks at any.
    """

    measure: Callable[[Context], Sequence[Found]]
    seeds: int = 5
    pictures: bool = False
    minutes: float = 2.0  # what it takes at the default


@dataclass(frozen=True)
class Table:
    """All that a table of a paper is. The registry is TABLES (tables/__init__.py)."""

    name: str
    seed_page: str  # numbers of the pages of the mission that the paper comes from: "001, 004"
    paper: str
    arxiv: str
    claim: str
    scale: str  # at which the paper did it
    contrasts: tuple[Contrast, ...]
    study: Trainings | Measurement
    minutes: float  # at which it should be settled here, on one core with bf16
    critique: str = ""  # what others found, and what a reader should know

    def contrast(self, label: str) -> Contrast:
        """The contrast of a label."""
        return next(c for c in self.contrasts if c.label == label)

    def listed(self) -> dict[str, Any]:
        """An entry of `reproduce --list --json`."""
        return {
            "name": self.name,
            "seed_page": self.seed_page,
            "paper": f"{self.paper}, arXiv:{self.arxiv}" if self.arxiv else self.paper,
            "claim": self.claim,
            "published": [published(c) for c in self.contrasts],
            "budget": {"first_look": "2m", "settles": f"{self.minutes:g}m", "seeds": self.study.seeds},
        }


def published(contrast: Contrast) -> dict[str, Any]:
    """The published figure of a contrast as plain data."""
    p = contrast.published
    return {
        "row": contrast.label,
        "value": p.value,
        "unit": p.unit,
        "setting": p.setting,
        "source": p.source,
        "marked": p.marked,
    }
