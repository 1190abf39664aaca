"""foveate data diff: what two revisions of a data set have in common, and what changed."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.data.gate.walk import Item, below
from foveate.data.index import open_data
from foveate.data.read.formats import shown
from foveate.errors import ConfigError, DataError
from foveate.workflows.review.look import hold

Row = dict[str, Any]


@dataclass(frozen=True)
class Revision:
    """A list of pictures by name below its root. note: what is to be said of it."""

    source: str
    root: str
    items: dict[str, Item]
    fingerprint: str
    note: str = ""


def diff(first: str | Path, second: str | Path, follow_links: bool = False) -> dict[str, Any]:
    """What changed from one list to another, each a folder, a CSV, a built-in name or a run folder (what it saw).

    Pictures go by name: below their roots, or by where they lie where both lists lead to the same files. What is left
    goes by its bytes: moved to another class folder is relabelled, to another name renamed. A picture of the same name
    with other bytes is changed.
    """
    a, b = _revision(first, follow_links), _revision(second, follow_links)
    one, two = _keyed(a, b)
    both = [name for name in one if name in two]
    gone, new = [name for name in one if name not in two], [name for name in two if name not in one]
    moved = _same_bytes(one, two, gone, new)
    pairs = [(name, name) for name in both] + sorted(moved.items())
    return {
        "a": _about(a),
        "b": _about(b),
        "same": a.fingerprint == b.fingerprint if a.fingerprint and b.fingerprint else not (gone or new),
        "added": [_row(name, two[name]) for name in new if name not in moved.values()],
        "removed": [_row(name, one[name]) for name in gone if name not in moved],
        "relabelled": [
            {**_row(j, two[j]), "was": one[i].label, "to": two[j].label, **({"from": i} if i != j else {})}
            for i, j in pairs
            if one[i].label != two[j].label
        ],
        "renamed": [{**_row(j, two[j]), "from": i} for i, j in pairs if i != j and one[i].label == two[j].label],
        "changed": [_row(name, two[name]) for name in both if _differs(one[name], two[name])],
        "moved_split": [
            {**_row(j, two[j]), "was": one[i].split, "to": two[j].split}
            for i, j in pairs
            if one[i].split != two[j].split
        ],
        "unchanged": sum(_unchanged(one[i], two[j]) for i, j in pairs if i == j),
    }


def _revision(source: str | Path, follow_links: bool) -> Revision:
    """A folder, CSV or built-in name; of a run folder the pictures that it records."""
    folder = Path(source)
    recipe = next((f / "recipe.json" for f in (folder, folder.parent) if (f / "recipe.json").is_file()), None)
    if (
        folder.is_dir()
        and recipe is not None
        and ((folder / "recipe.json").is_file() or (folder / "config.json").is_file())
    ):
        return _of_run(recipe)
    held = hold(source, follow_links)
    items = dict(zip(held.names(), held.items, strict=True))
    return Revision(os.fspath(source), held.root, items, held.fingerprint)


def _of_run(recipe: Path) -> Revision:
    """The list that a run trained on: its data opened again with its seed; what it says where that has changed."""
    where = shown(str(recipe))
    try:
        plan = json.loads(recipe.read_bytes())
        data, seed, mark = (
            str(plan["data"]),
            int(plan.get("recipe", {}).get("seed", 0)),
            str(plan.get("fingerprint", "")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{where}: no recipe of a run; expected one that says which data it took") from None
    try:
        dataset = open_data(data, seed=seed, bad_files="skip", follow_links=bool(plan.get("follow_links")))
    except DataError as error:
        raise DataError(f"{where}: its data can not be opened any more: {error}") from None
    items = {
        below(dataset.root, path) if dataset.root else path: Item(
            path, name, dataset.classes[split.labels[i]], "", *(split.stamps[i] if split.stamps else (0, 0))
        )
        for name, split in dataset.splits.items()
        for i, path in enumerate(split.paths)
    }
    note = ""
    if mark and mark != dataset.fingerprint:
        note = f"{shown(data)} has changed since this run, which saw {mark[:12]}: compared is what is there"
    return Revision(str(recipe.parent), dataset.root, items, mark or dataset.fingerprint, note)


def _keyed(a: Revision, b: Revision) -> tuple[dict[str, Item], dict[str, Item]]:
    """Both lists under names that can be compared."""
    places = {os.path.realpath(item.path): name for name, item in a.items.items() if a.root}
    if b.root and any(os.path.realpath(item.path) in places for item in b.items.values()):
        root = a.root
        return a.items, {
            places.get(os.path.realpath(item.path), below(root, item.path)): item for item in b.items.values()
        }
    return a.items, b.items


def _same_bytes(one: dict[str, Item], two: dict[str, Item], gone: Iterable[str], new: Iterable[str]) -> dict[str, str]:
    """name -> name of files that lie elsewhere with the same bytes; only files of equal size are read."""
    by_size: dict[int, list[str]] = {}
    for name in gone:
        by_size.setdefault(one[name].size_bytes, []).append(name)
    found: dict[str, str] = {}
    for name in new:
        size = two[name].size_bytes
        for other in by_size.get(size, ()) if size else ():
            if other not in found and _digest(one[other].path) == _digest(two[name].path) != "":
                found[other] = name
                break
    return found


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _differs(a: Item, b: Item) -> bool:
    """Whether two files of one name have other bytes."""
    if os.path.realpath(a.path) == os.path.realpath(b.path):
        return False
    return a.size_bytes != b.size_bytes or _digest(a.path) != _digest(b.path)


def _unchanged(a: Item, b: Item) -> bool:
    return (a.label, a.split) == (b.label, b.split) and not _differs(a, b)


def _row(name: str, item: Item) -> Row:
    return {"path": name, "label": item.label, **({"split": item.split} if item.split else {})}


def _about(r: Revision) -> Row:
    note = {"note": r.note} if r.note else {}
    return {"source": r.source, "pictures": len(r.items), "fingerprint": r.fingerprint, **note}
