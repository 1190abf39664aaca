"""What the name of a folder says: a split under one of its many names, or something that a system has left there."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "val": "val", "validation": "val", "valid": "val", "eval": "val", "test": "test"}

_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
}
# words that say nothing of what the pictures show
_FILLERS_TEXT = (
    "set sets data dataset datasets images image imgs img pics pic pictures picture photos photo split"
    " splits samples sample folder folders files dir jpg jpeg png ppm final original originals raw"
    " cropped resized processed all full new my the labeled labelled class classes classification archive"
)
_FILLERS = frozenset(_FILLERS_TEXT.split())
_CONTAINERS = frozenset({"data", "dataset", "datasets", "images", "imgs", "archive", "raw"})  # they hold class folders
_FOLDS = frozenset({"fold", "folds", "part", "parts", "batch", "split", "set", "subset", "chunk", "shard"})
_COUNTED = frozenset({"images", "imgs", "data", "dataset", "fold", "batch", "chunk", "shard", "subset"})
_MASKS_TEXT = "mask masks annotation annotations label labels groundtruth truth gt segmentation bbox xml"
_MASKS = frozenset(_MASKS_TEXT.split())
_RENDERED_TEXT = (
    "original originals augmented augmentation raw processed preprocessed cropped resized color colour gray grey"
    " grayscale greyscale segmented"
)
_RENDERED = frozenset(_RENDERED_TEXT.split())
_UNLABELLED_TEXT = "unknown unlabeled unlabelled unlabel nolabel unsorted pred predict prediction predictions"
_UNLABELLED = frozenset(_UNLABELLED_TEXT.split())
# English words that name things too: a folder of this very name may be a class where nothing speaks against it
WORDS_OF_THINGS = frozenset({"train", "valid"})

_VOCABULARY = "|".join(sorted((*_SPLIT_WORDS, *_FILLERS), key=len, reverse=True))
_COMPOUND = re.compile(f"(?:{_VOCABULARY})+")
_PIECES = re.compile(r"[A-Za-z]+|[0-9]+|[^\W_]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_SYSTEM = frozenset(
    {
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "icon\r",
        "__macosx",
        "__pycache__",
        "$recycle.bin",
        "recycler",
        "#recycle",
        "#snapshot",
        "@recycle",
        "@recently-snapshot",
        "@eadir",
        "@tmp",
        "@sharebin",
        "~snapshot",
        "lost+found",
        "lost.dir",
        "system volume information",
        "network trash folder",
        "temporary items",
        "thevolumesettingsfolder",
        "$extend",
        "msocache",
    }
)
_FOUND = re.compile(r"found\.\d{3}")  # what chkdsk saves


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is left alone: a name with a dot, a recycle bin, what a system keeps."""
    if name.startswith("."):
        return True
    lower = name.lower()
    return (
        lower in _SYSTEM
        or lower.startswith("thumbs.db:")
        or (lower.startswith("found.") and _FOUND.fullmatch(lower) is not None)
    )


class SplitName(NamedTuple):
    """What a name says of a split. rest: its other words, those that say nothing left out ("seg" of seg_train)."""

    split: str
    rest: tuple[str, ...]


def words(name: str) -> tuple[str, ...]:
    """The words of a name in lower case: "trainSet_2", "TRAINSET-2" and "train set 2" are train, set, 2."""
    out: list[str] = []
    for piece in _PIECES.findall(name):
        lower = piece.lower()
        if _COMPOUND.fullmatch(lower):
            out += re.findall(_VOCABULARY, lower)
        elif piece.isascii() and piece.isalpha():
            out += [part.lower() for part in _CAMEL.findall(piece)]
        else:
            out.append(lower)
    text = " ".join(out)
    return tuple(re.sub(r"\b(hold|held) out\b", "holdout", text).split())


@lru_cache(maxsize=4096)
def split_name(name: str) -> SplitName | None:
    """The split that a name speaks of; None where it speaks of none, or of several (train_test_split).

    "train" and "val" in one name (VOC's trainval) are what one trains on.
    """
    found = words(name)
    kinds = {_SPLIT_WORDS[word] for word in found if word in _SPLIT_WORDS}
    if kinds == {"train", "val"}:
        kinds = {"train"}
    if len(kinds) != 1:
        return None
    rest = (word for word in found if word not in _SPLIT_WORDS and word not in _FILLERS and not word.isdigit())
    return SplitName(kinds.pop(), tuple(rest))


def says_nothing(name: str) -> bool:
    """Whether a name holds only words such as data, images and numbers."""
    return all(word in _FILLERS or word.isdigit() for word in words(name))


def container(name: str) -> bool:
    """Whether a name is that of a folder which holds class folders: data, Dataset, images_2."""
    found = words(name)
    return bool(found) and found[0] in _CONTAINERS and says_nothing(name)


def fold(name: str) -> bool:
    """Whether a name counts parts of a data set: fold_1, Part2, batch-03."""
    found = words(name)
    return len(found) == 2 and found[0] in _FOLDS and found[1].isdigit()


def counted_parts(names: Iterable[str]) -> bool:
    """Whether names differ in a number only, and count parts of a data set: images_001, HAM_images_part_2, batch3."""
    stems = {tuple(word for word in words(name) if not word.isdigit()) for name in names}
    return len(stems) == 1 and bool(next(iter(stems)) and _COUNTED & set(next(iter(stems))))


def renderings(names: Iterable[str]) -> bool:
    """Whether names tell versions of one data set: Original and Augmented, color and grayscale, EuroSAT, EuroSAT2."""
    names = list(names)
    if all(set(words(name)) & _RENDERED and set(words(name)) <= _RENDERED | _FILLERS for name in names):
        return True
    short = min((name.casefold() for name in names), key=len)
    return len(short) > 3 and all(name.casefold().startswith(short) for name in names)


def masks(name: str) -> bool:
    """Whether a name is that of masks or annotations of pictures."""
    found = words(name)
    return bool(found) and bool(_MASKS & set(found)) and set(found) <= _MASKS | _FILLERS | {"ground"}


def unlabelled(name: str) -> bool:
    """Whether a folder of this name says nothing of what its pictures show: unknown, test, images, pred."""
    return all(
        word in _UNLABELLED or word in _SPLIT_WORDS or word in _FILLERS or word.isdigit() for word in words(name)
    ) and bool(words(name))


_CONTAINERS_TEXT = "data dataset datasets images imgs archive raw"
_CONTAINERS = frozenset(_CONTAINERS_TEXT.split())
_FOLDS_TEXT = "fold folds part parts batch split set subset chunk shard"
_FOLDS = frozenset(_FOLDS_TEXT.split())
