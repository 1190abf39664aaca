"""What is analysed: a network, some training pictures, some that it did not learn from, and the recipe of its run."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from foveate.analysis.products import Batch, Loss
from foveate.config import from_dict, make, parse_json, replace
from foveate.data.index import Dataset, Split, open_data
from foveate.data.load import Pictures, evaluation_pictures
from foveate.data.preprocess import Preprocess, normalise, normalise_unit
from foveate.errors import ConfigError, DataError
from foveate.events import Listener, WarningEvent
from foveate.runs.defaults import default_preprocess
from foveate.runs.plan import Plan
from foveate.runs.run import announce
from foveate.train.artefact import load_model, read_card
from foveate.train.losses import LOSSES, Measure, smooth
from foveate.train.optim import peak_rate
from foveate.train.recipe import Recipe
from foveate.zoo import build, variant

BATCH = 64  # pictures at a time
LEAST = 16  # pictures of a split that are used, at least, where time is short
SHARE = (
    0.25  # of the time, for the parts on seen pictures but curvature, which fits itself; as much for the unseen ones
)
SEEN_COST, UNSEEN_COST = 4.0, 22.0  # gradients a picture of these parts: gates, features, turns; corruptions, attacks


@dataclass(frozen=True, eq=False)
class Subject:
    """One network and its pictures: uint8 (N, 3, R, R) and labels (N,)."""

    model: nn.Module
    name: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    seen: tuple[torch.Tensor, torch.Tensor]  # of the training split
    unseen: tuple[torch.Tensor, torch.Tensor]  # of test, or val
    unseen_split: str
    recipe: Recipe
    trained: bool  # whether it has a run's recipe
    seed: int

    @property
    def lr(self) -> float:
        """The peak rate of its recipe."""
        return peak_rate(self.recipe.optim, self.recipe.batch)

    @property
    def loss(self) -> Loss:
        """The loss of its recipe with its smoothing, for labels (N,); no mixing, no teacher."""
        measure: Measure = make(LOSSES, self.recipe.loss.name, "loss.name")
        loss, count = self.recipe.loss, len(self.classes)

        def of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return measure(logits, smooth(F.one_hot(labels, count).to(logits.dtype), loss.smoothing, loss.spread))

        return of

    def pictures(self, count: int | None = None) -> Batch:
        """Training pictures as the network takes them, at most `count`; they were drawn at random."""
        x, y = self.seen
        return normalise(x[:count], self.preprocess), y[:count]

    def batches(self, count: int | None = None, size: int = BATCH) -> list[Batch]:
        """The same in batches."""
        x, y = self.pictures(count)
        return list(zip(x.split(size), y.split(size), strict=True))

    def unseen_batches(self) -> Iterator[Batch]:
        """Pictures that it did not learn from, in batches."""
        for x, y in zip(self.unseen[0].split(BATCH), self.unseen[1].split(BATCH), strict=True):
            yield normalise(x, self.preprocess), y

    def from_unit(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of pictures from 0 to 1."""
        logits: torch.Tensor = self.model(normalise_unit(x, self.preprocess))
        return logits

    def fewer(self, seen: int, unseen: int) -> "Subject":
        """The same with at most so many of its pictures."""
        first, other = ((x[:n], y[:n]) for (x, y), n in ((self.seen, seen), (self.unseen, unseen)))
        return dataclasses.replace(self, seen=first, unseen=other)


def affordable(subject: Subject, seconds: float) -> tuple[int, int]:
    """How many (seen, unseen) pictures an analysis in this time should use: a gradient is timed, parts cost known
    numbers of them a picture (SEEN_COST, UNSEEN_COST). LEAST at least.
    """
    x, y = subject.pictures(LEAST)
    params = [p for p in subject.model.parameters() if p.requires_grad]
    gradient_s = math.inf
    for _ in range(2):  # the first one warms up
        begun = time.monotonic()
        torch.autograd.grad(subject.loss(subject.model(x), y), params, allow_unused=True)
        gradient_s = (time.monotonic() - begun) / len(x)
    seen, unseen = (max(LEAST, int(SHARE * seconds / (cost * gradient_s))) for cost in (SEEN_COST, UNSEEN_COST))
    return seen, unseen


def open_subject(
    model: str,
    data: str | Path,
    *,
    pictures: int,
    seed: int,
    bad_files: str,
    follow_links: bool,
    listener: Listener,
    dataset: Dataset | None = None,
) -> Subject:
    """A model folder, or a variant of the zoo with random weights (from the seed), and its pictures.

    ConfigError for what is neither; DataError where the classes are not the model's, or there is only one.
    """
    folder = Path(model)
    folder = folder if (folder / "config.json").is_file() else folder / "best"
    recipe, split_seed, known = Recipe(), seed, False
    if (folder / "config.json").is_file():
        card, _ = read_card(folder)
        if (plan := plan_of(folder.parent)) is not None:
            recipe, split_seed, known = plan.recipe, plan.recipe.seed, True
        dataset = dataset or announced(data, split_seed, bad_files, follow_links, listener)
        check_classes(dataset, card.classes, data)
        if card.provenance.get("fingerprint") not in (None, dataset.fingerprint):
            listener(WarningEvent("the model was trained on other pictures, or another split"))
        net, card = load_model(folder)
        name, preprocess = str(card.provenance.get("model") or card.architecture.family), card.preprocess
    elif folder.parent.exists() and folder.parent.is_dir() and not known_name(model):
        raise ConfigError(f"{model}: no config.json here or in best/; expected a model folder or a name of the zoo")
    else:
        config = variant(model)  # refuses an unknown name, with a near one
        dataset = dataset or announced(data, split_seed, bad_files, follow_links, listener)
        config = replace(config, num_classes=len(dataset.classes))
        preprocess, name = default_preprocess(model, config, dataset, None), model
        torch.manual_seed(seed)
        net = build(config).eval()
        listener(WarningEvent(f"{model}: random weights; give a model folder to look into a trained network"))
    if len(dataset.classes) < 2:
        raise DataError(f"{data}: one class; a loss needs two, expected a folder for each class")
    split = "test" if "test" in dataset.splits else "val" if "val" in dataset.splits else "train"
    return Subject(
        net,
        name,
        dataset.classes,
        preprocess,
        drawn(dataset.splits["train"], preprocess, pictures, seed, bad_files),
        drawn(dataset.splits[split], preprocess, pictures, seed, bad_files),
        split,
        recipe,
        known,
        seed,
    )


def announced(data: str | Path, seed: int, bad_files: str, follow_links: bool, listener: Listener) -> Dataset:
    """The data, told to the listener."""
    return announce(open_data(data, seed=seed, bad_files=bad_files, follow_links=follow_links), listener)


def known_name(text: str) -> bool:
    """Whether the zoo has a network of this name."""
    with contextlib.suppress(ConfigError):
        variant(text)
        return True
    return False


def plan_of(run: Path) -> Plan | None:
    """The plan of a run folder; None where there is none, or one of another version."""
    with contextlib.suppress(ConfigError):
        if (story := run / "recipe.json").is_file():
            plan: Plan = from_dict(Plan, parse_json(story.read_bytes(), str(story)))
            return plan
    return None


def check_classes(dataset: Dataset, classes: tuple[str, ...], data: str | Path) -> None:
    """DataError where the classes are not the model's."""
    if dataset.classes != classes:
        other = next(iter(sorted(set(dataset.classes) ^ set(classes))), dataset.classes[0])
        raise DataError(f'{data}: its classes are not those of the model ("{other}"); give the data it was trained on')


def drawn(
    split: Split, preprocess: Preprocess, count: int, seed: int, bad_files: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """At most `count` random pictures of a split, prepared as prediction does, in random order."""
    pictures: Pictures = evaluation_pictures(split, preprocess)
    pictures.bad_files = bad_files
    order = np.random.default_rng(seed).permutation(len(pictures))[:count]
    found = list(pictures.in_order(BATCH, only=order))
    return torch.cat([b.pictures for b in found]), torch.cat([b.labels for b in found])
