"""The pages of recipes and of config fields: every record with fields, types, defaults and the comment beside them."""

import ast
import dataclasses
import inspect
import sys
import textwrap
from typing import Any

from foveate.config import dotted_paths, get_path
from foveate.layers import Layers
from foveate.recipes import RECIPES
from foveate.train import recipe
from foveate.zoo import FAMILIES
from scripts.reference.api import cell, escaped, written_types

RECIPE_HEAD = """# Recipes

A recipe is a value: everything that a training does. `--recipe NAME` takes one of these, `--recipe FILE` a `.toml` or
`.json` with the fields that differ from the defaults, and `key=value` on the command line changes single fields
(`foveate train photos --model resnet18 epochs=30 optim.lr=0.02`). What each refinement is, with its source:
[training](../training.md).

"""
CONFIG_HEAD = """# Config fields

An architecture is a frozen record of its family. `model.FIELD=VALUE` on the command line of `train` and `fv.set_path`
in Python change a field; an unknown one is refused with a near match. `fv.variant("resnet50")` gives the record of a
name, and `foveate models NAME --json` prints it.

"""


def comments(cls: type) -> dict[str, str]:
    """The comment of each field of a record: the lines right above it, and the one beside it."""
    lines = textwrap.dedent(inspect.getsource(cls)).splitlines()
    (tree,) = ast.parse("\n".join(lines)).body
    found: dict[str, str] = {}
    for node in tree.body if isinstance(tree, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text: list[str] = []
            for line in reversed(lines[: node.lineno - 1]):
                if not line.strip().startswith("# "):
                    break
                text.insert(0, line.strip()[2:])
            last = lines[(node.end_lineno or node.lineno) - 1]
            found[node.target.id] = " ".join([*text, last.rpartition("  # ")[2]] if "  # " in last else text)
    return found


def table(cls: type) -> list[str]:
    rows = ["| field | type | default | |", "|---|---|---|---|"]
    said, types = {}, {}  # those of a record under it are its own too
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            said |= comments(base)
            types |= written_types(base)
    for field in dataclasses.fields(cls):
        default = "required"
        if field.default is not dataclasses.MISSING:
            default = f"`{cell(repr(field.default))}`"
        elif field.default_factory is not dataclasses.MISSING:
            default = f"`{cell(repr(field.default_factory()))}`"
        if len(default) > 60:
            default = "its defaults"
        kind = types.get(field.name, "")
        rows.append(f"| `{field.name}` | `{cell(kind)}` | {default} | {cell(escaped(said.get(field.name, '')))} |")
    return [*rows, ""]


def changes(value: Any, plain: Any) -> str:
    paths = [p for p in dotted_paths(value) if get_path(value, p) != get_path(plain, p)]
    leaves = [p for p in paths if not any(q.startswith(f"{p}.") for q in paths)]
    return "\n".join(f"{path} = {get_path(value, path)!r}" for path in leaves)


def recipes() -> str:
    parts, plain = [RECIPE_HEAD], recipe.Recipe()
    for name, value in RECIPES.items():
        doc = inspect.getdoc(sys.modules[f"foveate.recipes.{name}"]) or ""
        parts += [f"## {name}\n", escaped(doc), "", f"```python\n{changes(value, plain)}\n```\n"]
    parts += ["# Fields of a recipe\n"]
    for cls in (recipe.Recipe, recipe.Optim, recipe.Schedule, recipe.Augment, recipe.Mix, recipe.Loss):
        prefix = "" if cls is recipe.Recipe else f" (`{cls.__name__.lower()}.`)"
        parts += [f"## {cls.__name__}{prefix}\n", escaped(inspect.getdoc(cls) or ""), "", *table(cls)]
    return "\n".join(parts)


def nested(cls: type, found: dict[type, None]) -> None:
    """The records within a record, each once."""
    for base in (b for b in cls.__mro__ if dataclasses.is_dataclass(b)):
        names = [n.id for n in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(base)))) if isinstance(n, ast.Name)]
        for inner in (getattr(sys.modules[base.__module__], name, None) for name in names):
            known = inner in (*found, Layers, *cls.__mro__)
            if inspect.isclass(inner) and dataclasses.is_dataclass(inner) and not known:
                found[inner] = None
                nested(inner, found)


def configs() -> str:
    parts = [CONFIG_HEAD, "## Layers (`layers.`)\n", inspect.getdoc(Layers) or "", "", *table(Layers)]
    parts += ["Names and options of layers: [Layers](../layers.md).\n"]
    seen: dict[type, None] = {}
    for name, family in FAMILIES.items():
        inner: dict[type, None] = {}
        nested(family.config, inner)
        parts += [f"## {name}\n", escaped(inspect.getdoc(family.config) or ""), "", *table(family.config)]
        for cls in inner:
            if cls not in seen:
                seen[cls] = None
                parts += [f"### {cls.__name__} of {name}\n", escaped(inspect.getdoc(cls) or ""), "", *table(cls)]
    return "\n".join(parts)
