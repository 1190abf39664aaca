"""What evaluators of a search work on: its pictures, read, and training batches of them."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from foveate.data.index import Dataset
from foveate.data.load import Pictures
from foveate.data.preprocess import normalise_own
from foveate.search.space import Space, Tokens
from foveate.search.study import Found, Note
from foveate.train.recipe import Recipe
from foveate.train.step import Moment, Task, pictures
from foveate.workflows.search.design import Search

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Material:
    """What evaluators work on."""

    search: Search
    space: Space
    dataset: Dataset
    train: Pictures
    val: Pictures
    known: Callable[[], Sequence[Found]]  # the trials so far
    folder: Path
    until: float = math.inf  # of time.monotonic(): a short training that still runs then is judged as it stands

    def batches(self, recipe: Recipe, batch: int) -> Iterator[Pair]:
        """Training batches without end: (x as the network wants it, targets (N, K))."""
        batch = min(batch, len(self.train))
        task = Task(recipe, self.search.preprocess, len(self.dataset.classes), len(self.train.split))
        number, device = 0, torch.device(self.search.device)
        for epoch in itertools.count():
            for item in self.train.epoch(recipe.seed, epoch, batch):
                x, targets = pictures(item, slice(None), Moment(number, epoch, 1.0), task, device)
                yield normalise_own(x, self.search.preprocess), targets
                number += 1


Value = Callable[[Tokens, Note], float]  # net -> what the reward is made of; the rest is noted
