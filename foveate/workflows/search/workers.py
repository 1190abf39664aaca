"""Several processes of this machine for one search: what each runs, and when their parent gives them up."""

from collections.abc import Callable
from pathlib import Path

from foveate.errors import FoveateError
from foveate.runs.workers import Workers, is_orphan
from foveate.train.signals import stop_on_signals
from foveate.workflows.search.design import Search
from foveate.workflows.search.study import serve, study_name, trusted, url_of

MAX_DEATHS = 10  # a worker, on average: a trial whose workers die is given up before
STOP_S = 60.0  # to end a trial in; what is cut short is given up


def run_workers(folder: Path, design: Search, workers: int, finished: Callable[[], bool]) -> None:
    """Several worker processes for a search, until finished() or all have ended; one that is killed is replaced.

    FoveateError where one says why it can not go on, and where they are killed again and again.
    """
    deaths = 0

    def died(number: int, killer: int) -> None:
        nonlocal deaths
        deaths += 1
        if deaths > MAX_DEATHS * workers:
            raise FoveateError(f"workers were killed {deaths} times, at last by signal {killer} (out of memory?)")

    named = (design.space, design.storage)
    Workers(worker, folder, workers, workers, *named, on_death=died, wait_s=STOP_S).run(finished)


def worker(folder: str, parent: int, workers: int, space: str, storage: str) -> int:
    """What a worker process runs: its part of the trials, while its parent lives. space, storage: see trusted."""
    place = Path(folder)
    design = trusted(place, space, storage or None)
    with stop_on_signals() as stop:
        gone = lambda: bool(stop.signal) or is_orphan(parent)  # noqa: E731
        serve(design, url_of(place, design), study_name(place, design), workers, gone, place)
    return 0
