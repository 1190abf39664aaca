"""The model that a compression begins with: its folder, its first recipe, and pictures that suit it."""

import contextlib
from pathlib import Path

import torch

from foveate.compress.gates import coupling_of
from foveate.config import from_dict, parse_json, replace
from foveate.data.index import Dataset
from foveate.errors import ConfigError, DataError
from foveate.events import Listener, WarningEvent
from foveate.runs.plan import Plan
from foveate.train.artefact import ModelCard, read_card
from foveate.train.recipe import Recipe
from foveate.workflows.compress.goal import Goal
from foveate.zoo import build


def read_source(model: str | Path, goal: Goal, seed: int) -> tuple[ModelCard, Goal, Recipe | None]:
    """The card of a model that can shrink, the goal with where it lies, and the recipe of its run, where it has one."""
    if not isinstance(model, str | Path):
        raise ConfigError(f"model: a {type(model).__name__}; compress takes a model folder such as runs/photos-1/best")
    folder = Path(model)
    folder = folder if (folder / "config.json").exists() or not (folder / "best").exists() else folder / "best"
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{model}: no model folder of foveate (no config.json), so a smaller network can not be built from it; "
            "train one with foveate train or fit, with --weights for public weights"
        )
    card, _ = read_card(folder)
    with torch.device("meta"):
        coupling_of(build(card.architecture))  # says why, where nothing can shrink
    story = folder.parent / "recipe.json"
    first: Plan | None = None
    if story.is_file():
        with contextlib.suppress(ConfigError):  # of another version: the recipe that suits the pictures does as well
            first = from_dict(Plan, parse_json(story.read_bytes(), str(story)))
    split_seed = seed if first is None else first.recipe.seed
    return card, replace(goal, source=str(folder), split_seed=split_seed), None if first is None else first.recipe


def check_data(card: ModelCard, dataset: Dataset, data: str | Path, listener: Listener) -> None:
    """DataError where the classes are not the model's; a warning where it was trained on other pictures."""
    if dataset.classes != card.classes:
        other = next(iter(sorted(set(dataset.classes) ^ set(card.classes))), dataset.classes[0])
        raise DataError(f'{data}: its classes are not those of the model ("{other}"); give the data it was trained on')
    if card.provenance.get("fingerprint") not in (None, dataset.fingerprint):
        text = "the model was trained on other pictures, or another split: some test pictures may be among them"
        listener(WarningEvent(text))
