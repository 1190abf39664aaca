"""Three regimes of training on the sphere, by effective rate."""

import numpy as np
import torch
import torch.nn.functional as F

from foveate.analysis.sphere import invariant_names, train_at
from foveate.config import replace
from foveate.train.intervals import wilson
from foveate.workflows.papers.hosts import VGG_TINY
from foveate.workflows.papers.small import opened, tensors
from foveate.workflows.papers.table import Context, Contrast, Found, Measurement, Published, Table
from foveate.zoo import build

ORDER = ("convergence", "equilibrium", "divergence")
SHARE, SEEN = "share of seeds with the regimes in order - 1/2", "share of seeds with all three - 1/2"


def in_order(regimes: list[str]) -> bool:
    """Whether they never go back."""
    numbers = [ORDER.index(r) for r in regimes]
    return numbers == sorted(numbers)


def measure(context: Context) -> list[Found]:
    """A grid of effective rates from 1e-5 to 1 (quick: 1e-3 to 10), each a training of its own, all else frozen."""
    ordered, all_three, said = 0, 0, []
    rates = np.geomspace(1e-5, 1.0, 12) if context.full else np.geomspace(1e-3, 10.0, 6)
    for seed in range(context.seeds):
        small = opened(context, seed)
        x, y = tensors(small, "train", 5_000 if context.full else 600)
        torch.manual_seed(seed)
        affine = replace(VGG_TINY.layers, norm="batch_norm(scale=False)")
        config = replace(VGG_TINY, layers=affine, num_classes=small.classes, resolution=small.side)
        model = build(config).train()
        names = invariant_names(model, [(x[:64], y[:64])])
        runs = [
            train_at(
                model,
                names,
                (x, y),
                F.cross_entropy,
                float(rate),
                epochs=30 if context.full else 12,
                batch=64,
                classes=small.classes,
                seed=seed,
            )
            for rate in rates
        ]
        regimes = [str(run.regime) for run in runs]
        ordered += in_order(regimes)
        all_three += len(set(regimes)) == 3
        said.append("".join(r[0] for r in regimes))
    note = f"regimes by rate ({', '.join(f'{r:.0e}' for r in rates)}): {' '.join(said)}"
    return [share(SHARE, ordered, context.seeds, note), share(SEEN, all_three, context.seeds)]


def share(label: str, k: int, n: int, note: str = "") -> Found:
    """A share less 1/2, with Wilson's interval."""
    low, high = wilson(k, n, 0.95)
    return Found(label, (k / n - 0.5,), low - 0.5, high - 0.5, note)


SOURCE = Published(0.5, "every training", "arXiv:2209.03695, figure 1", "memory", "share")

TABLE = Table(
    name="sphere",
    seed_page="003",
    paper="Training Scale-Invariant Neural Networks on the Sphere Can Happen in Three Regimes",
    arxiv="2209.03695",
    claim="By effective rate a training converges, then stays at a level, then is chaotic, in this order.",
    scale="CIFAR-10 and -100, ConvNet and ResNet-18, fixed effective rates",
    contrasts=(Contrast(SHARE, SOURCE), Contrast(SEEN, SOURCE)),
    study=Measurement(measure, pictures=True),
    minutes=15.0,
    critique="a regime is told by the losses of its epochs; few epochs blur the borders, and a short grid may miss one",
)
