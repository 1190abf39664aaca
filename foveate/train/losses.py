"""What is minimised: the loss of soft labels, the smoothing of labels, and learning from a teacher."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F

from foveate.errors import ConfigError

# logits (N, K), targets (N, K) -> mean over N, (); a third argument (N,) tells how much each picture counts
Measure = Callable[..., torch.Tensor]


def cross_entropy() -> Measure:
    """-sum_k q_k log softmax(z)_k, averaged over the pictures."""

    def measure(logits: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        return F.cross_entropy(logits, targets if counts is None else targets * counts[:, None])

    return measure


def bce(threshold: float | None = None, sum_classes: bool = False) -> Measure:
    """K independent sigmoids, arXiv:2110.00476 section 2.1: a picture mixed of two classes holds both of them.

    threshold: targets above it become 1, the others 0, after mixing and smoothing (the paper's 0.2 is timm's option
    bce_target_thresh). sum_classes: the sum over classes in place of their mean, K times as large.
    """
    if threshold is not None and not 0 <= threshold < 1:
        raise ConfigError(f"bce(threshold={threshold}): at least 0 and below 1")

    def measure(logits: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        if threshold is not None:
            targets = (targets > threshold).to(logits.dtype)
        weight = None if counts is None else counts[:, None].expand_as(logits)
        loss = F.binary_cross_entropy_with_logits(logits, targets, weight)
        return loss * logits.shape[1] if sum_classes else loss

    return measure


LOSSES: Mapping[str, Callable[..., Measure]] = {"cross_entropy": cross_entropy, "bce": bce}


def smooth(targets: torch.Tensor, amount: float, spread: str) -> torch.Tensor:
    """Label smoothing of (N, K) rows that sum to 1. They still do.

    spread "all": (1 - e) q + e / K, as PyTorch and timm. "others": the own class 1 - e, each other e / (K - 1)
    (arXiv:1812.01187 section 5.2). The first with e is the second with e (K - 1) / K.
    """
    classes = targets.shape[1]
    if amount == 0 or classes == 1:
        return targets
    share = amount * classes / (classes - 1) if spread == "others" else amount
    return targets * (1 - share) + share / classes


def distillation(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 times the divergence of softmax(z / T) from softmax(r / T): (N, K) each -> (). arXiv:1503.02531 section 2.

    0 where the student says what its teacher says. T^2 keeps the size of the gradient when T changes. The cross entropy
    of arXiv:1812.01187 section 5.3 less the teacher's entropy, which no student can change: the same gradient.
    """
    known, guess = F.log_softmax(teacher / temperature, dim=1), F.log_softmax(logits / temperature, dim=1)
    return F.kl_div(guess, known, reduction="batchmean", log_target=True) * temperature**2
