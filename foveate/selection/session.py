"""One session of a fit in its run folder: what it has spent, what it keeps when it is stopped, what lies beside."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from foveate.errors import BudgetError, ConfigError, DataError, Interrupted, Terminated, WeightsError
from foveate.events import Event, Listener
from foveate.files import free_name
from foveate.report.units import plural
from foveate.runs.request import read_beside, write_beside, write_spent
from foveate.runs.time_budget import TimeBudget
from foveate.selection.journal import Journal
from foveate.selection.winner import read_winner
from foveate.train.signals import code_of, raise_on_signals


def timekeeper(folder: Path, time: TimeBudget, listener: Listener) -> Listener:
    """A listener that writes down, once a second at most, how long the run has taken."""
    last = 0.0

    def keep(event: Event) -> None:
        nonlocal last
        if time.spent_s - last >= 1.0:
            last = time.spent_s
            write_spent(folder, time)
        listener(event)

    return keep


@contextlib.contextmanager
def kept(folder: Path, time: TimeBudget) -> Iterator[None]:
    """What is found within the block is kept. A signal ends it with one line that says what, and how to go on.

    A folder in which nothing can be gone on with, for the request itself failed, is removed.
    """
    try:
        with raise_on_signals():
            yield
    except (KeyboardInterrupt, Terminated, Interrupted) as stopped:
        write_spent(folder, time)
        code = stopped.exit_code if isinstance(stopped, Interrupted) else code_of(stopped)
        text = f"stopped; kept: {what_is_kept(folder)}; go on with: foveate fit --resume {folder}"
        raise Interrupted(text, code) from None
    except (BudgetError, DataError, ConfigError, WeightsError):
        if not (folder / "state").exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def what_is_kept(folder: Path) -> str:
    """How far a run is, in words."""
    if (folder / "summary.json").exists():
        return "the finished run"
    if steps := sorted((folder / "state").glob("step-*")):
        return f"training, to step {int(steps[-1].name[5:]):,}"
    if (winner := read_winner(folder)) is not None:
        return f"the winner of the race, {winner.candidate.model}"
    journal = Journal.open(folder)
    if journal.rounds:
        return (
            f"{plural(len(journal.measured), 'candidate')} measured, {plural(len(journal.rounds), 'turn')} of the race"
        )
    return f"{plural(len(journal.measured), 'candidate')} measured" if journal.measured else "what was asked for"


def beside(folder: Path, what: str, name: str) -> Path:
    """The folder of a part of this run: the one that an earlier session made, or a new one, whose name is kept."""
    runs, known = folder.parent, read_beside(folder)
    if what in known and (runs / known[what]).is_dir():
        return runs / known[what]
    place = free_name(runs, name)
    write_beside(folder, what, place)
    return place
