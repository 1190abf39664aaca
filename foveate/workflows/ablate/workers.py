"""Several processes for one ablation: what their parent does with those that are killed, and what it tells."""

import os
from collections.abc import Mapping
from pathlib import Path

from foveate.errors import FoveateError, Interrupted
from foveate.events import Listener, WarningEvent
from foveate.files import claimed, read_lines
from foveate.runs.workers import Work, Workers
from foveate.train.signals import Stop, exit_code
from foveate.workflows.ablate.design import Ablation
from foveate.workflows.ablate.trial import RESULT, give_up, tell

MAX_DEATHS = 3


class SharedTrials:
    """The trials of an ablation that `count` processes share: run by work(folder, parent), one line a result."""

    def __init__(self, work: Work, folder: Path, ablation: Ablation, count: int, listener: Listener):
        self.folder, self.ablation, self.listener = folder, ablation, listener
        self.deaths: dict[tuple[int, int] | None, int] = {}  # of workers, by the trial that they held
        self.told: set[tuple[int, int]] = {t for t in ablation.trials if (self.place(t) / RESULT).exists()}
        self.workers = Workers(work, folder, count, on_death=self.died, environment=self.device_of)

    def place(self, trial: tuple[int, int]) -> Path:
        """The folder of a trial."""
        return self.folder / "trials" / self.ablation.folder(*trial)

    def device_of(self, number: int) -> Mapping[str, str]:
        """On CUDA each worker sees one device, in turn."""
        if self.ablation.rows[0].plan.device != "cuda":
            return {}
        import torch

        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        devices = seen.split(",") if seen else [str(i) for i in range(torch.cuda.device_count())]
        return {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]}

    def run(self, stop: Stop) -> None:
        """Until all trials have a result. Raises Interrupted when stopped, FoveateError when a worker can not go on."""

        def finished() -> bool:
            self.tell()
            if stop.signal:
                raise Interrupted("stopped", exit_code(stop.signal))
            return False

        self.workers.run(finished)

    def died(self, number: int, killer: int) -> None:
        """A worker was killed by a signal; a trial that ends its process again and again is given up."""
        trial = self.held(number)
        self.listener(WarningEvent(f"worker {number} was killed by signal {killer}; another goes on"))
        self.deaths[trial] = self.deaths.get(trial, 0) + 1
        if self.deaths[trial] < MAX_DEATHS:
            return
        if trial is None:
            raise FoveateError(f"workers were killed {MAX_DEATHS} times before they began, by signal {killer}")
        with claimed(self.place(trial)) as mine:
            if mine:
                text = f"its process was killed {MAX_DEATHS} times, at last by signal {killer} (out of memory?)"
                give_up(self.place(trial), self.ablation, *trial, text)

    def held(self, number: int) -> tuple[int, int] | None:
        """The trial that a worker began last and did not finish."""
        lines = [line.split() for line in read_lines(self.workers.log(number)) if line.startswith("trial ")]
        if not lines:
            return None
        trial = int(lines[-1][1]), int(lines[-1][2])
        return None if (self.place(trial) / RESULT).exists() else trial

    def tell(self) -> None:
        """One line for every trial that was finished since the last look."""
        for trial in self.ablation.trials:
            if trial not in self.told and (self.place(trial) / RESULT).exists():
                self.told.add(trial)
                tell(self.listener, self.folder, self.ablation, trial)
