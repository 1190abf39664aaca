"""What all steps of a compression share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foveate.compress.schedule import Draw
from foveate.data.index import Dataset
from foveate.data.load import Pictures
from foveate.deploy.beside import Yardstick
from foveate.errors import Interrupted
from foveate.events import Listener
from foveate.runs.plan import Plan
from foveate.runs.time_budget import TimeBudget
from foveate.train.draw import drawer
from foveate.train.engine import Job
from foveate.train.signals import Stop, exit_code
from foveate.workflows.compress.goal import Goal


@dataclass
class CompressionRun:
    """Opened once by compress(); a step reads it and writes to `folder` and nowhere else."""

    folder: Path
    goal: Goal
    plan: Plan
    dataset: Dataset
    job: Job
    test: Pictures
    cost: Callable[[Any], float]  # of a config, in the goal's kind
    yardstick: Callable[[], Yardstick]  # the original, once it was measured
    extra_bytes: int  # of the final file over the one that steps are timed with, where the size counts
    listener: Listener
    stop: Stop
    time: TimeBudget  # without end where none was given

    def draw(self, stream: int) -> Draw:
        """Training batches, augmented: the i-th of a stream."""
        device, recipe = torch.device(self.plan.device), self.plan.recipe
        return drawer(self.job.train, self.plan.preprocess, recipe, len(self.job.classes), device, stream)

    def raise_if_stopped(self) -> None:
        """Raise Interrupted where a signal came; what is finished is saved."""
        if self.stop.signal:
            text = f"stopped; finished steps are saved; go on with: foveate compress --resume {self.folder}"
            raise Interrupted(text, exit_code(self.stop.signal))
