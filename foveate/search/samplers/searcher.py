"""What a searcher of ours is: a function from what was measured to the next net; and Optuna's view of it.

A searcher keeps nothing that it could not compute again from the history, and its random numbers follow from the seed
and the trial's number, so a study that was stopped goes on as if it had not been.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from foveate.search.space import ATTEMPTS, UNUSED, Space, Tokens


@dataclass
class History:
    """What is known of a study: the finished trials in their order, and the nets that another worker has in hand.

    values are to be maximised, one per objective; None: the trial failed. load and save keep a text in the study.
    """

    space: Space
    nets: list[Tokens] = field(default_factory=list)
    values: list[tuple[float, ...] | None] = field(default_factory=list)
    pending: set[Tokens] = field(default_factory=set)
    load: Callable[[], str | None] = lambda: None
    save: Callable[[str], None] = lambda text: None
    measured: set[Tokens] = field(default_factory=set)

    def add(self, net: Tokens, values: tuple[float, ...] | None) -> None:
        """One more finished trial. The net is taken in canonical form."""
        net = self.space.canonical(net)
        self.nets.append(net)
        self.values.append(values)
        self.measured.add(net)

    def is_new(self, net: Tokens) -> bool:
        """Whether no trial has this net or one equal to it."""
        name = self.space.canonical(net)
        return name not in self.measured and name not in self.pending

    def good(self, start: int = 0) -> list[tuple[Tokens, tuple[float, ...]]]:
        """The trials from number start that did not fail."""
        pairs = zip(self.nets[start:], self.values[start:], strict=True)
        return [(net, values) for net, values in pairs if values is not None]


class Searcher(Protocol):
    """A search method. Not thread-safe by itself; the sampler around it holds a lock."""

    single: bool  # whether it knows one objective only

    def propose(self, history: History, rng: np.random.Generator) -> Tokens:
        """The next net, a new one where there is any."""
        ...


def first_new(history: History, drawn: Iterable[Tokens], rng: np.random.Generator) -> Tokens:
    """The first of the drawn nets (ATTEMPTS at most) that is new; else a random new one; else a random one."""
    for _, net in zip(range(ATTEMPTS), drawn, strict=False):
        if history.is_new(net):
            return history.space.canonical(net)
    for _ in range(10 * ATTEMPTS):
        net = history.space.sample(rng)
        if history.is_new(net):
            break
    return history.space.canonical(net)


def asked_of(space: Space, params: Mapping[str, Any]) -> Tokens | None:
    """The tokens of the choices among a trial's parameters, UNUSED for those that it did not ask for; None where one
    has a value that the space does not know.
    """
    tokens = []
    for choice in space.choices:
        if choice.name not in params:
            tokens.append(UNUSED)
            continue
        value = params[choice.name]
        same = [i for i, known in enumerate(choice.values) if known == value]
        if not same:
            return None
        # 1, 1.0 and True are equal: the one of the same type, where there are several
        tokens.append(next((i for i in same if type(choice.values[i]) is type(value)), same[0]))
    return tuple(tokens)


def net_of(space: Space, params: Mapping[str, Any]) -> Tokens | None:
    """A trial's parameters as a net; None where they are none: unknown values, or a choice that applies is missing.

    Choices that do not apply, and parameters that are no choices, do not count.
    """
    asked = asked_of(space, params)
    if asked is None:
        return None
    missing = [False]

    def absent(_: int) -> int:
        missing[0] = True
        return 0

    net = space.complete(asked, absent)
    return None if missing[0] else net
