"""Weights that make up for removed channels: layers are fitted anew to what they gave before, by least squares.

From He, Zhang, Sun, "Channel pruning for accelerating very deep neural networks" (arXiv:1707.06168, section 3.1).
Differences: which channels go is decided elsewhere, all layers are fitted in one pass over the pictures, and the ridge
draws towards the weights that stayed, not towards zero.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from foveate.compress.gates import Batch, coupling_of, evaluating
from foveate.compress.narrow import Plan, narrow
from foveate.compress.owners import on_meta
from foveate.compress.slice import all_removed
from foveate.zoo.family import get_config

ROWS = 8192  # samples of a layer's input, about: places in pictures
PICTURES, LEAST, PIXELS = 512, 32, 2**22  # pictures: at most, at least, and pixels of all together (memory)
RIDGE = 0.01  # of the mean square of an input


def refit(smaller: nn.Module, model: nn.Module, plan: Plan, batches: Sequence[Batch]) -> None:
    """Fit the weights of `smaller` in place, layer by layer, so that layers give what they gave in `model`.

    smaller: model without the plan's channels (schedule.removed). plan: the units that stayed, as narrow() takes them.
    batches: (pictures normalised for the networks, (N, C, H, W); classes, not used); of all pictures the first enough()
    are taken. Fitted are plain convolutions without groups and linear layers that lost inputs and are called once; each
    on the inputs that the layers before, fitted already, give it. Both networks run in evaluation mode and are left in
    the mode that they were in. Costs one forward pass of each, and a linear system of (fan-in)^2 a layer.
    """
    first = batches[0][0]
    count = enough(first.shape[3])
    x = torch.cat([x for x, _ in batches[: -(-count // len(first))]])[:count]
    rows, wide = kept_rows(model, plan), dict(model.named_modules())
    layers = {name: m for name, m in smaller.named_modules() if fitting(m, wide.get(name))}
    wanted: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    calls: dict[str, int] = {}

    def note(name: str, y: torch.Tensor) -> None:
        calls[name] = calls.get(name, 0) + 1
        wanted[name] = sampled(y, rows.get(name))

    def solve(name: str, layer: nn.Module, given: torch.Tensor) -> None:
        if calls.get(name) == 1:
            places, y = wanted.pop(name)
            fit(layer, inputs(layer, given, places), y)

    with evaluating(model), evaluating(smaller), torch.no_grad(), contextlib.ExitStack() as hooks:
        for name, layer in layers.items():
            for handle in (
                wide[name].register_forward_hook(lambda _m, _x, y, n=name: note(n, y)),
                layer.register_forward_pre_hook(lambda m, given, n=name: solve(n, m, given[0])),
            ):
                hooks.callback(handle.remove)
        model(x)
        smaller(x)


def enough(side: int) -> int:
    """How many pictures of side x side pixels a fit takes: PICTURES, fewer where they are large, at least LEAST."""
    return min(PICTURES, max(LEAST, PIXELS // side**2))


def fitting(layer: Any, before: Any) -> bool:
    """Whether a layer is one that can be fitted and has lost inputs."""
    if type(layer) is not type(before) or type(layer) not in (nn.Conv2d, nn.Linear):
        return False
    if isinstance(layer, nn.Conv2d) and (layer.groups > 1 or isinstance(layer.padding, str)):
        return False
    return layer.weight.shape[1] < before.weight.shape[1]


def kept_rows(model: nn.Module, plan: Plan) -> Mapping[str, torch.Tensor]:
    """Layer -> which of its outputs stay, where some do not."""
    coupling = coupling_of(model)
    gone = all_removed(coupling, model.state_dict(), plan, on_meta(narrow(get_config(model), plan)))
    return {
        key.removesuffix(".weight"): torch.tensor([label not in gone for label in seen.labels]).nonzero().flatten()
        for (key, axis), seen in coupling.trace.axes.items()
        if axis == 0 and key.endswith(".weight") and gone.intersection(seen.labels)
    }


def sampled(y: torch.Tensor, rows: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """(places, values): about ROWS samples of a layer's output, of the outputs that stay; (n * places, rows)."""
    maps = y[..., None] if y.ndim == 2 else y.flatten(2)
    rows = rows if rows is None else rows.to(y.device)
    count = min(maps.shape[2], -(-ROWS // len(y)))
    places = torch.randperm(maps.shape[2], generator=torch.Generator().manual_seed(0))[:count].to(y.device)
    maps = maps[:, :, places] if rows is None else maps[:, rows][:, :, places]
    return places, maps.transpose(1, 2).flatten(0, 1)


def inputs(layer: Any, x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """What the layer's weights are multiplied with at these places of its output: (n * places, fan_in)."""
    if isinstance(layer, nn.Linear):
        return x
    (kh, kw), (sh, sw), (dh, dw) = layer.kernel_size, layer.stride, layer.dilation
    (ph, pw) = layer.padding
    x = F.pad(x, (pw, pw, ph, ph))
    width = (x.shape[3] - dw * (kw - 1) - 1) // sw + 1
    top, left = places // width * sh, places % width * sw
    parts = [x[:, :, top + i * dh, left + j * dw] for i in range(kh) for j in range(kw)]
    return torch.stack(parts, -1).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)


def fit(layer: Any, x: torch.Tensor, y: torch.Tensor) -> None:
    """Ridge regression of y (n, out) on x (n, fan_in), drawn towards the layer's weights."""
    x, y, weight = x.double(), y.double(), layer.weight.flatten(1).double()
    if layer.bias is not None:
        shift, aim = x.mean(0), y.mean(0)
        x, y = x - shift, y - aim
    gram = x.T @ x
    gram.diagonal().add_(RIDGE * gram.diagonal().mean() + 1e-12)
    weight = weight + torch.linalg.solve(gram, x.T @ (y - x @ weight.T)).T
    layer.weight.copy_(weight.view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(aim - weight @ shift)
