"""Settings that are given beside a run that goes on: the run's own, or refused. A run goes on as it began."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.config import field_names, get_path, override, parse_json, replace, to_dict
from foveate.data.preprocess import with_change
from foveate.errors import ConfigError
from foveate.recipes import find_recipe
from foveate.runs.plan import Plan, network, room_of
from foveate.train.recipe import Recipe

# fields of a recipe that the beginning of a run settles, so that they may differ from what was asked for
SETTLED = ("precision", "layout", "threads", "fold_norms", "frozen_norms", "seed")


@dataclass(frozen=True)
class Asked:
    """What a user says beside --resume; None (or nothing): not said."""

    data: str | Path | None = None
    model: str | None = None
    recipe: str | Recipe | None = None
    overrides: Sequence[str] = ()
    weights: str | None = None
    seed: int | None = None
    device: str | None = None
    bad_files: str | None = None
    name: str | None = None
    runs: str | Path | None = None


def refuse_other_settings(folder: Path, plan: Plan, asked: Asked) -> None:
    """ConfigError for the first setting that the run in this folder has not: what it has, what was asked, what to do.

    What is as in the run passes. Epochs can not be added: the schedule of the learning rate is laid out for those that
    the run began with.
    """
    for option, has, wanted in differences(folder, plan, asked):
        kept = [c for c in plan.changes if c.partition("=")[0] not in {o.partition("=")[0] for o in asked.overrides}]
        data, model = str(asked.data or plan.data), asked.model or plan.model
        words = shlex.join(["foveate", "train", data, "--model", model, *kept, *asked.overrides])
        raise ConfigError(
            f"--resume {folder}: the run has {option} {has}, asked for {wanted}; a run goes on as it began: leave that"
            f" out, or start a new run without --resume: {words}"
        )


def differences(folder: Path, plan: Plan, asked: Asked) -> Iterator[tuple[str, Any, Any]]:
    """(what it is, what the run has, what was asked for) of each setting that differs."""
    if asked.data and not same_place(str(asked.data), plan.data):
        yield "DATA", plan.data, asked.data
    if asked.model and asked.model != plan.model and network(asked.model) != same_network(plan.model):
        yield "--model", plan.model, asked.model
    if asked.recipe is not None:
        yield from other_recipe(plan, asked.recipe)
    for text in asked.overrides:
        yield from other_value(plan, text)
    single = {"weights": asked.weights, "device": asked.device, "bad_files": asked.bad_files}
    if asked.weights == "none" or (plan.weights or "").partition("@")[0] == asked.weights:
        single["weights"] = plan.weights if asked.weights != "none" or plan.weights is None else "none"
    for key, wanted in single.items():
        if wanted not in (None, "auto") and wanted != getattr(plan, key):
            yield f"--{key.replace('_', '-')}", getattr(plan, key) or "none", wanted
    if asked.seed is not None and asked.seed != plan.recipe.seed:
        yield "--seed", plan.recipe.seed, asked.seed
    if asked.name is not None and not re.fullmatch(re.escape(asked.name) + r"(-\d+)?", folder.resolve().name):
        yield "--name", folder.resolve().name, asked.name
    if asked.runs is not None and Path(asked.runs).resolve() != folder.resolve().parent:
        yield "--runs", folder.parent, asked.runs


def same_place(a: str, b: str) -> bool:
    """Whether two texts name the same data: a built-in name or a path."""
    return a == b or Path(a).resolve() == Path(b).resolve()


def same_network(name: str) -> Any:
    """The network that a recorded name stands for; None where it is gone."""
    try:
        return network(name)
    except ConfigError:
        return None


def other_recipe(plan: Plan, wanted: str | Recipe) -> Iterator[tuple[str, Any, Any]]:
    """The first field of a recipe, with the changes that the run was begun with, that the run has not."""
    recipe = find_recipe(wanted) if isinstance(wanted, str) else wanted
    rooms = [room_of(text) for text in plan.changes]
    recipe = override(recipe, [text for room, text in rooms if room == "recipe" and text != "batch=auto"])
    left = SETTLED + (("batch",) if "batch=auto" in plan.changes else ())
    recipe = replace(recipe, **{key: getattr(plan.recipe, key) for key in left})
    for key in field_names(recipe):
        has, asked = getattr(plan.recipe, key), getattr(recipe, key)
        if has != asked:
            if not isinstance(has, (int, float, str, tuple)):
                name = next(n for n in field_names(has) if getattr(has, n) != getattr(asked, n))
                key, has, asked = f"{key}.{name}", getattr(has, name), getattr(asked, name)
            name = wanted if isinstance(wanted, str) else "this one"
            yield key, shown(has), f"--recipe {name}, which has {shown(asked)}"
            return


def other_value(plan: Plan, text: str) -> Iterator[tuple[str, Any, Any]]:
    """A KEY=VALUE that would change the run. ConfigError where there is no such key or value."""
    room, rest = room_of(text)
    record: Any = {"model": plan.architecture, "preprocess": plan.preprocess, "recipe": plan.recipe}[room]
    key, _, value = rest.partition("=")
    if text in plan.changes or (room == "recipe" and key in SETTLED and value in ("auto", "0")):
        return
    if rest == "batch=auto":
        yield "batch", record.batch, "auto"
        return
    changed = with_change(record, rest) if room == "preprocess" else override(record, [rest])
    if changed != record:
        name = key if room == "recipe" else f"{room}.{key}"
        yield name, shown(get_path(record, key)), shown(get_path(changed, key))


def shown(value: Any) -> str:
    """A value of a record in one short piece of text."""
    text = str(to_dict(value))
    return text if len(text) <= 60 else text[:57] + "..."


def finished(folder: Path) -> dict[str, Any] | None:
    """summary.json of a run that is at its end; None where there is something left to do."""
    path = folder / "summary.json"
    return parse_json(path.read_bytes(), str(path)) if path.is_file() else None
