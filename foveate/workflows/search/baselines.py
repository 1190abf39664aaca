"""What the zoo has under the same budget: networks that get the same short training as the nets of a search.

Without them nobody can say whether a search found anything. They are chosen by published accuracy among those that the
budget seems to allow (selection/shortlist.py), measured, and trained as a trial is; zoo.json of the folder keeps them.
"""

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foveate.config import parse_json
from foveate.cost.count import cost
from foveate.events import Listener, StageEvent
from foveate.files import write_json
from foveate.search.study import Found
from foveate.selection.candidates import exceeds, make_candidate, measure_candidate
from foveate.selection.shortlist import cost_per_mac, list_priors, spread
from foveate.workflows.search.design import config_of
from foveate.workflows.search.evaluators import train_short
from foveate.workflows.search.in_time import usual_s
from foveate.workflows.search.material import Material

COUNT = 3  # networks of the zoo
NARROW = 4.0  # the cheapest of them may be so many times cheaper than the budget allows


def zoo_rows(folder: Path, material: Material, done: Sequence[Found], listener: Listener) -> list[dict[str, Any]]:
    """A row for each network of the zoo that was tried; those of zoo.json where there is one."""
    path = folder / "zoo.json"
    if path.exists():
        kept: list[dict[str, Any]] = parse_json(path.read_bytes(), str(path))
        return kept
    search, dataset = material.search, material.dataset
    size = search.preprocess.resolution
    limits = (search.budget.max_macs, search.budget.max_size_bytes)
    possible = [p for p in list_priors(dataset, size) if not exceeds(p, *limits)]
    family = config_of(material.space, done[0].net, dataset).family
    high = highest_cost(search.budget.max_latency_ms, done, cost_per_mac(family))
    chosen = spread(possible, high / NARROW, high, COUNT) or possible[:1]
    listener(StageEvent(f"the same short training for the zoo's {', '.join(p.model for p in chosen)}"))
    rows = []
    for prior in chosen:
        if time.monotonic() + usual_s(done) > material.until:
            listener(StageEvent(f"  {prior.model}  no time for it"))
            continue
        begun, facts = time.monotonic(), dict[str, Any]()
        candidate = make_candidate(dataset, prior.model, size, None)
        m = measure_candidate(candidate, cost(candidate.config, resolution=size), search.budget, search.threads or 1)
        row = m.row(m.within(search.budget))
        if row["fits"]:
            train_short(material, candidate.config, facts.__setitem__)
        rows.append({**row, "val_accuracy": facts.get("val_accuracy"), "seconds": time.monotonic() - begun})
        said = "over the budget" if not row["fits"] else f"val {100 * facts['val_accuracy']:.1f} %"
        listener(StageEvent(f"  {prior.model}  {said}  {row['latency_ms']:.2f} ms"))
    write_json(path, rows)
    return rows


def highest_cost(max_latency_ms: float | None, done: Sequence[Found], factor: float) -> float:
    """The cost, as field.cost_of counts it, that the latency budget seems to allow, by the speed of the nets that were
    measured; without a budget the largest that the search tried. factor:
    the time of their multiply-adds beside a plain convolution's (selection/shortlist.py).
    """
    tried = [factor * float(f.facts["macs"]) for f in done if "macs" in f.facts]
    speeds = [f.facts["latency_ms"] / (factor * f.facts["macs"]) for f in done if f.facts.get("latency_ms")]
    if max_latency_ms is None or not speeds:
        return max(tried, default=math.inf)
    return max_latency_ms / statistics.median(speeds)


def verdict(rows: Sequence[dict[str, Any]], best: Found, n: int) -> list[str]:
    """What the comparison says, in sentences."""
    if not rows:
        return []
    fitting = [row for row in rows if row["val_accuracy"] is not None]
    if not fitting:
        return ["No network of the zoo that was tried fits the budget."]
    top = max(fitting, key=lambda row: float(row["val_accuracy"]))
    named = ", ".join(f"{r['model']} {100 * r['val_accuracy']:.1f} % ({r['latency_ms']:.2f} ms)" for r in fitting)
    out = [f"The zoo under the same budget, after the same short training: {named}."]
    if "val_accuracy" not in best.facts:
        return out
    gap = 100 * (best.facts["val_accuracy"] - top["val_accuracy"])
    p = float(top["val_accuracy"])
    error = 100 * math.sqrt(2 * max(p * (1 - p), 1e-9) / n)
    which = "above" if gap > error else "below" if gap < -error else "within the standard error of"
    return [*out, f"The winner is {which} the best of them: {gap:+.1f} points, standard error {error:.1f} (n = {n})."]
