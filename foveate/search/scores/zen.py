"""zen: how much the features of a Gaussian network move when its input moves a little. arXiv:2102.01063 algorithm 1."""

import math
from collections.abc import Callable

import torch
from torch import nn

from foveate.search.scores.copied import WEIGHTED, copied, log_of, norms

LEAST = 1e-12  # of a change and of a variance; a dead signal counts so much


def zen(
    model: nn.Module,
    batch: tuple[torch.Tensor, torch.Tensor],
    repeats: int = 4,
    alpha: float = 0.01,
    pictures: int = 16,
    seed: int = 0,
) -> float:
    """mean over repeats of log E|f(x) - f(x + alpha e)|_2 + sum over norms of log sqrt(mean over channels of variance).

    x, e and all weights of convolutions and linear layers are N(0, 1), drawn anew every repeat; biases are 0, gains 1.
    f: the last map before the mean over positions (forward_features). E: over `pictures` inputs of the batch's shape;
    the batch itself is not used. The variances are those that the norms divide by when they see x: the sum gives back
    what normalisation takes away.
    Of the paper: 16 inputs and alpha 0.01; there are 32 repeats. Deliberate differences. The paper's expectation is
    inside the logarithm, here repeats are a mean of logarithms, less ruled by one draw. The authors read running
    variances, which lag behind the batch's; the change is a 2-norm as in the paper, in their code a sum of absolute
    values. Shortcuts stay as they are, while the authors take them out of their nets: sums then add variance that the
    terms of norms count again, so scores of nets with and without shortcuts do not compare.
    """
    x = batch[0]
    net, source = copied(model), torch.Generator().manual_seed(seed)
    terms: list[float] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        map_ = inputs[0].double()
        variance = map_.var((0, *range(2, map_.ndim)), correction=0).mean()
        terms.append(0.5 * log_of(variance, LEAST))

    features: Callable[[torch.Tensor], torch.Tensor] = getattr(net, "forward_features", net)

    total = 0.0
    with torch.no_grad():
        for _ in range(repeats):
            redraw(net, source)
            shape = (pictures, *x.shape[1:])
            start, step = (torch.randn(shape, generator=source).to(x) for _ in range(2))
            terms.clear()
            hooks = [norm.register_forward_pre_hook(look) for norm in norms(net)]
            first = features(start)
            for hook in hooks:
                hook.remove()
            moved = (first - features(start + alpha * step)).double().flatten(1).norm(dim=1).mean()
            total += log_of(moved, LEAST) + math.fsum(terms)
    return total / repeats


def redraw(net: nn.Module, source: torch.Generator) -> None:
    """Weights of convolutions and linear layers from N(0, 1), their biases 0, gains of norms 1 and biases 0."""
    for module in net.modules():
        if isinstance(module, WEIGHTED):
            weight = module.weight
            weight.copy_(torch.randn(weight.shape, generator=source).to(weight))
            if module.bias is not None:
                module.bias.zero_()
    for norm in norms(net):
        for name, value in norm.named_parameters(recurse=False):
            value.fill_(1.0 if name == "weight" else 0.0)
