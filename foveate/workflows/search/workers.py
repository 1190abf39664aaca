"""Several processes for one search on this machine: started, watched, replaced when killed, stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from foveate.errors import FoveateError
from foveate.search.workers import Found
from foveate.train.signals import stop_on_signals
from foveate.workflows.search.study import load_search, serve, study_name, url_of

PAUSE_S = 0.3
CODE = (
    "import sys; sys.path[:] = {path!r}; from foveate.workflows.search.workers import worker; "
    "sys.exit(worker({folder!r}, {workers}, {parent}))"
)


def run_workers(
    folder: Path,
    workers: int,
    enough: Callable[[], bool],
    on_result: Callable[[Found], None],
    known: Callable[[], list[Found]],
) -> None:
    """Several worker processes; one that is killed is replaced. FoveateError where one says why it can not go on."""
    processes = [start(folder, workers) for _ in range(workers)]
    seen, deaths = {f.number for f in known()}, 0
    try:
        while not enough():
            for place, process in enumerate(processes):
                code = process.poll()
                if code is not None and code != 0:
                    deaths += 1
                    said = process.stderr.read().decode(errors="replace").strip().splitlines() if process.stderr else []
                    if code > 0 or deaths > 10 * workers:
                        raise FoveateError(f"a worker ended with {code}: {said[-1] if said else 'no reason given'}")
                    processes[place] = start(folder, workers)
            if all(process.poll() == 0 for process in processes):
                break
            for one in known():
                if one.number not in seen:
                    seen.add(one.number)
                    on_result(one)
            time.sleep(PAUSE_S)
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in processes:
            process.communicate(timeout=60)


def start(folder: Path, workers: int) -> "subprocess.Popen[bytes]":
    """One more worker, in a session of its own: Ctrl-C reaches it through this process."""
    code = CODE.format(path=sys.path, folder=str(folder), workers=workers, parent=os.getpid())
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)


def worker(folder: str, workers: int, parent: int) -> int:
    """What a worker process runs: its part of the trials, while its parent lives."""
    place = Path(folder)
    design = load_search(place)
    with stop_on_signals() as stop:
        gone = lambda: bool(stop.signal) or os.getppid() != parent  # noqa: E731
        serve(design, url_of(place, design), study_name(place, design), workers, gone, place)
    return 0
