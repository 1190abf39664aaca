"""What a run says, as lines of text: for logs, scripts and notebooks. The command line has a bar besides."""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from foveate.errors import printable
from foveate.events import (
    CandidateEvent,
    DataEvent,
    EpochEvent,
    Event,
    HalvingEvent,
    Listener,
    StageEvent,
    StepEvent,
    WarningEvent,
    silent,
)
from foveate.report.units import count, duration, milliseconds, percent, plural, size

PERIOD_S = 10.0  # between plain progress lines


def data_line(f: Mapping[str, Any]) -> str:
    """ "3,068 train · 341 val · 372 test · 10 classes · 2 files left out"."""
    parts = [f"{f[name]:,} {name}" for name in ("train", "val", "test") if f.get(name)]
    parts.append(f"{f['classes']:,} classes")
    if f.get("left_out"):
        parts.append(f"{plural(f['left_out'], 'file')} left out")
    return " · ".join(parts)


def numbers(event: StepEvent | EpochEvent) -> str:
    """The changing part of an event; what a loop does not report (None) is left out."""
    forms: tuple[tuple[str, Callable[[Any], str]], ...] = (
        ("images_per_s", lambda v: f"{v:,.0f} images/s"),
        ("loss", lambda v: f"loss {v:.3f}"),
        ("accuracy", lambda v: f"accuracy {percent(v)} %"),
        ("train_accuracy", lambda v: f"train {percent(v)} %"),
        ("val_accuracy", lambda v: f"val {percent(v)} %"),
        ("seconds_left", lambda v: f"{duration(v)} left"),
    )
    values = ((form, getattr(event, key, None)) for key, form in forms)
    return "  ".join(form(value) for form, value in values if value is not None)


def place(event: StepEvent | EpochEvent) -> str:
    """What is trained and how far it is."""
    return "  ".join(printable(part) for part in (event.label, f"epoch {event.epoch}/{event.epochs}") if part)


def line(event: Event) -> str:
    """An event as one line of printable text; "" for a kind that is not shown."""
    return printable(_line(event))


def _line(event: Event) -> str:
    match event:
        case DataEvent():
            return f"{event.name}  {data_line(vars(event))}"
        case StageEvent():
            return event.text + time_left(event)
        case WarningEvent():
            return f"warning: {event.text}"
        case StepEvent() | EpochEvent():
            return "  ".join((place(event), numbers(event)))
        case CandidateEvent():
            cost = f"{milliseconds(event.latency_ms)}  {size(event.size_bytes)}  {count(event.macs)} MACs"
            return f"  {_network(event):<32}  {cost}  {'fits' if event.fits else 'over the budget'}"
        case HalvingEvent():
            kept = "goes on" if event.kept else "out"
            return f"  {_network(event):<32}  val {percent(event.val_accuracy)} %  {kept}"
    return ""


def time_left(event: StageEvent) -> str:
    """ "  (4m 10s of 10m 00s left)", where there is a limit."""
    if event.left_s is None or event.whole_s is None:
        return ""
    return f"  ({duration(event.left_s)} of {duration(event.whole_s)} left)"


def _network(event: CandidateEvent | HalvingEvent) -> str:
    return f"{event.model} ({event.resolution} px)"


class Plain:
    """Lines for a log: phases and candidates at once, training about every ten seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.last = clock()

    def __call__(self, event: Event) -> None:
        now = self.clock()
        if isinstance(event, StepEvent | EpochEvent):
            over = isinstance(event, EpochEvent) and event.epoch == event.epochs
            if not over and now - self.last < PERIOD_S:
                return
            self.last = now
        if text := line(event):
            with contextlib.suppress(OSError):  # a log that can not be written must not stop a training run
                print(text, file=self.stream, flush=True)


class OneLine:
    """For a terminal or a notebook: one line that is written over while training; all else scrolls by above it."""

    def __init__(self, stream: TextIO, columns: int = 100) -> None:
        self.stream, self.columns = stream, columns
        self.shown = 0  # characters of the line that is written over

    def __call__(self, event: Event) -> None:
        text = line(event)
        if not text:
            return
        passing = isinstance(event, StepEvent)
        text = text[: self.columns] if passing else text
        with contextlib.suppress(OSError):
            blank = " " * max(0, self.shown - len(text))
            print(f"\r{text}{blank}", end="" if passing else "\n", file=self.stream, flush=True)
            self.shown = len(text) if passing else 0


def hear(listener: Listener | None, progress: bool = True) -> Listener:
    """Who hears a run in Python: the listener that is given; without one, stderr, or nobody where progress is False.

    On a terminal and in a notebook one line is written over; elsewhere, in a log, a line comes about every ten seconds.
    """
    if listener is not None:
        return listener
    if not progress or sys.stderr is None:
        return silent
    return OneLine(sys.stderr) if sys.stderr.isatty() or in_notebook() else Plain(sys.stderr)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this: its stderr is no terminal, and shows carriage returns as one."""
    return "ipykernel" in sys.modules and "get_ipython" in vars(sys.modules["builtins"])
