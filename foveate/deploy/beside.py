"""Latency beside a yardstick: what else a machine does changes milliseconds, but hits two that take turns alike."""

from torch import nn

from foveate.config import replace
from foveate.cost.latency import Timing
from foveate.data.preprocess import Preprocess
from foveate.deploy.compare import clock
from foveate.deploy.export import export_for_timing
from foveate.deploy.measure import session_in, time_session
from foveate.deploy.runtime import Session
from foveate.deploy.subject import Engine, Subject

REPEATS, MAX_S = 50, 20.0  # of timing


def in_turns(first: Session, second: Session, subject: Subject, repeats: int = REPEATS) -> tuple[Timing, Timing]:
    """Timings of two opened models that take turns. subject: says what they are fed with."""
    engines = {(name, ""): Engine(session.run, 0, "") for name, session in (("first", first), ("second", second))}
    found = clock(engines, subject, repeats, MAX_S)
    return found["first", ""], found["second", ""]


def own_ms(timing: Timing, threads: int) -> float:
    """On one thread the processor's time, which other processes hardly change; else the time on the clock."""
    return timing.cpu_ms if threads == 1 else timing.median_ms


def scaled(timing: Timing, median_ms: float) -> Timing:
    """The timing with another median, its spread in proportion."""
    factor = median_ms / max(timing.median_ms, 1e-9)
    return replace(
        timing,
        median_ms=median_ms,
        p10_ms=factor * timing.p10_ms,
        p90_ms=factor * timing.p90_ms,
        p99_ms=factor * timing.p99_ms,
    )


def beside(known_ms: float, first: Timing, second: Timing, threads: int) -> Timing:
    """What the second takes where the first, timed in turns with it, is known to take known_ms."""
    return scaled(second, known_ms * own_ms(second, threads) / max(own_ms(first, threads), 1e-9))


class Yardstick:
    """A network whose latency is known: another one's is its share of it, in turns, times that.

    ms: known median of the network; None: measured now. Networks are timed as the float32 files that would be exported.
    """

    def __init__(
        self, model: nn.Module, preprocess: Preprocess, threads: int, runtime: str, ms: float | None = None
    ) -> None:
        self.subject, self.runtime = Subject(model, preprocess, (), threads), runtime
        self.session = self._opened(model)
        self.ms = time_session(self.session, preprocess, runtime).median_ms if ms is None else ms

    def time(self, model: nn.Module | bytes, repeats: int = REPEATS) -> Timing:
        """Latency of another network with the same preprocessing, or of its ONNX file."""
        first, second = in_turns(self.session, self._opened(model), self.subject, repeats)
        return beside(self.ms, first, second, self.subject.threads)

    def _opened(self, model: nn.Module | bytes) -> Session:
        onnx = model if isinstance(model, bytes) else export_for_timing(model, self.subject.preprocess)
        return session_in(self.runtime, onnx, self.subject.threads)
