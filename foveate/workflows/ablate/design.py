"""What an ablation compares, as a value: rows (one a variant, each with its whole plan), seeds, and what is the same.

The record is ablation.json of the folder: all that is needed to go on, on this machine or beside another process.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from foveate import __version__
from foveate.config import from_dict, override, pick, record, replace, to_json
from foveate.cost.count import cost
from foveate.data.index import Dataset, open_data
from foveate.errors import ConfigError
from foveate.events import Listener, StageEvent
from foveate.recipes import find_recipe
from foveate.runs.defaults import recipe_name
from foveate.runs.devices import Device
from foveate.runs.plan import Plan, network, prepare, room_of
from foveate.runs.run import announce
from foveate.runs.setup import apply_folding, settle_folding
from foveate.train.check import checked
from foveate.train.form import settle
from foveate.train.teacher import load_teacher
from foveate.train.views import VIEWS
from foveate.workflows.ablate.factors import WHOLE, Named, one_each

Kind = Literal["one-in", "one-out", "cumulative", "factorial"]
MAX_FACTORIAL, MAX_ROWS = 6, 64
BASE = "base"


@record
class Row:
    """One variant. reference: the number of the row that it is compared with."""

    label: str
    factors: tuple[str, ...]
    reference: int | None
    plan: Plan  # with the first seed
    params: int
    macs: int  # multiply-adds of one picture
    views: str = "one"  # of a picture in the test, averaged: an entry of VIEWS


@record
class Ablation:
    """ablation.json."""

    data: str
    name: str  # of the data
    kind: Kind
    factors: tuple[str, ...]  # as typed
    changes: tuple[str, ...]  # of the base, the same in every row
    base: str  # name of the recipe
    seeds: Annotated[tuple[int, ...], Field(min_length=1, max_length=1000)]
    fingerprints: tuple[str, ...]  # of the data, cut with each seed
    rows: Annotated[tuple[Row, ...], Field(min_length=2, max_length=MAX_ROWS)]
    command: str = ""
    version: str = __version__

    @property
    def trials(self) -> list[tuple[int, int]]:
        """(row, place of the seed) of every trial, seed by seed: what is done first makes whole comparisons."""
        return [(row, place) for place in range(len(self.seeds)) for row in range(len(self.rows))]

    def folder(self, row: int, place: int) -> str:
        """The folder of a trial below trials/: "02-mixup/seed-0"."""
        slug = re.sub(r"[^a-z0-9.]+", "-", self.rows[row].label.lower()).strip("-.")[:40] or "row"
        return f"{row:02d}-{slug}/seed-{self.seeds[place]}"


@dataclass(frozen=True)
class Request:
    """What a user asks for, before any data is read."""

    data: str
    model: str
    base: str | None
    changes: tuple[str, ...]
    factors: tuple[Named, ...]
    kind: Kind = "one-in"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    weights: str | None = None
    device: Device = "cpu"
    bad_files: Literal["stop", "skip"] = "stop"
    follow_links: bool = False
    threads: int = 0  # CPU threads of one trial; 0: the probe decides
    unequal: bool = False  # rows of different lengths are wanted


@dataclass(frozen=True)
class Combination:
    """Which factors a row has."""

    label: str
    on: tuple[Named, ...]
    reference: int | None


def combinations(factors: Sequence[Named], kind: Kind) -> list[Combination]:
    """The rows of a design; the first has no reference.

    one-in: the base, then each factor alone. cumulative: the base, then one factor more in every row, compared with
    the row above. one-out: all factors, then all but one each, compared with all, then the base. factorial: all 2**k
    choices, compared with the base.
    """
    names = [f.name for f in factors]
    if kind == "one-in":
        return [Combination(BASE, (), None), *(Combination(f.name, (f,), 0) for f in factors)]
    one_each((c for f in factors for c in f.changes), f"--{kind} {','.join(names)}")
    if kind == "cumulative":
        steps = [Combination(f"+ {f.name}", tuple(factors[: i + 1]), i) for i, f in enumerate(factors)]
        return [Combination(BASE, (), None), *steps]
    if kind == "one-out":
        if len(factors) < 2:
            raise ConfigError("--one-out leaves one of several factors out; expected two or more --factors")
        less = [Combination(f"- {f.name}", tuple(g for g in factors if g is not f), 0) for f in factors]
        return [Combination("all", tuple(factors), None), *less, Combination(BASE, (), 0)]
    if len(factors) > MAX_FACTORIAL:
        raise ConfigError(f"--factorial of {len(factors)} factors is {2 ** len(factors)} rows; at most {MAX_FACTORIAL}")
    chosen = [c for n in range(len(factors) + 1) for c in itertools.combinations(factors, n)]
    return [Combination(" + ".join(f.name for f in c) or BASE, c, None if i == 0 else 0) for i, c in enumerate(chosen)]


def design(request: Request, listener: Listener, command: str = "") -> Ablation:
    """The ablation that a request means. Everything that can be wrong with a row is found here, before any training.

    Precision, memory layout and threads that the recipe leaves open are settled once, on the base, for all rows.
    Raises ConfigError: a factor that does not fit the network, that changes nothing, or that changes the length of
    training; DataError.
    """
    rows = combinations(request.factors, request.kind)
    if not 1 < len(rows) <= MAX_ROWS:
        raise ConfigError(f"{len(rows)} rows; expected 1 to {MAX_ROWS - 1} factors")
    check_texts(request, rows)
    made = [planned(request, changes_of(row)) for row in rows]
    dataset = announce(made[0][1], listener)
    listener(StageEvent(f"{len(rows)} rows, {len(request.seeds)} seeds: {len(rows) * len(request.seeds)} trials"))
    plans = settled([plan for plan, _ in made], request)
    for row, plan in zip(rows, plans, strict=True):
        if plan.recipe.loss.teacher:
            load_teacher(plan.recipe.loss.teacher, dataset.classes, "cpu")
        if plan.recipe.epochs != plans[0].recipe.epochs and not request.unequal:
            raise ConfigError(
                f'row "{row.label}" trains for {plan.recipe.epochs} epochs and "{rows[0].label}" for'
                f" {plans[0].recipe.epochs}; budgets should be equal, or say --unequal"
            )
    fingerprints = [dataset.fingerprint]
    for seed in request.seeds[1:]:
        again = open_data(request.data, seed=seed, bad_files=request.bad_files, follow_links=request.follow_links)
        fingerprints.append(again.fingerprint)
    made_rows = tuple(_row(row, plan, request) for row, plan in zip(rows, plans, strict=True))
    _refuse_idle(made_rows)
    return Ablation(
        data=request.data,
        name=dataset.name,
        kind=request.kind,
        factors=tuple(f.name for f in request.factors),
        changes=request.changes,
        base=request.base or recipe_name(dataset, request.weights),
        seeds=request.seeds,
        fingerprints=tuple(fingerprints),
        rows=made_rows,
        command=command,
    )


def _row(row: Combination, plan: Plan, request: Request) -> Row:
    counted = cost(plan.architecture, resolution=plan.preprocess.resolution)
    names, views = tuple(f.name for f in row.on), whole(request, changes_of(row))[0]["views"]
    return Row(row.label, names, row.reference, plan, counted.params, counted.macs, str(views))


def changes_of(row: Combination) -> tuple[str, ...]:
    """All overrides of a row, in the order of its factors."""
    return tuple(change for factor in row.on for change in factor.changes)


def planned(request: Request, changes: Sequence[str]) -> tuple[Plan, Dataset]:
    """The plan of the base with these changes, for the first seed, and the data."""
    chosen, rest = whole(request, changes)
    return prepare(
        request.data,
        str(chosen["model"]),
        recipe=chosen["recipe"],
        overrides=rest,
        weights=chosen["weights"],
        seed=request.seeds[0],
        device=request.device,
        bad_files=request.bad_files,
        follow_links=request.follow_links,
    )


def whole(request: Request, changes: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    """Network, recipe, weights and views of a row, and its other overrides."""
    chosen = {"model": request.model, "recipe": request.base, "weights": request.weights, "views": "one"}
    rest = []
    for text in (*request.changes, *changes):
        key, _, value = text.partition("=")
        if key in chosen:
            chosen[key] = value
        else:
            rest.append(text)
    return chosen, rest


def check_texts(request: Request, rows: Sequence[Combination]) -> None:
    """ConfigError for names and keys that do not exist: a typing error should not cost a scan of the data."""
    for row in rows:
        config, recipe = network(request.model), find_recipe(request.base or "baseline")
        for text in (*request.changes, *changes_of(row)):
            key, _, value = text.partition("=")
            if key == "model":
                config = network(value)
            elif key == "recipe":
                recipe = find_recipe(value)
            elif key == "views":
                pick(VIEWS, value, "views")
            elif key.startswith("model."):
                config = override(config, [text.removeprefix("model.")])
            elif key != "weights" and not key.startswith("preprocess."):
                recipe = override(recipe, [text])
        checked(recipe)
    for factor in request.factors:
        refuse_idle_factor(request, factor)


def refuse_idle_factor(request: Request, factor: Named) -> None:
    """ConfigError for a factor that sets what the base has already, as far as this is known before the data is read:
    fields of the network, and of a recipe that is named.
    """
    chosen, rest = whole(request, ())
    config, named = network(str(chosen["model"])), chosen["recipe"]
    recipe = find_recipe(named) if named else None
    for text in rest:
        room, change = room_of(text)
        if room == "model":
            config = override(config, [change])
        elif room == "recipe" and recipe is not None and text != "batch=auto":
            recipe = override(recipe, [change])
    for text in factor.changes:
        room, change = room_of(text)
        if text.partition("=")[0] in WHOLE or room == "preprocess" or (room == "recipe" and recipe is None):
            return
        record: Any = config if room == "model" else recipe
        if override(record, [change]) != record:
            return
    where = chosen["model"] if factor.changes[0].startswith("model.") else named
    raise ConfigError(
        f"factor {factor.name} changes nothing in {where}: {' '.join(factor.changes)} is what it has; leave it out, or"
        " set another value in the base by KEY=VALUE"
    )


def settled(plans: Sequence[Plan], request: Request) -> list[Plan]:
    """The plans with precision, layout and threads chosen on the first of them: arithmetic must not differ by chance.

    Only where a plan says "auto" (0 for threads): a factor that names them keeps its own.
    """
    import torch

    plans = [replace(p, recipe=settle_folding(p.recipe, p.architecture)) for p in plans]
    first = plans[0]
    recipe = replace(first.recipe, threads=first.recipe.threads or request.threads)
    size = recipe.resolution or first.preprocess.resolution
    folded = apply_folding(first.architecture, first.recipe)
    chosen = settle(folded, recipe, size, torch.device(request.device))
    return [
        replace(
            p,
            recipe=replace(
                p.recipe,
                precision=chosen.precision if p.recipe.precision == "auto" else p.recipe.precision,
                layout=chosen.layout if p.recipe.layout == "auto" else p.recipe.layout,
                threads=p.recipe.threads or chosen.threads,
            ),
        )
        for p in plans
    ]


def _refuse_idle(rows: Sequence[Row]) -> None:
    """ConfigError for a row that is the same as another: its factor would be compared with itself."""
    seen: dict[str, Row] = {}
    for row in rows:
        key = to_json([row.plan, row.views])
        if (other := seen.get(key)) is not None:
            name = next((f for f in (*row.factors, *other.factors) if (f in row.factors) != (f in other.factors)), "")
            raise ConfigError(
                f'factor {name} changes nothing: row "{row.label}" is row "{other.label}" to the last field; switch it'
                " off in the base by KEY=VALUE, or leave it out"
            )
        seen[key] = row


def read_ablation(data: Any, what: str) -> Ablation:
    """ablation.json as a record."""
    made: Ablation = from_dict(Ablation, data, what)
    return made
