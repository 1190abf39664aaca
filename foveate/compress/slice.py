"""The tensors of a smaller network, and the larger network with the same channels silenced: the two give equal outputs.

slice_state(config, state, plan) fits build(narrow(config, plan)). mask(model, plan) silences a channel by zeros in all
its places: in what makes it, in its norms, and in what reads it. So it is gone whatever an activation makes of 0
(hard_sigmoid: 1/2), and nothing is asked of the layers between.
"""

from collections.abc import Mapping

import torch
from torch import nn

from foveate.compress.couple import Coupling, couple
from foveate.compress.narrow import Plan, narrow, removed_classes
from foveate.compress.owners import on_meta, shapes_of
from foveate.errors import ConfigError, FoveateError
from foveate.layers.non_local import NonLocal
from foveate.layers.ws_conv import WSConv2d
from foveate.zoo.family import Config, get_config

State = Mapping[str, torch.Tensor]


@torch.no_grad()
def slice_state(config: Config, state: State, plan: Plan) -> dict[str, torch.Tensor]:
    """The tensors of build(config) without the plan's channels, for build(narrow(config, plan)).

    Where a width decides another one by a ratio (the squeeze of a gate, the rank of a factored convolution), so many
    of its channels stay as the smaller config says: those of the largest weights. The queries of a non-local block
    take up the change of its factor 1 / sqrt(width).
    """
    coupling = couple(config)
    smaller = on_meta(narrow(config, plan))
    gone = all_removed(coupling, state, plan, smaller)
    groups = {name: m.groups for name, m in on_meta(coupling.config).named_modules() if isinstance(m, nn.Conv2d)}
    made = {}
    for key, tensor in state.items():
        for axis in (1, 0):  # inputs first: in a convolution in groups each output row has inputs of its own
            seen = coupling.trace.axes.get((key, axis))
            if seen is None or not gone.intersection(seen.labels):
                continue
            stay = torch.tensor([label not in gone for label in seen.labels], device=tensor.device)
            if seen.groups == 1:
                tensor = tensor.index_select(axis, stay.nonzero().flatten())
            else:
                blocks = zip(tensor.chunk(seen.groups), stay.chunk(groups[key.removesuffix(".weight")]), strict=True)
                tensor = torch.cat([rows[:, own] for rows, own in blocks])
        made[key] = tensor.clone()
    rescale(on_meta(coupling.config), smaller, made)
    for key, shape in shapes_of(smaller).items():
        if tuple(made[key].shape) != shape:
            raise FoveateError(f"compress: {key} came out as {tuple(made[key].shape)} for {shape}; report this")
    return made


@torch.no_grad()
def mask(model: nn.Module, plan: Plan) -> None:
    """Silence the plan's channels in a model that has a config, in place: its outputs become those of the smaller one.

    An optimiser step can bring them back: mask again after it. A standardised convolution (ws_conv) subtracts the mean
    of its inputs' weights, so that zeros would not be silent: silenced inputs get the mean of those that stay, which
    leaves mean and deviation as they are in the smaller network.
    """
    coupling = couple(get_config(model))
    state = model.state_dict()
    gone = all_removed(coupling, state, plan, on_meta(narrow(get_config(model), plan)))
    silence(coupling, state, gone)
    for name, module in model.named_modules():
        seen = coupling.trace.axes.get((f"{name}.weight", 1))
        if isinstance(module, WSConv2d) and seen is not None and gone.intersection(seen.labels):
            level(module, spread(module.weight, [label in gone for label in seen.labels], seen.groups))


def all_removed(coupling: Coupling, state: State, plan: Plan, smaller: nn.Module) -> frozenset[int]:
    """The classes that the plan removes, and of the free ones those of the least weights, as many as the smaller
    network lacks. ConfigError where the state is not that of the config.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    if shapes != coupling.shapes:
        odd = next(iter(sorted(set(shapes.items()) ^ set(coupling.shapes.items()))))
        raise ConfigError(f"state: {odd[0]} of shape {odd[1]} is not what stands there in the config's network")
    gone, lengths = set(removed_classes(coupling, plan)), shapes_of(smaller)
    strands = [(at, seen) for at, seen in coupling.trace.axes.items() if coupling.free.issuperset(seen.labels)]
    if not strands:
        return frozenset(gone)
    scores: dict[int, float] = {}
    for at, seen in strands:
        labels, less = seen.labels, gap(coupling, lengths, at)
        if less > 0:
            left = sorted(dict.fromkeys(label for label in labels if label not in gone))
            already = sum(label in gone for label in labels)
            if left and less > already and not scores:
                scores = weights(coupling, state, gone)
            for label in sorted(left, key=lambda i: (scores.get(i, 0.0), -i)):
                if already >= less:
                    break
                gone.add(label)
                already += labels.count(label)
    return frozenset(gone)


def gap(coupling: Coupling, lengths: Mapping[str, tuple[int, ...]], at: tuple[str, int]) -> int:
    """By how much an axis, all groups together, is shorter in the smaller network."""
    key, axis = at
    return (coupling.shapes[key][axis] - lengths[key][axis]) * coupling.trace.axes[at].groups


def weights(coupling: Coupling, state: State, gone: set[int]) -> dict[int, float]:
    """Class -> the sum of the squares of all its weights, those of removed channels left out."""
    left = {key: t.detach().double().clone() for key, t in state.items() if t.is_floating_point()}
    silence(coupling, left, frozenset(gone))
    scores: dict[int, float] = {}
    for (key, axis), seen in coupling.trace.axes.items():
        if seen.groups == 1 and key in left and "running" not in key:
            squares = left[key].square().transpose(0, axis).flatten(1 if left[key].ndim > 1 else 0)
            totals = squares.sum(1) if squares.ndim > 1 else squares
            for label, value in zip(seen.labels, totals.tolist(), strict=True):
                scores[label] = scores.get(label, 0.0) + value
    return scores


def silence(coupling: Coupling, state: State, gone: frozenset[int]) -> None:
    """Zeros, in place, wherever removed channels stand; running powers stay, for norms divide by them."""
    for (key, axis), seen in coupling.trace.axes.items():
        power = "running" in key and not key.endswith("running_mean")
        if key in state and not power and gone.intersection(seen.labels):
            away = [label in gone for label in seen.labels]
            if axis == 1:
                state[key][spread(state[key], away, seen.groups)] = 0
            else:
                state[key][torch.tensor(away, device=state[key].device)] = 0


def spread(weight: torch.Tensor, away: list[bool], groups: int) -> torch.Tensor:
    """Inputs that are away, as (c_out, c_in / groups): which of a weight's kernels read them."""
    rows = torch.tensor(away, device=weight.device).view(groups, -1)  # (groups, c_in / groups)
    return rows.repeat_interleave(weight.shape[0] // groups, 0)


def level(conv: WSConv2d, away: torch.Tensor) -> None:
    """Give silenced inputs the mean of the others, row by row; and where eps counts the inputs (add_eps), the gain what
    that changes. away: (c_out, c_in / groups).
    """
    rows = conv.weight.flatten(1)
    gone = away.repeat_interleave(conv.weight[0, 0].numel(), 1)  # (c_out, fan_in)
    stay = (~gone).sum(1, keepdim=True).to(rows.dtype)
    mean = (rows * ~gone).sum(1, keepdim=True) / stay
    conv.weight.copy_(torch.where(gone, mean, rows).view_as(conv.weight))
    if conv.add_eps:
        power = ((rows - mean) * ~gone).square().sum(1, keepdim=True)
        change = ((power + rows.shape[1] * conv.eps) / (power + stay * conv.eps)).sqrt()
        conv.gain.mul_(change.view(-1, 1, 1, 1))


def rescale(before: nn.Module, after: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Queries of non-local blocks: scores are divided by the root of a width that changed."""
    old, new = dict(before.named_modules()), dict(after.named_modules())
    for name, module in old.items():
        if isinstance(module, NonLocal) and (module.scale or not module.softmax):
            ratio = new[name].get_submodule("query").weight.shape[0] / module.query.weight.shape[0]
            state[f"{name}.query.weight"] *= float(ratio) ** 0.5
