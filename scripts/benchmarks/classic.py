"""Classical pipelines on digits and CIFAR-10 over several seeds: test accuracy beside CPU seconds, end to end.

    python scripts/benchmarks/classic.py digits [--seeds 10]
    python scripts/benchmarks/classic.py FOLDER [--pictures 5000] [--test 1000] [--seeds 3] [--only NAME,NAME]
        [--results FILE] [--table]

FOLDER has train/ and test/ with class folders of pictures of 32 x 32. A seed draws the pictures: of digits 360 for the
test, of a folder equally many a class. --pictures 0 and --test 0: all. Counted are reading, words, vectors, classifier
and test, in CPU seconds of the process. One JSON line a run; --table prints what the results hold.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from foveate.classic.fit import fit
from foveate.config import replace
from foveate.cost.latency import device_name
from foveate.data.index import Split, open_data, subset
from foveate.data.load import evaluation_pictures
from foveate.data.preprocess import Preprocess
from foveate.runs.setup import cpu_threads
from foveate.selection.pipelines import scaled
from foveate.train.evaluate import accuracy, labels_of
from foveate.zoo.composed.classic import ClassicConfig

HOG = ClassicConfig(("hog(cell=8)",), resolution=32)
SCANS = ClassicConfig(("hog(cell=4, size=16, pad=4)",), resolution=8)
PATCHES = replace(HOG, features=("patches(side=6)",), coding="triangle(words=400)", grids=(2,))
SIFT = replace(HOG, features=("sift(cell=3, step=2)",), coding="fisher(components=32)", grids=(1, 2))
PIPELINES = {
    "digits": {"hog+rbf": (SCANS, "rbf"), "hog+linear": (SCANS, "linear")},
    "folder": {
        "hog+rbf": (HOG, "rbf"),
        "hog+lbp+rbf": (replace(HOG, features=("hog(cell=8)", "lbp(grid=2)")), "rbf"),
        "hog+lbp+colour+rbf": (replace(HOG, features=("hog(cell=8)", "lbp(grid=2)", "colour()")), "rbf"),
        "fisher+linear": (SIFT, "linear"),
        "triangle+linear": (PATCHES, "linear(c=0.3)"),
        "triangle800+linear": (replace(PATCHES, coding="triangle(words=800)"), "linear(c=0.1)"),
    },
}


def drawn(split: Split, a_class: int, rng: np.random.Generator) -> np.ndarray:
    """So many places of each class, in order; 0: all."""
    labels = np.array(split.labels)
    if not a_class:
        return np.arange(len(labels))
    each = [rng.choice(np.flatnonzero(labels == c), a_class, replace=False) for c in range(labels.max() + 1)]
    return np.sort(np.concatenate(each))


def parts(chosen: argparse.Namespace, seed: int) -> tuple[Split, Split, int]:
    """Training and test pictures of a seed, and how many classes."""
    rng = np.random.default_rng(seed)
    if chosen.data == "digits":
        data = open_data("digits", seed=seed, val=0.1, test=360 / 1797)
        both = [data.splits[name] for name in ("train", "val")]
        pixels = np.concatenate([s.pixels for s in both])
        train = Split(sum((s.paths for s in both), ()), sum((s.labels for s in both), ()), pixels)
        return train, data.splits["test"], len(data.classes)
    data = open_data(chosen.data, val=0.1)
    train, test = data.splits["train"], data.splits["test"]
    if "val" in data.splits:
        more = data.splits["val"]
        train = Split(train.paths + more.paths, train.labels + more.labels)
    k = len(data.classes)
    return subset(train, drawn(train, chosen.pictures // k, rng)), subset(test, drawn(test, chosen.test // k, rng)), k


def one(name: str, config: ClassicConfig, classifier: str, train: Split, test: Split, classes: int, seed: int) -> dict:
    """One run: what was measured."""
    size = config.resolution
    view = Preprocess(resolution=size, resize=size, fit="squash", mean=(0.0,) * 3, std=(1.0,) * 3)
    begun = time.process_time()
    seen, unseen = (evaluation_pictures(part, view).load(1) for part in (train, test))
    model = fit(replace(config, num_classes=classes), classifier, lambda: scaled(seen), labels_of(seen), seed=seed)
    with torch.inference_mode():
        logits = np.concatenate([model(x).numpy() for x in scaled(unseen)])
    found = {"pipeline": name, "seed": seed, "train": len(seen), "test": len(unseen)}
    reached = {"accuracy": accuracy(logits, labels_of(unseen)), "cpu_s": time.process_time() - begun}
    return {**found, **reached, "numbers": model.num_features, "device": device_name()}


def table(rows: list[dict]) -> str:
    """Mean, deviation and CPU seconds of each pipeline, as Markdown."""
    lines = [
        "| training | test | pipeline | numbers | test % (deviation, seeds) | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["train"], row["test"], row["pipeline"], row["numbers"]), []).append(row)
    for (train, test, name, numbers), found in groups.items():
        scores = [100 * row["accuracy"] for row in found]
        spread = statistics.stdev(scores) if len(scores) > 1 else math.nan
        mean = f"{statistics.mean(scores):.2f} ({spread:.2f}, {len(scores)})"
        spent = statistics.mean(row["cpu_s"] for row in found)
        lines.append(f"| {train:,} | {test:,} | {name} | {numbers:,} | {mean} | {spent:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--results", type=Path, default=Path("classic.jsonl"))
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    if not chosen.table:
        pipelines = PIPELINES["digits" if chosen.data == "digits" else "folder"]
        names = [name for name in pipelines if not chosen.only or name in chosen.only.split(",")]
        for seed in range(chosen.seeds):
            split = parts(chosen, seed)
            for name in names:
                with cpu_threads(1):
                    row = one(name, *pipelines[name], *split, seed)
                with chosen.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
    print(table([json.loads(line) for line in chosen.results.read_text().splitlines()]))


if __name__ == "__main__":
    main()
