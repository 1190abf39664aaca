"""From logits to answers: probabilities, "unknown", and sets of classes, as the model's own fit has it. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from foveate.errors import ConfigError
from foveate.train.trusted import PLAIN, Trust, limit_of

Scores: TypeAlias = list[tuple[str, float]]  # (label, probability), best first


@dataclass(frozen=True)
class Answer:
    """What is said of one picture."""

    label: str  # the likeliest class, also where it is unknown
    probability: float  # of it, 0 to 1
    top: Scores  # the likeliest classes, best first
    unknown: bool | None  # whether the picture is too strange to be kept; None: not asked
    set: tuple[str, ...] | None  # the classes among which the right one is, likeliest first; None: not asked
    strangeness: float | None  # 0 to 1 as usual as validation pictures, above 1 beyond all of them; None: not known


def check_asked(trust: Trust, top: int, keep: float | None, coverage: float | None) -> tuple[float, float]:
    """(limit of the strangeness, limit of 1 - p). ConfigError where a share can not be had from this model."""
    if top < 1:
        raise ConfigError(f"top = {top}: at least 1")
    for name, share in (("keep", keep), ("set", coverage)):
        if share is not None and not 0 < share < 1:
            raise ConfigError(f"{name} {share:g}: expected a share between 0 and 1, such as 0.95")
    strange = np.inf if keep is None else limit_of(trust.keep, keep, "keep")
    unlikely = np.inf if coverage is None else limit_of(trust.sets, coverage, "set")
    return strange, unlikely


def answer_rows(
    logits: np.ndarray,
    strangeness: np.ndarray | None,
    classes: Sequence[str],
    trust: Trust,
    *,
    top: int = 1,
    keep: float | None = None,
    coverage: float | None = None,
) -> list[Answer]:
    """An Answer a row of logits (N, K). keep: the share of usual pictures that is not to be called unknown; coverage:
    how often a set is to hold the right class."""
    strange, unlikely = check_asked(trust, top, keep, coverage)
    if keep is not None and strangeness is None:
        raise ConfigError(f"keep {keep:g}: this file does not tell how strange a picture is; export it again")
    found = []
    for i, p in enumerate(trust.probabilities(logits)):
        order = np.argsort(-p, kind="stable")
        score = None if strangeness is None else float(strangeness[i])
        inside = [classes[k] for n, k in enumerate(order) if not n or 1 - p[k] <= unlikely]
        found.append(
            Answer(
                label=classes[order[0]],
                probability=float(p[order[0]]),
                top=[(classes[k], float(p[k])) for k in order[:top]],
                unknown=None if keep is None or score is None else not score <= strange,
                set=None if coverage is None else tuple(inside),
                strangeness=score,
            )
        )
    return found


def ranked(logits: np.ndarray, classes: Sequence[str], top: int, trust: Trust = PLAIN) -> Scores:
    """[(label, probability), ...] of logits (K,), best first; ties keep the order of the classes."""
    return answer_rows(logits[None], None, classes, trust, top=top)[0].top
