"""Hand-made features against a small CNN, by the number of pictures."""

import numpy as np
import torch

from foveate.config import replace
from foveate.data.index import Split, subset
from foveate.data.load import evaluation_pictures, training_pictures
from foveate.runs.setup import make_state
from foveate.train.evaluate import accuracy, labels_of, predict_logits
from foveate.train.loop import train
from foveate.workflows.papers.hosts import RESNET_TINY
from foveate.workflows.papers.small import Small, opened, recipe_of
from foveate.workflows.papers.table import Context, Contrast, Found, Measurement, Published, Table
from foveate.zoo.composed.descriptors import DESCRIPTORS

FEW, MANY = "HOG - CNN with few pictures a class", "HOG - CNN with many"
STEPS = 300  # of the CNN, whatever the number of pictures


def drawn_per_class(split: Split, count: int, seed: int) -> np.ndarray:
    """So many of every class, drawn with the seed."""
    labels, random = np.array(split.labels), np.random.default_rng(seed)
    chosen = [random.permutation(np.flatnonzero(labels == k))[:count] for k in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def hog_accuracy(small: Small, picks: np.ndarray, test: Split) -> float:
    """HOG and a linear support vector machine, points."""
    from sklearn.svm import LinearSVC

    vectors, labels = [], []
    descriptor = DESCRIPTORS["hog"](small.side, cell=4)
    for split in (subset(small.dataset.splits["train"], picks), test):
        loaded = evaluation_pictures(split, small.preprocess).load(torch.get_num_threads())
        assert loaded.resident is not None
        with torch.no_grad():
            vectors.append(descriptor(loaded.resident.float()).flatten(1).numpy())
        labels.append(labels_of(loaded))
    machine = LinearSVC(C=1.0, random_state=0, max_iter=5_000).fit(vectors[0], labels[0])
    return 100 * float(machine.score(vectors[1], labels[1]))


def cnn_accuracy(small: Small, picks: np.ndarray, test: Split, seed: int, steps: int) -> float:
    """A small residual net with shifts and flips, for about so many steps, points."""
    batch = 32 if len(picks) < 1_000 else 64
    recipe = recipe_of(small, seed, max(1, round(steps * batch / len(picks))), batch=min(batch, len(picks)))
    recipe = replace(recipe, evaluate_from=1.0)
    loaded = training_pictures(subset(small.dataset.splits["train"], picks), small.side).load(recipe.threads)
    config = replace(RESNET_TINY, num_classes=small.classes, resolution=small.side)
    state = make_state(config, recipe, "cpu")
    for _ in train(state, loaded, small.preprocess, recipe, small.classes):
        pass
    pictures = evaluation_pictures(test, small.preprocess).load(recipe.threads)
    return 100 * accuracy(predict_logits(state.best, pictures, small.preprocess), labels_of(pictures))


def measure(context: Context) -> list[Found]:
    """Two sizes of the training set, each drawn anew with every seed."""
    values: dict[str, list[float]] = {FEW: [], MANY: []}
    many = 1_000 if context.full else 300
    for seed in range(context.seeds):
        small = opened(context, seed)
        test = small.dataset.splits.get("test") or small.dataset.splits["val"]
        if len(test) > 2_000 and not context.full:
            test = subset(test, np.arange(0, len(test), len(test) // 2_000))
        for label, count, steps in ((FEW, 5, STEPS), (MANY, many, 2 * STEPS)):
            picks = drawn_per_class(small.dataset.splits["train"], count, seed)
            values[label].append(hog_accuracy(small, picks, test) - cnn_accuracy(small, picks, test, seed, steps))
    return [Found(name, tuple(v)) for name, v in values.items()]


SOURCE = "ILSVRC 2012, results"

TABLE = Table(
    name="hog_against_cnn",
    seed_page="000",
    paper="ImageNet Classification with Deep CNNs against hand-made features",
    arxiv="",
    claim="Hand-made features win with few pictures a class, a CNN with many.",
    scale="ILSVRC 2012: 26.2 % top-5 error with Fisher vectors, 15.3 to 16.4 with AlexNet",
    contrasts=(
        Contrast(FEW, Published(5.0, "5 pictures a class", "-", "expected")),
        Contrast(MANY, Published(-10.8, "1.2 M pictures, top-5", SOURCE, "memory"), claim="less"),
    ),
    study=Measurement(measure, pictures=True),
    minutes=60.0,
    critique="the crossing is at 30 to 100 pictures a class by what others report; here both ends are asked for",
)
