"""The safe directory walk: every file once, special files never opened, loops ended, everything odd told.

Rules
- A class is the first folder level below a split (or below DATA when nobody has split it); deeper levels belong to it.
- A file counts once, however many links (hard or symbolic) lead to it. Real files win, then the first in text order.
- A link is followed only to places inside DATA. Links to outside, to a folder that holds the link, and broken ones are
  told, not followed.
- Only regular files are pictures. A FIFO, socket or device is told and never opened.
- Names that begin with a dot, Thumbs.db, desktop.ini, __MACOSX and @eaDir are ignored.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from foveate.data.read.formats import EXTENSIONS, shown
from foveate.errors import DataError

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "val": "val", "validation": "val", "valid": "val", "eval": "val", "test": "test"}
IGNORED = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir"})
_FOREIGN = (  # pictures that can not be read: a user wants to hear of them instead of missing them
    ".heic .heif .avif .jxl .jp2 .svg .eps .ps .psd .ico .ppm .pgm .pbm .pnm .tga .dng .cr2 .cr3 .nef .arw .orf .rw2"
)
PICTURE_SUFFIXES = frozenset(suffix for known in EXTENSIONS.values() for suffix in known) | set(_FOREIGN.split())


class Item(NamedTuple):
    """One picture file of a listing. split is "" where nobody has split yet; group is "" where there is none."""

    path: str
    split: str
    label: str
    group: str
    size_bytes: int
    mtime_ns: int


class Notice(NamedTuple):
    """Something about the data that a user should hear. kind is one of the stable codes in kinds.KINDS."""

    kind: str
    path: str
    text: str
    other: str = ""  # the path of what it is compared with


@dataclass
class Listing:
    """What stands in a folder or a table, before any picture is opened."""

    name: str
    root: str  # names are told relative to it
    source: str  # the folder or the table itself
    items: list[Item] = field(default_factory=list)
    folders: dict[str, list[str]] = field(default_factory=dict)  # split ("" for none) -> class names, empty ones too
    notices: list[Notice] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)  # (path, reason): rows of a table without a file
    claimed: bool = False  # a table says of every row that it is a picture; a folder may hold other files


def some(names: Iterable[str], count: int = 3) -> str:
    """The first few names, printable: "a.jpg, b.jpg and 7 more"."""
    names = [shown(n) for n in names]
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest:,} more" if rest > 0 else "")


def below(root: str, path: str) -> str:
    """The name of a path relative to root."""
    head = os.path.join(root, "")
    return path[len(head) :] if path.startswith(head) else os.path.relpath(path, root)


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is left alone."""
    return name.startswith(".") or name.lower() in IGNORED


def picture_name(path: str) -> bool:
    """Whether the name says that this is a picture."""
    return os.path.splitext(path)[1].lower() in PICTURE_SUFFIXES


def read_folder(folder: str | Path) -> Listing:
    """List DATA/{train,val,test}/CLASS/... or DATA/CLASS/...; DataError where neither is there, else notices."""
    root = os.path.abspath(folder)
    walk = _Walk(root)
    top = dict(walk.subfolders(root))
    parts = {name: SPLIT_NAMES[name.lower()] for name in top if name.lower() in SPLIT_NAMES}
    classes = {name: dict(walk.subfolders(top[name], told=False)) for name in parts}
    listing = Listing(os.path.basename(root) or root, root, root)
    inner = [name for path in top.values() for name, _ in walk.subfolders(path, told=False)] if len(top) == 1 else []
    if not _is_split(root, top, parts, classes, inner):
        walk.strays(root)
        walk.classes("", top)
        listing.folders[""] = list(top)
    else:
        walk.notices.extend(
            Notice("stray", top[name], "a folder beside train, val and test; ignored")
            for name in top
            if name not in parts
        )
        walk.strays(root)
        for name in sorted(parts, key=lambda n: SPLITS.index(parts[n])):
            listing.folders[parts[name]] = [label for label, _ in walk.subfolders(top[name])]
            walk.strays(top[name])
            walk.classes(parts[name], classes[name])
    walk.follow_links()
    listing.items = sorted(walk.items, key=lambda item: (SPLITS.index(item.split) if item.split else 0, item.path))
    listing.notices = walk.notices
    return listing


def _is_split(
    root: str, top: dict[str, str], parts: dict[str, str], classes: dict[str, dict[str, str]], inner: list[str]
) -> bool:
    """Whether the folders below root are splits (True) or classes (False); DataError where they are neither."""
    where = shown(root)
    if not top:
        expected = (
            f"expected {where}/train/CLASS/picture or {where}/CLASS/picture (links to other places are not followed)"
        )
        raise DataError(f"{where}: no class folders; {expected}")
    twice = [name for name in parts if sum(parts[name] == other for other in parts.values()) > 1]
    train = [name for name in parts if parts[name] == "train" and classes[name]]
    if twice and (train or len(parts) == len(top)):
        raise DataError(f"{where}: {' and '.join(sorted(twice))} are the same split; keep one of them")
    if train:
        return True
    held = [name for name in parts if parts[name] != "train" and classes[name]]
    if held:  # taking test/ for a class would train on it without a word
        raise DataError(
            f"{where}: {held[0]}/ has class folders but train/ is missing or has none; expected train/CLASS/picture"
        )
    if len(parts) == len(top):
        raise DataError(f"{where}: {', '.join(sorted(parts))} has no class folders; expected train/CLASS/picture")
    if len(top) == 1 and not parts and inner:
        raise DataError(
            f"{where}: one folder, and in it {some(inner)}; did you mean {shown(next(iter(top.values())))}?"
        )
    return False


class _Walk:
    """The state of one walk: what has been seen, what is still to be followed."""

    def __init__(self, root: str) -> None:
        self.root, self.real_root = root, os.path.realpath(root)
        self.items: list[Item] = []
        self.notices: list[Notice] = []
        self._files: dict[int, dict[int, int]] = {}  # device -> inode -> index in items
        self._folders: set[tuple[int, int]] = set()
        self._links: list[tuple[str, str, str]] = []  # path, split, label; followed after all real files

    def entries(self, folder: str, told: bool = True) -> Iterator[tuple[str, str, str]]:
        """(name, path, kind) in text order; kind: "folder", "file", "link" or "special". Hidden ones are left out."""
        found = []  # not the DirEntry objects: a million of them with their stat results fill the memory
        try:
            with os.scandir(folder) as scan:
                for entry in scan:
                    if hidden(entry.name):
                        self._tell(told, "hidden", entry.path, "a hidden or system file; ignored")
                    elif entry.is_symlink():
                        found.append((entry.name, entry.path, "link"))
                    elif entry.is_dir(follow_symlinks=False):
                        found.append((entry.name, entry.path, "folder"))
                    else:
                        kind = "file" if entry.is_file(follow_symlinks=False) else "special"
                        found.append((entry.name, entry.path, kind))
        except OSError as error:
            self._tell(
                told, "no_access", folder, f"this folder can not be read: {(error.strerror or str(error)).lower()}"
            )
        yield from sorted(found)

    def subfolders(self, folder: str, told: bool = True) -> list[tuple[str, str]]:
        """(name, path) of the folders inside a folder, links to folders inside DATA included."""
        kinds = self.entries(folder, told)
        return [(n, p) for n, p, kind in kinds if kind == "folder" or (kind == "link" and self._folder_link(p))]

    def strays(self, folder: str) -> None:
        """Tell what stands beside the class folders."""
        for _, path, kind in self.entries(folder, told=False):
            if kind == "special":
                self._tell(True, "special", path, "not a regular file; never opened")
            elif kind == "file" or (kind == "link" and os.path.isfile(path)):
                self._tell(True, "stray", path, "a file outside the class folders; ignored")
            elif kind == "link" and not self._folder_link(path):
                self._links.append((path, "", ""))  # named in the report, not followed

    def classes(self, split: str, folders: dict[str, str]) -> None:
        """Walk the class folders of a split."""
        for label, path in folders.items():
            if os.path.islink(path):
                self._links.append((path, split, label))
            else:
                self.walk(path, split, label)

    def walk(self, folder: str, split: str, label: str) -> None:
        """Everything below a folder belongs to this class. No recursion: only the file system bounds the depth."""
        stack = [folder]
        while stack:
            here = stack.pop()
            try:
                status = os.stat(here)
            except OSError as error:
                self._tell(
                    True, "no_access", here, f"this folder can not be read: {(error.strerror or str(error)).lower()}"
                )
                continue
            if (status.st_dev, status.st_ino) in self._folders:
                self._tell(True, "loop", here, "a folder that was visited by another way; not visited again")
                continue
            self._folders.add((status.st_dev, status.st_ino))
            for _, path, kind in self.entries(here):
                if kind == "folder":
                    stack.append(path)
                elif kind == "link":
                    self._links.append((path, split, label))
                elif kind == "file":
                    self._file(path, split, label)
                else:
                    self._tell(True, "special", path, "not a regular file; never opened")

    def follow_links(self) -> None:
        """Follow the links that were met, those that they lead to as well."""
        for path, split, label in self._links:  # grows while it runs
            try:
                status = os.stat(path)
            except OSError as error:
                loops = "too many" in (error.strerror or "").lower()
                self._tell(True, "loop" if loops else "broken_link", path, "a link that leads nowhere; not followed")
                continue
            real = os.path.realpath(path)
            if not self._inside(real):
                self._tell(True, "outside", path, f"a link to {shown(real)}, outside the folder; not followed")
            elif stat.S_ISDIR(status.st_mode):
                if self._holds(real, path):
                    self._tell(True, "loop", path, "a link to a folder that holds it; not followed")
                elif label:
                    self.walk(path, split, label)
            elif stat.S_ISREG(status.st_mode):
                self._file(path, split, label)
            else:
                self._tell(True, "special", path, "a link to something that is not a regular file; never opened")

    def _file(self, path: str, split: str, label: str) -> None:
        try:
            status = os.stat(path)
        except OSError:  # gone since it was listed
            self._tell(True, "broken_link", path, "this file went away while it was listed")
            return
        seen = self._files.setdefault(status.st_dev, {})
        if status.st_ino not in seen:
            seen[status.st_ino] = len(self.items)
            self.items.append(Item(path, split, label, "", status.st_size, status.st_mtime_ns))
            return
        first = self.items[seen[status.st_ino]]
        kind = "leak" if first.split != split else "two_labels" if first.label != label else "same_file"
        text = f"the same file as {shown(below(self.root, first.path))}; counted once, there"
        self.notices.append(Notice(kind, path, text, first.path))

    def _folder_link(self, path: str) -> bool:
        """Whether a link leads to a folder inside DATA that does not hold it."""
        real = os.path.realpath(path)
        return os.path.isdir(path) and self._inside(real) and not self._holds(real, path)

    def _inside(self, real: str) -> bool:
        return real.startswith(os.path.join(self.real_root, "")) or real == self.real_root

    @staticmethod
    def _holds(real: str, path: str) -> bool:
        """Whether the folder real holds the link path."""
        return os.path.join(os.path.realpath(os.path.dirname(path)), "").startswith(os.path.join(real, ""))

    def _tell(self, told: bool, kind: str, path: str, text: str) -> None:
        if told:
            self.notices.append(Notice(kind, path, text))
