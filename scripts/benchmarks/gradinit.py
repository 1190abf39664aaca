"""Does GradInit help a deep plain VGG without norms? The first steps of SGD, with and without it, over several seeds.

    python scripts/benchmarks/gradinit.py DATA [--convs 4] [--width 16] [--steps 200] [--lr 0.1] [--seeds 5]
        [--iterations 150] [--scale-lr 0.03] [--starts own xavier] [--arms none true detached] [--threads 1]

DATA is "digits" or a folder with train/ and test/ of class folders (of which as many training pictures are used as
--subset says). The net: 3 stages of --convs 3x3 convolutions with biases, ReLU, a 2x2 maximum after each stage, one
linear layer. Batches of 64, SGD with momentum 0.9, weight decay 1e-4 and the gradient clipped to norm 1, as the paper
trains nets without norms, at a constant rate. A seed draws the weights, the batches and, by others than those trained
on, GradInit's. "own" is the zoo's start of a VGG (Kaiming's by fan-out, 0.01 for the classifier), "xavier" Xavier's.
Printed, each mean (lowest to highest of the seeds): norm of the gradient at the start over 1,024 pictures; loss of the
last 20 steps; accuracy on the test split; seconds of CPU that the start took, and the training.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from foveate.data.index import open_data
from foveate.data.load import evaluation_pictures
from foveate.data.preprocess import Preprocess, normalise
from foveate.train.initialisers import INITS
from foveate.zoo import build
from foveate.zoo.families.vgg import Stage, VGGConfig

BATCH = 64
Tensors = tuple[torch.Tensor, torch.Tensor]


def load(data: str, subset: int, threads: int) -> tuple[Tensors, Tensors, int]:
    """Training and test pictures, normalised, with labels; the number of classes."""
    side = 8 if data == "digits" else 32
    preprocess = Preprocess(resolution=side, resize=side, fit="squash")
    dataset = open_data(data if data == "digits" else Path(data), val=0.0, test=0.2)
    found = []
    for name in ("train", "test"):
        pictures = evaluation_pictures(dataset.splits[name], preprocess)
        some = np.random.default_rng(0).permutation(len(pictures))[:subset]
        item = pictures.gather(np.sort(some)) if len(some) < len(pictures) else pictures.load(threads).gather(some)
        found.append((normalise(item.pictures, preprocess), item.labels))
    return found[0], found[1], len(dataset.classes)


def run(
    start: str, arm: str, seed: int, train: Tensors, test: Tensors, classes: int, given: argparse.Namespace
) -> dict:
    """One training."""

    def draw(i: int, part: int = 1) -> Tensors:
        numbers = torch.Generator().manual_seed((seed * 2 + part) * 1_000_003 + i)
        picked = torch.randint(0, len(train[1]), (BATCH,), generator=numbers)
        return train[0][picked], F.one_hot(train[1][picked], classes).float()

    torch.manual_seed(seed)
    stages = tuple(Stage((given.width * 2**i,) * given.convs) for i in range(3))
    model = build(VGGConfig(stages, grid=1, hidden=(), dropout=0.0, num_classes=classes))
    INITS[start](seed)(model, draw)
    begun = time.process_time()
    if arm != "none":
        options = {"iterations": given.iterations, "lr": given.scale_lr, "detach": arm == "detached"}
        INITS["gradinit"](seed, **options)(model, draw)
    ready = time.process_time()
    F.cross_entropy(model(train[0][:1024]), train[1][:1024]).backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    optimizer = torch.optim.SGD(model.parameters(), lr=given.lr, momentum=0.9, weight_decay=1e-4)
    losses = []
    for i in range(given.steps):
        optimizer.zero_grad()
        x, y = draw(i, part=0)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        right = [
            (model(test[0][i : i + 256]).argmax(1) == test[1][i : i + 256]).sum().item()
            for i in range(0, len(test[1]), 256)
        ]
    return {
        "|g|": norm,
        "loss": statistics.mean(losses[-20:]),
        "accuracy %": 100 * sum(right) / len(test[1]),
        "start s": ready - begun,
        "training s": time.process_time() - ready,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--convs", type=int, default=4, help="of each of 3 stages")
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage; they double")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--scale-lr", type=float, default=0.03)
    parser.add_argument("--subset", type=int, default=5_000)
    parser.add_argument("--starts", nargs="+", choices=tuple(INITS), default=("own", "xavier"))
    parser.add_argument("--arms", nargs="+", choices=("none", "true", "detached"), default=("none", "true", "detached"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train, test, classes = load(given.data, given.subset, given.threads)
    print(f"{given.data}: {len(train[1])} training, {len(test[1])} test pictures; torch {torch.__version__}")
    print(vars(given))
    print("| start | GradInit | gradient norm | loss | accuracy % | start CPU s | training CPU s |")
    print("|---|---|---|---|---|---|---|")
    for start in given.starts:
        for arm in given.arms:
            rows = [run(start, arm, seed, train, test, classes, given) for seed in range(given.seeds)]
            cells = []
            for name in rows[0]:
                each = [row[name] for row in rows]
                cells.append(f"{statistics.mean(each):.3g} ({min(each):.3g} to {max(each):.3g})")
            print(f"| {start} | {arm} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
