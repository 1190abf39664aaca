"""Progress on stderr from the events of a run. rich is imported only on a terminal."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from foveate.cli.options.output import Visible
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
)
from foveate.report.units import count, duration, milliseconds, percent, plural, size

PERIOD_S = 10.0  # between plain progress lines
NARROW = 70  # columns: below, the bar goes and the numbers stay


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


def _place(event: StepEvent | EpochEvent) -> str:
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
            return "  ".join((_place(event), numbers(event)))
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


class Bar:
    """One bar at the bottom of a terminal; phases, candidates and epochs scroll by above it."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn
        from rich.table import Column

        self.console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        text = Column(no_wrap=True, overflow="ellipsis")
        columns: list[ProgressColumn] = [TextColumn("{task.fields[numbers]}", markup=False, table_column=text)]
        if self.console.width >= NARROW:
            name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
            columns = [name, BarColumn(bar_width=20), TaskProgressColumn(), *columns]
        self.progress = Progress(
            *columns, console=self.console, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self.task = self.progress.add_task("", total=None, numbers="")

    def __call__(self, event: Event) -> None:
        with contextlib.suppress(OSError):  # the terminal went away: the run goes on
            if isinstance(event, StepEvent):
                name, done = _place(event), event.step
                self.progress.update(
                    self.task, description=name, completed=done, total=event.steps, numbers=numbers(event)
                )
            elif text := line(event):
                self.console.print(text)
                if isinstance(event, StageEvent):
                    self.progress.update(self.task, description="", completed=0, total=None, numbers=text)


def _only_warnings(event: Event) -> None:
    if isinstance(event, WarningEvent):
        with contextlib.suppress(OSError):
            print(line(event), file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Listener]:
    """A listener that shows a run on stderr: a bar on a terminal, lines elsewhere, only warnings when quiet."""
    if quiet:
        yield _only_warnings
    elif sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        # the bar moves the cursor, and so writes past the filter; what it shows is printable
        bar = Bar(sys.stderr.stream if isinstance(sys.stderr, Visible) else sys.stderr)
        with bar.progress:
            yield bar
    else:
        yield Plain(sys.stderr)
