"""CIFAR-10 from JPEG folders: foveate's loop beside a plain torchvision-style loop, the same network, epoch by epoch.

    python scripts/benchmarks/cifar.py FOLDER [--epochs 3] [--threads 2] [--limit N]

FOLDER has train/ and test/ with class folders. Both sides train resnet20_cifar (batch 128, Nesterov SGD 0.1, weight
decay 5e-4, one epoch of warm-up, cosine, random shift by 4 pixels and flip). The plain loop is ImageFolder, transforms
and a DataLoader with as many workers as threads. The two take turns in one process; seconds are wall and CPU (children
included).
--limit takes the first N training pictures of every class.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torchvision import datasets, transforms

from foveate.config import replace
from foveate.data.index import open_data
from foveate.data.load import evaluation_pictures, training_pictures
from foveate.data.preprocess import Preprocess
from foveate.recipes import RECIPES
from foveate.runs.setup import make_state
from foveate.train.evaluate import accuracy, labels_of, predict_logits
from foveate.train.intervals import wilson
from foveate.train.loop import train
from foveate.train.optim import learning_rate
from foveate.zoo import build, variant

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def cpu_s() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def plain(folder: Path, epochs: int, threads: int, chosen: list[int]):
    """Yield (seconds, CPU seconds, model) after every epoch of the usual loop."""
    torch.manual_seed(0)
    change = transforms.Compose(
        [
            transforms.RandomCrop(32, 4, padding_mode="reflect"),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    data = torch.utils.data.Subset(datasets.ImageFolder(folder / "train", change), chosen)
    loader = torch.utils.data.DataLoader(data, 128, shuffle=True, num_workers=threads, drop_last=True)
    model = build(replace(variant("resnet20_cifar"), num_classes=10))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    step, recipe = 0, RECIPES["cifar_standard"]
    for _ in range(epochs):
        wall, cpu = time.monotonic(), cpu_s()
        model.train()
        for x, y in loader:
            rate = learning_rate(recipe.schedule, 0.1, step, epochs * len(loader), len(loader))
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        yield time.monotonic() - wall, cpu_s() - cpu, model


def ours(split, epochs: int, preprocess: Preprocess):
    """Yield (seconds, CPU seconds, model) after every epoch; the first includes decoding all pictures."""
    recipe = replace(RECIPES["cifar_standard"], epochs=epochs, precision="fp32", layout="nchw")
    wall, cpu = time.monotonic(), cpu_s()
    pictures = training_pictures(split, 32).load(torch.get_num_threads())
    state = make_state(replace(variant("resnet20_cifar"), num_classes=10), recipe, "cpu")
    per_epoch = pictures.steps(recipe.batch)
    for step in train(state, pictures, preprocess, recipe, 10):
        if step.number % per_epoch == 0:
            yield time.monotonic() - wall, cpu_s() - cpu, state.best
            wall, cpu = time.monotonic(), cpu_s()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dataset = open_data(given.folder, val=0.0)
    split, preprocess = dataset.splits["train"], Preprocess(resolution=32, resize=32, fit="squash")
    if given.limit:
        from foveate.data.index import subset

        seen = dict.fromkeys(range(10), 0)
        chosen = [i for i, y in enumerate(split.labels) if (seen.update({y: seen[y] + 1}) or seen[y]) <= given.limit]
        split = subset(split, chosen)
    else:
        chosen = list(range(len(split)))
    test = evaluation_pictures(dataset.splits["test"], preprocess).load(given.threads)
    sides = {
        "plain": plain(given.folder, given.epochs, given.threads, chosen),
        "foveate": ours(split, given.epochs, preprocess),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for epoch in range(given.epochs):
        for name, epochs in sides.items():
            wall, cpu, model = next(epochs)
            seconds[name].append((wall, cpu))
            right = accuracy(predict_logits(model, test, preprocess), labels_of(test))
            low, high = wilson(round(right * len(test)), len(test))
            said = f"test {100 * right:.2f} % ({100 * low:.1f}-{100 * high:.1f}, n = {len(test):,})"
            print(f"epoch {epoch + 1} {name:<8} {wall:6.1f} s wall {cpu:6.1f} s CPU  {said}", flush=True)
    for i, what in enumerate(("wall", "CPU")):
        ratios = [p[i] / f[i] for p, f in zip(seconds["plain"], seconds["foveate"], strict=True)]
        each = ", ".join(f"{r:.2f}" for r in ratios)
        print(f"plain / foveate, {what} seconds an epoch: median {statistics.median(ratios):.2f} (each: {each})")


if __name__ == "__main__":
    main()
