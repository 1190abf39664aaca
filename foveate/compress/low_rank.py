"""Low rank: training towards kernels that are products of two, and the network that holds the two.

LRPET (arXiv:2204.05566): between steps of ordinary training every kernel is put back to the nearest one of its rank,
the energy that is lost given to what stays; at the end the split is exact. Plain SVD of a trained network is the same
with no such training. The result is a config (its field `ranks`) and a state dict.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from foveate.compress.flow import sites
from foveate.compress.project import gains, project
from foveate.compress.ranks import Plan, Ranking, Timer, reach, seen_by, whole
from foveate.config import replace
from foveate.errors import ConfigError
from foveate.layers.low_rank import why_not
from foveate.zoo import build
from foveate.zoo.family import get_config

Tune = Callable[[nn.Module, Callable[[], None]], None]  # trains a model in place, calls the function after every step


class Projector:
    """Puts the kernels of a plan back to their ranks, every so many steps. The optimiser's state is left alone.

        projector = Projector(model, plan, every=391)
        for step in train(state, ...):
            projector.step()
        projector.project()  # before a split: the last steps have left the rank

    transfer: energy is kept (see project). merged: in the matrix that the batch norm behind makes of the kernel, found
    by how tensors flow; kernels without one are projected as they are. The authors project once an epoch on CIFAR-10
    (391 steps), every 250 steps on ImageNet. ConfigError for places that are not there, or no plain convolutions.
    """

    def __init__(
        self, model: nn.Module, plan: Plan, *, every: int = 391, transfer: bool = True, merged: bool = True
    ) -> None:
        if every < 1:
            raise ConfigError(f"every = {every}: at least 1 step")
        self.every, self.transfer, self.steps = every, transfer, 0
        modules: dict[str, Any] = dict(model.named_modules())
        seen = sites(model, *seen_by(model)) if merged else {}
        self.places: list[tuple[nn.Conv2d, nn.BatchNorm2d | None, int, str]] = []
        for rank in plan:
            conv = modules.get(rank.at)
            if conv is None or (reason := why_not(conv)):
                raise ConfigError(f"{rank.at}: {'not in the network' if conv is None else reason}")
            norm = seen[rank.at].norm if rank.at in seen else None
            self.places.append((conv, modules[norm] if norm else None, rank.rank, rank.form))

    def step(self) -> bool:
        """To be called after every step of training; True where it projected."""
        self.steps += 1
        if self.steps % self.every:
            return False
        self.project()
        return True

    @torch.no_grad()
    def project(self) -> None:
        """Project all kernels of the plan now, in place."""
        for conv, norm, rank, form in self.places:
            alpha = gains(norm, conv.out_channels) if norm is not None else None
            conv.weight.copy_(project(conv.weight, rank, form, alpha=alpha, transfer=self.transfer))


@torch.no_grad()
def factor(
    model: nn.Module, plan: Plan, *, transfer: bool = False, merged: bool = False
) -> tuple[Any, dict[str, torch.Tensor]]:
    """(config, state dict) of the network with the plan's convolutions in two factors each; model stays as it is.

    A kernel of its plan's rank is split exactly (the root of every singular value to either side); one of a higher
    rank is projected first: by default plain SVD. Pairs that the network has already are multiplied out first.
    """
    source = whole(model)
    Projector(source, plan, transfer=transfer, merged=merged).project()
    config = replace(get_config(source), ranks=plan)
    with torch.device("meta"):
        wanted = build(config)
    state: dict[str, torch.Tensor] = dict(source.state_dict())
    for rank in plan:
        pair: Any = wanted.get_submodule(rank.at)
        split = pair.to_empty(device="cpu").double()
        split.approximate(state[f"{rank.at}.weight"].cpu())
        weight = state.pop(f"{rank.at}.weight")
        for part in ("first", "second"):
            state[f"{rank.at}.{part}.weight"] = getattr(split, part).weight.detach().to(weight)
        if (bias := state.pop(f"{rank.at}.bias", None)) is not None:
            state[f"{rank.at}.second.bias"] = bias
    return config, {key: state[key] for key in wanted.state_dict()}


def factored(model: nn.Module, plan: Plan, *, transfer: bool = False, merged: bool = False) -> nn.Module:
    """factor() as a network, on the device and in the mode of the model."""
    config, state = factor(model, plan, transfer=transfer, merged=merged)
    like_it = next(model.parameters())
    smaller: nn.Module = build(config).to(like_it.device, like_it.dtype)
    smaller.load_state_dict(state)
    return smaller.train(model.training)


def low_rank_stage(
    model: nn.Module,
    cost: Callable[[Any], float],
    target: float,
    *,
    ranking: Ranking,
    tune: Tune | None = None,
    every: int = 391,
    transfer: bool = True,
    time_ms: Timer | None = None,
) -> nn.Module:
    """The network with pairs whose config costs at most the target; the caller's model stays as it is.

    tune: trains the whole network while its kernels are held near their ranks (LRPET); None: plain SVD, no training.
    time_ms: a clock; a pair that is not faster than its convolution is not made. Energy is transferred with tune only.
    Running statistics are those of the training: take them anew, or fine-tune. BudgetError with the floor.
    """
    source = whole(model)
    plan = reach(source, cost, target, ranking, time_ms)
    if tune is None:
        return factored(source, plan, merged=ranking.merged)
    projector = Projector(source, plan, every=every, transfer=transfer, merged=ranking.merged)
    projector.project()

    def after_step() -> None:
        projector.step()

    tune(source, after_step)
    projector.project()
    return factored(source, plan)
