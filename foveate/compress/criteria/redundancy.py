"""Redundancy of a layer, from the rank of its gradient matrix, and a hierarchical choice: layers first, then filters.

A reconstruction, ours: of "Neural Network Compression via Effective Filter Analysis and Hierarchical Pruning"
(arXiv:2206.03596) only abstracts were at hand, no formula, no table and no code. Nothing here claims to reproduce it.

    q_i[m] = dE_i/dz_m              the derivative of picture i's loss by the gate of unit m
    G = [q_i[m]]  (N x n)           of one group; F = G^T G / N: the empirical Fisher matrix in gates
    r = min{ r : f_1 + ... + f_r >= (1 - tau) trace F }, f the eigenvalues, largest first
    redundancy = 1 - r / n          at most n - r units go before other groups must give more

Layers give in turn, those first whose dropped eigenvalues hold the least share of the trace. In a layer the units that
a column-pivoted QR of G takes last go first: what they add to those before them is least.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch import nn

from foveate.compress.criteria.score import Criterion, Scored
from foveate.compress.gates import Batch, Gates, by_picture
from foveate.config import pick
from foveate.errors import ConfigError

PER_UNIT = 4  # pictures for each unit of the largest group
WITHIN = {"pivots": None, "fisher": None}


def redundancy(
    tau: float = 1e-2, within: Literal["pivots", "fisher"] = "pivots", momentum: float = 0.0, pictures: int = 512
) -> Criterion:
    """tau: the share of the trace that may go, 1e-2 or 1e-3. within: how units of a layer are ranked, by the pivots of
    QR or by F_mm alone.
    """
    pick(WITHIN, within, "redundancy within")
    if not 0 < tau < 1:
        raise ConfigError(f"redundancy(tau={tau}): above 0 and below 1; 1e-2 and 1e-3 are usual")

    def score(model: nn.Module, batches: Iterable[Batch]) -> Scored:
        values, most, order = {}, {}, {}
        for name, matrix in matrices(model, batches).items():
            power = float(matrix.square().sum())
            rank, dropped = rank_of(matrix, tau)
            most[name], order[name] = matrix.shape[1] - rank, dropped
            own = pivots(matrix) if within == "pivots" else matrix.square().sum(0)
            values[name] = own / power if power else own
        return Scored(values, most, order)

    return Criterion(score, pictures=pictures, per_unit=PER_UNIT, momentum=momentum, by_cost=0.0)


def bounds(model: nn.Module, batches: Iterable[Batch], tau: float) -> dict[str, int]:
    """Group -> how many units its redundancy allows to go, a bound for any criterion."""
    return {name: m.shape[1] - rank_of(m, tau)[0] for name, m in matrices(model, batches).items()}


def net_redundancy(model: nn.Module, batches: Iterable[Batch], tau: float) -> float:
    """The mean over groups of 1 - r / n, weighted by the parameters that make their channels: an upper bound of what
    can go, not a target.
    """
    found = matrices(model, batches)
    gates, state = Gates(model), dict(model.named_parameters())
    shares = dict.fromkeys(found, 0.0)
    begin = {start: name for name, start in gates.starts.items()}
    for (key, axis), seen in gates.coupling.trace.axes.items():
        if axis == 0 and key in state and state[key].ndim > 1:
            for label in seen.labels:
                if (unit := gates.home.get(label)) is not None:
                    shares[begin[max(s for s in begin if s <= unit)]] += state[key][0].numel()
    rho = {name: 1 - rank_of(m, tau)[0] / m.shape[1] for name, m in found.items()}
    return sum(shares[n] * rho[n] for n in found) / max(1.0, sum(shares.values()))


def matrices(model: nn.Module, batches: Iterable[Batch]) -> dict[str, torch.Tensor]:
    """Group -> G (N, n). ConfigError with fewer pictures than units: the rank would be that of the pictures."""
    gates = Gates(model)
    rows = torch.cat([q.cpu() for q in by_picture(model, gates, batches)] or [torch.zeros(0, gates.count)])
    found = gates.split(rows)
    name, most = max(((n, m.shape[1]) for n, m in found.items()), key=lambda pair: pair[1])
    if len(rows) < most:
        raise ConfigError(
            f"redundancy: {len(rows)} pictures for the {most} units of {name}; at least as many, or {PER_UNIT} times"
        )
    return found


def rank_of(matrix: torch.Tensor, tau: float) -> tuple[int, float]:
    """(r, the share of the trace beyond it) of G (N, n); a matrix of zeros has rank 0."""
    values = torch.linalg.eigvalsh(matrix.T @ matrix).clamp_min(0).flip(0)
    total = values.sum()
    if total <= 0:
        return 0, 0.0
    shares = values.cumsum(0) / total
    rank = int((shares < 1 - tau).sum()) + 1
    return rank, max(0.0, float(1 - shares[rank - 1]))


def pivots(matrix: torch.Tensor) -> torch.Tensor:
    """(n,) the square of what each unit adds to those that a column-pivoted QR of G took before it."""
    from scipy.linalg import qr

    upper, taken = qr(matrix.numpy(), mode="r", pivoting=True)
    added = np.zeros(matrix.shape[1])
    added[taken] = np.square(np.diag(upper[: matrix.shape[1]]))
    return torch.from_numpy(added)
