"""One SNGAN trained and judged: hinge loss, Adam (0, 0.9), rate to 0 in a line, averaged generator."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.config import record
from foveate.layers import Layers
from foveate.workflows.papers.gan.networks import LATENT, Discriminator, Generator
from foveate.workflows.papers.gan.scores import fid, kid


@record
class GanPlan:
    """What is trained. The defaults are the published form at a quarter of its width."""

    width: int = 64
    steps: int = 50_000  # of the generator
    batch: int = 64
    critic_steps: int = 5  # of the discriminator for one of the generator
    rate_g: float = 2e-4
    rate_d: float = 2e-4
    average: float = 0.999  # of the generator that is judged
    generator: Layers = Layers()
    discriminator: Layers = Layers()
    seed: int = 0


@dataclass(frozen=True)
class GanRow:
    """The averaged generator after some steps; losses of the last of them, 0 before the first."""

    step: int
    fid: float
    kid: float
    loss_d: float
    loss_g: float


@dataclass(frozen=True)
class GanResult:
    """rows: every so many steps; sheet: samples (16, 3, 32, 32) from -1 to 1, always of the same draws."""

    plan: GanPlan
    rows: tuple[GanRow, ...]
    sheet: Tensor


def run_gan(
    plan: GanPlan,
    real: Tensor,
    features: Callable[[Tensor], Tensor],
    *,
    samples: int = 5000,
    every: int = 500,
    listener: Callable[[GanRow], None] | None = None,
) -> GanResult:
    """Train on real pictures (n, 3, 32, 32) from -1 to 1 and measure `samples` pictures every `every` steps.

    features: pictures -> (n, d), of the network by which FID and KID are read; where it is not the published Inception
    the figures compare arms of one experiment only. The last rows stand whatever they are: a collapse is not retried.
    """
    draw = torch.Generator().manual_seed(plan.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        g, d = Generator(plan.width, plan.generator), Discriminator(plan.width, plan.discriminator)
    mean = copy.deepcopy(g).eval()
    adam_g = torch.optim.Adam(g.parameters(), plan.rate_g, (0.0, 0.9))
    adam_d = torch.optim.Adam(d.parameters(), plan.rate_d, (0.0, 0.9))
    fixed = torch.randn(samples, LATENT, generator=torch.Generator().manual_seed(plan.seed + 1))
    known = seen(features, real[:samples])
    rows: list[GanRow] = []
    loss_d = loss_g = 0.0
    for step in range(plan.steps + 1):
        if step % every == 0 or step == plan.steps:
            made = seen(lambda z: features(mean(z)), fixed)
            rows.append(GanRow(step, fid(known, made), kid(known, made), loss_d, loss_g))
            if listener:
                listener(rows[-1])
        if step == plan.steps:
            break
        for adam, peak in ((adam_g, plan.rate_g), (adam_d, plan.rate_d)):
            adam.param_groups[0]["lr"] = peak * (1 - step / plan.steps)
        for _ in range(plan.critic_steps):
            batch = real[torch.randint(len(real), (plan.batch,), generator=draw)]
            with torch.no_grad():
                fake = g(torch.randn(plan.batch, LATENT, generator=draw))
            loss = F.relu(1 - d(batch)).mean() + F.relu(1 + d(fake)).mean()
            loss_d = descend(adam_d, loss)
        d.requires_grad_(False)
        loss_g = descend(adam_g, -d(g(torch.randn(plan.batch, LATENT, generator=draw))).mean())
        d.requires_grad_(True)
        follow(mean, g, plan.average)
    with torch.no_grad():
        return GanResult(plan, tuple(rows), mean(fixed[:16]))


def descend(adam: torch.optim.Optimizer, loss: Tensor) -> float:
    """One step; the loss before it."""
    adam.zero_grad()
    loss.backward()
    adam.step()
    return loss.item()


@torch.no_grad()
def follow(mean: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    """The average's weights go a step towards the model's; running statistics are taken over."""
    for ours, theirs in zip(mean.parameters(), model.parameters(), strict=True):
        ours.lerp_(theirs, 1 - decay)
    for held, now in zip(mean.buffers(), model.buffers(), strict=True):
        held.copy_(now)


@torch.no_grad()
def seen(features: Callable[[Tensor], Tensor], x: Tensor, batch: int = 250) -> Tensor:
    """Features of all rows of x."""
    return torch.cat([features(part) for part in x.split(batch)])
