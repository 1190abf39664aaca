"""What measurements share: a small net trained in memory, its pictures as tensors, and times taken in turn."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from foveate.config import replace
from foveate.data.index import Dataset, open_data, subset
from foveate.data.load import evaluation_pictures, training_pictures
from foveate.data.preprocess import Preprocess, normalise
from foveate.errors import FoveateError
from foveate.recipes import find_recipe
from foveate.recipes.adapt import mirrored_differs
from foveate.runs.setup import make_state
from foveate.train.evaluate import labels_of
from foveate.train.loop import train
from foveate.train.recipe import Optim, Recipe, Schedule
from foveate.workflows.papers.pictures import drawn, side_of
from foveate.workflows.papers.table import Context
from foveate.zoo.family import Config

Batch = tuple[torch.Tensor, torch.Tensor]
LIKE_DIGITS = 16  # px, of pictures of up to as many


@dataclass(frozen=True)
class Small:
    """A data set read small. side: of the network's input in pixels."""

    dataset: Dataset
    preprocess: Preprocess
    classes: int
    side: int


def opened(context: Context, seed: int = 0) -> Small:
    """The data of a measurement, at 16 px for scans of 8 x 8, else at 32."""
    dataset = open_data(context.data, seed=seed)
    side = LIKE_DIGITS if side_of(dataset) <= LIKE_DIGITS else 32
    preprocess = Preprocess(resolution=side, resize=side, fit="squash")
    return Small(dataset, preprocess, len(dataset.classes), side)


def recipe_of(small: Small, seed: int, epochs: int, lr: float = 0.05, batch: int = 64) -> Recipe:
    """cifar_standard for a short run in float32: half the rate, a tenth of the epochs to warm up."""
    base = find_recipe("cifar_standard")
    flip = not mirrored_differs(small.dataset.classes)
    return replace(
        base,
        epochs=epochs,
        batch=batch,
        optim=Optim(lr=lr, weight_decay=5e-4),
        schedule=Schedule(warmup=0.1 * epochs),
        augment=replace(base.augment, flip=flip),
        precision="fp32",
        layout="nhwc",
        threads=torch.get_num_threads(),
        seed=seed,
    )


def trained(config: Config, small: Small, recipe: Recipe, pictures: int = 0) -> torch.nn.Module:
    """A net trained on so many pictures (0: all), in evaluation mode, on the processor."""
    split = small.dataset.splits["train"]
    part = subset(split, np.array(drawn(split, pictures)))
    loaded = training_pictures(part, small.side).load(recipe.threads)
    made = replace(config, num_classes=small.classes, resolution=small.side)
    state = make_state(made, recipe, "cpu")
    for _ in train(state, loaded, small.preprocess, recipe, small.classes):
        pass
    return state.best.eval()


def tensors(small: Small, split: str, count: int = 0) -> Batch:
    """Pictures as the network wants them, (n, 3, side, side), and their labels."""
    part = small.dataset.splits.get(split) or small.dataset.splits["val"]
    part = subset(part, np.array(drawn(part, count)))
    loaded = evaluation_pictures(part, small.preprocess).load(torch.get_num_threads())
    if loaded.resident is None:
        raise FoveateError(f"{small.dataset.name}: {len(part):,} pictures do not fit in memory")
    return normalise(loaded.resident, small.preprocess), torch.as_tensor(labels_of(loaded))


def times_ms(runs: Mapping[str, Callable[[], object]], rounds: int, repeats: int = 3) -> dict[str, list[float]]:
    """Milliseconds of each, a median of `repeats` in every round. In turn: what slows the machine slows all alike."""
    for run in runs.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seen = []
            for _ in range(repeats):
                begun = time.perf_counter()
                run()
                seen.append(time.perf_counter() - begun)
            found[name].append(1e3 * statistics.median(seen))
    return found


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the least-squares line through log y on log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def forward_of(config: Config, side: int) -> Callable[[], object]:
    """A call that runs a net once on one picture, in evaluation mode, channels last."""
    from foveate.zoo import build

    model = build(replace(config, resolution=side)).eval().to(memory_format=torch.channels_last)
    x = torch.randn(1, config.in_chans, side, side).to(memory_format=torch.channels_last)

    def run() -> object:
        with torch.inference_mode():
            return model(x)

    return run
