"""What a net is worth before anybody trains it in full: a short training, a zero-cost score, or shared weights.

train           validation accuracy after a short training, which is cut off when, after an epoch, it stands below the
                median of the earlier ones; its result is then what it has plus what those gained on from there.
NAME of SCORES  a number from one batch and fresh weights ("zen(repeats=2)"). It is no accuracy and never called one.
children        of a net that has weights (space subnets): accuracy with those of the whole net, trained once for all
                its sub-networks ("children(epochs=10, randoms=2)"; subnets/).
supernet        accuracy on the validation pictures with the weights of a supernet that is trained once, before the
                first trial ("supernet(epochs=20, randoms=2)"); its statistics are taken anew for every net.
"""

import copy
import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from foveate.config import parse_call, parse_json, pick, replace
from foveate.errors import ConfigError
from foveate.events import Listener, StageEvent
from foveate.files import write_bytes, write_json
from foveate.runs.setup import make_state
from foveate.search.sandwich import train_supernet
from foveate.search.scores import SCORES, score
from foveate.search.space import Tokens
from foveate.search.study import Found, Note
from foveate.search.supernet import Supernet, edges, extract, shared_names
from foveate.train.begin import begin
from foveate.train.draw import drawer
from foveate.train.evaluate import accuracy, labels_of, predict_logits
from foveate.train.initialisers.residual import Branches
from foveate.train.loop import train
from foveate.train.optim import learning_rate, make_optimizer, peak_rate
from foveate.train.recipe import Recipe
from foveate.train.state import State
from foveate.train.statistics import refresh
from foveate.workflows.search.design import Search, config_of, recipes_of
from foveate.workflows.search.material import Material, Value
from foveate.workflows.search.subnets.judge import judged_children
from foveate.workflows.search.subnets.train import options_of, prepare_children
from foveate.zoo import build
from foveate.zoo.family import Config
from foveate.zoo.tensors import read_tensors, tensor_bytes

FRESH, ANEW = 2**31 + 1, 8  # stream and number of the batches that statistics are taken from
STARTERS = 8  # short trainings that run to their end before one is cut off
SCORED = 64  # pictures of the batch that scores see
CALIBRATION = 1024  # pictures that a sub-net's statistics are taken from, at most
SEEN = 32  # random nets that tell which shared weights may start at 0
TIMED, FEWEST_STEPS = 3, 8  # steps of a supernet that tell how long one takes, after the first; of its training
SUPERNET_SHARE = 0.5  # of the time for the search: the most that training the supernet takes
WEIGHTS, ABOUT = "supernet.safetensors", "supernet.json"


def evaluator(material: Material) -> Value:
    """The one that search.evaluate names."""
    name, options = parse_call(material.search.evaluate)
    return pick(makers(), name, "evaluate")(material, **options)


def makers() -> Mapping[str, Callable[..., Value]]:
    """Name -> maker(material, options)."""
    shared = {"supernet": shared_weights, "children": judged_children}
    return {"train": short_training, **shared, **dict.fromkeys(SCORES, zero_cost)}


def check_evaluate(text: str, reward: str) -> None:
    """ConfigError for an evaluator that is not there, wrong options, and a reward that it can not serve."""
    name, options = parse_call(text)
    pick(makers(), name, "evaluate")
    if name == "train" and options:
        raise ConfigError(f"--evaluate {text}: train takes no options; see --epochs and --pictures")
    if name == "supernet":
        supernet_options(**options)
    if name == "children":
        options_of(**options)
    if name in SCORES and reward != "strict":
        raise ConfigError(
            f"--reward {reward} weighs an accuracy, and {name} is none; leave it out with --evaluate {text}"
        )


def short_training(material: Material) -> Value:
    """Validation accuracy after the short training, or what it would have been by the gains of the others."""

    def value(net: Tokens, note: Note) -> float:
        return train_short(material, config_of(material.space, net, material.dataset), note)

    return value


def train_short(material: Material, config: Config, note: Note) -> float:
    """The short training of a config of the zoo, whether it is of the space or not."""
    search, train_, val = material.search, material.train, material.val
    recipe = replace(recipes_of(search, config)[1], seed=search.seed)
    state, curve = make_state(config, recipe, search.device), []
    begin(state, train_, search.preprocess, recipe, len(material.dataset.classes))
    per_epoch = train_.steps(min(recipe.batch, len(train_)))
    reached = None
    for step in train(state, train_, search.preprocess, recipe, len(material.dataset.classes)):
        if late := time.monotonic() > material.until:
            note("cut_off", round(step.number / per_epoch, 2))
        if step.number % per_epoch and not late:
            continue
        curve.append(accuracy(predict_logits(settled(state, material, recipe), val, search.preprocess), labels_of(val)))
        if late:
            break
        note("curve", curve)
        if (gain := hopeless(curve, recipe.epochs, material.known())) is not None:
            note("cut_off", len(curve))
            reached = min(1.0, curve[-1] + gain)
            break
    reached = curve[-1] if reached is None else reached
    note("val_accuracy", reached)
    return reached


def settled(state: State, material: Material, recipe: Recipe) -> nn.Module:
    """A copy of the network whose running statistics are taken anew: after some hundred steps those of slow norms
    (MnasNet's keep 99 % a step) are still far from what the weights see.
    """
    best = copy.deepcopy(state.best)
    classes, device = len(material.dataset.classes), torch.device(material.search.device)
    draw = drawer(material.train, material.search.preprocess, recipe, classes, device, FRESH)
    refresh(best, (draw(i)[0] for i in range(ANEW)))
    return best


def hopeless(curve: Sequence[float], epochs: int, known: Sequence[Found]) -> float | None:
    """None: go on. Else the median gain of the earlier ones from here to their end."""
    at = len(curve)
    whole = [c for f in known if len(c := f.facts.get("curve", ())) == epochs]
    if at >= epochs or len(whole) < STARTERS or curve[-1] >= statistics.median(c[at - 1] for c in whole):
        return None
    return statistics.median(c[-1] - c[at - 1] for c in whole)


def zero_cost(material: Material, **options: Any) -> Value:  # the options are the score's own
    """A score of SCORES on one batch, with the weights that the seed gives; positive() of it goes to the sampler."""
    search = material.search
    plain = replace(search.proxy, mix=Recipe().mix, seed=search.seed)
    x, targets = next(material.batches(plain, SCORED))

    def value(net: Tokens, note: Note) -> float:
        torch.manual_seed(search.seed)
        model = build(config_of(material.space, net, material.dataset)).to(x.device)
        found = score(search.evaluate, model, (x, targets.argmax(1)))
        note("score_name", search.evaluate)
        note("score", found)
        return positive(found)

    return value


def positive(x: float) -> float:
    """log(1 + x + sqrt(1 + x^2)): in the order of x, and above 0, where the nets over the budget are not."""
    root = math.hypot(1.0, x)
    return math.log1p(x + root if x >= 0 else 1 / (root - x))


def supernet_options(epochs: int = 20, randoms: int = 2) -> tuple[int, int]:
    """What "supernet(...)" may say. ConfigError for other names and numbers."""
    if not (isinstance(epochs, int) and 1 <= epochs <= 10_000 and isinstance(randoms, int) and 0 <= randoms <= 16):
        raise ConfigError(f"supernet(epochs={epochs}, randoms={randoms}): epochs from 1, randoms from 0 to 16")
    return epochs, randoms


def new_supernet(material: Material) -> Supernet:
    """A supernet of the space for the classes of these pictures, with the weights that the seed gives."""
    torch.manual_seed(material.search.seed)
    made = Supernet(material.space, lambda net: config_of(material.space, net, material.dataset))
    if material.search.proxy.layout == "nhwc":  # a step takes 0.55 of the time
        made.to(memory_format=torch.channels_last)
    return made.to(material.search.device)


def quiet(supernet: Supernet, seed: int) -> int:
    """Let every residual branch begin by adding nothing (BigNAS, arXiv:2003.11142 section 3.1); how many weights.

    Set to 0 is what ends a branch in every net that has it, of the edges of the space and SEEN random nets. A weight
    that stands behind a shortcut in some nets and alone in others (a skip that is searched) stays as it is: at 0 it
    would cut the others off. Without this start the gradients of a deep net are so much larger than those of a shallow
    one that they decide every step.
    """
    space, rng = supernet.space, np.random.default_rng(seed)
    ends, others = set[str](), set[str]()
    for net in dict.fromkeys((*edges(space), *(space.sample(rng) for _ in range(SEEN)))):
        with torch.device("meta"):
            model = build(supernet.config(net))
        names = shared_names(model)
        here = {names[name] for end in Branches(model).ends() for name in end}
        ends |= here
        others |= {*names.values()} - here
    silent = (ends - others) & supernet.weights.keys()
    with torch.no_grad():
        for name in silent:
            supernet.weights[name].zero_()
    return len(silent)


def shared_weights(material: Material, epochs: int = 20, randoms: int = 2) -> Value:
    """Accuracy on the validation pictures with the slices of the trained supernet (see prepare)."""
    search, supernet = material.search, new_supernet(material)
    supernet.load_state_dict(read_tensors(material.folder / WEIGHTS))
    recipe = replace(search.proxy, seed=search.seed + 1)
    batch = min(recipe.batch, len(material.train))
    seen = [x for x, _ in itertools.islice(material.batches(recipe, batch), max(1, CALIBRATION // batch))]

    def value(net: Tokens, note: Note) -> float:
        model = build(config_of(material.space, net, material.dataset)).to(search.device)
        model.load_state_dict(extract(supernet, net, supernet.statistics(net, seen)))
        found = accuracy(predict_logits(model, material.val, search.preprocess), labels_of(material.val))
        note("score_name", "supernet accuracy")
        note("score", found)
        return found

    return value


def prepare(
    material: Callable[[], Material], search: Search, folder: Path, listener: Listener, stop: Callable[[], bool]
) -> None:
    """Train the supernet where the search wants one and has none yet: supernet.safetensors and supernet.json.

    For the epochs that "supernet(epochs=...)" says, or for SUPERNET_SHARE of the time for the search where that is
    less. A training that stop() ends leaves nothing: it begins again at the next call.
    """
    name, options = parse_call(search.evaluate)
    if name == "children":
        return prepare_children(material, folder, listener, stop, options)
    if name != "supernet" or (folder / ABOUT).exists():
        return
    epochs, randoms = supernet_options(**options)
    begun, m = time.monotonic(), material()
    recipe, limit = replace(search.proxy, seed=search.seed), search.budget.time_s
    batch, supernet = min(recipe.batch, len(m.train)), new_supernet(m)
    silent, per_epoch = quiet(supernet, search.seed), m.train.steps(batch)
    steps = epochs * per_epoch  # fewer, once it is known how long a step takes
    peak = peak_rate(recipe.optim, batch)
    listener(StageEvent(f"training a supernet of {m.space!r}: at most {epochs} epochs"))
    losses = train_supernet(
        supernet,
        m.batches(recipe, batch),
        lambda net: make_optimizer(net, recipe.optim, ()),
        rate=lambda step: learning_rate(recipe.schedule, peak, min(step, steps - 1), steps, per_epoch),
        randoms=randoms,
        seed=search.seed,
    )
    number, last, first = 0, math.nan, 0.0
    for number, last in enumerate(losses, 1):  # noqa: B007 (what it was at the end is told)
        if stop():
            return
        if number == 1:
            first = time.monotonic()
        if number == 1 + TIMED and limit is not None:
            left = SUPERNET_SHARE * search.share * limit - (time.monotonic() - begun)
            possible = number + int(left / ((time.monotonic() - first) / TIMED))
            steps = max(FEWEST_STEPS, min(steps, possible))
        if number >= steps:
            break
    about = {"epochs": number / per_epoch, "steps": number, "loss": last, "batch": batch, "randoms": randoms}
    write_bytes(folder / WEIGHTS, tensor_bytes({k: v.cpu() for k, v in supernet.state_dict().items()}))
    write_json(folder / ABOUT, {**about, "silent": silent, "seconds": time.monotonic() - begun})


def ahead_s(folder: Path) -> float:
    """Seconds that were spent before the first trial."""
    path = folder / ABOUT
    return float(parse_json(path.read_bytes(), str(path))["seconds"]) if path.is_file() else 0.0
