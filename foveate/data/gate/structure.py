"""What can be said of classes and splits from names and counts alone."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from foveate.config import near
from foveate.data.gate.walk import SPLITS, Item, Listing, Notice, some
from foveate.data.read.formats import shown

FATAL = (
    "no_access",
    "outside",
    "text_link",
    "twin_names",
    "unknown_class",
    "few_classes",
)  # nobody can train on these; the order is that of telling
NAMED, FIRST = 12, 8  # classes of the sentence: all up to so many, else the first
IMBALANCE = 10.0  # largest class / smallest class in train from which on it is told


def counts(items: Iterable[Item]) -> dict[str, dict[str, int]]:
    """split -> class -> pictures, both in order; split "" where nobody has split."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        table[item.split][item.label] += 1
    return {split: dict(sorted(table[split].items())) for split in ("", *SPLITS) if split in table}


def sentence(pictures: Mapping[str, int]) -> str:
    """What a person can object to: "3 classes: ant 40, bee 40, cat 38"; of many classes the first, and the range."""
    if not pictures:
        return "no pictures in class folders"
    head = f"{len(pictures):,} class{'es' if len(pictures) > 1 else ''}: "
    named = [f"{_short(name)} {n:,}" for name, n in pictures.items()]
    if len(named) <= NAMED:
        return head + ", ".join(named)
    rest = sorted(list(pictures.values())[FIRST:])
    each = f"{rest[0]:,}" if rest[0] == rest[-1] else f"{rest[0]:,} to {rest[-1]:,}"
    return f"{head}{', '.join(named[:FIRST])}, ... {len(rest):,} more ({each} picture{'s' if each != '1' else ''} each)"


def in_all(table: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """class -> pictures of all splits together, in order."""
    total: Counter[str] = Counter()
    for labels in table.values():
        total.update(labels)
    return dict(sorted(total.items()))


def _short(name: str) -> str:
    name = shown(name)
    return name if len(name) <= 40 else f"{name[:37]}..."


def imbalance(table: dict[str, dict[str, int]]) -> float:
    """Pictures of the largest class over those of the smallest in train; 1.0 where there is nothing."""
    train = (table.get("train") or table.get("") or {"": 1}).values()
    return max(train) / min(train)


def structure(listing: Listing, items: list[Item]) -> list[Notice]:
    """Everything odd about class names and counts, the worst first. items: the pictures that can be used."""
    table = counts(items)
    train = table.get("train") or table.get("") or {}
    names = {label for labels in (*table.values(), *listing.folders.values()) for label in labels}
    return [
        *_look_alikes(names),
        *_unknown(table, train),
        *_few(listing, train),
        *_empty(listing, table, train),
        *_small(table, train),
    ]


_PUNCTUATION = re.compile(r"[\s_\u002d\u00ad\u2010-\u2015\u2212\u200b-\u200d\u2060\ufeff]+")  # hyphens, blanks, none


def _look_alikes(names: set[str]) -> Iterator[Notice]:
    same, cased = defaultdict(list), defaultdict(list)
    for name in sorted(names):
        same[unicodedata.normalize("NFC", name)].append(name)
        cased[unicodedata.normalize("NFC", name).casefold()].append(name)
    for twins in same.values():
        if len(twins) > 1:
            text = f"the class names {' and '.join(map(ascii, twins))} look the same (other Unicode form); rename one"
            yield Notice("twin_names", twins[0], text)
    for twins in cased.values():
        if len(twins) > 1 and len({unicodedata.normalize("NFC", t) for t in twins}) > 1:
            yield Notice("case_names", twins[0], f"the class names {some(twins)} differ in case only")
    liked = defaultdict(list)
    for key, twins in cased.items():
        liked[_PUNCTUATION.sub(" ", unicodedata.normalize("NFKC", key)).strip()].append(twins[0])
    for twins in liked.values():
        if len(twins) > 1:
            text = f"the class names {' and '.join(map(ascii, twins))} differ in hyphens, blanks or underscores only"
            yield Notice("like_names", twins[0], text)


def _unknown(table: dict[str, dict[str, int]], train: dict[str, int]) -> Iterator[Notice]:
    for split in ("val", "test"):
        for name in table.get(split, {}):
            if name not in train:
                hint = near(name, train) if train else "train has none"
                text = f'{split} has the class "{shown(name)}", which has no picture in train; {shown(hint)}'
                yield Notice("unknown_class", f"{split}/{name}", text)


def _few(listing: Listing, train: dict[str, int]) -> Iterator[Notice]:
    if len(train) < 2:
        have = f'one class with pictures, "{shown(next(iter(train)))}"' if train else "no pictures"
        how = "as labels of its rows" if listing.claimed else "as folders train/CLASS or CLASS"
        yield Notice("few_classes", "", f"{have}; expected two classes or more, {how}")


def _empty(listing: Listing, table: dict[str, dict[str, int]], train: dict[str, int]) -> Iterator[Notice]:
    for split, names in listing.folders.items():
        for name in names:
            if name not in table.get(split, {}) and (split in ("", "train") or name not in train):
                path = f"{split}/{name}" if split else name
                yield Notice("empty_class", path, f'the class folder "{shown(path)}" has no pictures; left out')


def _small(table: dict[str, dict[str, int]], train: dict[str, int]) -> Iterator[Notice]:
    for split in ("val", "test"):
        for name in train:
            if split in table and name not in table[split]:
                text = f'the class "{shown(name)}" has no picture in {split}'
                yield Notice("missing_class", f"{split}/{name}", text)
    for name, n in train.items():
        if n == 1:
            yield Notice("one_image", name, f'the class "{shown(name)}" has one picture; it stays in train')
    if train and (ratio := imbalance(table)) >= IMBALANCE:
        least, most = min(train, key=lambda c: train[c]), max(train, key=lambda c: train[c])
        text = f'"{shown(most)}" has {train[most]:,} pictures, "{shown(least)}" {train[least]:,}: {ratio:.1f} times'
        yield Notice("imbalance", least, text)
