"""First-order Taylor: the squared change of the loss when a unit goes, as its gradient foretells (arXiv:1906.10771).

Removing unit m costs I_m = (E(W) - E(W | w_m = 0))^2, to first order (g_m w_m)^2. Forms of it for a group of numbers:

    joint       (sum_s g_s w_s)^2 over all weights and biases that make the unit's channels
    additive    sum_s (g_s w_s)^2: signs do not cancel
    gate        (dE/dz)^2 for a gate z = 1 after the norm, before the activation: the paper's best ("Taylor-FO-BN")
    input       the same where the unit's channels are read (foveate.compress.gates)
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import nn

from foveate.compress.criteria.score import Criterion, Scored
from foveate.compress.gates import (
    Batch,
    Gates,
    by_picture,
    check_size,
    coupling_of,
    evaluating,
    homes,
    loss_of,
    starts,
)
from foveate.config import pick
from foveate.errors import ConfigError

Square = Literal["batch", "sample", "all"]
FORMS = {"gate": "norm", "input": "input", "joint": None, "additive": None}
SQUARES = {"batch": None, "sample": None, "all": None}


def taylor(form: str = "gate", square: Square = "batch", momentum: float = 0.0, pictures: int = 512) -> Criterion:
    """form: see above. square: what is squared before the mean: the gradient of a minibatch (the paper's main runs), of
    a single picture ("sample", gates only), or of all batches together ("all": units whose sign changes count little).

    A unit that passes at several places has one gate and the sum of their derivatives: two equal branches give 4 times
    the score of one. (The released code divides that by the number of blocks; here the schedule divides by what a unit
    costs.) Norms are in evaluation mode.
    """
    at = pick(FORMS, form, "taylor form")
    pick(SQUARES, square, "taylor square")
    if at is None and square == "sample":
        raise ConfigError(f"taylor(form={form!r}, square='sample'): single pictures need gates: form='gate'")

    def by_gates(model: nn.Module, batches: Iterable[Batch]) -> Scored:
        gates = Gates(model, "norm" if at == "norm" else "input")
        values, seen = torch.zeros(gates.count, dtype=torch.float64), 0
        for q in by_picture(model, gates, batches):
            q = q.cpu()
            weight = len(q) if square != "batch" else 1
            values += {"batch": q.mean(0).square(), "sample": q.square().sum(0), "all": q.sum(0)}[square]
            seen += weight
        values = (values / seen).square() if square == "all" else values / seen
        return Scored(gates.split(values))

    def by_weights(model: nn.Module, batches: Iterable[Batch]) -> Scored:
        rows, learnt = Rows(model), dict(model.named_parameters())
        total = [torch.zeros_like(learnt[key]) for key in rows.index]
        values, seen, most = torch.zeros(rows.count, dtype=torch.float64), 0, 0.0
        wanted = [learnt[key] for key in rows.index]
        if not any(w.requires_grad for w in wanted):
            raise ConfigError(f"taylor(form={form!r}) needs gradients, and all weights are frozen; take form='gate'")
        for x, y in batches:
            with evaluating(model), thawed(wanted):
                found = torch.autograd.grad(loss_of(model, x, y), wanted, allow_unused=True)
            gradients = [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted, strict=True)]
            most = max(most, *(float(g.abs().max()) for g in gradients))
            if square == "batch":
                values += rows.scores([g / len(x) for g in gradients], learnt, form)
            total = [t + g for t, g in zip(total, gradients, strict=True)]
            seen += 1 if square == "batch" else len(x)
        check_size(most)
        if square == "all":
            return Scored(rows.split(rows.scores([t / seen for t in total], learnt, form)))
        return Scored(rows.split(values / seen))

    return Criterion(by_weights if at is None else by_gates, pictures=pictures, momentum=momentum)


@contextlib.contextmanager
def thawed(tensors: list[nn.Parameter]) -> Iterator[None]:
    """All of these require gradients within the block, also those that never learn (fixed patches)."""
    frozen = [t for t in tensors if not t.requires_grad]
    try:
        for t in frozen:
            t.requires_grad_(True)
        yield
    finally:
        for t in frozen:
            t.requires_grad_(False)


class Rows:
    """The rows of weights and biases that make each unit's channels; the parameters of norms are not among them."""

    def __init__(self, model: nn.Module):
        coupling = coupling_of(model)
        begin, self.count = starts(coupling)
        self.sizes = {name: (start, len(coupling.groups[name].units)) for name, start in begin.items()}
        home, shapes = homes(coupling), coupling.shapes
        makers = {key.rpartition(".")[0] for key, shape in shapes.items() if len(shape) > 1}
        learnt = dict(model.named_parameters())
        self.index: dict[str, torch.Tensor] = {}  # key -> unit of each row, `count` for none
        for (key, axis), seen in coupling.trace.axes.items():
            units = [home.get(label, self.count) for label in seen.labels]
            if axis == 0 and key in learnt and key.rpartition(".")[0] in makers and min(units) < self.count:
                self.index[key] = torch.tensor(units)

    def scores(self, gradients: list[torch.Tensor], learnt: dict[str, nn.Parameter], form: str) -> torch.Tensor:
        """(units,) float64."""
        total = torch.zeros(self.count + 1, dtype=torch.float64)
        for (key, index), g in zip(self.index.items(), gradients, strict=True):
            part = (g * learnt[key].detach()).double().cpu().flatten(1 if g.ndim > 1 else 0)
            part = part.square() if form == "additive" else part
            total.index_add_(0, index, part.sum(1) if part.ndim > 1 else part)
        return total[:-1] if form == "additive" else total[:-1].square()

    def split(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """(units,) by group."""
        return {name: values[start : start + n] for name, (start, n) in self.sizes.items()}
