"""How the largest rate that trains grows with the batch."""

import math

import torch
import torch.nn.functional as F

from foveate.config import replace
from foveate.layers import Layers
from foveate.workflows.papers.hosts import vgg
from foveate.workflows.papers.small import Batch, opened, slope, tensors
from foveate.workflows.papers.table import Context, Contrast, Found, Measurement, Published, Table
from foveate.zoo import build
from foveate.zoo.family import Config

HOST = vgg((16, 32, 64), Layers(norm="none", conv="conv2d_bias"))
SGD, ADAM = "exponent of SGD's largest rate - 1", "exponent of Adam's largest rate - 1/2"
GROWS = "exponent of SGD's largest rate"
STEP = math.sqrt(2.0)


def trains(config: Config, data: Batch, rate: float, batch: int, steps: int, name: str, seed: int) -> bool:
    """Whether the loss stays finite and ends below where it began: no schedule, no momentum."""
    torch.manual_seed(seed)
    model = build(config).train()
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    optimiser = kinds[name](model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        picks = torch.randint(len(data[1]), (batch,), generator=generator)
        loss = F.cross_entropy(model(data[0][picks]), data[1][picks])
        if not math.isfinite(float(loss.detach())):
            return False
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    last = losses[-max(3, steps // 4) :]
    return sum(last) / len(last) < losses[0] and max(last) < 2 * losses[0]


def largest(config: Config, data: Batch, batch: int, steps: int, name: str, seed: int, start: float) -> float:
    """On a grid of steps of the root of 2, found by going up in fours and halving the gap."""
    low, high = 0, 1
    while high < 30 and trains(config, data, start * STEP ** (4 * high), batch, steps, name, seed):
        low, high = high, high + 1
    low, high = 4 * low, 4 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high) if trains(config, data, start * STEP**middle, batch, steps, name, seed) else (low, middle)
        )
    return start * STEP**low


def measure(context: Context) -> list[Found]:
    """Batches of 8 to 512 (quick: 8 to 128), the slope of log rate on log batch for each seed."""
    batches, steps = ((8, 16, 32, 64, 128, 256, 512), 200) if context.full else ((8, 32, 128), 40)
    values: dict[str, list[float]] = {"sgd": [], "adam": []}
    for seed in range(context.seeds):
        small = opened(context, seed)
        data = tensors(small, "train", 0 if context.full else 1_000)
        config = replace(HOST, num_classes=small.classes, resolution=small.side)
        for name, start in (("sgd", 0.003), ("adam", 1e-4)):
            rates = [largest(config, data, b, steps, name, seed, start) for b in batches]
            values[name].append(slope(batches, rates))
    sgd, adam = values["sgd"], values["adam"]
    note = f"batches {batches}, {steps} steps, no norms, grid of sqrt 2"
    return [
        Found(GROWS, tuple(sgd), note=note),
        Found(SGD, tuple(v - 1 for v in sgd)),
        Found(ADAM, tuple(v - 0.5 for v in adam)),
    ]


SOURCE = "arXiv:2006.09092, section 5"

TABLE = Table(
    name="rates_by_batch",
    seed_page="003",
    paper="Learning Rates as a Function of Batch Size: A Random Matrix Theory Approach",
    arxiv="2006.09092",
    claim="The largest rate grows with the batch for SGD until it saturates, with its root for Adam.",
    scale="CIFAR-100, VGG-16 and WRN-28-10",
    contrasts=(
        Contrast(GROWS, Published(1.0, "below saturation", SOURCE, "memory", "exponent")),
        Contrast(SGD, Published(0.0, "linear", SOURCE, "memory", "exponent"), claim="same", margin=0.25, main=False),
        Contrast(ADAM, Published(0.0, "the root", SOURCE, "memory", "exponent"), claim="same", margin=0.25, main=False),
    ),
    study=Measurement(measure, pictures=True),
    minutes=25.0,
    critique="arXiv:1811.03600: where it saturates depends on the task; norms blur the limit, so there are none here",
)
