"""The nearest kernel of a rank, in the matrix that a batch norm makes of it, and the energy that this may keep.

LRPET, arXiv:2204.05566 (IEEE TNNLS 2024), section 3: projection, energy transfer, BN rectification.
"""

import torch
from torch import nn


def as_matrix(weight: torch.Tensor, form: str) -> torch.Tensor:
    """A weight (c_out, c_in, k_y, k_x) as inputs x outputs: channel (c_in k_y k_x) x c_out; spatial
    (c_in k_y) x (c_out k_x).
    """
    c_out, c_in, k_y, k_x = weight.shape
    if form == "spatial":
        return weight.permute(1, 2, 0, 3).reshape(c_in * k_y, c_out * k_x)
    return weight.permute(1, 2, 3, 0).reshape(c_in * k_y * k_x, c_out)


def as_weight(matrix: torch.Tensor, shape: torch.Size, form: str) -> torch.Tensor:
    """as_matrix undone; shape: of the weight."""
    c_out, c_in, k_y, k_x = shape
    if form == "spatial":
        return matrix.reshape(c_in, k_y, c_out, k_x).permute(2, 0, 1, 3)
    return matrix.reshape(c_in, k_y, k_x, c_out).permute(3, 0, 1, 2)


def gains(norm: nn.BatchNorm2d | None, channels: int) -> torch.Tensor:
    """alpha = gamma / sqrt(running variance + eps), by which evaluation multiplies each output; float64. 1 without a
    norm.
    """
    if norm is None or norm.running_var is None:
        return torch.ones(channels, dtype=torch.float64)
    alpha = torch.rsqrt(norm.running_var.double() + norm.eps)
    return (alpha if norm.weight is None else alpha * norm.weight.double()).detach()


def merged(weight: torch.Tensor, form: str, alpha: torch.Tensor | None = None) -> torch.Tensor:
    """as_matrix of diag(alpha) weight, float64: what the convolution and its norm do together."""
    weight = weight.detach().double()
    return as_matrix(weight if alpha is None else weight * alpha.to(weight.device).view(-1, 1, 1, 1), form)


@torch.no_grad()
def project(
    weight: torch.Tensor, rank: int, form: str = "channel", *, alpha: torch.Tensor | None = None, transfer: bool = True
) -> torch.Tensor:
    """The kernel of at most this rank whose merged matrix is nearest to the weight's, in the weight's own type.

    M = diag(alpha) W = U diag(s) V'. alpha: (c_out,), see gains; None is plain SVD of W. transfer: the kept singular
    values are raised by one factor so that the sum of squares of all stays, sqrt(t), t = sum s^2 / sum_{i <= r} s_i^2.
    Then W = diag(1 / alpha) M ("BN rectification").

    Deliberate difference: the authors' code divides by alpha + 1e-5 / alpha, which shrinks channels of a small gain
    and kills those of none. Inputs stand on one side of M and alpha on the other, so that the outcome is
    sqrt(t) W P with P the projector on the r leading directions of the inputs' side: nothing is divided, energy is
    kept exactly, and a channel whose alpha is 0 is projected like the others. Where all alpha are 0, as if all were 1.
    A second projection changes nothing.
    """
    own = merged(weight, form)
    u, s, _ = torch.linalg.svd(merged(weight, form, alpha), full_matrices=False)
    if float(s[0]) == 0:
        u, s, _ = torch.linalg.svd(own, full_matrices=False)
    kept, energy = s[:rank].square().sum(), s.square().sum()
    if float(kept) == 0:
        return weight.detach().clone()
    low = u[:, :rank] @ (u[:, :rank].T @ own)
    if transfer:
        low = low * (energy / kept).sqrt()
    return as_weight(low, weight.shape, form).to(weight.dtype)


def spectrum(weight: torch.Tensor, form: str, alpha: torch.Tensor | None = None) -> torch.Tensor:
    """Singular values of the merged matrix, falling, float64."""
    values: torch.Tensor = torch.linalg.svdvals(merged(weight, form, alpha))
    return values


def rank_of(s: torch.Tensor, energy: float, size: int) -> int:
    """The least rank that keeps this share of sum s^2, from 1; s: falling. 1: the numerical rank.

    Values below s_1 eps size are no values but rounding (the rule of torch.linalg.matrix_rank; size: the longer side of
    the matrix). The authors have no such rule: their ranks are a share of the full one, or a list.
    """
    s = s[s > s[0] * torch.finfo(s.dtype).eps * size]
    if not len(s):
        return 1
    sums = s.square().cumsum(0)
    return min(len(s), int((sums < energy * sums[-1]).sum()) + 1)
