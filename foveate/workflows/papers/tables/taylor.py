"""Is the loss of removing a filter foretold by gradients?"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from foveate.compress.criteria import make_criterion
from foveate.compress.gates import Gates
from foveate.workflows.papers.hosts import RESNET_TINY
from foveate.workflows.papers.small import Batch, opened, recipe_of, tensors, trained
from foveate.workflows.papers.table import Context, Contrast, Found, Measurement, Published, Table

CRITERIA = ("taylor", "norm", "random")
SETTLED = "correlation of Taylor and the true change - 0.93"
BETTER, RANDOM = "rank correlation: Taylor - size of the weights", "rank correlation: Taylor - random"


def true_changes(model: nn.Module, gates: Gates, batch: Batch) -> torch.Tensor:
    """The squared change of the mean loss when each unit goes alone, (units,) float64."""
    x, y = batch
    found = torch.zeros(gates.count, dtype=torch.float64)
    with torch.no_grad():
        whole = float(F.cross_entropy(model(x), y))
        for unit in range(gates.count):
            z = torch.ones(gates.count)
            z[unit] = 0
            with gates.opened(z):
                found[unit] = (float(F.cross_entropy(model(x), y)) - whole) ** 2
    return found


def flat(values: Mapping[str, torch.Tensor], gates: Gates) -> torch.Tensor:
    """Scores by group in the order of the gates."""
    return torch.cat([values[name].double().reshape(-1) for name in gates.starts])


def pearson(a: torch.Tensor, b: torch.Tensor) -> float:
    """Linear correlation."""
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def spearman(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of the ranks."""
    return pearson(a.argsort().argsort().double(), b.argsort().argsort().double())


def batches_of(batch: Batch, size: int = 64) -> Sequence[Batch]:
    """The pictures in batches."""
    return list(zip(batch[0].split(size), batch[1].split(size), strict=True))


def measure(context: Context) -> list[Found]:
    """A net trained small, every unit removed in turn, against what each criterion says of it."""
    values: dict[str, list[float]] = {name: [] for name in (SETTLED, BETTER, RANDOM)}
    for seed in range(context.seeds):
        small = opened(context, seed)
        epochs, pictures = (20, 0) if context.full else (4, 2_000)
        model = trained(RESNET_TINY, small, recipe_of(small, seed, epochs), pictures)
        batch = tensors(small, "train", 1_000 if context.full else 300)
        gates = Gates(model)
        truth = true_changes(model, gates, batch)
        scores = {}
        for name in CRITERIA:
            torch.manual_seed(seed)
            scores[name] = flat(make_criterion(name).score(model, iter(batches_of(batch))).values, gates)
        linear = make_criterion("taylor(square='all')").score(model, iter(batches_of(batch)))
        values[SETTLED].append(pearson(flat(linear.values, gates), truth) - 0.93)
        ranks = {name: spearman(score, truth) for name, score in scores.items()}
        values[BETTER].append(ranks["taylor"] - ranks["norm"])
        values[RANDOM].append(ranks["taylor"] - ranks["random"])
    return [Found(name, tuple(v)) for name, v in values.items()]


SOURCE = "arXiv:1906.10771, section 4.1"

TABLE = Table(
    name="taylor",
    seed_page="003",
    paper="Importance Estimation for Neural Network Pruning",
    arxiv="1906.10771",
    claim="First-order Taylor correlates above 0.93 with the true loss of removing a filter.",
    scale="CIFAR-10 LeNet and ResNet; ImageNet ResNet-101 without 40 % of its MACs at -0.02",
    contrasts=(
        Contrast(
            SETTLED,
            Published(0.0, "above 0.93", SOURCE, "memory", "correlation"),
            claim="same",
            margin=0.07,
        ),
        Contrast(BETTER, Published(None, "the direction", SOURCE, "memory", "correlation"), effect=0.2),
        Contrast(RANDOM, Published(0.93, "random is 0", SOURCE, "memory", "correlation"), main=False),
    ),
    study=Measurement(measure, pictures=True),
    minutes=30.0,
    critique="the paper's correlation is over filters of all layers; squared changes have long tails: a few decide",
)
