"""Worker processes of a command on this machine: started, watched, replaced when killed, stopped.

They share their work by what lies in a folder or a database, not by messages. Each has a session of its own, so that
Ctrl-C reaches them once, through this process.
"""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from foveate.errors import ConfigError, FoveateError
from foveate.files import read_lines

PAUSE_S = 0.2  # between two looks
SAID = "error: "  # begins the line in which a worker says why it gives up
CODE = "import sys; sys.path[:] = {path!r}; from foveate.runs.workers import enter; sys.exit(enter{call!r})"

Work = Callable[..., int]  # a function of a module: folder, process number of the parent, arguments -> exit code
Argument = str | int


class Workers:
    """`count` processes that run work(folder, this process, *arguments); their output: FOLDER/workers/NUMBER.log.

    on_death: called with the number of a worker and the signal that killed it, before another takes its place; raises
    where that is no use. environment: of a worker by its number, beside this process's own. wait_s: how long a worker
    may take to stop when it is asked to, before it is killed; None: as long as it needs.
    """

    def __init__(
        self,
        work: Work,
        folder: Path,
        count: int,
        *arguments: Argument,
        on_death: Callable[[int, int], None],
        environment: Callable[[int], Mapping[str, str]] = lambda number: {},
        wait_s: float | None = None,
    ):
        self.work, self.folder, self.arguments, self.on_death = work, folder, arguments, on_death
        self.environment, self.wait_s = environment, wait_s
        self.logs = folder / "workers"
        if self.logs.is_symlink():
            raise ConfigError(f"{self.logs}: a link; expected a folder of its own, for a run writes only in its folder")
        self.logs.mkdir(exist_ok=True)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        for number in range(count):
            self.start(number)

    def run(self, finished: Callable[[], bool]) -> None:
        """Until finished() or every worker came to its end; nobody is left then, whatever happens.

        Raises FoveateError with the reason of a worker that gives up, and what finished() and on_death() raise.
        """
        try:
            while not finished() and self.processes:
                for number, process in list(self.processes.items()):
                    if (code := process.poll()) is not None:
                        self.replace(number, code)
                time.sleep(PAUSE_S)
        finally:
            self.stop()

    def start(self, number: int) -> None:
        """One more process."""
        call = (self.work.__module__, self.work.__name__, str(self.folder), os.getpid(), *self.arguments)
        with open(self.log(number), "ab", opener=_no_link) as log:
            self.processes[number] = subprocess.Popen(
                [sys.executable, "-c", CODE.format(path=sys.path, call=call)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment(number)},
                start_new_session=True,
            )

    def replace(self, number: int, code: int) -> None:
        """A worker came to its end: done (0), refused with a reason (above 0), or killed, then another begins."""
        del self.processes[number]
        if code > 0:
            said = next((line for line in reversed(read_lines(self.log(number))) if line.strip()), "no reason given")
            error = FoveateError(f"worker {number} ended: {said.removeprefix(SAID)}")
            error.exit_code = code if code in (1, 2, 3) else 1
            raise error
        if code < 0:
            self.on_death(number, -code)
            self.start(number)

    def log(self, number: int) -> Path:
        """Where a worker's output goes."""
        return self.logs / f"{number}.log"

    def stop(self) -> None:
        """Ask every worker to save and stop, and wait for them."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        until = None if self.wait_s is None else time.monotonic() + self.wait_s
        for process in self.processes.values():
            try:
                process.wait(None if until is None else max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = {}


def _no_link(path: str, flags: int) -> int:
    """Open a file, but not through a link, which could lead out of the folder of a run."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def enter(module: str, work: str, *arguments: Argument) -> int:
    """What a worker process runs: work(*arguments) of a module; an expected failure is one line and its code."""
    try:
        if os.environ.get("FOVEATE_PLUGINS"):
            from foveate.runs.plugin import load_named_plugins

            load_named_plugins()
        code: int = getattr(importlib.import_module(module), work)(*arguments)
    except FoveateError as error:
        print(f"{SAID}{' '.join(str(error).split())}", flush=True)
        return error.exit_code
    return code


def is_orphan(parent: int) -> bool:
    """Whether the process that started this one is gone."""
    return os.getppid() != parent
