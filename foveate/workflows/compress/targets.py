"""The plan of the steps: what the next step is to cost, when it is complete, and which step is best."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from foveate.compress.schedule import floor
from foveate.deploy.compare import MARGIN
from foveate.errors import BudgetError
from foveate.train.artefact import read_card
from foveate.workflows.compress.compression_run import CompressionRun
from foveate.workflows.compress.costs import amount
from foveate.workflows.compress.goal import INT8_METHOD, STEP, Goal, steps_to

MOST = 12  # steps where only the accuracy bounds
EXTRA = 3  # more steps where a measured cost is missed
JITTER_MS = 0.02  # what a call of a runtime takes more or less, whatever the network
NEAR = 0.95  # of a latency: a step that is to cost more than this may only be measured as faster, and lose nothing


def next_goal(run: CompressionRun, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The cost that the next step is to reach; None where there are enough."""
    goal, weights = run.goal, float_steps(rows)
    done, now = len(weights) - 1, weights[-1][goal.kind]
    if goal.method == INT8_METHOD or (goal.target is not None and any(fits(goal, row) for row in rows)):
        return None
    if goal.target is None:
        lost = 100 * (max(row["val_accuracy"] for row in weights) - weights[-1]["val_accuracy"])
        over = lost > (goal.max_drop or 0.0) + 1e-9 or done >= (goal.steps or MOST)
        least = run.cost(floor(config_of(weights[-1]), goal.multiple))
        return None if over or STEP * now < least else float(STEP * now)
    if goal.kind == "latency_ms":
        now = min(now, run.cost(config_of(weights[-1])))  # what the next step is compared with
    share, left = int8_share(goal, rows), goal.steps - done
    target = goal.target / share
    if left <= -EXTRA:
        return None
    if left <= 0 or target >= now:
        return float(min(target, now) * NEAR ** max(1, 1 - left))
    left = left if share == 1 else min(left, steps_to(target / now))
    following = float(now * (target / now) ** (1 / left))
    return min(following, NEAR * now) if goal.kind == "latency_ms" else following


def int8_share(goal: Goal, rows: Sequence[Mapping[str, Any]]) -> float:
    """What the last int8 form that was kept costs of its float form; 1 without one. The next one will do as well, so
    that less has to be removed.
    """
    pairs = itertools.pairwise(rows)
    shares = [b[goal.kind] / a[goal.kind] for a, b in pairs if b["method"] == INT8_METHOD and b["kept"]]
    return float(min(1.0, shares[-1])) if shares else 1.0


def float_steps(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The steps whose weights were made smaller, without their int8 forms."""
    return [row for row in rows if row["method"] != INT8_METHOD]


def fits(goal: Goal, row: Mapping[str, Any]) -> bool:
    """Whether a step is what was asked for in cost; an int8 form that is not kept never is."""
    return bool(row.get("kept", True)) and (goal.target is None or row[goal.kind] <= goal.target)


def slower(rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> bool:
    """Whether a step takes longer than the original by more than timing in turns may err."""
    return float(row["latency_ms"]) > (1 + MARGIN) * float(rows[0]["latency_ms"]) + JITTER_MS


def config_of(row: Mapping[str, Any]) -> Any:
    """The architecture of a step."""
    return read_card(row["run"])[0].architecture


def choose(goal: Goal, rows: Sequence[Mapping[str, Any]]) -> int:
    """The number of the best step: within target and drop the most accurate on validation, then the cheapest; without
    a target the cheapest within the drop, which then counts from the most accurate step (fine-tuning may have made it
    better than the original). A step that is slower than the original is none of them unless that is allowed.
    BudgetError where there is none, with the nearest.
    """
    top = rows[0]["val_accuracy"] if goal.target is not None else max(row["val_accuracy"] for row in rows)
    lost = [100 * (top - row["val_accuracy"]) for row in rows]
    fitting = [i for i, row in enumerate(rows) if fits(goal, row)]
    cheap = [i for i in fitting if goal.allow_slower or not slower(rows, rows[i])]
    near = [i for i in cheap if goal.max_drop is None or lost[i] <= goal.max_drop + 1e-9]
    if near and goal.target is None:
        return min(near, key=lambda i: (rows[i][goal.kind], rows[i]["latency_ms"]))
    if near:
        return min(near, key=lambda i: (lost[i], rows[i][goal.kind]))
    if fitting and not cheap:
        quick = min((rows[i] for i in fitting), key=lambda row: float(row["latency_ms"]))
        raise BudgetError(
            f"{amount(goal.kind, goal.target or 0)} is reached by step {quick['step']} ({quick['run']}), which takes "
            f"{quick['latency_ms'] / rows[0]['latency_ms']:.2f} times as long as the original; take it with "
            f"--allow-slower, or leave --multiple to foveate"
        )
    if not cheap:
        least = min(rows, key=lambda row: float(row[goal.kind]))
        raise BudgetError(
            f"{amount(goal.kind, goal.target or 0)} was not reached: step {least['step']} measures "
            f"{amount(goal.kind, least[goal.kind])}, see {least['run']}"
        )
    best = min(cheap, key=lambda i: lost[i])
    within = max(i for i in range(len(rows)) if lost[i] <= (goal.max_drop or 0) + 1e-9)
    raise BudgetError(
        f"{amount(goal.kind, goal.target or 0)} costs {lost[best]:.2g} points of validation accuracy, over --max-drop "
        f"{goal.max_drop:g}; the smallest within it is step {within} ({amount(goal.kind, rows[within][goal.kind])}): "
        f"{rows[within]['run']}"
    )
