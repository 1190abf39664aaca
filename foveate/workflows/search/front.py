"""The front of a search: three to five models over the range of the budget, the winner among them.

Chosen among the trials by what they cost, trained in full like the winner in the time that is kept for
them, and put beside each other: front/1, front/2, .. are model folders, the cheapest first.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foveate.config import parse_json
from foveate.data.index import Dataset
from foveate.errors import BudgetError, FoveateError
from foveate.events import Listener, StageEvent, WarningEvent
from foveate.files import write_folder, write_json
from foveate.runs.complete import complete, resume_run
from foveate.runs.resume import finished
from foveate.runs.run import Run
from foveate.search.space import Space
from foveate.search.study import Found
from foveate.workflows.search.best import again
from foveate.workflows.search.design import Search
from foveate.workflows.search.final import plan_of
from foveate.workflows.search.report import is_valued
from foveate.workflows.search.start import start_of

FRONT = 3  # models of a front, unless the user says another number
WINNER = 0.6  # of the time for training, for the winner, where others follow
PLAN = "front.json"  # of a search folder: which trials, and how long each may train


def choose_front(done: Sequence[Found], best: Found, count: int) -> list[Found]:
    """The trials beside the winner, cheapest first, count - 1 at most: the range of costs of all that fit is cut into
    `count` parts of equal ratio, and the best of every part but the winner's is taken; then, for parts that are empty,
    the best of what is left. The cost is the latency where it was measured, else multiply-adds.
    """
    good = [f for f in done if is_valued(f) and f.facts.get("fits") and f is not best]
    cost = "latency_ms" if all(f.facts.get("latency_ms") for f in (best, *good)) else "macs"
    logs = {f.number: math.log(f.facts[cost]) for f in (best, *good)}
    low, high = min(logs.values()), max(logs.values())

    def part(one: Found) -> int:
        """Which part of the range a trial is in."""
        return 0 if high == low else min(count - 1, int(count * (logs[one.number] - low) / (high - low)))

    ranked = sorted(good, key=lambda f: (-_value(f), f.facts[cost]))
    tops = [next((f for f in ranked if part(f) == i), None) for i in range(count) if i != part(best)]
    chosen = [f for f in tops if f is not None]
    chosen += [f for f in ranked if f not in chosen][: count - 1 - len(chosen)]
    return sorted(chosen, key=lambda f: logs[f.number])


def _value(one: Found) -> float:
    return (one.values or (-math.inf,))[0]


def plan_front(folder: Path, design: Search, done: Sequence[Found], best: Found, left: float | None) -> float | None:
    """front.json; the seconds of what is left that are for the winner's training."""
    others = choose_front(done, best, design.front)
    mine = left if left is None or not others else WINNER * left
    each = None if left is None or mine is None or not others else (left - mine) / len(others)
    write_json(folder / PLAN, {"others": [{"trial": one.number, "seconds": each} for one in others]})
    return mine


def train_front(
    folder: Path,
    design: Search,
    space: Space,
    dataset: Dataset,
    done: Sequence[Found],
    winner: Run,
    listener: Listener,
) -> list[dict[str, Any]]:
    """A row for each model of the front, the cheapest first, when all are trained. A net that turns out to be over the
    budget is left out, and said.
    """
    path = folder / PLAN
    planned = parse_json(path.read_bytes(), str(path))["others"] if path.exists() else []
    summaries = [winner.summary]
    for number, member in enumerate(planned, 1):
        try:
            if (found := train_member(folder, number, member, design, space, dataset, done, listener)) is not None:
                summaries.append(found)
        except BudgetError as error:
            listener(WarningEvent(f"left out of the front: {error}"))
    summaries.sort(key=lambda s: (s["latency_ms"], s["macs"]))
    rows: list[dict[str, Any]] = []
    for number, s in enumerate(summaries, 1):
        place = folder / "front" / str(number)
        files = {f.name: f.read_bytes() for f in sorted((Path(s["run"]) / "best").iterdir()) if f.is_file()}
        place.parent.mkdir(exist_ok=True)
        write_folder(place, files)
        row = {"path": str(place), "accuracy": s["test_accuracy"], "interval": s["test_interval"], "n": s["test_n"]}
        row |= {key: s[key] for key in ("latency_ms", "size_bytes", "macs", "params", "resolution")}
        beaten = any(known["accuracy"] >= row["accuracy"] for known in rows)  # by one that is no dearer
        rows.append({**row, "chosen": s is winner.summary, "beaten": beaten, "run": s["run"]})
    return rows


def train_member(
    folder: Path,
    number: int,
    member: dict[str, Any],
    design: Search,
    space: Space,
    dataset: Dataset,
    done: Sequence[Found],
    listener: Listener,
) -> dict[str, Any] | None:
    """The summary of one more net of the front, trained as far as its time allows; None where its trial is gone."""
    place = folder / "others" / str(number)
    if (known := finished(place)) is not None:
        return known
    if (place / "recipe.json").exists() and any((place / "state").glob("step-*")):
        return dict(resume_run(place, listener).summary)
    one = next((f for f in done if f.number == member["trial"]), None)
    if one is None:
        return None
    listener(StageEvent(f"a model of the front: trial {one.number}"))
    seconds, begun = member["seconds"], time.monotonic()
    m = again(design, space, dataset, one)
    try:
        plan = plan_of(design, dataset, m, seconds, listener)
        start = start_of(folder, design, space, dataset, one, plan.recipe, {}, begun, seconds)
        place.mkdir(parents=True, exist_ok=True)
        return dict(complete(place, plan, dataset, listener, start=start).summary)
    except BudgetError:
        raise
    except FoveateError as error:
        listener(WarningEvent(f"left out of the front, trial {one.number}: {error}"))
        return None
