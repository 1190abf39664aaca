"""Layers, networks, recipes and criteria of others: lines that a package adds to the tables, each looked at first.

A plug-in is code: it is imported and run with all your rights. Nothing is loaded that was not named.
"""

import importlib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import nn

from foveate.compress.criteria import CRITERIA
from foveate.compress.criteria.score import Criterion
from foveate.config import near, record
from foveate.errors import ConfigError
from foveate.layers import ACTS, ATTNS, CONVS, NORMS
from foveate.recipes import RECIPES
from foveate.train.recipe import Recipe
from foveate.zoo import ARCHITECTURES, FAMILIES, build, list_models
from foveate.zoo.family import Config, Family

Kind: TypeAlias = Literal["norm", "act", "attn", "conv", "family", "module", "recipe", "criterion"]
Add: TypeAlias = Callable[[Kind, str, object], None]
GROUP = "foveate.plugins"  # of Python's entry points
ENVIRONMENT = "FOVEATE_PLUGINS"  # names with commas: what the worker processes of a command load as well
ENTRY = "foveate_plugin"  # the function of a package

# kind -> (tables, what a host gives, the shape that it gets, the shape that it must give)
LAYERS: Mapping[str, tuple[Mapping[str, Any], tuple[int, ...], Mapping[str, Any], tuple[int, ...]]] = {
    "norm": (NORMS, (8,), {}, (2, 8, 8, 8)),
    "act": (ACTS, (8,), {}, (2, 8, 8, 8)),
    "attn": (ATTNS, (8, 8), {}, (2, 8, 8, 8)),
    "conv": (CONVS, (8, 16, 3), {"stride": 2, "padding": 1, "groups": 1, "bias": False}, (2, 16, 4, 4)),
}
TABLES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    **{kind: (row[0],) for kind, row in LAYERS.items()},
    "family": (FAMILIES, ARCHITECTURES),
    "module": (FAMILIES, ARCHITECTURES),
    "recipe": (RECIPES,),
    "criterion": (CRITERIA,),
}


def add_entry(kind: Kind, name: str, entry: object) -> None:
    """Add a line to a table of this process, after a check that it works: what foveate_plugin(add) of a package calls.

    kind and entry: "norm", "act": entry(channels) -> module; "attn": entry(channels, base) -> module; "conv":
    entry(c_in, c_out, kernel, stride=, padding=, groups=, bias=) -> module; all may have options behind these.
    "family": a foveate.zoo.family.Family. "module": entry(num_classes, in_chans) -> any nn.Module (N, in_chans, H, W)
    -> (N, num_classes), which becomes a model of this name. "recipe": a Recipe. "criterion": entry(options) ->
    Criterion. Adding the same entry again does nothing.
    Raises ConfigError, in one line, for a name that is taken or can not be, and for an entry that does not do that.

        fv.add_entry("act", "squareplus", lambda channels: SquarePlus())
    """
    if kind not in TABLES:
        raise ConfigError(f'kind "{kind}": {near(kind, TABLES)}')
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
        raise ConfigError(f'{kind} "{name}": expected a name of small letters, digits and _, such as my_{kind}')
    tables = TABLES[kind]
    held = tables[0].get(name)
    if held is entry or (isinstance(held, Recipe) and held == entry):
        return
    if isinstance(held, Family) and getattr(held.module, "maker", None) is entry:
        return
    if held is not None or (kind in ("family", "module") and name in list_models()):
        raise ConfigError(f'{kind} "{name}": there is one of this name; take another')
    try:
        checked = check_entry(kind, name, entry)
        for table in tables:
            cast(dict[str, object], table)[name] = checked
        if isinstance(checked, Family):
            try:
                check_family(checked, name)
            except BaseException:
                for table in tables:
                    del cast(dict[str, object], table)[name]
                raise
    except ConfigError:
        raise
    except Exception as error:  # code of others
        raise ConfigError(f'{kind} "{name}": {type(error).__name__}: {" ".join(str(error).split())[:300]}') from error


def check_entry(kind: Kind, name: str, entry: object) -> object:
    """The line of the table; ConfigError where the entry is not of its kind."""
    if kind == "family":
        if not isinstance(entry, Family):
            raise ConfigError(f'family "{name}": a {type(entry).__name__}; expected a foveate.zoo.family.Family')
        return entry
    if kind == "recipe":
        if not isinstance(entry, Recipe):
            raise ConfigError(f'recipe "{name}": a {type(entry).__name__}; expected a foveate.train.recipe.Recipe')
        return entry
    if not callable(entry):
        raise ConfigError(f'{kind} "{name}": a {type(entry).__name__}; expected a function or a class')
    if kind == "module":
        return family_of(name, cast(Callable[[int, int], nn.Module], entry))
    if kind == "criterion":
        made = entry()
        if not isinstance(made, Criterion):
            raise ConfigError(f'criterion "{name}": gives a {type(made).__name__}; expected a Criterion')
        return entry
    _, given, named, expected = LAYERS[kind]
    made = entry(*given, **named)
    if not isinstance(made, nn.Module):
        raise ConfigError(f'{kind} "{name}": gives a {type(made).__name__}; expected a torch.nn.Module')
    with torch.no_grad():
        shape = tuple(made.eval()(torch.zeros(2, 8, 8, 8)).shape)
    if shape != expected:
        raise ConfigError(f'{kind} "{name}": (2, 8, 8, 8) becomes {shape}; expected {expected}')
    return entry


def check_family(family: Family, name: str) -> None:
    """ConfigError where the tag, the variants or the tiny form of a family do not do."""
    tag = getattr(family.tiny, "family", None)
    if tag != name:
        raise ConfigError(f'family "{name}": its configs say family = {tag!r}; expected the same name')
    taken = {n for other, f in FAMILIES.items() if other != name for n in f.variants} & set(family.variants)
    if taken:
        raise ConfigError(f'family "{name}": there is a model "{min(taken)}" already; call the variant otherwise')
    config = family.tiny
    with torch.no_grad():
        shape = tuple(build(config).eval()(torch.zeros(2, config.in_chans, 32, 32)).shape)
    if shape != (2, config.num_classes):
        raise ConfigError(f'family "{name}": two pictures give {shape}; expected (2, {config.num_classes})')


class Wrapped(nn.Module):
    """A module of one's own as a network of the zoo: logits, and no maps of features. Its keys begin with net."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_classes)
        logits: torch.Tensor = self.net(x)
        return logits


class Making:
    """Makes the module of a config by its numbers of classes and channels."""

    def __init__(self, maker: Callable[[int, int], nn.Module]) -> None:
        self.maker = maker

    def __call__(self, config: Config) -> nn.Module:
        return Wrapped(self.maker(config.num_classes, config.in_chans))


def family_of(name: str, maker: Callable[[int, int], nn.Module]) -> Family:
    """A family of one variant, of that name, whose config has the fields of every config and no more."""

    @record
    class ModuleConfig(Config):
        """A module of a plug-in."""

        family: Literal[name] = name  # type: ignore[valid-type]

    config = ModuleConfig()
    return Family(ModuleConfig, Making(maker), {name: config}, (), tiny=ModuleConfig(num_classes=3, resolution=32))


def load_plugin(name: str) -> None:
    """Import a plug-in and let it add its lines: this runs its code with all your rights.

    name: a package or module with a function foveate_plugin(add), which calls add(kind, name, entry) as add_entry says;
    or the name of an entry point of the group "foveate.plugins" that leads to such a function.
    Raises ConfigError where there is none, and for a line that does not do.

        fv.load_plugin("my_pkg")
    """
    from importlib.metadata import entry_points

    if not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
        raise ConfigError(f'plugin "{name}": expected the name of a package, such as my_pkg')
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    try:
        if found:
            enter: object = found[0].load()
        else:
            enter = getattr(importlib.import_module(name), ENTRY, None)
    except ModuleNotFoundError as error:
        where = "not installed and not on PYTHONPATH" if error.name == name.partition(".")[0] else str(error)
        raise ConfigError(f'plugin "{name}": {where}; expected a package with a function {ENTRY}(add)') from None
    except Exception as error:
        raise ConfigError(f'plugin "{name}": {type(error).__name__}: {" ".join(str(error).split())[:300]}') from error
    if not callable(enter):
        raise ConfigError(f'plugin "{name}": it has no function {ENTRY}(add); expected one that calls add')
    enter(add_entry)


def load_named_plugins() -> None:
    """The plug-ins that the command which started this process was given."""
    for name in filter(None, os.environ.get(ENVIRONMENT, "").split(",")):
        load_plugin(name)
