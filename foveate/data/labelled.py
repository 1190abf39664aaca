"""The labelled pictures that a model is judged on: a split, or all that a folder or table has. Nothing is trained here.

Unlike open_data this asks for no train: class folders alone, test/ alone, one class, a table of test rows will do.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foveate.config import near
from foveate.data.gate.screen import screen
from foveate.data.gate.walk import SPLIT_NAMES, SPLITS, Item, Listing, below, hidden, outside_line, some
from foveate.data.index import Dataset, Split, open_data, read, stop_line
from foveate.data.read.formats import shown
from foveate.errors import ConfigError, DataError

# what people call splits, beside the names that folders have
SPLIT_WORDS = {**SPLIT_NAMES, "training": "train", "dev": "val", "evaluation": "val", "testing": "test", "all": "all"}


@dataclass(frozen=True, eq=False)
class Labelled:
    """samples: their labels are places in `classes`. split: train, val, test or all. what: what they are, in words."""

    samples: Split
    classes: tuple[str, ...]
    split: str
    what: str
    name: str  # of the data
    fingerprint: str  # of the data set that was opened; "" where pictures were taken without one
    notes: tuple[str, ...] = ()


def split_of(text: str) -> str:
    """train, val, test or all for any name that data has for it. ConfigError for another word."""
    word = text.strip().lower()
    if word not in SPLIT_WORDS:
        raise ConfigError(f'split "{shown(text)}": {near(word, SPLIT_WORDS)}')
    return SPLIT_WORDS[word]


def open_labelled(
    data: str | Path,
    split: str | None = None,
    *,
    bad_files: str = "stop",
    follow_links: bool = False,
    trained_on: str = "",
    seeds: Iterable[int] = (),
) -> Labelled:
    """The labelled pictures of DATA that a model is to be judged on.

    split: a name as in split_of. None: test where DATA has it, else all. Where DATA has no such split it is cut as for
    training. trained_on: the fingerprint of the data that the model learned from, with the seeds that may have cut it;
    where DATA is that very data, its own test split counts, for the model has seen the rest.
    """
    chosen = split_of(split) if split else None
    if bad_files not in ("stop", "skip"):
        raise ConfigError(f'bad_files = "{bad_files}": expected "stop" or "skip"')
    own = _own(data, trained_on, seeds, bad_files, follow_links) if trained_on else None
    if own is not None and chosen is None:
        if "test" in own.splits:
            what = f"test of {own.name}, held out of training (the model learned from this data; --split all takes all)"
            return _of_dataset(own, "test", what)
        return _of_dataset(own, "all", f"all of {own.name}, with the pictures that the model learned from")
    if own is not None:
        learned = {"train": ", which the model learned from", "all": ", with the pictures that the model learned from"}
        return _of_dataset(own, str(chosen), f"{chosen} of {own.name}{learned.get(str(chosen), '')}")
    if data == "digits":
        dataset = open_data(data, bad_files=bad_files)
        return _of_dataset(dataset, chosen or "test", f"{chosen or 'test'} of {dataset.name}")
    listing = _listing(data, follow_links)
    present = {item.split for item in listing.items}
    chosen = chosen or ("test" if "test" in present else "all")
    if chosen != "all" and chosen not in present:
        if not present & {"", "train"}:
            there = ", ".join(name for name in SPLITS if name in present) or "nothing"
            raise DataError(f'{shown(os.fspath(data))}: no split "{chosen}"; there is {there}')
        dataset = open_data(data, bad_files=bad_files, follow_links=follow_links)
        return _of_dataset(dataset, chosen, f"{chosen} of {dataset.name}, cut with seed 0")
    return _of_listing(listing, chosen, bad_files)


def _own(data: str | Path, trained_on: str, seeds: Iterable[int], bad_files: str, follow_links: bool) -> Dataset | None:
    """DATA as the model has learned from it, where it is that very data."""
    for seed in dict.fromkeys((*seeds, 0)):
        try:
            dataset = open_data(data, seed=seed, bad_files=bad_files, follow_links=follow_links)
        except DataError:  # what can not be trained on was not
            return None
        if dataset.fingerprint == trained_on:
            return dataset
    return None


def _listing(data: str | Path, follow_links: bool) -> Listing:
    """The listing of DATA; of a folder with test/ or val/ but no train/, that of each as class folders."""
    root = os.path.abspath(data)
    folders = _subfolders(root)
    splits = {name: SPLIT_WORDS[name.lower()] for name in folders if SPLIT_WORDS.get(name.lower(), "all") != "all"}
    inner = [name for name in splits if _subfolders(os.path.join(root, name))]
    if not inner or len(splits) < len(folders) or "train" in splits.values():
        return read(data, follow_links)
    listing = Listing(os.path.basename(root) or root, root, root)
    for name in inner:
        part = read(os.path.join(root, name), follow_links)
        listing.items += [item._replace(split=splits[name]) for item in part.items]
        listing.notices += part.notices
        listing.missing += part.missing
    return listing


def _subfolders(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # no folder, or one that can not be read: the walk says so
        return []
    return [name for name in names if not hidden(name) and os.path.isdir(os.path.join(folder, name))]


def _of_listing(listing: Listing, chosen: str, bad_files: str) -> Labelled:
    """The pictures of one split, or all, that can be used."""
    for notice in listing.notices:
        if notice.kind == "no_access":
            raise DataError(f"{shown(notice.path)}: {notice.text}")
    if outside := [notice.path for notice in listing.notices if notice.kind == "outside"]:
        raise DataError(outside_line(listing.root, outside))
    listing.items = [item for item in listing.items if chosen in ("all", item.split)]
    screened = screen(listing)
    if screened.bad and bad_files == "stop":
        raise DataError(stop_line(listing, screened.bad))
    notes = list(screened.notes)
    if screened.bad:
        names = some(below(listing.root, path) for path, _ in screened.bad)
        notes.append(f"{len(screened.bad):,} bad files left out: {names}")
    items = screened.items
    if not items:
        raise DataError(f"{shown(listing.source)}: no labelled pictures; expected CLASS/picture or rows path,label")
    classes = tuple(sorted({item.label for item in items}))
    what = f"{chosen} of {listing.name}"
    return Labelled(_samples(items, classes), classes, chosen, what, listing.name, "", tuple(notes))


def _samples(items: Sequence[Item], classes: tuple[str, ...]) -> Split:
    index = {name: i for i, name in enumerate(classes)}
    return Split(
        tuple(item.path for item in items),
        tuple(index[item.label] for item in items),
        stamps=tuple((item.size_bytes, item.mtime_ns) for item in items),
    )


def _of_dataset(dataset: Dataset, chosen: str, what: str) -> Labelled:
    """A split of an opened data set, or all of them one after another."""
    if chosen != "all" and chosen not in dataset.splits:
        raise DataError(f'{dataset.name}: no split "{chosen}"; there is {", ".join(dataset.splits)}')
    parts = list(dataset.splits.values()) if chosen == "all" else [dataset.splits[chosen]]
    pixels = [part.pixels for part in parts if part.pixels is not None]
    samples = Split(
        tuple(path for part in parts for path in part.paths),
        tuple(label for part in parts for label in part.labels),
        np.concatenate(pixels) if pixels else None,
        tuple(stamp for part in parts for stamp in part.stamps),
    )
    return Labelled(samples, dataset.classes, chosen, what, dataset.name, dataset.fingerprint, dataset.notes)
