"""Second-order Taylor: the squared change of the loss with its curvature (arXiv:1906.10771 eq. 4), in gates.

With g = dE/dz and H the Hessian in the gates z = 1:

    diagonal    (g_m - 1/2 H_mm)^2: each gate by itself, as optimal brain damage has it
    row         (g_m - 1/2 (H z)_m)^2: with its row of the Hessian, one product with it

On small networks it ranks units much as zeroing them does, where the first order does not.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from foveate.compress.criteria.score import Criterion, Scored
from foveate.compress.gates import Batch, Gates, check_size, evaluating, loss_of
from foveate.config import pick
from foveate.errors import ConfigError

FORMS = {"diagonal": None, "row": None}
SQUARES = {"batch": None, "all": None}


def taylor2(
    form: str = "diagonal",
    square: str = "all",
    probes: int = 2,
    momentum: float = 0.0,
    pictures: int = 512,
    seed: int = 0,
) -> Criterion:
    """form: see above. square: of the mean over all pictures, or of each minibatch before the mean ("batch").

    probes: for the diagonal, products of the Hessian with random signs, v * (H v), each picture with signs of its own
    (so that the pictures' number counts as probes too); 0: exact, one product for every unit, for small networks.
    """
    pick(FORMS, form, "taylor2 form")
    pick(SQUARES, square, "taylor2 square")
    if probes < 0:
        raise ConfigError(f"taylor2(probes={probes}): 0 for the exact diagonal, or at least 1")

    def score(model: nn.Module, batches: Iterable[Batch]) -> Scored:
        gates = Gates(model, "norm")
        generator = torch.Generator().manual_seed(seed)
        linear = bent = values = torch.zeros(gates.count, dtype=torch.float64)
        most, seen, count = 0.0, 0, 0
        for x, y in batches:
            with evaluating(model):
                g, h = derivatives(model, gates, x, y, form, probes, generator)  # sums over pictures
            most = max(most, float(g.abs().max()))
            values = values + (g - h / 2).div(len(x)).square()
            linear, bent, seen, count = linear + g, bent + h, seen + len(x), count + 1
        check_size(most)
        return Scored(gates.split(values / count if square == "batch" else ((linear - bent / 2) / seen).square()))

    return Criterion(score, pictures=pictures, momentum=momentum)


def derivatives(
    model: nn.Module,
    gates: Gates,
    x: torch.Tensor,
    y: torch.Tensor,
    form: str,
    probes: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(dE/dz, diagonal or row sums of the Hessian): (units,) float64 each, E the loss summed over the pictures."""
    z = torch.ones(len(x), gates.count, dtype=x.dtype, device=x.device, requires_grad=True)
    with gates.opened(z):
        loss = loss_of(model, x, y)
        (slope,) = torch.autograd.grad(loss, z, create_graph=True)
    total = slope.sum(0)
    if form == "row":
        (product,) = torch.autograd.grad(slope.sum(), z)  # H 1: pictures do not meet, so each has a block of its own
        found = product.sum(0)
    elif probes:
        signs = (torch.randint(0, 2, z.shape, generator=generator) * 2 - 1 for _ in range(probes))
        found = torch.stack([_probe(slope, z, v.to(z), last=i == probes - 1) for i, v in enumerate(signs)]).mean(0)
    else:
        found = torch.stack(list(_columns(total, z)))
    return total.detach().double().cpu(), found.detach().double().cpu()


def _probe(slope: torch.Tensor, z: torch.Tensor, v: torch.Tensor, last: bool) -> torch.Tensor:
    (product,) = torch.autograd.grad((slope * v).sum(), z, retain_graph=not last)
    return (v * product).sum(0)


def _columns(total: torch.Tensor, z: torch.Tensor) -> Iterator[torch.Tensor]:
    for m in range(len(total)):
        (column,) = torch.autograd.grad(total[m], z, retain_graph=True)
        yield column[:, m].sum()
