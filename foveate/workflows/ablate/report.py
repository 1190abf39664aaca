"""The results of an ablation: numbers with their tests, a table in the layout of the papers.

Nothing here depends on the time or on how often the ablation was interrupted: equal trials give equal bytes.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foveate.config import parse_json
from foveate.files import write_bytes, write_json, write_text
from foveate.report.units import percent, plural, points
from foveate.workflows.ablate.design import BASE, Ablation
from foveate.workflows.ablate.plot import plot
from foveate.workflows.ablate.stats import (
    Difference,
    Spread,
    difference,
    effects,
    holm,
    of_differences,
    one_seed,
    spread,
)
from foveate.workflows.ablate.trial import TIMING

Outcomes = Mapping[tuple[int, int], Mapping[str, Any]]
SAYS = {
    "one-in": "each factor alone, compared with the base",
    "cumulative": "one factor more in every row, compared with the row above",
    "one-out": "all factors but one, compared with all",
    "factorial": "every choice of factors, compared with the base",
}


def results(ablation: Ablation, outcomes: Outcomes) -> dict[str, Any]:
    """Everything that results.json says. Accuracies and differences are shares from 0 to 1."""
    rows = [_row(ablation, outcomes, i) for i in range(len(ablation.rows))]
    for corrected, plain in (("p_holm", "p"), ("p_exact_holm", "p_exact")):
        compared = [row["difference"] for row in rows if row["difference"]]
        for one, p in zip(compared, holm([d[plain] for d in compared]), strict=True):
            one[corrected] = p
    plan, good = ablation.rows[0].plan, [o for o in outcomes.values() if o["failed"] is None]
    return {
        "kind": ablation.kind,
        "data": ablation.name,
        "model": plan.model,
        "base": ablation.base,
        "changes": list(ablation.changes),
        "factors": list(ablation.factors),
        "seeds": list(ablation.seeds),
        "split": good[0]["split"] if good else None,
        "n": good[0]["n"] if good else None,
        "val_n": good[0]["val_n"] if good else None,
        "resolution": plan.preprocess.resolution,
        "precision": plan.recipe.precision,
        "layout": plan.recipe.layout,
        "threads": plan.recipe.threads,
        "device": plan.device,
        "rows": rows,
        "effects": _effects(ablation, outcomes),
        "command": ablation.command,
        "version": ablation.version,
    }


def _row(ablation: Ablation, outcomes: Outcomes, i: int) -> dict[str, Any]:
    row = ablation.rows[i]
    good = {p: outcomes[i, p] for p in range(len(ablation.seeds)) if outcomes[i, p]["failed"] is None}
    failed = [
        {"seed": ablation.seeds[p], "text": outcomes[i, p]["failed"]}
        for p in range(len(ablation.seeds))
        if p not in good
    ]
    first = next(iter(good.values()), {})
    against_base = next(j for j, other in enumerate(ablation.rows) if other.label == BASE)
    return {
        "label": row.label,
        "factors": list(row.factors),
        "reference": None if row.reference is None else ablation.rows[row.reference].label,
        "model": row.plan.model,
        "params": row.params,
        "macs": row.macs,
        **{name: first.get(name) for name in ("epochs", "steps", "batch")},
        "seeds": [ablation.seeds[p] for p in good],
        "values": [o["accuracy"] for o in good.values()],
        "test": _spread(list(good.values())),
        "val": asdict(spread([o["val_accuracy"] for o in good.values()])) if good else None,
        "top5": statistics.fmean(o["top5"] for o in good.values()) if good else None,
        "difference": None if row.reference is None else _difference(outcomes, ablation, i, row.reference),
        "over_base": None if i == against_base else _difference(outcomes, ablation, i, against_base),
        "failed": failed,
    }


def _spread(good: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Over seeds; of a single seed Wilson's interval over its pictures."""
    if not good:
        return None
    one: Spread = spread([o["accuracy"] for o in good]) if len(good) > 1 else one_seed(good[0]["correct"], good[0]["n"])
    return asdict(one)


def _difference(outcomes: Outcomes, ablation: Ablation, i: int, j: int) -> dict[str, Any] | None:
    """Row i minus row j over the seeds in which both have a result."""
    places = [
        p for p in range(len(ablation.seeds)) if outcomes[i, p]["failed"] is None and outcomes[j, p]["failed"] is None
    ]
    if not places:
        return None
    ours, theirs = ([outcomes[k, p]["accuracy"] for p in places] for k in (i, j))
    found: Difference = difference(ours, theirs)
    return {**asdict(found), "values": [a - b for a, b in zip(ours, theirs, strict=True)]}


def _effects(ablation: Ablation, outcomes: Outcomes) -> list[dict[str, Any]]:
    """Main effects and interactions of a factorial design, over the seeds in which every row has a result."""
    if ablation.kind != "factorial":
        return []
    count = range(len(ablation.rows))
    places = [p for p in range(len(ablation.seeds)) if all(outcomes[i, p]["failed"] is None for i in count)]
    if not places:
        return []
    rows = {frozenset(ablation.rows[i].factors): [outcomes[i, p]["accuracy"] for p in places] for i in count}
    found = [
        {"name": name, **asdict(of_differences(values)), "values": values}
        for name, values in effects(rows, ablation.factors)
    ]
    for corrected, plain in (("p_holm", "p"), ("p_exact_holm", "p_exact")):
        for one, p in zip(found, holm([e[plain] for e in found]), strict=True):
            one[corrected] = p
    return found


def write_report(folder: Path, found: Mapping[str, Any]) -> None:
    """results.json, table.md and plot.png."""
    write_json(folder / "results.json", found)
    write_text(folder / "table.md", table(found))
    if (picture := plot(found)) is not None:
        write_bytes(folder / "plot.png", picture)


def table(found: Mapping[str, Any]) -> str:
    """The results as Markdown: a line on what was done, the rows, effects of a factorial design, and how to read it."""
    seeds, rows = len(found["seeds"]), found["rows"]
    many = any(row["params"] != rows[0]["params"] or row["macs"] != rows[0]["macs"] for row in rows)
    both = found["kind"] == "cumulative" and len(rows) > 2
    head = ["", f"{found['split'] or 'test'} accuracy (%)", "difference", "95 % interval", "p", "p (Holm)", "better in"]
    head += ["over base"] if both else []
    head += ["val (%)"]
    head += ["params", "MACs"] if many else []
    lines = [f"# {found['model']} on {found['data']}: {SAYS[found['kind']]}", "", _what(found), ""]
    lines += _grid([head, *(_cells(row, both, many) for row in rows)])
    if found["effects"]:
        head = ["effect", "accuracy (points)", "95 % interval", "p", "p (Holm)", "above 0 in"]
        lines += ["", *_grid([head, *([e["name"], *_tests(e)] for e in found["effects"])])]
    failed = [f"- {row['label']}, seed {f['seed']} failed: {f['text']}" for row in rows for f in row["failed"]]
    idle = [f"- {row['label']} is equal to {row['reference']} in every seed" for row in rows if _idle(row)]
    said = [*failed, *(f"{line}: it may have no effect in a training of this length" for line in idle)]
    return "\n".join([*lines, "", *([*said, ""] if said else []), *_notes(seeds)]) + "\n"


def _idle(row: Mapping[str, Any]) -> bool:
    """Whether a row came out as its reference did, picture counts and all."""
    return row["difference"] is not None and not any(row["difference"]["values"])


def _what(found: Mapping[str, Any]) -> str:
    seeds = found["seeds"]
    said = ", ".join(map(str, seeds)) if len(seeds) <= 10 else f"{seeds[0]} to {seeds[-1]}"
    base = f"recipe {found['base']}" + "".join(f", {c}" for c in found["changes"])
    lengths = {(row["epochs"], row["steps"], row["batch"]) for row in found["rows"] if row["epochs"]}
    length = "; ".join(f"{e} epochs, {s:,} steps of {b}" for e, s, b in sorted(lengths)) or "no row was finished"
    pictures = f"{found['n']:,} {found['split']} pictures" if found["n"] else "no pictures"
    processor = f"{found['device']}, {plural(found['threads'], 'thread')}"
    how = f"{found['resolution']} px, {found['precision']}, {found['layout']}, {processor}"
    return (
        f"Base: {base}; {length}; {how}. Seeds {said}; {pictures} a seed; the best epoch chosen on"
        f" {found['val_n'] or 0:,} validation pictures. foveate {found['version']}."
    )


def _grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table that is one to the eye too: equal widths, the first column to the left, numbers to the right."""
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return (
            "| "
            + " | ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
            + " |"
        )

    rule = "| " + " | ".join("-" * (w - 1) + (":" if i else "-") for i, w in enumerate(widths)) + " |"
    return [line(rows[0]), rule, *map(line, rows[1:])]


def _cells(row: Mapping[str, Any], both: bool, many: bool) -> list[str]:
    d = row["difference"]
    cells = [row["label"].replace("|", "\\|"), _accuracy(row["test"]), *(_tests(d) if d else [""] * 5)]
    cells += [points(row["over_base"]["mean"], 2) if row["over_base"] else ""] if both else []
    cells += [percent(row["val"]["mean"], 2) if row["val"] else ""]
    return cells + ([f"{row['params']:,}", f"{row['macs']:,}"] if many else [])


def _accuracy(s: Mapping[str, Any] | None) -> str:
    """ "91.20 ± 0.31" (standard deviation over seeds); of one seed "91.20 (89.9 to 92.3)" (Wilson)."""
    if s is None:
        return "failed"
    if s["sd"] is None:
        return f"{percent(s['mean'], 2)} ({percent(s['low'])} to {percent(s['high'])})"
    return f"{percent(s['mean'], 2)} ± {percent(s['sd'], 2)}"


def _tests(d: Mapping[str, Any]) -> list[str]:
    interval = "" if d["low"] is None else f"{points(d['low'], 2)} to {points(d['high'], 2)}"
    return [points(d["mean"], 2), interval, _p(d["p"]), _p(d["p_holm"]), f"{d['wins']} of {d['n']}"]


def _p(p: float | None) -> str:
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _notes(seeds: int) -> list[str]:
    """How to read the table."""
    if seeds == 1:
        return [
            "One seed: the interval (Wilson, 95 %) covers the choice of test pictures only, not the variation between"
            " seeds. Take --seeds 5 for differences."
        ]
    text = (
        f"± is the standard deviation over {seeds} seeds. Differences are paired by seed (same split, order and"
        " augmentation): mean with the 95 % interval and p of the paired t test; p (Holm) is corrected for the number"
        " of rows."
    )
    least = 2 / 2**seeds
    if seeds <= 5:
        text += f" The exact sign-flip test (results.json) can not fall below {least:g} with {seeds} seeds."
    return [text]


def timing(folder: Path, ablation: Ablation) -> list[dict[str, Any]]:
    """Median seconds of a trial by row, and the device. Not part of the results: times differ from run to run."""
    found = []
    for i, row in enumerate(ablation.rows):
        paths = [folder / "trials" / ablation.folder(i, p) / TIMING for p in range(len(ablation.seeds))]
        times = [parse_json(path.read_bytes(), str(path)) for path in paths if path.exists()]
        if times:
            median = statistics.median(t["train_and_test_s"] for t in times)
            found.append({"row": row.label, "median_s": median, "trials": len(times), "device": times[0].get("device")})
    return found
