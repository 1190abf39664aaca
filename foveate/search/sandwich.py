"""Training a supernet by the sandwich rule with in-place distillation. BigNAS, arXiv:2003.11142 section 3.1; the rule
is that of universally slimmable networks, arXiv:1903.05134.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from foveate.search.space import Tokens
from foveate.search.supernet import Supernet, largest, smallest


def train_supernet(
    supernet: Supernet,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    make_optimizer: Callable[[Supernet], torch.optim.Optimizer],
    *,
    rate: Callable[[int], float] | None = None,
    randoms: int = 2,
    clip: float = 1.0,
    seed: int = 0,
    nets: Callable[[int], tuple[Tokens, Sequence[Tokens]]] | None = None,
) -> Iterator[float]:
    """A step a batch; yields the loss of the largest net. Stop iterating to stop training.

    A step adds the gradients of the largest net on the targets, and of the smallest and `randoms` random ones on the
    largest one's probabilities, detached; then the optimiser makes one step. batches: (x, targets), targets of
    probabilities (N, K) or labels (N,). rate: step -> learning rate, times a group's "factor" where it has one; None:
    the optimiser's own. nets: step -> the net that teaches and those that learn from it, in place of the largest, and
    the smallest and random ones (progressive shrinking; a resolution for each step). clip: 2-norm that the
    summed gradient is cut to; 0: not at all. seed: of the random nets.
    Dropout works in the largest net only, as in BigNAS; weight decay is the optimiser's and meets all weights (there
    only the largest net's, which has all weights but those of other operations). Their constant end of the rate is left
    out; their start, the last gain of every residual branch at 0, is for the caller to make before the first step.
    """
    space, optimizer = supernet.space, make_optimizer(supernet)
    rng = np.random.default_rng(seed)
    whole, least = largest(space), smallest(space)
    for number, (x, targets) in enumerate(batches):
        supernet.train()
        optimizer.zero_grad(set_to_none=True)
        teacher, students = (whole, None) if nets is None else nets(number)
        logits = supernet(x, teacher)
        loss = F.cross_entropy(logits, targets)
        loss.backward()
        taught = logits.detach().softmax(1)
        for net in [least, *(space.sample(rng) for _ in range(randoms))] if students is None else students:
            F.cross_entropy(supernet(x, net, regularised=False), taught).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(supernet.parameters(), clip)
        if rate is not None:
            for group in optimizer.param_groups:
                group["lr"] = rate(number) * group.get("factor", 1.0)
        optimizer.step()
        yield float(loss.detach())
