"""What the folders of a data set mean: splits, classes, or neither, and then which folder was meant.

The names of splits come in many forms (train, Training, seg_train, train_images, Train_Data). A name alone decides
nothing: what the folders hold does. Splits hold class folders, with names that others hold too; a class holds pictures.
Where the evidence is against every reading the answer is a DataError with a question, never a guess.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from foveate.data.gate.boxes import refuse_boxes
from foveate.data.gate.names import SPLITS, WORDS_OF_THINGS, says_nothing, split_name, unlabelled
from foveate.data.gate.nested import ask_about_classes, deepest, note_depth
from foveate.data.gate.walk import Listing, Walk, outside_line, picture_name, some
from foveate.data.read.formats import shown
from foveate.errors import DataError

WRAPPERS = 5  # folders inside folders that are gone through to find the classes of a split


@dataclass
class Part:
    """A folder whose name speaks of a split, and what it holds."""

    name: str
    split: str
    rest: tuple[str, ...]  # what else its name says
    place: str  # where its class folders are: itself, or a folder of no meaning inside (seg_train/seg_train)
    passed: list[str]  # the folders from it to place, place left out
    classes: dict[str, str]  # label -> path
    pictures: int  # that lie directly in place

    @property
    def plain(self) -> bool:
        """Whether the name says nothing but the split."""
        return not self.rest


def read_folder(folder: str | Path, follow_links: bool = False) -> Listing:
    """List DATA/{train,val,test}/CLASS/... or DATA/CLASS/...; DataError where neither is there, else notices.

    follow_links: take what links outside of DATA lead to.
    """
    root = os.path.abspath(folder)
    walk = Walk(root, follow_links)
    listing = Listing(os.path.basename(root) or root, root, root, notices=walk.notices, missing=walk.missing)
    top = dict(walk.subfolders(root))
    _refuse_hub_cache(root, top, walk)
    refuse_boxes(root, top, walk)
    named = [_part(walk, name, path) for name, path in top.items() if split_name(name)]
    beside = walk.links_outside(root)
    lost = [path for path in beside if not named or split_name(os.path.basename(path))]
    _refuse_outside(root, [*lost, *(path for part in named for path in walk.links_outside(part.place))])
    if parts := _splits(root, named, top, walk):
        _walk_splits(walk, listing, parts, top)
    else:
        _refuse_outside(root, beside)
        walk.strays(root)
        _refuse_no_classes(root, top, walk)
        walk.classes("", top)
        listing.folders[""] = list(top)
    walk.follow_links()
    lacking = any(notice.kind == "outside" for notice in walk.notices)  # then what was found speaks for nothing
    for split in () if lacking else listing.folders:
        part = next((part for part in parts if part.split == split), None)
        places = part.classes if part else top
        ask_about_classes(walk, split, places, shown(part.place if part else root))
        walk.notices.extend(note_depth(walk, split, places))
    listing.items = sorted(walk.items, key=lambda item: (SPLITS.index(item.split) if item.split else 0, item.path))
    return listing


def _refuse_outside(root: str, links: list[str]) -> None:
    """DataError for folders that lie outside: said before anything else, since classes are missing without them."""
    if links:
        raise DataError(outside_line(root, links))


def _refuse_hub_cache(root: str, top: dict[str, str], walk: Walk) -> None:
    """DataError for the folder of a hub's cache, whose files have no names: its snapshots are links to them."""
    if {"blobs", "snapshots"} <= top.keys() <= {"blobs", "snapshots", "refs"}:
        revisions = [path for _, path in walk.subfolders(top["snapshots"], told=False)]
        raise DataError(
            f"{shown(root)}: the cache of a hub; did you mean {shown((revisions or [top['snapshots']])[-1])} with"
            " --follow-links?"
        )


def _part(walk: Walk, name: str, path: str) -> Part:
    """What a folder holds that is named like a split; folders of no meaning inside are gone through."""
    said = split_name(name)
    assert said is not None
    place, passed = path, list[str]()
    inner = dict(walk.subfolders(place, told=False))
    pictures = _pictures(walk, place)
    while len(inner) == 1 and not pictures and len(passed) < WRAPPERS:
        only, path = next(iter(inner.items()))
        deeper = dict(walk.subfolders(path, told=False))
        again = split_name(only)
        means_nothing = says_nothing(only) or only.lower() == name.lower() or (again and again.split == said.split)
        if not deeper or not means_nothing or os.path.islink(path):
            break
        passed.append(place)
        place, inner, pictures = path, deeper, _pictures(walk, path)
    return Part(name, said.split, said.rest, place, passed, inner, pictures)


def _pictures(walk: Walk, folder: str) -> int:
    """Files and links with a picture's name directly in a folder."""
    return sum(kind in ("file", "link") and picture_name(name) for name, _, kind in walk.entries(folder, told=False))


def _splits(root: str, named: list[Part], top: dict[str, str], walk: Walk) -> list[Part]:
    """The parts that are splits, in order; none where all folders are classes. DataError where they are neither."""
    where = shown(root)
    train = [part for part in named if part.split == "train" and part.classes and _trusted(part, named)]
    if not train:
        _refuse_splits(where, named, top)
        return []
    if len(train) > 1:
        raise DataError(f"{where}: {_listed(train)} are the same split; keep one of them")
    taken = [train[0]]
    for part in named:
        if part is not train[0] and part.split != "train" and (part.plain or _paired(part, train[0])):
            taken.append(part)
    for part in taken:  # a folder train_data around train/ and val/
        inner = [name for name in part.classes if (said := split_name(name)) and not said.rest]
        if len({said.split for name in inner if (said := split_name(name))}) > 1:
            raise DataError(
                f"{where}: {shown(part.name)}/ holds {some(inner)}, which are splits, not classes; did you mean"
                f" {shown(part.place)}?"
            )
    others = {name: path for name, path in top.items() if name not in {part.name for part in taken}}
    rivals = _rivals(walk, taken, others)
    if rivals:
        raise DataError(
            f"{where}: {_listed(taken)} {'have' if len(taken) > 1 else 'has'} class folders like a split"
            f" ({some(list(train[0].classes))}), but {some(rivals)} beside it may be classes too; if all are classes,"
            f" rename {shown(train[0].name)}; if not, did you mean {where}/{shown(train[0].name)}?"
        )
    _give_holdout(taken)
    for part in taken:
        same = [other for other in taken if other.split == part.split]
        if len(same) > 1:
            raise DataError(f"{where}: {_listed(same)} are the same split; keep one of them")
    return sorted(taken, key=lambda part: SPLITS.index(part.split))


def _trusted(part: Part, named: list[Part]) -> bool:
    """Whether a folder with class folders is train: by its plain name, or since another split goes with it."""
    return part.plain or any(_paired(other, part) for other in named if other.split != part.split)


def _paired(part: Part, train: Part) -> bool:
    """Whether two folders are parts of one data set: the rest of their names, or half of their classes, are equal."""
    if part.rest == train.rest and part.rest:
        return True
    common = len(part.classes.keys() & train.classes.keys())
    return common > 0 and 2 * common >= min(len(part.classes), len(train.classes))


def _rivals(walk: Walk, taken: list[Part], others: dict[str, str]) -> list[str]:
    """Folders beside the splits that look like classes of the same kind: then a class may be called train.

    Beside train/ and test/ whatever lies there is passed over; names that are less clear need more.
    """
    if len(taken) > 1 and all(part.plain for part in taken):
        return []
    train = taken[0]
    inside = {name: _with_pictures(walk, path) for name, path in others.items()}
    if len(taken) > 1:  # by the names of their class folders: then nobody else may have the same
        return [name for name, found in inside.items() if 2 * len(found & train.classes.keys()) >= len(train.classes)]
    deep = [name for name, found in inside.items() if len(found) > 1 and not found & train.classes.keys()]
    loose = [name for name, path in others.items() if _pictures(walk, path)]
    return deep or (loose if len(loose) > 1 else [])


def _with_pictures(walk: Walk, folder: str) -> set[str]:
    """The names of the folders directly in a folder that hold pictures."""
    return {name for name, path in walk.subfolders(folder, told=False) if _pictures(walk, path)}


def _give_holdout(parts: list[Part]) -> None:
    """A hold-out beside a test is for validation."""
    for part in parts:
        held = part.split == "test" and "hold" in part.name.lower()
        if held and any(o is not part and o.split == "test" for o in parts) and all(o.split != "val" for o in parts):
            part.split = "val"


def _refuse_splits(where: str, named: list[Part], top: dict[str, str]) -> None:
    """DataError where names speak of splits and no train/ has class folders."""
    likely = [part for part in named if part.plain]
    if not likely:  # cats_train and cats_test, without class folders
        likely = [p for p in named if any(p.rest == o.rest and p.split != o.split for o in named)]
    if not likely:
        return
    held = [part for part in likely if part.split != "train" and part.classes]
    names, expected = _listed(likely), "expected train/CLASS/picture"
    if held:  # taking test/ for a class would train on it without a word
        raise DataError(
            f"{where}: {shown(held[0].name)}/ has class folders but train/ is missing or has none; {expected}"
        )
    splits = {part.split for part in likely}
    if len(likely) == len(top) or len(splits) > 1:
        loose = sum(part.pictures for part in likely)
        counted = f" but {_count(loose)}" if loose else ""
        has = "has" if len(likely) == 1 else "have"
        raise DataError(f"{where}: {names} {has} no class folders{counted}, and splits are no classes; {expected}")
    for part in likely:
        if part.pictures and part.name.lower() not in WORDS_OF_THINGS:
            others = some([name for name in top if name != part.name])
            raise DataError(
                f"{where}: {shown(part.name)}/ holds pictures but no class folders, beside {others}; {expected}; if"
                " it is a class, give it another name; if its pictures have no labels, move it away"
            )


def _refuse_no_classes(root: str, top: dict[str, str], walk: Walk) -> None:
    """DataError where there is no folder, or one that only wraps the real ones."""
    where = shown(root)
    if not top:
        loose = _pictures(walk, root)
        have = f"no class folders but {_count(loose)}" if loose else "no pictures and no class folders"
        raise DataError(f"{where}: {have}; expected {where}/train/CLASS/picture or {where}/CLASS/picture")
    if len(top) == 1:
        only = next(iter(top.values()))
        place = deepest(walk, only)
        inner = [name for name, _ in walk.subfolders(place, told=False)]
        if len(inner) > 1:
            raise DataError(f"{where}: one folder, and in it {some(inner)}; did you mean {shown(place)}?")


def _walk_splits(walk: Walk, listing: Listing, parts: list[Part], top: dict[str, str]) -> None:
    """Walk the class folders of every split; what has no labels is left out and said."""
    names = {part.name for part in parts}
    for name, path in top.items():
        if name not in names:
            walk.tell("stray", path, "a folder beside train, val and test; ignored")
    walk.strays(listing.root, is_data=lambda name: split_name(name) is not None)
    train = parts[0]
    for part in parts:
        for folder in (*part.passed, part.place):
            walk.strays(folder)
        if part is not train and _has_no_labels(part, train):
            inside = f" ({some(list(part.classes))}/)" if part.classes else ""
            count = part.pictures + sum(_pictures(walk, path) for path in part.classes.values())
            if count:
                text = f"{shown(part.name)}/ holds {_count(count)} without labels{inside}; left out"
                walk.tell("unlabelled", part.place, text)
            continue
        listing.folders[part.split] = list(part.classes)
        walk.subfolders(part.place)  # its hidden ones are told
        walk.classes(part.split, part.classes)


def _has_no_labels(part: Part, train: Part) -> bool:
    """Whether a val or test has loose pictures only, or one folder whose name says nothing of what they show."""
    if not part.classes:
        return True
    if part.classes.keys() & train.classes.keys():
        return False
    only = next(iter(part.classes))
    again = only.lower() == part.name.lower() or split_name(only) == (part.split, part.rest)
    return len(part.classes) == 1 and (again or unlabelled(only))


def _listed(parts: list[Part]) -> str:
    """The names of parts in text order, printable."""
    return " and ".join(sorted(shown(part.name) for part in parts))


def _count(pictures: int) -> str:
    return f"{pictures:,} picture{'' if pictures == 1 else 's'}"
