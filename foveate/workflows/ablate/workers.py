"""Several processes for one ablation: started, watched, stopped. They share the trials by locks, not by messages.

Each has a session of its own, so that Ctrl-C reaches them once, through this process.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from foveate.errors import FoveateError, Interrupted
from foveate.events import Listener, WarningEvent
from foveate.files import read_lines
from foveate.train.signals import Stop, exit_code
from foveate.workflows.ablate.design import Ablation
from foveate.workflows.ablate.trial import RESULT, claimed, give_up, tell

PAUSE_S, MAX_DEATHS = 0.2, 3
CODE = (
    "import sys; sys.path[:] = {path!r}; from foveate.workflows.ablate.run import worker; "
    "sys.exit(worker({folder!r}, {parent}))"
)


class Workers:
    """Worker processes of this one. On CUDA each sees one device, in turn."""

    def __init__(self, folder: Path, ablation: Ablation, count: int, listener: Listener):
        self.folder, self.ablation, self.listener = folder, ablation, listener
        self.logs = folder / "workers"
        self.logs.mkdir(exist_ok=True)
        self.processes: dict[int, subprocess.Popen[bytes]] = {i: self.start(i) for i in range(count)}
        self.deaths: dict[tuple[int, int] | None, int] = {}  # of workers, by the trial that they held
        self.told: set[tuple[int, int]] = {t for t in ablation.trials if (self.place(t) / RESULT).exists()}

    def place(self, trial: tuple[int, int]) -> Path:
        """The folder of a trial."""
        return self.folder / "trials" / self.ablation.folder(*trial)

    def start(self, number: int) -> subprocess.Popen[bytes]:
        """One more process; what it says goes to workers/NUMBER.log."""
        code = CODE.format(path=sys.path, folder=str(self.folder), parent=os.getpid())
        environment = {**os.environ}
        if self.ablation.rows[0].plan.device == "cuda":
            import torch

            seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            devices = seen.split(",") if seen else [str(i) for i in range(torch.cuda.device_count())]
            environment["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
        with open(self.logs / f"{number}.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def run(self, stop: Stop) -> None:
        """Until all trials have a result. Raises Interrupted when stopped, FoveateError when a worker can not go on."""
        try:
            while self.processes:
                if stop.signal:
                    self.end(signal.SIGTERM)
                    raise Interrupted("stopped", exit_code(stop.signal))
                for number, process in list(self.processes.items()):
                    if (code := process.poll()) is not None:
                        self.ended(number, code)
                self.tell()
                time.sleep(PAUSE_S)
            self.tell()
        finally:
            self.end(signal.SIGTERM)

    def ended(self, number: int, code: int) -> None:
        """A worker came to its end: done, refused with a reason, or killed (then another takes its place)."""
        del self.processes[number]
        if code == 0:
            return
        if code > 0:
            lines = read_lines(self.logs / f"{number}.log")
            said = next((line for line in reversed(lines) if line.strip()), "no reason given")
            error = FoveateError(f"worker {number} ended: {said.removeprefix('error: ')}")
            error.exit_code = code if code in (1, 2, 3) else 1
            raise error
        trial = self.held(number)
        self.listener(WarningEvent(f"worker {number} was killed by signal {-code}; another goes on"))
        self.deaths[trial] = self.deaths.get(trial, 0) + 1
        if self.deaths[trial] >= MAX_DEATHS:
            if trial is None:
                raise FoveateError(f"workers were killed {MAX_DEATHS} times before they began, by signal {-code}")
            self.surrender(trial, -code)
        self.processes[number] = self.start(number)

    def held(self, number: int) -> tuple[int, int] | None:
        """The trial that a worker began last and did not finish."""
        lines = [line.split() for line in read_lines(self.logs / f"{number}.log") if line.startswith("trial ")]
        if not lines:
            return None
        trial = int(lines[-1][1]), int(lines[-1][2])
        return None if (self.place(trial) / RESULT).exists() else trial

    def surrender(self, trial: tuple[int, int], number: int) -> None:
        """A trial that ends its process again and again is a failed one."""
        with claimed(self.place(trial)) as mine:
            if mine:
                text = f"its process was killed {MAX_DEATHS} times, at last by signal {number} (out of memory?)"
                give_up(self.place(trial), self.ablation, *trial, text)

    def tell(self) -> None:
        """One line for every trial that was finished since the last look."""
        for trial in self.ablation.trials:
            if trial not in self.told and (self.place(trial) / RESULT).exists():
                self.told.add(trial)
                tell(self.listener, self.folder, self.ablation, trial)

    def end(self, number: int) -> None:
        """Ask every worker to save and stop, and wait for them."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
        for process in self.processes.values():
            process.wait()
        self.processes = {}
