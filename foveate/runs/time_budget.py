"""The wall time of a fit: the whole, what is left of it, and what each stage may take."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from foveate.errors import ConfigError
from foveate.events import Event, Listener, StageEvent

COMPRESS_SHARE = 0.4  # of the whole, for a smaller network; all other shares are of the rest
LOOK_SHARE = 0.25  # after which no further candidate is measured
SEARCH_SHARE = 0.3  # for nets that no zoo has
CLASSIC_SHARE, CLASSIC_S = 0.03, 2.0  # for a classical pipeline beside the networks; less than so many seconds: none
RACE_SHARE = 0.25  # of what is then left, at most
END_S, END_SHARE = 30.0, 0.2  # testing, export, parity, latency, report: seconds, but no more of the time than this
END_EXPORTS, END_MOST = 3.0, 0.4  # the end in exports with their timing, and the most of the time that it may keep
LATE_SHARE, LATE_S = 0.1, 15.0  # of the whole, and seconds: how much later than asked everything may end
STEPS_SHARE = 0.9  # of a training's time for its steps; evaluation and checkpoints take the rest


@dataclass(frozen=True)
class TimeBudget:
    """Seconds of wall time from `begun` on, by a clock that counts seconds.

    whole_s: for everything. compress: whether a part of it is kept for compression after the run. Make one with
    TimeBudget.start at the moment that the time begins.
    """

    whole_s: float
    begun: float
    compress: bool = False
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if not self.whole_s >= 0:
            raise ConfigError(f"a time of {self.whole_s} s; expected 0 or more")

    @classmethod
    def start(
        cls,
        whole_s: float,
        *,
        compress: bool = False,
        clock: Callable[[], float] = time.monotonic,
        spent_s: float = 0.0,
    ) -> "TimeBudget":
        """A budget that begins now, or of which so many seconds are spent."""
        return cls(whole_s, clock() - spent_s, compress, clock)

    @property
    def spent_s(self) -> float:
        """Seconds since it began."""
        return self.clock() - self.begun

    @property
    def compress_left_s(self) -> float:
        """For a compression that begins now: its share, less by what the run took too long."""
        return max(0.0, min(self.compress_s, self.whole_s - self.spent_s))

    @property
    def late(self) -> bool:
        """Whether even the time that everything may be late is over."""
        return self.spent_s >= (1 + LATE_SHARE) * self.whole_s + LATE_S

    def told(self, listener: Listener) -> Listener:
        """A listener whose stages carry how much of the whole time is left."""

        def tell(event: Event) -> None:
            if isinstance(event, StageEvent):
                event = replace(event, left_s=max(0.0, self.whole_s - self.spent_s), whole_s=self.whole_s)
            listener(event)

        return tell

    @property
    def run_s(self) -> float:
        """For the run: finding a network, training and finishing it."""
        return (1 - COMPRESS_SHARE) * self.whole_s if self.compress else self.whole_s

    @property
    def compress_s(self) -> float:
        """For compression, after the run; 0 without one."""
        return self.whole_s - self.run_s

    @property
    def left_s(self) -> float:
        """What is left of the run's time now, 0 when it is over."""
        return max(0.0, self.begun + self.run_s - self.clock())

    @property
    def look_until(self) -> float:
        """The moment on the clock after which no further candidate is measured."""
        return self.begun + LOOK_SHARE * self.run_s

    @property
    def search_s(self) -> float:
        """For a search, where there is one."""
        return SEARCH_SHARE * self.run_s

    @property
    def classic_s(self) -> float:
        """For a classical pipeline that is learnt now; 0 where that is too short for one."""
        share = min(CLASSIC_SHARE * self.run_s, self.left_s - self.end_s)
        return share if share >= CLASSIC_S else 0.0

    @property
    def race_s(self) -> float:
        """For the race that begins now."""
        return RACE_SHARE * self.left_s

    @property
    def end_s(self) -> float:
        """Kept for all that comes after the last step of training."""
        return min(END_S, END_SHARE * self.run_s)

    def kept_s(self, one_s: float, test_s: float = 0.0) -> float:
        """end_s, or more where the machine is slow: one_s is how long it took to export and time one network, test_s
        what all passes over the test pictures should take.
        """
        return max(self.end_s, min(END_MOST * self.run_s, END_EXPORTS * one_s + test_s))

    @property
    def training_s(self) -> float:
        """For the training that begins now; 0 when only the end's time is left."""
        return max(0.0, self.left_s - self.end_s)
