"""Progress on stderr from the events of train and fit, and how numbers look. rich is imported only on a terminal."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

Fields = Mapping[str, Any]
Listener = Callable[[str, Mapping[str, object]], None]
PERIOD_S = 10.0  # between plain progress lines
NARROW = 70  # columns: below, the bar goes and the numbers stay


def percent(fraction: float) -> str:
    """0.931 -> "93.1"."""
    return f"{100 * fraction:.1f}"


def share(fraction: float, interval: Any, n: int) -> str:
    """An accuracy with its origin: "93.1 % (90.1-95.3, n = 372)"."""
    low, high = interval
    return f"{percent(fraction)} % ({percent(low)}-{percent(high)}, n = {n:,})"


def milliseconds(value: float) -> str:
    """4.31 -> "4.3 ms", 0.183 -> "0.18 ms"."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 1 else 2}f} ms"


def size(value: float) -> str:
    """13_600_000 -> "13.6 MB" (decimal, as disks are sold)."""
    return _scaled(value, ((1e9, " GB"), (1e6, " MB"), (1e3, " kB")), " B")


def count(value: float) -> str:
    """385_000_000 -> "385 M"."""
    return _scaled(value, ((1e9, " G"), (1e6, " M"), (1e3, " k")), "")


def _scaled(value: float, steps: tuple[tuple[float, str], ...], smallest: str) -> str:
    for factor, unit in steps:
        if value >= 0.9995 * factor:
            number = value / factor
            return f"{number:.{2 if number < 10 and unit == ' G' else 1 if number < 99.95 else 0}f}{unit}"
    return f"{value:.0f}{smallest}"


def duration(seconds: float) -> str:
    """372 -> "6m 12s", 5.2 -> "5s", 5000 -> "1h 23m"."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def data_line(f: Fields) -> str:
    """ "3,068 train · 341 val · 372 test · 10 classes · 2 files left out"."""
    parts = [f"{f[name]:,} {name}" for name in ("train", "val", "test") if f.get(name)]
    parts.append(f"{f['classes']:,} classes")
    if f.get("left_out"):
        parts.append(f"{f['left_out']:,} file{'s' if f['left_out'] != 1 else ''} left out")
    return " · ".join(parts)


def numbers(f: Fields) -> str:
    """The changing part of a step or epoch event; what a loop does not report (None) is left out."""
    forms: tuple[tuple[str, Callable[[Any], str]], ...] = (
        ("images_per_s", lambda v: f"{v:,.0f} images/s"),
        ("loss", lambda v: f"loss {v:.3f}"),
        ("accuracy", lambda v: f"accuracy {percent(v)} %"),
        ("train_accuracy", lambda v: f"train {percent(v)} %"),
        ("val_accuracy", lambda v: f"val {percent(v)} %"),
        ("seconds_left", lambda v: f"{duration(v)} left"),
    )
    return "  ".join(form(f[key]) for key, form in forms if f.get(key) is not None)


def _position(f: Fields) -> str:
    epoch, epochs = f.get("epoch"), f.get("epochs")
    return "" if epoch is None else f"epoch {epoch}" if epochs is None else f"epoch {epoch}/{epochs}"


def _model(f: Fields) -> str:
    return f"{f['model']} ({f['resolution']} px)" if f.get("resolution") else str(f["model"])


def line(kind: str, f: Fields) -> str:
    """An event as one line of text; "" for a kind that is not shown."""
    if kind == "data":
        return f"{f['name']}  {data_line(f)}"
    if kind in ("stage", "warning"):
        return f"warning: {f['text']}" if kind == "warning" else str(f["text"])
    if kind in ("step", "epoch"):
        return "  ".join(part for part in (str(f.get("label") or ""), _position(f), numbers(f)) if part)
    if kind == "candidate":
        cost = "  ".join((milliseconds(f["latency_ms"]), size(f["size_bytes"]), f"{count(f['macs'])} MACs"))
        return f"  {_model(f):<32}  {cost}  {'fits' if f['fits'] else 'over the budget'}"
    if kind == "race":
        return f"  {_model(f):<32}  val {percent(f['val_accuracy'])} %  {'goes on' if f['kept'] else 'out'}"
    return ""


class Plain:
    """Lines for a log: phases and candidates at once, training about every ten seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.last = clock()

    def __call__(self, kind: str, fields: Mapping[str, object]) -> None:
        now = self.clock()
        if kind in ("step", "epoch"):
            over = kind == "epoch" and fields.get("epoch") == fields.get("epochs")
            if not over and now - self.last < PERIOD_S:
                return
            self.last = now
        if text := line(kind, fields):
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
        self.progress = Progress(*columns, console=self.console, transient=True, redirect_stdout=False)
        self.task = self.progress.add_task("", total=None, numbers="")

    def __call__(self, kind: str, fields: Mapping[str, object]) -> None:
        with contextlib.suppress(OSError):  # the terminal went away: the run goes on
            if kind == "step":
                name = "  ".join(part for part in (str(fields.get("label") or ""), _position(fields)) if part)
                step, steps = _whole(fields.get("step")), _whole(fields.get("steps"))
                self.progress.update(self.task, description=name, completed=step, total=steps, numbers=numbers(fields))
            elif text := line(kind, fields):
                self.console.print(text)
                if kind == "stage":
                    self.progress.update(self.task, description="", completed=0, total=None, numbers=text)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _only_warnings(kind: str, fields: Mapping[str, object]) -> None:
    if kind == "warning":
        with contextlib.suppress(OSError):
            print(line(kind, fields), file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Listener]:
    """A listener that shows a run on stderr: a bar on a terminal, lines elsewhere, only warnings when quiet."""
    if quiet:
        yield _only_warnings
    elif sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        bar = Bar(sys.stderr)
        with bar.progress:
            yield bar
    else:
        yield Plain(sys.stderr)
