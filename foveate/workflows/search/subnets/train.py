"""Training the shared weights of a net's sub-networks on the user's pictures, and keeping them in the search's folder.

A linear classifier on the published features first; then the channels are put into their order; then the sandwich
rule with in-place distillation (search/sandwich.py) in the time that there is, on few and large sub-networks first
(progressive shrinking, arXiv:1908.09791). Deliberate differences: all dimensions shrink together, and the rate falls to
END of its peak, as in BigNAS (arXiv:2003.11142), so that small nets go on learning.
"""

import copy
import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace as change
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.compress.criteria import make_criterion
from foveate.config import parse_json, replace
from foveate.data.index import subset
from foveate.data.load import Pictures
from foveate.data.random import epoch_order
from foveate.errors import ConfigError
from foveate.events import Listener, StageEvent, silent
from foveate.files import write_bytes, write_json
from foveate.report.units import duration
from foveate.search.sandwich import train_supernet
from foveate.search.space import Tokens
from foveate.selection.runners import LinearProbeRunner, SharedPictures
from foveate.train.head import start_head
from foveate.train.optim import learning_rate, make_optimizer, peak_rate
from foveate.train.recipe import Recipe
from foveate.workflows.search.material import Material
from foveate.workflows.search.subnets.choices import Subnets
from foveate.workflows.search.subnets.inherit import Children
from foveate.workflows.search.subnets.source import SubnetSpace, load_parent
from foveate.zoo import FAMILIES
from foveate.zoo.tensors import read_tensors, tensor_bytes

WEIGHTS, ABOUT, BEGUN = "children.safetensors", "supernet.json", "children.json"
SHARE = 0.6  # of the time for the search: what the shared weights may take, all in all
PROBE_SHARE = 0.25  # of that, for the classifier
CRITERION, SORTED = "taylor", 8  # what channels are worth, and batches that it sees
ALONE, GROWN = 0.1, 0.5  # shares of the training: until when the largest net is alone, from when all others are in
FEWEST, TIMED = 8, 3  # steps, below which sub-nets are no better than cut channels; steps that tell how long one takes
END = 0.05  # of the peak rate, at the end
JUDGED, HELD = 1000, 0.15  # pictures that sub-nets are to be judged on; the most of the training split that helps out
UNFOLDED = 8  # batches that norms which come back are given their statistics by


class TooLittleTime(ConfigError):
    """The time is too short for the shared weights of sub-networks."""


def options_of(epochs: int = 10, randoms: int = 2) -> tuple[int, int]:
    """What "children(...)" may say. ConfigError for other names and numbers."""
    if not (isinstance(epochs, int) and 1 <= epochs <= 10_000 and isinstance(randoms, int) and 0 <= randoms <= 16):
        raise ConfigError(f"children(epochs={epochs}, randoms={randoms}): epochs from 1, randoms from 0 to 16")
    return epochs, randoms


def subnets_of(material: Material) -> tuple[SubnetSpace, Subnets]:
    """The space of a search that has sub-networks, and these."""
    space = material.space
    if not isinstance(space, SubnetSpace):
        raise ConfigError(f"--evaluate children is for --space subnets(of=...); {space.name} has no shared weights yet")
    return space, space.subnets


def held_out(material: Material) -> np.ndarray:
    """Positions of training pictures that the shared weights never see, because there are few for validation: sub-nets
    are judged on them, too.
    """
    count = min(max(0, JUDGED - len(material.val)), int(HELD * len(material.train)))
    return np.sort(epoch_order(len(material.train), material.search.seed, 1)[:count])


def training_part(material: Material) -> Material:
    """The same without the pictures that are held out."""
    out = held_out(material)
    if not len(out):
        return material
    whole = material.train
    stay = np.setdiff1d(np.arange(len(whole)), out)
    left: Pictures = copy.copy(whole)
    left.keep = whole.keep[stay]
    left.resident = None if whole.resident is None else whole.resident[torch.from_numpy(stay)]
    return change(material, train=left)


def shared_recipe(material: Material) -> Recipe:
    """How the shared weights are trained: the recipe of the winner, in its short form, without frozen layers."""
    proxy, seed = material.search.proxy, material.search.seed
    schedule = replace(proxy.schedule, final=END)
    return replace(proxy, seed=seed, freeze=0.0, fold_norms=False, frozen_norms=False, blend=(), schedule=schedule)


def prepare_children(
    material: Callable[[], Material],
    folder: Path,
    listener: Listener,
    stop: Callable[[], bool],
    options: dict[str, Any],
) -> None:
    """children.safetensors, children.json (the order of the channels and the number of steps) and supernet.json.

    A training that stop() or a crash ends begins again, with the same steps. ConfigError where the time is too short.
    """
    if (folder / ABOUT).exists():
        return
    epochs, randoms = options_of(**options)
    begun = time.monotonic()
    m = training_part(material())
    recipe, search = shared_recipe(m), m.search
    limit = None if search.budget.time_s is None else SHARE * search.share * search.budget.time_s
    children, state, note = new_children(m, recipe, limit, listener)
    batch = min(recipe.batch, len(m.train))
    per_epoch = m.train.steps(batch)
    known = parse_json((folder / BEGUN).read_bytes(), BEGUN) if (folder / BEGUN).exists() else {}
    if "steps" in known:
        steps = int(known["steps"])
    else:
        steps = epochs * per_epoch
        if limit is not None:
            steps = min(steps, steps_within(m, children, recipe, batch, randoms, limit - (time.monotonic() - begun)))
        write_json(folder / BEGUN, {"steps": steps, **note})
    listener(StageEvent(f"training the sub-networks of {children.subnets.name}: {steps} steps of {batch} pictures"))
    peak, head = peak_rate(recipe.optim, batch), FAMILIES[children.subnets.config.family].head
    names = tuple(f"weights.{prefix.replace('.', '/')}" for prefix in head)
    losses = train_supernet(
        children,
        m.batches(recipe, batch),
        lambda net: make_optimizer(net, replace(recipe.optim, stage_decay=1.0), names),
        rate=lambda step: learning_rate(recipe.schedule, peak, min(step, steps - 1), steps, per_epoch),
        nets=Shrinking(children, steps, randoms, search.seed),
    )
    number, last = 0, math.nan
    for number, last in enumerate(losses, 1):  # noqa: B007 (what it was at the end is told)
        if stop():
            return
        if number >= steps:
            break
    made = {key: children.weights[key.replace(".", "/")].detach().cpu() for key in dict_keys(children)}
    write_bytes(folder / WEIGHTS, tensor_bytes({**state, **{k: v.contiguous() for k, v in made.items()}}))
    about = {"epochs": number / per_epoch, "steps": number, "loss": last, "batch": batch, "randoms": randoms}
    write_json(folder / ABOUT, {**about, "held_out": len(held_out(material())), "seconds": time.monotonic() - begun})


def dict_keys(children: Children) -> list[str]:
    """The keys of the shared weights, as in the zoo."""
    return [key.replace("/", ".") for key in children.weights]


def new_children(
    m: Material, recipe: Recipe, limit: float | None, listener: Listener
) -> tuple[Children, dict[str, torch.Tensor], dict[str, Any]]:
    """The net with its weights, a classifier for these pictures, and its channels in order; its state dict, and what a
    later session has to know.
    """
    space, subnets = subnets_of(m)
    torch.manual_seed(m.search.seed)
    draws = itertools.islice(m.batches(recipe, min(64, len(m.train))), UNFOLDED)
    parent = load_parent(space.source, (x for x, _ in draws)).to(m.search.device)
    if not space.source.keeps_head:
        listener(StageEvent(f"fitting a linear classifier on the features of {subnets.name}"))
        train = subset(m.train.split, m.train.keep)
        data = change(m.dataset, splits={**m.dataset.splits, "train": train})
        candidate = replace(space.source.candidate, preprocess=m.search.preprocess)
        shared = SharedPictures(data, m.search.bad_files, silent, m.search.device, recipe.metric)
        runner = LinearProbeRunner(candidate, m.search.threads or 1, shared)
        probe = runner.probe(math.inf if limit is None else PROBE_SHARE * limit)
        start_head(parent, FAMILIES[subnets.config.family].head[0].rstrip("."), probe)
    listener(StageEvent(f"putting the channels of {subnets.name} into order by {CRITERION}"))
    few = itertools.islice(m.batches(recipe, min(recipe.batch, len(m.train))), SORTED)
    found = make_criterion(CRITERION).score(parent, few)
    scores = {name: [float(v) for v in values] for name, values in found.values.items()}
    state = {key: value.detach().cpu() for key, value in parent.state_dict().items()}
    made = Children(subnets, state, scores)
    return settle(made, m), state, {"scores": scores, "free": {str(k): v for k, v in made.free.items()}}


def load_children(m: Material) -> Children:
    """The trained weights of a search's folder."""
    known = parse_json((m.folder / BEGUN).read_bytes(), BEGUN)
    free = {int(k): float(v) for k, v in known["free"].items()}
    return settle(Children(subnets_of(m)[1], read_tensors(m.folder / WEIGHTS), known["scores"], free), m)


def settle(children: Children, m: Material) -> Children:
    """On the device, in the layout of the training."""
    if m.search.proxy.layout == "nhwc":
        children.to(memory_format=torch.channels_last)
    return children.to(m.search.device)


def steps_within(m: Material, children: Children, recipe: Recipe, batch: int, randoms: int, seconds: float) -> int:
    """How many steps a time holds, by some that change nothing. TooLittleTime for fewer than FEWEST."""
    nets = Shrinking(children, 1, randoms, m.search.seed)
    spent = []
    for x, targets in itertools.islice(m.batches(recipe, batch), 1 + TIMED):
        begun = time.monotonic()
        children.train()
        teacher, students = nets(1)
        for net in [teacher, *students]:
            torch.nn.functional.cross_entropy(children(x, net), targets).backward()
        spent.append(time.monotonic() - begun)
    children.zero_grad(set_to_none=True)
    one = statistics.mean(spent[1:])  # of several resolutions
    steps = int((seconds - sum(spent)) / one)
    if steps < FEWEST:
        rest = (FEWEST * one - seconds + sum(spent)) / (SHARE * m.search.share)
        wanted = math.ceil((float(m.search.budget.time_s or 0.0) + rest) / 60) * 60
        raise TooLittleTime(
            f"--time {m.search.budget.time_s:g}s: a step of the sub-networks of {children.subnets.name} takes"
            f" {one:.1f} s here and {FEWEST} are the least; allow {duration(wanted)}, a lower --resolution, or take fit"
        )
    return steps


class Shrinking:
    """The nets of every step, all at one resolution: the largest; at first no other, then the smallest that is let in
    and random ones between. Resolutions are drawn anew for every step, from those that are let in.
    """

    def __init__(self, children: Children, steps: int, randoms: int, seed: int):
        self.children, self.steps, self.randoms = children, steps, randoms
        self.rng = np.random.default_rng(seed)

    def __call__(self, step: int) -> tuple[Tokens, list[Tokens]]:
        choices = self.children.space.choices
        share = max(0.0, (step / self.steps - ALONE) / (GROWN - ALONE))
        most = [min(len(c.values) - 1, math.ceil(share * (len(c.values) - 1))) for c in choices]
        sized = [i for i, c in enumerate(choices) if c.name == "resolution"]
        size = {i: int(self.rng.integers(most[i] + 1)) for i in sized}
        teacher = tuple(size.get(i, 0) for i in range(len(choices)))
        if not share:
            return teacher, []
        least = tuple(size.get(i, n) for i, n in enumerate(most))
        drawn = (
            tuple(size.get(i, int(self.rng.integers(n + 1))) for i, n in enumerate(most))
            for _ in range(10 * self.randoms)
        )
        good = (net for net in itertools.chain([least], drawn) if self.is_net(net))
        return teacher, list(itertools.islice(good, 1 + self.randoms))

    def is_net(self, net: Tokens) -> bool:
        """Whether these choices fit together."""
        try:
            self.children.slices(net)
        except ConfigError:
            return False
        return True
