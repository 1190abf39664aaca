"""The zoo as a table: what every named model costs and what is published of it, without building anything.

Counts stand in counts.json, which scripts/count_zoo writes from the real modules; a test compares them with the
published integers.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from foveate.config import near
from foveate.errors import ConfigError
from foveate.zoo import FAMILIES, list_models, variant, zoo_name
from foveate.zoo.family import Published

COUNTS = Path(__file__).with_name("counts.json")


@dataclass(frozen=True)
class Entry:
    """A line of the table. Counts are for one picture at `resolution`, 1000 classes (CIFAR forms: 10)."""

    model: str
    family: str
    params: int
    macs: int  # of convolutions, linear layers and matrix products
    resolution: int
    published: Published | None


@functools.cache
def counts() -> dict[str, dict[str, int]]:
    """counts.json."""
    found: dict[str, dict[str, int]] = json.loads(COUNTS.read_text("utf-8"))
    return found


def published(name: str) -> Published | None:
    """What is published of a variant; None where nothing is. Raises ConfigError for an unknown name."""
    return FAMILIES[variant(name).family].published.get(zoo_name(name))


def entry(name: str) -> Entry:
    """The line of one variant. Raises ConfigError for an unknown name."""
    name, config = zoo_name(name), variant(name)
    return Entry(
        model=name, family=config.family, **counts()[name], resolution=config.resolution, published=published(name)
    )


def catalogue(
    pattern: str = "*", *, max_params: int | None = None, max_macs: int | None = None, sort: str = "model"
) -> list[Entry]:
    """The lines whose name matches a shell pattern (a plain word matches anywhere) and that cost no more than asked.

    sort: "model", "params", "macs", "resolution" upwards, or "top1" downwards (unknown ones last).
    Raises ConfigError where the pattern matches no name.
    """
    names = list_models(pattern) or list_models(f"*{pattern}*")
    if not names and zoo_name(pattern) != pattern:
        names = [zoo_name(pattern)]
    if not names:
        raise ConfigError(f'no model matches "{pattern}": {near(pattern.strip("*?"), list_models())}')
    found = [entry(name) for name in names]
    found = [e for e in found if max_params is None or e.params <= max_params]
    found = [e for e in found if max_macs is None or e.macs <= max_macs]
    if sort == "top1":
        return sorted(found, key=lambda e: -(top1(e) or 0.0))
    return sorted(found, key=lambda e: getattr(e, sort))


def top1(e: Entry) -> float | None:
    """Published accuracy, per cent."""
    return e.published.top1 if e.published else None
