"""Two sets of pictures compared by features: FID (arXiv:1706.08500), KID (1801.01401); inception score (1606.03498).

All in float64. The features are the caller's: those of a network of our own are never comparable with published FIDs.
"""

import torch
from torch import Tensor


def fid(a: Tensor, b: Tensor) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of features (n, d) and (m, d). Falls as 1 / n: compare equal n."""
    a, b = a.double(), b.double()
    s1, s2 = torch.atleast_2d(torch.cov(a.T)), torch.atleast_2d(torch.cov(b.T))
    values, vectors = torch.linalg.eigh(s1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    both = torch.linalg.eigvalsh(root @ s2 @ root).clamp(min=0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return float(apart + s1.trace() + s2.trace() - 2 * both)


def kid(a: Tensor, b: Tensor) -> float:
    """Unbiased squared distance under the kernel (x.y / d + 1)^3; may be a little below 0."""
    a, b = a.double(), b.double()
    n, m, d = len(a), len(b), a.shape[1]

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / d + 1) ** 3

    k_aa, k_bb = kernel(a, a), kernel(b, b)
    inside = (k_aa.sum() - k_aa.trace()) / (n * (n - 1)) + (k_bb.sum() - k_bb.trace()) / (m * (m - 1))
    return float(inside - 2 * kernel(a, b).mean())


def inception_score(probabilities: Tensor) -> float:
    """exp(mean KL(p(y|x) || p(y))) of rows (n, classes) that sum to 1."""
    p = probabilities.double()
    terms = torch.special.xlogy(p, p) - torch.special.xlogy(p, p.mean(0))
    return float(terms.sum(1).mean().exp())
