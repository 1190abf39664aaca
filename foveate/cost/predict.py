"""Latency without running anything: a table of operators, measured once on this device, added up.

latency = what every run costs + its picture + its operators. A convolution or linear layer that was measured costs what
was measured; another one what cost/interpolate.py says; what only moves or maps numbers costs so much a call and so
much an element.
"""

import functools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from foveate.config import NonNegative, from_dict, parse_json, record, replace, to_dict
from foveate.cost.calibrate import Case
from foveate.cost.interpolate import Group, fit_groups, group, place
from foveate.cost.operators import Operator, operators
from foveate.cost.shadow import shadow, sizes
from foveate.errors import ConfigError

Text = Annotated[str, Field(max_length=200)]
Size = Annotated[int, Field(ge=0, le=100_000_000)]
Microseconds = Annotated[float, Field(ge=0.0, le=1e9, allow_inf_nan=False)]
RUNTIMES = ("onnxruntime",)
FOLDS = 6
ELEMENTS = 1e4  # what the rates of other operators are for


@record
class Row:
    """A measured operator; sizes as in Operator."""

    kind: Text
    c_in: Size
    c_out: Size
    height: Size
    width: Size
    kernel: Size
    stride: Size
    groups: Size
    us: Microseconds


@record
class Rate:
    """What operators of a kind without multiply-adds cost."""

    kind: Text
    call_us: Microseconds
    elements_us: Microseconds  # for each ELEMENTS numbers read or written


@record
class Table:
    """Operators measured on one device with one runtime. Stored as JSON; the same table for every architecture."""

    runtime: Text  # "onnxruntime 1.32.0"
    threads: Annotated[int, Field(ge=1, le=1024)]
    device: Text
    rows: tuple[Row, ...]
    rates: tuple[Rate, ...]
    run_us: Microseconds  # of a run with nothing in it
    picture_us: Microseconds  # for each ELEMENTS pixels of the picture: preprocessing within the graph
    networks: Size  # that were measured
    error: NonNegative = 0.0  # median relative error of networks that were left out of the table, each in its turn
    created: Text = ""
    version: Annotated[int, Field(ge=1, le=1)] = 1

    @functools.cached_property
    def measured(self) -> dict[Operator, float]:
        """Microseconds by operator."""
        return {Operator(**{k: v for k, v in to_dict(row).items() if k != "us"}): row.us for row in self.rows}

    @functools.cached_property
    def groups(self) -> dict[str, Group]:
        """What interpolates, by group of operators."""
        return fit_groups(self.measured)

    @functools.cached_property
    def known(self) -> dict[Operator, float]:
        """Microseconds of every operator that was asked for so far."""
        return dict(self.measured)

    @functools.cached_property
    def costs(self) -> dict[str, Rate]:
        """Rates by kind; "" is for kinds that were never seen: the median of the others."""
        found = {rate.kind: rate for rate in self.rates}
        middle = float(np.median([rate.elements_us for rate in self.rates])) if self.rates else 0.0
        return {"": Rate("", 0.0, middle), **found}

    def operator_us(self, op: Operator) -> float:
        """Microseconds of one operator."""
        if op not in self.known:
            if (fitted := self.groups.get(group(op))) is not None:
                self.known[op] = float(np.exp(fitted.logs(place(op)[None])[0]))
            else:
                rate = self.costs.get(op.kind, self.costs[""])
                self.known[op] = rate.call_us + rate.elements_us * op.elements / ELEMENTS
        return self.known[op]

    def latency_us(self, found: Iterable[Operator], pixels: int) -> float:
        """Microseconds of a run of these operators on a picture of so many pixels."""
        return self.run_us + self.picture_us * pixels / ELEMENTS + sum(map(self.operator_us, found))

    def strangers(self, found: Iterable[Operator]) -> dict[str, int]:
        """Kinds of operators that nothing like was measured of, with how many there are: a guess is in the sum."""
        return dict(Counter(op.kind for op in found if group(op) not in self.groups and op.kind not in self.costs))


def predict_latency_us(config_or_model: Any, table: Table, resolution: int | None = None) -> float:
    """Microseconds for one picture on the device and runtime of the table. Nothing is run or exported.

    It is the processor's time of the exported file, crop and normalisation included (threads 1), as --measure times it.
    """
    network = shadow(config_or_model)
    side = sizes(network, resolution, 1, None)[2]
    return table.latency_us(operators(network, side), side * side)


def make_table(cases: Sequence[Case], *, runtime: str, threads: int, device: str, created: str = "") -> Table:
    """The table that measured networks give. What is left of their times beside convolutions and linear layers is
    shared out among the other operators by least squares, no cost below 0.

    With FOLDS networks or more, each is also predicted from a table without it: that gives the error.
    """
    made = _fitted(cases, Table(runtime, threads, device, (), (), 0.0, 0.0, len(cases), created=created))
    if len(cases) < FOLDS:
        return made
    errors = []
    for fold in range(FOLDS):
        table = _fitted([case for i, case in enumerate(cases) if i % FOLDS != fold], made)
        for case in cases[fold::FOLDS]:
            errors.append(abs(table.latency_us(case.operators, case.pixels) / case.total_us - 1))
    return replace(made, error=float(np.median(errors)))


def _fitted(cases: Sequence[Case], about: Table) -> Table:
    """The table of some measured networks; about: its origin."""
    from scipy.optimize import nnls

    seen: dict[Operator, list[float]] = defaultdict(list)
    for case in cases:
        for op, us in case.times:
            seen[op].append(us)
    if not seen:
        raise ConfigError("make_table: no operator was measured; expected cases with times")
    measured = {op: float(np.median(us)) for op, us in seen.items()}
    groups = fit_groups(measured)
    kinds = sorted({op.kind for case in cases for op in case.operators if group(op) not in groups})
    terms = np.array([_terms(case.operators, case.pixels, kinds) for case in cases])
    rest = np.array([max(0.0, case.total_us - sum(us for _, us in case.times)) for case in cases])
    weight = 1 / np.array([case.total_us for case in cases])
    found = nnls(terms * weight[:, None], rest * weight)[0]
    rates = tuple(Rate(kind, float(found[2 + 2 * i]), float(found[3 + 2 * i])) for i, kind in enumerate(kinds))
    rows = tuple(Row(**op._asdict(), us=us) for op, us in measured.items())
    return replace(about, rows=rows, rates=rates, run_us=float(found[0]), picture_us=float(found[1]))


def _terms(found: Sequence[Operator], pixels: int, kinds: Sequence[str]) -> list[float]:
    """1, the picture, and for each kind its calls and its elements."""
    calls, elements = Counter(op.kind for op in found), Counter[str]()
    for op in found:
        elements[op.kind] += op.elements
    return [1.0, pixels / ELEMENTS, *(v for kind in kinds for v in (float(calls[kind]), elements[kind] / ELEMENTS))]


def table_path(runtime: str, threads: int) -> Path:
    """Where a device's table is kept: $XDG_CACHE_HOME/foveate/latency-RUNTIME-THREADS.json. runtime: "onnxruntime"."""
    name = re.sub(r"[^a-z0-9]+", "", runtime.lower())
    if name not in RUNTIMES:
        raise ConfigError(f'runtime "{runtime}": no table can be measured; expected {" or ".join(RUNTIMES)}')
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "foveate" / f"latency-{name}-{threads}.json"


def load_table(path: str | Path) -> Table:
    """Read a table. ConfigError where there is none, with the command that makes one."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no table of operators; measure one with: foveate profile --calibrate")
    table: Table = from_dict(Table, parse_json(path.read_bytes(), str(path)), str(path))
    return table
