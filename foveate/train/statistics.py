"""Running statistics taken anew: for averaged weights, whose own batches no norm has seen."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from foveate.errors import FoveateError


@torch.no_grad()
def refresh(model: nn.Module, batches: Iterable[torch.Tensor], *, only: Sequence[nn.Module] | None = None) -> None:
    """Set the running statistics of every norm to the plain mean of their values over the batches, each counting alike.

    batches: (N, 3, H, W) as the network wants them, on its device, N above 1 (a norm keeps its averages, and not those
    of the batch, where it sees one value a channel). The layers are those that have a buffer running_* and a momentum:
    batch norm, and of ours iter_norm, invariant_norm, invariant_conv, gn_plus. The k-th batch has momentum 1 / k.
    All else stays, also the counter of batches and who is in training mode. Layers without statistics are in
    evaluation mode meanwhile: dropout and drop path are off, for the statistics are to serve evaluation
    (torch.optim.swa_utils.update_bn leaves them on). Where several processes train, give all the same batches.
    only: these norms in place of all. Raises FoveateError where there is no batch.
    """
    norms: list[Any] = [
        m
        for m in (model.modules() if only is None else only)
        if any(n.startswith("running_") for n, _ in m.named_buffers(recurse=False))
    ]
    modes = [(m, m.training) for m in model.modules()]
    momenta = [m.momentum for m in norms]
    counters = [(b, b.clone()) for n, b in model.named_buffers() if n.endswith("num_batches_tracked")]
    model.eval()
    seen = 0
    try:
        for norm in norms:
            norm.training = True
            for name, buffer in norm.named_buffers(recurse=False):
                if name.startswith("running_"):
                    buffer.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)  # nothing of them is to stay: 0 * inf is NaN
        for x in batches:
            seen += 1
            for norm in norms:
                norm.momentum = 1 / seen
            model(x)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training
        for counter, value in counters:
            counter.copy_(value)
    if not seen:
        raise FoveateError("no batch to take running statistics from; give at least one")
