"""A classical pipeline, learnt: parts named by calls and training pictures in, a network with its arrays out."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import nn

from foveate.classic.classifiers import CLASSIFIERS
from foveate.classic.codebook import learn_coder
from foveate.config import make, replace
from foveate.errors import DataError
from foveate.zoo import build
from foveate.zoo.composed.classic import Classic, ClassicConfig, Maps, as_bytes
from foveate.zoo.composed.coders import Coder
from foveate.zoo.composed.descriptors.patches import Patches

BATCH = 64
DESCRIPTORS = 60_000  # that words are learnt from

Batches = Callable[[], Iterator[torch.Tensor]]  # pictures (N, 3, R, R) of 0 to 1, in order


def fit(
    config: ClassicConfig,
    classifier: str,
    batches: Batches,
    labels: np.ndarray,
    *,
    seed: int = 0,
    host: Mapping[str, torch.Tensor] | None = None,
    stop: Callable[[], None] = lambda: None,
) -> Classic:
    """Learn words and classifier. config: features, coding, pyramid; its classifier is what `classifier` names.

    batches: the training pictures, gone through twice where words are learnt. host: weights of the network whose maps
    are used. stop: called between batches; may raise. DataError for a class without pictures, or with one class alone.
    """
    classes = config.num_classes
    if classes < 2 or len(np.unique(labels)) < 2:
        raise DataError("one class alone: a classifier needs pictures of two at least")
    learn = make(CLASSIFIERS, classifier, "classifier")
    untaught = replace(config, classifier="linear", vectors=0, nodes=0, trees=0, depth=0)
    model = cast(Classic, build(untaught)).eval()
    if host is not None:
        for descriptor in model.descriptors:
            if isinstance(descriptor, Maps):
                descriptor.host.load_state_dict(host)
    learn_codes(model, batches, len(labels), seed, stop)
    x = vectors_of(model, batches, stop)
    found = learn(x, labels, classes, seed)
    made = cast(Classic, build(replace(config, **found.sizes))).eval()
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("decide.")}
    state |= {f"decide.{name}": torch.from_numpy(np.array(value)) for name, value in found.state.items()}
    for name, value in (("centre", found.centre), ("scale", found.scale)):
        if value is not None:
            state[name] = torch.from_numpy(np.array(value, np.float32))
    shapes = made.state_dict()
    made.load_state_dict({key: value.to(shapes[key].dtype) for key, value in state.items()})
    return made


@torch.inference_mode()
def vectors_of(model: Classic, batches: Batches, stop: Callable[[], None] = lambda: None) -> np.ndarray:
    """The vectors of all pictures before scaling: float32 (N, D)."""
    parts = []
    for x in batches():
        stop()
        parts.append(model.vectors(x).numpy())
    return np.concatenate(parts)


@torch.inference_mode()
def learn_codes(model: Classic, batches: Batches, pictures: int, seed: int, stop: Callable[[], None]) -> None:
    """Learn what the coders of a network hold, and put it there. pictures: how many the batches hold."""
    for descriptor, coder in zip(model.descriptors, model.coders, strict=True):
        if isinstance(coder, Coder):
            whiten = isinstance(descriptor, Patches)
            state = learn_coder(coder, partial(draw, descriptor, batches, pictures, seed, stop), seed, whiten)
            coder.load_state_dict({**coder.state_dict(), **state})


def draw(descriptor: nn.Module, batches: Batches, pictures: int, seed: int, stop: Callable[[], None]) -> np.ndarray:
    """Descriptors at random places of all pictures: float32 (M, D), DESCRIPTORS at most. Zeros are left out."""
    generator = torch.Generator().manual_seed(seed)
    wanted = max(1, DESCRIPTORS // max(1, pictures))
    parts = []
    for x in batches():
        stop()
        field = descriptor(as_bytes(x)).flatten(2).transpose(1, 2)  # (N, places, D)
        each = min(wanted, field.shape[1])
        places = torch.rand(len(x), field.shape[1], generator=generator).topk(each, 1).indices
        chosen = field[torch.arange(len(x)).unsqueeze(1), places].flatten(0, 1)
        parts.append(chosen[chosen.abs().sum(1) > 0].numpy())
    return np.concatenate(parts)[:DESCRIPTORS]
