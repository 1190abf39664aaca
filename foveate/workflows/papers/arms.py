"""The arms of a comparison as networks and recipes, and as what `ablate` is asked for."""

import re
from collections.abc import Sequence
from pathlib import Path

from foveate.config import override, replace, to_json
from foveate.files import write_text
from foveate.recipes import find_recipe
from foveate.runs.plan import room_of
from foveate.train.recipe import Recipe
from foveate.workflows.ablate.factors import Named
from foveate.workflows.papers.table import Arm, Trainings
from foveate.zoo import variant
from foveate.zoo.family import Config

SHARE = re.compile(r"@([0-9.]+)")  # of the epochs of the run
TEACHER = "teacher"  # stands for the folder of one that is not trained yet
LEAST_STEPS, SMALLEST = 40, 16  # an epoch of few pictures has at least so many steps, down to such a batch


def filled(changes: Sequence[str], epochs: int, teacher: str = "") -> tuple[str, ...]:
    """The changes with shares of the epochs and the teacher's folder written out."""
    texts = (text.replace("{teacher}", teacher) for text in changes)
    return tuple(SHARE.sub(lambda m: f"{float(m[1]) * epochs:g}", text) for text in texts)


def parts(study: Trainings, arm: Arm, epochs: int, common: Sequence[str] = ()) -> tuple[Config, Recipe]:
    """The network and the recipe of an arm. common: further changes, the same in every arm.

    Raises ConfigError for a name, a key or a value that does not exist.
    """
    chosen = arm.network or study.network
    config = variant(chosen) if isinstance(chosen, str) else chosen
    recipe = find_recipe(study.recipe)
    for text in filled([*study.changes, *common, *arm.changes], epochs, TEACHER):
        room, change = room_of(text)
        if room == "model":
            config = override(config, [change])
        elif room == "recipe" and text.startswith("recipe="):
            recipe = find_recipe(text.partition("=")[2])
        elif room == "recipe":
            recipe = override(recipe, [change])
    return config, recipe


def common_changes(study: Trainings, pictures: int, side: int, mirrored: bool, epochs: int) -> tuple[str, ...]:
    """What follows from the data for every arm alike: epochs, resolution, mirroring, and the batch of few pictures.

    side: of the pictures in pixels. mirrored: whether a mirrored picture is of the same class.
    """
    network = variant(study.network) if isinstance(study.network, str) else study.network
    found = [f"epochs={epochs}"]
    if side <= study.resolution < network.resolution:
        found.append(f"model.resolution={study.resolution}")
    if not mirrored:
        found.append("augment.flip=false")
    recipe = parts(study, study.arms[0], epochs)[1]
    batch = recipe.batch
    while not study.own_batch and batch > SMALLEST and pictures // batch < LEAST_STEPS:
        batch //= 2
    if batch != recipe.batch:
        found.append(f"batch={batch}")
        if not recipe.optim.lr_batch:
            found.append(f"optim.lr={recipe.optim.lr * (batch / recipe.batch) ** 0.5:.3g}")
    return tuple(found)


def named(study: Trainings, folder: Path, epochs: int, teacher: str = "") -> tuple[Named, ...]:
    """All arms but the first as factors of an ablation; networks that are configs are written into the folder."""
    factors = []
    for number, arm in enumerate(study.arms[1:], start=1):
        model = () if arm.network is None else (f"model={model_of(arm.network, folder, number)}",)
        factors.append(Named(arm.label, (*model, *filled(arm.changes, epochs, teacher))))
    return tuple(factors)


def model_of(network: Config | str, folder: Path, number: int) -> str:
    """A network as --model takes it: its name in the zoo, or the path of a file with its config."""
    if isinstance(network, str):
        return network
    path = folder / "networks" / f"{number:02d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, to_json(network))
    return str(path)


def at_classes(config: Config, classes: int, resolution: int) -> Config:
    """The network as it is trained: so many classes, at this resolution."""
    made: Config = replace(config, num_classes=classes, resolution=resolution)
    return made
