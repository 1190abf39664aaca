"""A training that keeps its time: its steps are timed as it goes, and it becomes shorter, or longer, as they need."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

MARGIN = 1.1  # the next step or evaluation may take so many times the longest of the recent ones
AFTER = 0.25  # of the whole, at most, is kept for evaluations that follow training
RECENT = 0.3  # weight of the newest step in the running mean of seconds a step
EARLY, EARLY_STEPS = 0.05, 8  # of the steps in all, and so many at least (of few: half): then the length is settled
PART = 0.25  # of an epoch: a last epoch that is cut has at least so much, and less than that is no reason to go on


@dataclass
class Pace:
    """left: seconds that training may still take, negative when they are over. clock: counts seconds.

    ratio: how many steps an evaluation is expected to take, until one is measured. after: evaluations that follow the
    last step's own, for which time is kept, at most AFTER of the whole. most: steps in all, to which a training that
    has time left may be lengthened; 0: it never is.
    """

    left: Callable[[], float]
    clock: Callable[[], float] = time.monotonic
    ratio: float = 0.0
    after: int = 0
    most: int = 0
    step_s: float = 0.0  # running mean; 0 before the first step
    evaluate_s: float = 0.0  # the last evaluation, with what is written after it
    since: float = field(init=False)
    whole: float = field(init=False)

    def __post_init__(self) -> None:
        self.since, self.whole = self.clock(), max(0.0, self.left())

    @property
    def one_s(self) -> float:
        """Seconds of an evaluation: the last one, else what is expected of it."""
        return self.evaluate_s or self.ratio * self.step_s

    @property
    def kept_s(self) -> float:
        """For the evaluations that follow training."""
        return min(self.after * self.one_s, AFTER * self.whole)

    @property
    def points(self) -> int:
        """How many of the evaluations that follow there is time for."""
        return min(self.after, int(AFTER * self.whole / self.one_s)) if self.one_s else self.after

    def stepped(self) -> None:
        """A step is over: it took the time since the last thing that was noted."""
        spent = self._spent()
        self.step_s = spent if not self.step_s else self.step_s + RECENT * (spent - self.step_s)

    def evaluated(self) -> None:
        """An evaluation is over."""
        self.evaluate_s = max(0.5 * self.evaluate_s, self._spent())

    def over(self) -> bool:
        """Whether one more step and an evaluation would take more than there is."""
        return self.left() - self.kept_s < MARGIN * (self.step_s + self.one_s)

    def fitting(self, done: int, epoch: int) -> int:
        """How many more steps there is time for after `done` ones, with the evaluations at the ends of their epochs.

        epoch: its length in steps. A last epoch of less than PART of it is left out.
        """
        if not self.step_s:
            return sys.maxsize
        each = self.one_s / self.step_s  # an evaluation, in steps
        left = (self.left() - self.kept_s) / self.step_s - (MARGIN - 1) * (1 + each)  # so that over() is never true
        place = done % epoch
        if not place:
            left -= each  # of the epoch that has just ended
        first = epoch - place + each
        if left < first:
            part = int(left - each)
            return max(0, part if part >= PART * epoch or place else 0)
        whole, over = divmod(left - first, epoch + each)
        part = int(over - each)
        return int(epoch - place + whole * epoch + (part if part >= PART * epoch else 0))

    def length(self, done: int, last: int, epoch: int, fitting: int) -> int:
        """How many steps there are in all, of which so many are `done`, where so many more fit and `last` were planned.

        The rate has to fall anew for every change, so a training is not lengthened by less than PART of an epoch.
        """
        wanted = min(done + fitting, max(last, self.most))
        return wanted if wanted < last or wanted - last >= PART * epoch else last

    def _spent(self) -> float:
        before, self.since = self.since, self.clock()
        return self.since - before
