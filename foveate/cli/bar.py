"""A bar on a terminal from the events of a run; lines elsewhere. rich is imported only on a terminal."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from foveate.cli.options.output import Visible
from foveate.events import Event, Listener, StageEvent, StepEvent, WarningEvent
from foveate.report.progress import Plain, line, numbers, place

NARROW = 70  # columns: below, the bar goes and the numbers stay


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
                name, done = place(event), event.step
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
