"""Several processes of this machine for one search: what each runs, and when their parent gives them up."""

from collections.abc import Callable
from pathlib import Path

from foveate.errors import FoveateError
from foveate.runs.workers import Workers, is_orphan
from foveate.train.signals import stop_on_signals
from foveate.workflows.search.study import load_search, serve, study_name, url_of

MAX_DEATHS = 10  # a worker, on average: a trial whose workers die is given up before
STOP_S = 60.0  # to end a trial in; what is cut short is given up


def run_workers(folder: Path, workers: int, finished: Callable[[], bool]) -> None:
    """Several worker processes, until finished() or all have ended; one that is killed is replaced.

    FoveateError where one says why it can not go on, and where they are killed again and again.
    """
    deaths = 0

    def died(number: int, killer: int) -> None:
        nonlocal deaths
        deaths += 1
        if deaths > MAX_DEATHS * workers:
            raise FoveateError(f"workers were killed {deaths} times, at last by signal {killer} (out of memory?)")

    Workers(worker, folder, workers, workers, on_death=died, wait_s=STOP_S).run(finished)


def worker(folder: str, parent: int, workers: int) -> int:
    """What a worker process runs: its part of the trials, while its parent lives."""
    place = Path(folder)
    design = load_search(place)
    with stop_on_signals() as stop:
        gone = lambda: bool(stop.signal) or is_orphan(parent)  # noqa: E731
        serve(design, url_of(place, design), study_name(place, design), workers, gone, place)
    return 0
