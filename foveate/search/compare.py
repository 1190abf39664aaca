"""Samplers beside each other on a table: many seeds, several budgets, chosen by one column and reported by another."""

import statistics
from collections.abc import Iterator, Sequence

import numpy as np

from foveate.config import record
from foveate.errors import ConfigError
from foveate.search import sampler
from foveate.search.hypervolume import hypervolume, outer_reference, pareto
from foveate.search.space import Space
from foveate.search.study import run
from foveate.search.tables import Table

BUDGETS = (25, 50, 100, 200)


@record
class Line:
    """What one sampler reached with one budget, over the seeds 0 .. seeds - 1."""

    sampler: str
    budget: int  # different nets
    mean: float
    deviation: float  # sample standard deviation over the seeds; 0 for one seed
    error: float  # standard error of the mean
    seeds: int


def compare(
    table: Table,
    space: Space,
    samplers: Sequence[str],
    observe: str,
    report: str,
    budgets: Sequence[int] = BUDGETS,
    seeds: int = 20,
    ordered_by: str | None = None,
) -> Iterator[Line]:
    """Per sampler and budget: the `report` column of the net that is best in the `observe` column among the evaluated;
    of several that are equally good there (accuracies are counts of pictures), the mean.

    ordered_by: a column; adds the sampler "by COLUMN", which evaluates the nets with the largest values of it: with
    multiply-adds the baseline that any cheap score has to beat. Ties are in random order. The largest value wins.
    """
    check(budgets, seeds)
    for name in samplers:
        rows = []
        for seed in range(seeds):
            seen, reported = table.column(observe, seed), table.column(report, seed)
            evaluate = table.evaluate(seen)
            done = run(space, evaluate, sampler(name, space, seed), budget=max(budgets))
            order = [table.rows[trial.net] for trial in done if trial.net in table.rows]
            rows.append(reached(seen[order], reported[order], budgets))
        yield from lines(name, rows, budgets)
    if ordered_by is not None:
        rows = []
        nets = np.array(sorted(table.rows.values()))
        for seed in range(seeds):
            mixed = np.random.default_rng(seed).permutation(nets)
            order = mixed[np.argsort(-table.column(ordered_by, seed)[mixed], kind="stable")][: max(budgets)].tolist()
            rows.append(reached(table.column(observe, seed)[order], table.column(report, seed)[order], budgets))
        yield from lines(f"by {ordered_by}", rows, budgets)


def reached(seen: np.ndarray, reported: np.ndarray, budgets: Sequence[int]) -> list[float]:
    """Per budget the mean reported value of the best seen ones; a trial without a number (NaN) is never the best."""
    ranked = np.where(np.isfinite(seen), seen, -np.inf)
    return [float(reported[:budget][ranked[:budget] == ranked[:budget].max()].mean()) for budget in budgets]


def compare_fronts(
    table: Table,
    space: Space,
    samplers: Sequence[str],
    objectives: Sequence[str],
    budgets: Sequence[int] = (100, 200, 500),
    seeds: int = 20,
    reference: Sequence[float] | None = None,
) -> Iterator[Line]:
    """Per sampler and budget: the share of the exact hypervolume (over all nets of the table) that the evaluated reach.

    objectives: columns; the first is maximised and the others minimised, unless a sign before the name says otherwise
    ("-latency_ms", "+top5"). reference: one number per objective in the column's unit; by default the space's own for a
    column that it knows, else a tenth of the exact front's range beyond its worst.
    """
    check(budgets, seeds)
    names, signs = directions(objectives)
    nets = list(table.rows.values())

    def points(seed: int) -> np.ndarray:
        return np.stack([s * table.column(n, seed) for n, s in zip(names, signs, strict=True)], axis=1)

    wholes = []
    for seed in range(seeds):
        whole = points(seed)[nets]
        whole = whole[np.isfinite(whole).all(1)]
        front = whole[pareto(whole)]
        corner = outer_reference(front)
        for i, (name, sign) in enumerate(zip(names, signs, strict=True)):
            if reference is not None:
                corner[i] = sign * reference[i]
            elif name in space.references:
                corner[i] = sign * space.references[name]
        wholes.append((corner, hypervolume(front, corner)))
        if wholes[-1][1] <= 0:
            raise ConfigError(f"no net dominates the reference point {(corner * signs).tolist()}; take a worse one")
    ways = ["maximize" if sign > 0 else "minimize" for sign in signs]
    for sampler_name in samplers:
        rows = []
        for seed in range(seeds):
            evaluate = table.evaluate(*(table.column(n, seed) for n in names))
            done = run(space, evaluate, sampler(sampler_name, space, seed), budget=max(budgets), directions=ways)
            got = np.array([t.values if t.values is not None else [np.nan] * len(names) for t in done]) * signs
            corner, exact = wholes[seed]
            rows.append([hypervolume(got[:budget], corner) / exact for budget in budgets])
        yield from lines(sampler_name, rows, budgets)


def directions(objectives: Sequence[str]) -> tuple[list[str], list[float]]:
    """Column names and signs: +1 to maximise, -1 to minimise."""
    if len(objectives) < 2:
        raise ConfigError(f"objectives = {','.join(objectives)}; expected two columns or more, such as accuracy,macs")
    names = [text.lstrip("+-") for text in objectives]
    signs = [{"+": 1.0, "-": -1.0}.get(text[:1], 1.0 if i == 0 else -1.0) for i, text in enumerate(objectives)]
    return names, signs


def lines(name: str, rows: Sequence[Sequence[float]], budgets: Sequence[int]) -> Iterator[Line]:
    """Mean, deviation and standard error over the seeds, per budget."""
    for budget, values in zip(budgets, zip(*rows, strict=True), strict=True):
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        mean = statistics.fmean(values)
        yield Line(name, budget, mean, deviation, deviation / len(values) ** 0.5, len(values))


def check(budgets: Sequence[int], seeds: int) -> None:
    """ConfigError where there is nothing to compare."""
    if not budgets or min(budgets) < 1 or seeds < 1:
        raise ConfigError(f"budgets = {tuple(budgets)}, seeds = {seeds}; expected budgets and seeds of at least 1")


def markdown(found: Sequence[Line], digits: int = 3) -> str:
    """One row a sampler, one column a budget: mean (deviation)."""
    budgets = sorted({line.budget for line in found})
    out = [f"| sampler | {' | '.join(str(b) for b in budgets)} |", f"|---|{'---|' * len(budgets)}"]
    for name in dict.fromkeys(line.sampler for line in found):
        cells = {
            line.budget: f"{line.mean:.{digits}f} ({line.deviation:.{digits}f})"
            for line in found
            if line.sampler == name
        }
        out.append(f"| {name} | {' | '.join(cells[b] for b in budgets)} |")
    return "\n".join(out)
