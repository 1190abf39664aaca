"""naswot: how differently a network's activations cut up the pictures of a batch. arXiv:2006.04647 (version 3)."""

import torch
from torch import nn

from foveate.errors import FoveateError
from foveate.search.scores.copied import copied

ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.SiLU,
    nn.GELU,
    nn.Hardswish,
)


def naswot(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    """log det K, K_ij = units - (Hamming distance of the codes of pictures i and j); the labels are not used.

    A code has one bit a unit of every activation: whether its input is positive. K is the sum over units of
    c c^T + (1 - c)(1 - c)^T with c (N,) the bits of a unit, in float64: exact. It is an integer matrix without negative
    eigenvalues, so log det K is at least 0 unless two pictures have dependent codes; eigenvalues below the rounding of
    the largest then count as that rounding, so the result is finite.
    Norms use the batch's statistics. The authors look at ReLUs; here all activations that bend at or near 0 give codes,
    gates do not. More pictures give a larger score: compare scores of the same batch only.
    FoveateError for a network without such activations.
    """
    x, _ = batch
    net, n = copied(model), len(x)
    kernel, seen = torch.zeros(n, n, dtype=torch.float64), [0]

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        bits = (inputs[0].detach() > 0).reshape(n, -1).double()
        kernel.add_((bits @ bits.T + (1 - bits) @ (1 - bits).T).cpu())
        seen[0] += bits.shape[1]

    for module in net.modules():
        if isinstance(module, ACTIVATIONS):
            module.register_forward_pre_hook(look)
    with torch.no_grad():
        net(x)
    if not seen[0]:
        raise FoveateError("naswot: the network has no activation whose codes could be compared; take another score")
    values = torch.linalg.eigvalsh(kernel)
    rounding = float(values[-1]) * n * torch.finfo(torch.float64).eps
    return float(values.clamp(min=rounding).log().sum())
