"""Which statistics batch norm should test with: running means, the last batch, exact ones, or the test batch's own."""

import copy

import torch
from torch import nn

from foveate.train.statistics import refresh
from foveate.workflows.papers.hosts import RESNET_TINY
from foveate.workflows.papers.small import Batch, opened, recipe_of, tensors, trained
from foveate.workflows.papers.table import Context, Contrast, Found, Measurement, Published, Table

LAST, FEW, EXACT, OWN = (
    "last batch of 64 - running mean",
    "last batch of 8 - running mean",
    "exact statistics - running mean",
    "statistics of the test batch - running mean",
)


def accuracy(model: nn.Module, batch: Batch) -> float:
    """Points, in batches of 64."""
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(*(t.split(64) for t in batch), strict=True))
    return 100 * right / len(batch[1])


def measure(context: Context) -> list[Found]:
    """The same trained weights, tested with other statistics: no training noise between the rows of a seed."""
    values: dict[str, list[float]] = {name: [] for name in (LAST, FEW, EXACT, OWN)}
    for seed in range(context.seeds):
        small = opened(context, seed)
        pictures = 0 if context.full else 2_000
        model = trained(RESNET_TINY, small, recipe_of(small, seed, 20 if context.full else 12), pictures)
        train, test = tensors(small, "train", pictures), tensors(small, "test", 0 if context.full else 2_000)
        running = accuracy(model, test)
        order = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(seed))
        for name, given in ((LAST, order[:64].split(64)), (FEW, order[:8].split(8)), (EXACT, order.split(64))):
            other = copy.deepcopy(model)
            refresh(other, [train[0][i] for i in given if len(i) > 1])
            values[name].append(accuracy(other.eval(), test) - running)
        own = copy.deepcopy(model)
        for m in own.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.train()
                m.momentum = 0.0
        values[OWN].append(accuracy(own, test) - running)
    return [Found(name, tuple(v)) for name, v in values.items()]


SOURCE = Published(None, "the paper tests with population statistics", "arXiv:1502.03167, section 3.1")

TABLE = Table(
    name="bn_inference",
    seed_page="004",
    paper="Batch Normalization",
    arxiv="1502.03167",
    claim="Testing with the statistics of the last batch is worse than with running means.",
    scale="ImageNet, Inception",
    contrasts=(
        Contrast(LAST, Published(-2.0, "1 to 3 points", "-", "expected"), claim="less"),
        Contrast(FEW, Published(-5.0, "a smaller batch", "-", "expected"), claim="less"),
        Contrast(EXACT, SOURCE, claim="same", margin=0.5, main=False),
        Contrast(OWN, SOURCE, claim="same", margin=0.5, main=False),
    ),
    study=Measurement(measure, pictures=True),
    minutes=15.0,
    critique="behind a schedule that ends at 0 running means and exact statistics agree, arXiv:2105.07576 (m)",
)
