"""Configs with every inner width written out, so that each can shrink alone; and where the widths of a config stand."""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from foveate.config import get_path, replace
from foveate.zoo import FAMILIES
from foveate.zoo.family import Config

LARGEST = 65_536  # the bound of foveate.config.Width, by which a field of widths is known
# bounded like widths, but no number of channels that may shrink alone
NO_WIDTHS = {"num_classes", "in_chans", "group", "coarsest", "key"}


def explicit(config: Config) -> Any:
    """The config of the same network whose inner widths are numbers of their own, not multiples of others."""
    return FAMILIES[config.family].explicit(config)


def assign(value: Any, changes: Mapping[str, int]) -> Any:
    """A copy with the numbers at several paths changed at once, so that rules between them see only the outcome."""
    inner: dict[str, dict[str, int]] = {}
    for path, number in changes.items():
        head, _, rest = path.partition(".")
        inner.setdefault(head, {})[rest] = number
    made = {head: own[""] if "" in own else assign(get_path(value, head), own) for head, own in inner.items()}
    if isinstance(value, tuple):
        return tuple(made.get(str(i), part) for i, part in enumerate(value))
    return replace(value, **made) if made else value


def widths(config: Config) -> dict[str, int]:
    """Path -> number of channels, for every width of a config that is above 0, in the order of its fields."""
    return dict(_widths(config, ""))


def _widths(value: Any, at: str) -> Iterator[tuple[str, int]]:
    if isinstance(value, tuple):
        for i, part in enumerate(value):
            yield from _widths(part, f"{at}{i}.")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value), include_extras=True)
        for field in dataclasses.fields(value):
            held = getattr(value, field.name)
            if field.name not in NO_WIDTHS and _is_width(hints[field.name]):
                yield from _numbers(held, f"{at}{field.name}")
            elif field.name != "layers":
                yield from _widths(held, f"{at}{field.name}.")


def _numbers(held: Any, path: str) -> Iterator[tuple[str, int]]:
    if isinstance(held, tuple):
        for i, part in enumerate(held):
            yield from _numbers(part, f"{path}.{i}")
    elif isinstance(held, int) and held > 0:
        yield path, held


def _is_width(hint: Any) -> bool:
    """Whether a type holds whole numbers bounded like widths."""
    fields = (info for info in getattr(hint, "__metadata__", ()) if hasattr(info, "metadata"))
    bounds = [getattr(bound, "le", None) for info in fields for bound in info.metadata]
    return LARGEST in bounds or any(_is_width(part) for part in typing.get_args(hint) if part is not Ellipsis)
