"""Which convolutions become pairs, and by way of how many channels: plans of ranks, which are fields of a config.

A plan is tuple[Rank, ...]. One can be written by hand; here it follows from a share of the full rank, or from the
share of the energy that stays, for all convolutions alike; cut down to what is faster; and searched for a target.
"""

import copy
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.compress.flow import Site, sites
from foveate.compress.project import gains, rank_of, spectrum
from foveate.config import record, replace
from foveate.errors import BudgetError, ConfigError
from foveate.layers.low_rank import Rank, full_rank, like, sides, why_not
from foveate.zoo import build
from foveate.zoo.family import find_config, get_config

Plan = tuple[Rank, ...]
Timer = Callable[[nn.Module, tuple[int, ...]], float]  # module, shape of its input -> ms

HALVINGS = 9  # of the interval of shares in which a target is searched
TURNS = 3  # the convolution and the pair are timed in turn, so often


@record
class Ranking:
    """How ranks follow from one number between 0 and 1, the same for all convolutions."""

    rule: Literal["energy", "share"] = "energy"  # of what it is a share: the energy kept, or the full rank
    # best: of the two forms the one with fewer weights at that energy (at that share of the rank)
    form: Literal["channel", "spatial", "best"] = "channel"
    merged: bool = True  # energy is that of the convolution with its batch norm; False: of the weight alone
    multiple: Annotated[int, Field(ge=1, le=256)] = 1  # ranks become multiples of it (8 or 16 for a runtime)


@dataclass(frozen=True)
class Candidate:
    """A convolution that may become a pair."""

    name: str
    conv: nn.Conv2d
    norm: nn.BatchNorm2d | None
    site: Site
    spectra: dict[str, torch.Tensor]  # form -> singular values


def candidates(model: nn.Module, ranking: Ranking) -> list[Candidate]:
    """Every plain convolution of a model with a config, in the order of the forward pass, with its spectra.

    Those in groups, of another dilation, or padded by anything but zeros are left out: they stay as they are.
    """
    found, modules = [], dict(model.named_modules())
    for name, site in sites(model, *seen_by(model)).items():
        conv = modules[name]
        if not isinstance(conv, nn.Conv2d) or why_not(conv):
            continue
        norm = modules[site.norm] if site.norm else None
        assert norm is None or isinstance(norm, nn.BatchNorm2d)
        alpha = gains(norm, conv.out_channels) if ranking.merged else None
        spectra = {form: spectrum(conv.weight, form, alpha) for form in forms(conv, ranking.form)}
        found.append(Candidate(name, conv, norm, site, spectra))
    return found


def seen_by(model: nn.Module) -> tuple[int, int]:
    """(channels, side) of the pictures of a model; ConfigError where it is not of the zoo."""
    config = find_config(model)
    if config is None:
        raise ConfigError(
            f"{type(model).__name__}: not a network of the zoo (it has no config), so its factors can not be saved as "
            "one; take a model folder, or build(config)"
        )
    return config.in_chans, config.resolution


def forms(conv: nn.Conv2d, wanted: str) -> tuple[str, ...]:
    """The forms to look at: a kernel that is 1 in a direction has no other than channel."""
    if 1 in conv.kernel_size:
        return ("channel",)
    return ("channel", "spatial") if wanted == "best" else (wanted,)


def pair_weights(conv: nn.Conv2d, rank: int, form: str) -> int:
    """Weights of the two factors: rank (c_in k_y k_x + c_out), or rank (c_in k_y + c_out k_x)."""
    k_y, k_x = sides(conv.kernel_size)
    c_in, c_out = conv.in_channels, conv.out_channels
    return rank * (c_in * k_y * k_x + c_out if form == "channel" else c_in * k_y + c_out * k_x)


def ranked(found: Sequence[Candidate], share: float, ranking: Ranking) -> Plan:
    """The plan of one number: share of the energy (from 0 to 1; 1: the numerical rank), or of the full rank.

    A convolution whose pair would not have fewer weights is left out.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share = {share}: from 0 to 1")
    plan = []
    for own in found:
        best: tuple[int, Rank] | None = None
        for form, s in own.spectra.items():
            most = full_rank(own.conv.in_channels, own.conv.out_channels, sides(own.conv.kernel_size), form)
            longer = own.conv.weight.numel() // most
            rank = rank_of(s, share, longer) if ranking.rule == "energy" else max(1, round(share * most))
            rank = min(most, -(-rank // ranking.multiple) * ranking.multiple)
            weights = pair_weights(own.conv, rank, form)
            if weights < own.conv.weight.numel() and (best is None or weights < best[0]):
                best = weights, Rank(own.name, rank, "spatial" if form == "spatial" else "channel")
        if best is not None:
            plan.append(best[1])
    return tuple(plan)


class Race:
    """Pairs against the convolutions that they replace, each timed alone on a map of the size that it gets.

    Layers of equal shapes are timed once. time_ms: the clock; it should run the module as it will be run.
    """

    def __init__(self, time_ms: Timer, margin: float = 1.0):
        self.time_ms, self.margin = time_ms, margin
        self.times: dict[tuple[object, ...], tuple[float, float]] = {}

    def timed(self, own: Candidate, rank: Rank) -> tuple[float, float]:
        """(the convolution's ms, the pair's ms), medians of turns."""
        conv = own.conv
        key = (repr(conv), own.site.shape, rank.rank, rank.form)
        if key not in self.times:
            plain, pair = copy.deepcopy(conv).cpu().float().eval(), like(conv, rank.rank, rank.form).eval()
            turns = [[self.time_ms(module, own.site.shape) for module in (plain, pair)] for _ in range(TURNS)]
            before, after = (statistics.median(column) for column in zip(*turns, strict=True))
            self.times[key] = before, after
        return self.times[key]

    def winners(self, found: Sequence[Candidate], plan: Plan) -> Plan:
        """The part of a plan that is faster: pair < margin * convolution."""
        by_name = {own.name: own for own in found}
        kept = []
        for rank in plan:
            before, after = self.timed(by_name[rank.at], rank)
            if after < self.margin * before:
                kept.append(rank)
        return tuple(kept)


def reach(
    model: nn.Module, cost: Callable[[Any], float], target: float, ranking: Ranking, time_ms: Timer | None = None
) -> Plan:
    """The plan of the largest share whose config costs at most the target; with a clock, of its winners only.

    BudgetError where no share does, with the least that low rank reaches.
    """
    found = candidates(model, ranking)
    race = Race(time_ms) if time_ms is not None else None
    least = float("inf")

    def tried(share: float) -> tuple[Plan, bool]:
        nonlocal least
        plan = ranked(found, share, ranking)
        if race is not None:
            plan = race.winners(found, plan)
        now = cost(replace(model.config, ranks=plan))
        least = min(least, now)
        return plan, now <= target

    best, fits = tried(0.0)
    if not fits:
        won = " with the pairs that are faster than their convolutions" if race is not None else ""
        raise BudgetError(
            f"{target:.6g} is below what low rank reaches{won}: {least:.6g}, with rank {ranking.multiple} everywhere; "
            "ask for more, or remove channels (method taylor)"
        )
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        plan, fits = tried(middle)
        low, high = (middle, high) if fits else (low, middle)
        best = plan if fits else best
    return best


@torch.no_grad()
def whole(model: nn.Module) -> nn.Module:
    """A copy of the network in which every pair of its ranks is one convolution again: their product."""
    config = get_config(model)
    merged: nn.Module = build(replace(config, ranks=()))
    state: dict[str, torch.Tensor] = dict(model.state_dict())
    for rank in config.ranks:
        pair: Any = model.get_submodule(rank.at)
        state[f"{rank.at}.weight"] = pair.product()
        for key in ("first.weight", "second.weight"):
            del state[f"{rank.at}.{key}"]
        if (bias := state.pop(f"{rank.at}.second.bias", None)) is not None:
            state[f"{rank.at}.bias"] = bias
    like_it = next(model.parameters())
    merged.to(like_it.device, like_it.dtype).load_state_dict(state)
    return merged.train(model.training)
