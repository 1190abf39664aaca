"""Wrong labels on purpose, to study how robust a training is."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from foveate.config import near
from foveate.data.random import generator
from foveate.errors import ConfigError

STREAM = 2**62  # of the generator: no epoch and no step has this number


def noise_targets(classes: Sequence[str], towards: Literal["any", "next"], pairs: Sequence[str]) -> list[int] | None:
    """Which class the labels of each become, by number; None: any other. A class that stays is its own.

    "next": class k becomes k + 1, the last one the first (pair flipping, arXiv:1804.06872). pairs: "cat>dog" names one
    class and what it becomes; classes that no pair names stay (the asymmetric noise of arXiv:1609.03683 on CIFAR-10 is
    truck>automobile, bird>airplane, deer>horse, cat>dog, dog>cat).
    Raises ConfigError for a pair of another form, an unknown class, and a class that two pairs begin with.
    """
    if not pairs:
        return None if towards == "any" else [(k + 1) % len(classes) for k in range(len(classes))]
    if towards != "any":
        raise ConfigError(f'loss.noise_to = "{towards}" and loss.noise_pairs = {tuple(pairs)}: give one of them')
    found = list(range(len(classes)))
    for pair in pairs:
        source, sign, target = pair.partition(">")
        if not sign or source == target:
            raise ConfigError(f'loss.noise_pairs holds "{pair}"; expected two classes, such as cat>dog')
        if unknown := [name for name in (source, target) if name not in classes]:
            raise ConfigError(f'loss.noise_pairs holds "{pair}": no class {unknown[0]}; {near(unknown[0], classes)}')
        if found[classes.index(source)] != classes.index(source):
            raise ConfigError(f"loss.noise_pairs: two pairs begin with {source}; expected one")
        found[classes.index(source)] = classes.index(target)
    return found


def noisy_labels(
    labels: Sequence[int] | np.ndarray, classes: int, share: float, seed: int, targets: Sequence[int] | None = None
) -> np.ndarray:
    """Symmetric noise: exactly round(share * n) of the n labels replaced by ANOTHER class, each of the others alike.

    A pure function of its arguments. The labels that a smaller share replaces are among those of a greater one, with
    the same new classes. Returns a new int64 (n,). Deliberate difference: papers that draw the new class from all K
    keep 1 / K of the drawn labels; their rate r is share = r * (K - 1) / K here.
    targets: class-dependent noise in its place: round(share * n_k) of the n_k labels of class k become targets[k], or
    none where that is k.
    Raises ConfigError for a share outside [0, 1], or fewer than two classes where something is to be replaced.
    """
    if not 0 <= share <= 1 or (share > 0 and classes < 2):
        raise ConfigError(
            f"label noise of {share:g} among {classes} classes: expected a share from 0 to 1 and two classes or more"
        )
    made = np.array(labels, dtype=np.int64)
    if share > 0:
        draw = generator(seed, STREAM)
        order, step = draw.permutation(len(made)), draw.integers(1, classes, len(made))
        if targets is not None:
            for k, target in enumerate(targets):
                own = order[np.asarray(labels)[order] == k]
                made[own[: round(share * len(own))]] = target
            return made
        hit = order[: round(share * len(made))]
        made[hit] = (made[hit] + step[hit]) % classes
    return made
