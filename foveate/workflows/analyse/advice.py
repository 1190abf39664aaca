"""At most three lines: what limits this network on these pictures, and the one change worth trying for each."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from foveate.report.units import percent, points
from foveate.workflows.analyse.subject import Subject

MOST = 3
Told = tuple[float, str]  # how much it matters, from 0 to 1; the line
Result = Mapping[str, Any]

STEEP, TIMID = 2.0, 0.02  # of the largest stable rate; training settles near it by itself
LEAST = 8  # a batch that is worth naming
DEAD, LOW_RANK, IDLE_COST = 0.1, 0.25, 0.01  # shares
FALL = 0.15  # of accuracy at the middle severity
REDUNDANT = 0.3


def advise(found: Result, subject: Subject) -> list[str]:
    """The lines that matter most, of the parts that were computed. Empty where nothing stands out."""
    lines = [
        told
        for part, rule in RULES.items()
        if part in found and "reason" not in found[part]
        for told in rule(found[part], subject)
    ]
    return [line for _, line in sorted(lines, key=lambda told: -told[0])[:MOST]]


def on_curvature(part: Result, subject: Subject) -> Iterator[Told]:
    """The rate of the run against the largest stable one at its batch."""
    lr, batch, seen = part.get("lr"), part.get("lr_batch"), part["training"]
    if part["top"] <= 0:
        yield 0.9, f"the loss curves upwards nowhere (top {part['top']:.3g}): train it before it is judged"
        return
    if lr is not None and subject.recipe.optim.name.partition("(")[0] == "sgd" and seen["top"] > 0:
        most = 2 * (1 + subject.recipe.optim.momentum) / seen["top"]
        where = f"of what the curvature at batch {seen['batch']} bears here (top {seen['top']:.3g})"
        if lr > STEEP * most:
            yield (
                0.8,
                f"the peak rate {lr:.3g} is {lr / most:.1f} times the {most:.2g} {where}: try optim.lr={most:.1g}",
            )
        elif lr < TIMID * most:
            share = f"{percent(lr / most)} % of the {most:.2g}"
            yield 0.5, f"the peak rate {lr:.3g} is {share} {where}: try optim.lr={most / 4:.1g}"
    edge = part.get("saturation")
    if batch is not None and edge and edge >= LEAST and batch > 4 * edge:
        yield (
            0.2,
            f"above a batch of about {round(edge)} the largest rate of SGD does not grow (top {part['top']:.2g}):"
            f" batch={round(edge)} takes steps as large as batch={batch}",
        )


def on_sphere(part: Result, subject: Subject) -> Iterator[Told]:
    """The effective rate of the run against the borders of the sweep."""
    for name, (low, high) in part.get("borders", {}).items():
        if name.startswith("convergence") and part["lr_known"] and part["elr"] > high:
            yield (
                0.6,
                f"the effective rate {part['elr']:.2g} is above the border of convergence ({low:.2g} to {high:.2g}):"
                f" try optim.lr={part['lr'] * low / part['elr']:.2g} at the end of training",
            )


def on_features(part: Result, subject: Subject) -> Iterator[Told]:
    """Dead channels, and channels that say the same."""
    if not part["stages"]:
        return
    worst = max(part["stages"], key=lambda s: s["dead"] / s["channels"])
    share = worst["dead"] / worst["channels"]
    if share > DEAD:
        yield (
            0.4 + 0.5 * share,
            f"{worst['dead']} of {worst['channels']} channels of {worst['name']} are dead: a lower rate or"
            " model.layers.act=silu keeps them alive",
        )
    last = part["stages"][-1]
    rank = last["effective_rank"] / last["channels"]
    if rank < LOW_RANK:
        yield (
            0.3 + 0.5 * (LOW_RANK - rank),
            f"the {last['channels']} channels of {last['name']} span an effective rank of {last['effective_rank']:.0f}"
            f" (mean correlation {last['correlation']:.2f}): foveate compress takes what repeats",
        )


def on_gates(part: Result, subject: Subject) -> Iterator[Told]:
    """Gates that are constants."""
    removal = part["removals"].get("idle")
    if removal and removal["accuracy"][0] - removal["accuracy"][1] <= IDLE_COST:
        cost = points(removal["accuracy"][1] - removal["accuracy"][0])
        yield (
            0.3 + removal["share"],
            f"{len(removal['names'])} of {len(part['gates'])} gates give the same for every picture: without them"
            f" {percent(removal['share'])} % of the parameters go, accuracy {cost} points; leave them out (attn=none)",
        )


def on_robustness(part: Result, subject: Subject) -> Iterator[Told]:
    """The corruption that costs most at the middle severity, where the pictures are enough to tell that it does."""
    rows = [row for row in part["corruptions"] if row["severity"] == 3]
    if not rows:
        return
    worst = min(rows, key=lambda row: row["accuracy"])
    fall = part["clean"]["accuracy"] - worst["accuracy"]
    if fall > FALL and worst["interval"][1] < part["clean"]["interval"][0]:
        yield (
            0.25 + 0.5 * fall,
            f"{worst['kind']} of severity 3 takes {100 * fall:.0f} of {percent(part['clean']['accuracy'])} points:"
            ' train with augment.policy="trivial_augment" where such pictures are expected',
        )


def on_redundancy(part: Result, subject: Subject) -> Iterator[Told]:
    """Channels that could go."""
    rate = part["rates"]["0.01"]["rate"]
    if rate > REDUNDANT:
        yield (
            0.2 + 0.3 * rate,
            f"gradient matrices say that up to {percent(rate)} % of the channels' parameters repeat: try"
            f" foveate compress --macs {max(0.3, 1 - rate):.1f}",
        )


RULES: Mapping[str, Callable[[Result, Subject], Iterator[Told]]] = {
    "curvature": on_curvature,
    "sphere": on_sphere,
    "features": on_features,
    "gates": on_gates,
    "robustness": on_robustness,
    "redundancy": on_redundancy,
}
