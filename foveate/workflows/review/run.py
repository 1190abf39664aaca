"""foveate data review: what is odd about the pictures and their labels, told and never dropped."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foveate import __version__
from foveate.data.gate.near import near_groups
from foveate.data.read.formats import shown
from foveate.errors import ConfigError
from foveate.events import Listener, StageEvent, WarningEvent, silent
from foveate.files import cell, free_name, write_bytes, write_json, write_text
from foveate.trust import align, label_next, outliers
from foveate.trust.duplicates import Group, duplicate_groups
from foveate.trust.suspects import confident_joint, out_of_fold, suspects
from foveate.workflows.review.features import TINY, describer
from foveate.workflows.review.look import Held, Looked, hold, look, pixels_at
from foveate.workflows.review.page import page

SCHEMA = "foveate.data.review/1"
NEXT = 50  # pictures named to be labelled next
SHOWN = 60  # of each kind on the page
MULTI_LABEL = "one label a picture: for pictures with several (wet and dark), train one model a label"


def review(
    data: str | Path,
    *,
    model: str | Path | None = None,
    unlabelled: str | Path | None = None,
    out: str | Path | None = None,
    runs: str | Path = "runs",
    seed: int = 0,
    follow_links: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Look at every picture of DATA once, and write a run folder with review.html, review.json and a CSV a kind.

    model: a model folder, whose network's features are taken. unlabelled: a folder of pictures of which the best to
    label next are named; else those of DATA that are least certain. out: the run folder, which must be empty or new.
    Returns what review.json holds; docs/data_care.md describes it. Nothing else is written, and no picture touched.
    """
    listener = listener or silent
    folder = _folder(out)
    held = hold(data, follow_links)
    listener(StageEvent(f"reviewing {len(held.items):,} pictures of {held.name}"))
    how = describer(model, _short_side(held))
    listener(StageEvent(f"judged by {how.what}"))
    looked = look(held, how, _progress(listener))
    for name, reason in looked.held.bad:
        listener(WarningEvent(f"left out {shown(name)}: {shown(reason)}"))
    pool = None if unlabelled is None else look(_pool(unlabelled, follow_links), how)
    found = findings(looked, pool, seed)
    found = {"schema": SCHEMA, "data": held.name, "features": how.what, **found, "foveate": __version__}
    folder = folder or free_name(runs, f"review-{held.name}")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "review.json", found)
    _write_tables(folder, found)
    listener(StageEvent("drawing the page"))
    write_text(folder / "review.html", page(found, _shown_pixels(looked, found)))
    return {**found, "folder": str(folder)}


def findings(looked: Looked, pool: Looked | None, seed: int = 0) -> dict[str, Any]:
    """All that the review tells, as plain data."""
    held = looked.held
    classes = sorted({item.label for item in held.items})
    labels = np.array([classes.index(item.label) for item in held.items])
    names, splits = held.names(), [item.split for item in held.items]
    unsure: list[str] = []
    groups = find_duplicates(looked, labels, unsure)
    group = np.arange(len(labels))
    for number in groups:
        group[list(number.places)] = number.places[0]
    p = out_of_fold(looked.features, labels, group, seed)
    judged = np.isfinite(p).all(1)
    if not judged.all():
        kind = "no label" if not judged.any() else f"{int((~judged).sum()):,} labels"
        why = "their classes have too few pictures" if judged.any() else "there are too few pictures or classes"
        unsure.append(f"{kind} could be judged: {why}")
    wrong = suspects(p, labels)
    odd = outliers.far_ones(outliers.distances(looked.features, seed=seed))
    odd += outliers.odd_looks(looked.luminance, looked.sharp, looked.sizes)
    if len(labels) < outliers.FEW:
        unsure.append(
            f"{len(labels)} pictures say little of what is usual: outliers are looked for from {outliers.FEW} on"
        )
    joint = confident_joint(p[judged], labels[judged])

    def suspect_row(s: Any) -> dict[str, Any]:
        row = {
            "path": names[s.place],
            "label": classes[s.label],
            "suggested": classes[s.suggested],
            "score": _short(s.score),
        }
        return {**row, "gap": _short(s.gap), **_split(splits[s.place])}

    def group_row(g: Group) -> dict[str, Any]:
        row = {"paths": [names[i] for i in g.places], "similarity": _short(g.similarity)}
        held_labels, held_splits = (
            sorted({v[i] for i in g.places}) for v in ([item.label for item in held.items], splits)
        )
        return {**row, "labels": held_labels, "splits": [s for s in held_splits if s]}

    rows = [group_row(g) for g in groups]
    doubtful = {s.place for s in wrong} | {i for g in groups for i in g.places[1:]} | {o.place for o in odd}
    return {
        "fingerprint": held.fingerprint,
        "pictures": len(labels),
        "classes": {name: int((labels == k).sum()) for k, name in enumerate(classes)},
        "suspects": [suspect_row(s) for s in wrong],
        "likely_wrong": int(joint.sum() - np.trace(joint)),
        "near_duplicates": rows,
        "leaks": [row for row in rows if len(row["splits"]) > 1],
        "outliers": [
            {"path": names[o.place], "label": classes[labels[o.place]], "kind": o.kind, "value": _short(o.value)}
            | {"usual": _short(o.usual)}
            for o in odd
        ],
        "overlaps": [
            {"classes": [classes[i], classes[j]], "pictures": n, "share": _short(share)}
            for i, j, n, share in outliers.overlaps(joint)
        ],
        "next_to_label": _next(looked, pool, p, labels, classes, doubtful, seed),
        "left_out": [{"path": name, "reason": reason} for name, reason in held.bad],
        "can_not_say": [*unsure, MULTI_LABEL],
    }


def find_duplicates(looked: Looked, labels: np.ndarray, unsure: list[str]) -> list[Group]:
    """Equal thumbnails, and what lies on one another; of tiny pictures the first alone."""
    same = near_groups(looked.thumbs)
    if float(np.median(looked.sizes.min(1))) < TINY:
        unsure.append(f"crops and turns are not looked for in pictures below {TINY} px")
        everything = np.zeros((0, align.SIDE, align.SIDE), np.uint8)
        return duplicate_groups(looked.features, everything, labels, known=same, proposed=None)
    return duplicate_groups(
        looked.features, looked.copies, labels, known=same, proposed=near_groups(_lit(looked.thumbs))
    )


def _lit(thumbs: np.ndarray) -> np.ndarray:
    """Thumbnails with one mean and one contrast: the same picture in other light has the same."""
    x = thumbs.astype(np.float32)
    x = (x - x.mean((1, 2, 3), keepdims=True)) / np.maximum(x.std((1, 2, 3), keepdims=True), 8.0)
    return np.clip(128 + 50 * x, 0, 255).astype(np.uint8)


def _next(
    looked: Looked,
    pool: Looked | None,
    p: np.ndarray,
    labels: np.ndarray,
    classes: list[str],
    doubtful: set[int],
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the pictures whose label would help most: of the pool, else of the data but for doubtful ones."""
    if pool is not None:
        known = np.bincount(labels, minlength=len(classes))
        if len(classes) < 2 or known.mean() < label_next.COLD:
            places = label_next.most_typical(pool.features, NEXT, seed)
            return [{"path": pool.held.names()[i], "reason": "typical"} for i in places]
        p = _predicted(looked.features, labels, pool.features)
        places = label_next.least_certain(p, pool.features, NEXT, seed)
        return [_margin_row(pool.held.names()[i], p[i], classes) for i in places]
    kept = np.array([i for i in range(len(labels)) if i not in doubtful], int)
    if not len(kept):
        return []
    places = kept[label_next.least_certain(p[kept], looked.features[kept], NEXT, seed)]
    return [{**_margin_row(looked.held.names()[i], p[i], classes), "label": classes[labels[i]]} for i in places]


def _predicted(features: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Probabilities of other pictures by the linear classifier of suspects.py, fitted on all labels."""
    from foveate.trust.suspects import probabilities

    return probabilities(features, labels, others)


def _margin_row(name: str, p: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    best = np.argsort(-p, kind="stable")[:2]
    return {
        "path": name,
        "reason": "uncertain",
        "between": [classes[i] for i in best],
        "margin": _short(p[best[0]] - p[best[-1]]),
    }


def _short(value: float) -> float:
    """A number as people read it, and the same on every machine but for rounding."""
    return float(f"{float(value):.6g}")


def _split(split: str) -> dict[str, str]:
    return {"split": split} if split else {}


def _short_side(held: Held) -> int:
    """The median short side in pixels, of a hundred headers."""
    from foveate.data.read.formats import probe
    from foveate.errors import DataError

    if held.pixels is not None:
        return int(min(held.pixels.shape[1:3]))
    sides = []
    for item in held.items[:: max(1, len(held.items) // 100)]:
        try:
            header = probe(item.path)
        except (DataError, OSError):
            continue
        sides.append(min(header.width, header.height))
    return int(np.median(sides)) if sides else TINY


def _pool(unlabelled: str | Path, follow_links: bool) -> Held:
    """The pictures of a folder without labels. DataError where it holds none."""
    from foveate.data.gate.walk import pictures_below
    from foveate.errors import DataError

    if not Path(unlabelled).is_dir():
        raise ConfigError(f"{shown(str(unlabelled))}: no such folder; expected one with pictures to choose from")
    listing = pictures_below(str(unlabelled), follow_links)
    if not listing.items:
        raise DataError(f"{shown(str(unlabelled))}: no pictures in this folder; expected files such as .jpg or .png")
    return Held(listing.name, listing.root, tuple(listing.items), (), "")


def _folder(out: str | Path | None) -> Path | None:
    """The folder that was asked for. ConfigError where something is in it."""
    if out is None:
        return None
    path = Path(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"--out {path}: there is something already; name a new folder")
    return path


def _progress(listener: Listener) -> Callable[[int, int], None]:
    """A line at every tenth of many pictures."""
    told = {"tenth": 0}

    def hear(done: int, total: int) -> None:
        if total >= 500 and done * 10 // total > told["tenth"] and done < total:
            told["tenth"] = done * 10 // total
            listener(StageEvent(f"looked at {done:,} of {total:,} pictures"))

    return hear


TABLES: Mapping[str, tuple[str, ...]] = {
    "suspects": ("path", "label", "suggested", "score", "gap", "split"),
    "outliers": ("path", "label", "kind", "value", "usual"),
    "next_to_label": ("path", "label", "reason", "margin"),
}


def _write_tables(folder: Path, found: Mapping[str, Any]) -> None:
    """A CSV a kind, and decisions.csv: a row a suspect, its decision to be filled in. No cell is a formula."""
    for kind, columns in TABLES.items():
        write_bytes(folder / f"{kind}.csv", _table(columns, found[kind]))
    pairs = [
        {"group": n, "path": path, "similarity": row["similarity"]}
        for n, row in enumerate(found["near_duplicates"], 1)
        for path in row["paths"]
    ]
    write_bytes(folder / "near_duplicates.csv", _table(("group", "path", "similarity"), pairs))
    rows = [{**row, "decision": ""} for row in found["suspects"]]
    write_bytes(folder / "decisions.csv", _table(("path", "label", "suggested", "decision"), rows))


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([cell(str(row.get(column, ""))) for column in columns])
    return text.getvalue().encode("utf-8", "surrogateescape")


def _shown_pixels(looked: Looked, found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The pictures that the page shows, by name."""
    wanted = [row["path"] for kind in ("suspects", "outliers", "next_to_label") for row in found[kind][:SHOWN]]
    wanted += [path for row in found["near_duplicates"][:SHOWN] for path in row["paths"][:4]]
    place = {name: i for i, name in enumerate(looked.held.names())}
    names = [name for name in dict.fromkeys(wanted) if name in place]
    return dict(zip(names, pixels_at(looked.held, [place[name] for name in names]), strict=True))
