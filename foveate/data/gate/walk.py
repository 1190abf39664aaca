"""The safe directory walk: every file once, special files never opened, loops ended, everything odd told.

Rules
- A class is the first folder level below a split (or below DATA when nobody has split it); deeper levels belong to it.
- A file counts once, however many links (hard or symbolic) lead to it. Real files win, then the first in text order.
- A link is followed to places inside DATA. One that leads outside stops training, unless such links are to be
  followed; a link to a folder that holds the link is never followed. A picture whose link leads nowhere is missing.
- Only regular files are pictures. A FIFO, socket or device is told and never opened.
- Names that begin with a dot, recycle bins and what systems keep (names.hidden) are left out, wherever they stand.
What the folders mean (splits, classes, neither) is layout.py's.
"""

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from foveate.data.gate.names import SPLIT_NAMES, SPLITS, hidden
from foveate.data.read.formats import EXTENSIONS, shown

__all__ = [
    "SPLITS",
    "SPLIT_NAMES",
    "Item",
    "Listing",
    "Notice",
    "Walk",
    "below",
    "hidden",
    "outside_line",
    "picture_name",
    "pictures_below",
    "some",
]

_FOREIGN = (  # pictures that can not be read: a user wants to hear of them instead of missing them
    ".heic .heif .avif .jxl .jp2 .svg .eps .ps .psd .ico .ppm .pgm .pbm .pnm .tga .dng .cr2 .cr3 .nef .arw .orf .rw2"
)
PICTURE_SUFFIXES = frozenset(suffix for known in EXTENSIONS.values() for suffix in known) | set(_FOREIGN.split())
_TEXTS_TEXT = "readme license licence copying makefile authors changelog contents index labels"
_TEXTS = frozenset(_TEXTS_TEXT.split())
LINK_BYTES = 1024  # of a link that was saved as text


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
    missing: list[tuple[str, str]] = field(default_factory=list)  # (path, reason): a row or a link without a file
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


def picture_name(path: str) -> bool:
    """Whether the name says that this is a picture."""
    return os.path.splitext(path)[1].lower() in PICTURE_SUFFIXES


def outside_line(root: str, links: Sequence[str]) -> str:
    """The line that stops where links lead outside of a folder and are not to be followed."""
    one = len(links) == 1
    names, target = some([below(root, path) for path in links]), shown(os.path.realpath(links[0]))
    return (
        f"{shown(root)}: {len(links):,} link{'' if one else 's'} lead{'s' if one else ''} outside the folder ({names};"
        f" {'it' if one else 'the first'} leads to {target}); take what they lead to with --follow-links, or copy the"
        " files in"
    )


def pictures_below(folder: str | Path, follow_links: bool = False) -> Listing:
    """All regular files below a folder whose pictures have no labels, by the rules of the walk, in text order."""
    root = os.fspath(folder)
    walk = Walk(root, follow_links)
    walk.walk(root, "", ".")
    walk.follow_links()
    items = sorted(walk.items, key=lambda item: item.path)
    name = os.path.basename(os.path.abspath(root))
    return Listing(name, root, root, items, notices=walk.notices, missing=walk.missing)


class Walk:
    """The state of one walk: what has been seen, what is still to be followed."""

    def __init__(self, root: str, outside: bool = False) -> None:
        """outside: links that lead out of root are followed too."""
        self.root, self.real_root, self.outside = root, os.path.realpath(root), outside
        self.items: list[Item] = []
        self.notices: list[Notice] = []
        self.missing: list[tuple[str, str]] = []
        # (split, label) -> folder below the class ("" for none) -> files that may be pictures by their name
        self.depths: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._files: dict[int, dict[int, int]] = {}  # device -> inode -> index in items
        self._folders: set[tuple[int, int]] = set()
        self._links: list[tuple[str, str, str, str]] = []  # path, split, label, sub; followed after all real files

    def entries(self, folder: str, told: bool = True) -> Iterator[tuple[str, str, str]]:
        """(name, path, kind) in text order; kind: "folder", "file", "link" or "special". Hidden ones are left out."""
        found = []  # not the DirEntry objects: a million of them with their stat results fill the memory
        try:
            with os.scandir(folder) as scan:
                for entry in scan:
                    if hidden(entry.name):
                        self.tell("hidden", entry.path, "a hidden or system file; ignored", told)
                    elif entry.is_symlink():
                        found.append((entry.name, entry.path, "link"))
                    elif entry.is_dir(follow_symlinks=False):
                        found.append((entry.name, entry.path, "folder"))
                    else:
                        kind = "file" if entry.is_file(follow_symlinks=False) else "special"
                        found.append((entry.name, entry.path, kind))
        except OSError as error:
            self._no_access(folder, error, told)
        yield from sorted(found)

    def subfolders(self, folder: str, told: bool = True) -> list[tuple[str, str]]:
        """(name, path) of the folders inside a folder, links to folders that are followed included."""
        kinds = self.entries(folder, told)
        return [(n, p) for n, p, kind in kinds if kind == "folder" or (kind == "link" and self._folder_link(p))]

    def links_outside(self, folder: str) -> list[str]:
        """Paths of the links directly in a folder that lead to folders outside and are not followed."""
        links = (path for _, path, kind in self.entries(folder, told=False) if kind == "link" and not self.outside)
        return [path for path in links if os.path.isdir(path) and not self._inside(os.path.realpath(path))]

    def strays(self, folder: str, is_data: Callable[[str], bool] = lambda name: True) -> None:
        """Tell what stands beside the class folders. is_data: whether a folder of this name would be looked into."""
        for name, path, kind in self.entries(folder, told=False):
            if kind == "special":
                self.tell("special", path, "not a regular file; never opened")
            elif kind == "file" and is_data(name) and (target := _saved_as_text(path)):
                self.tell("text_link", path, f"a link to {shown(target)} that was saved as text; not followed")
            elif kind == "file" or (kind == "link" and os.path.isfile(path)):
                self.tell("stray", path, "a file outside the class folders; ignored")
            elif kind == "link" and not self._folder_link(path):
                if is_data(name):
                    self._links.append((path, "", "", ""))  # named in the report, not followed
                else:
                    self.tell("stray", path, "a link beside the data; ignored")

    def classes(self, split: str, folders: dict[str, str]) -> None:
        """Walk the class folders of a split."""
        for label, path in folders.items():
            if os.path.islink(path):
                self._links.append((path, split, label, ""))
            else:
                self.walk(path, split, label)

    def walk(self, folder: str, split: str, label: str, sub: str = "") -> None:
        """Everything below a folder belongs to this class. No recursion: only the file system bounds the depth.

        sub: the folder below the class that this one belongs to, where it is not the class itself.
        """
        stack = [(folder, sub)]
        while stack:
            here, sub = stack.pop()
            try:
                status = os.stat(here)
            except OSError as error:
                self._no_access(here, error)
                continue
            if (status.st_dev, status.st_ino) in self._folders:
                self.tell("loop", here, "a folder that was visited by another way; not visited again")
                continue
            self._folders.add((status.st_dev, status.st_ino))
            for name, path, kind in self.entries(here):
                if kind == "folder":
                    stack.append((path, sub or name))
                elif kind == "link":
                    self._links.append((path, split, label, sub))
                elif kind == "file":
                    self._file(path, split, label, sub)
                else:
                    self.tell("special", path, "not a regular file; never opened")

    def follow_links(self) -> None:
        """Follow the links that were met, those that they lead to as well."""
        for path, split, label, sub in self._links:  # grows while it runs
            try:
                status = os.stat(path)
            except OSError as error:
                self._broken(path, bool(label), error)
                continue
            real = os.path.realpath(path)
            is_folder = stat.S_ISDIR(status.st_mode)
            if is_folder and self._holds(real, path):
                self.tell("loop", path, "a link to a folder that holds it; not followed")
            elif not is_folder and not stat.S_ISREG(status.st_mode):
                self.tell("special", path, "a link to something that is not a regular file; never opened")
            elif not self.outside and not self._inside(real):
                if is_folder or _may_be_picture(path, real):
                    self.tell("outside", path, f"a link to {shown(real)}, outside the folder; not followed")
                else:
                    self.tell("stray", path, "a link to a file outside the folder that is no picture; ignored")
            elif not is_folder:
                self._file(path, split, label, sub)
            elif label:
                name = os.path.basename(path)
                self.walk(path, split, label, sub or (name if name != label else ""))

    def _broken(self, path: str, in_class: bool, error: OSError) -> None:
        """A link that leads nowhere: a missing picture (beside the classes: a missing folder), a loop, or nothing."""
        if "too many" in (error.strerror or "").lower():
            self.tell("loop", path, "a link that leads nowhere; not followed")
            return
        target = os.readlink(path) if os.path.islink(path) else ""
        if not _may_be_picture(path, target) or (not in_class and os.path.splitext(path)[1]):
            self.tell("stray", path, "a link that leads nowhere; ignored")
            return
        fetch = "git annex get" if ".git/annex" in target else "dvc pull" if ".dvc" in target else ""
        hint = f"; fetch it: {fetch}" if fetch else ""
        self.missing.append((path, f"a link to {shown(target)}, which is not there{hint}"))

    def _file(self, path: str, split: str, label: str, sub: str) -> None:
        try:
            status = os.stat(path)
        except OSError:  # gone since it was listed
            self.missing.append((path, "this file went away while it was listed"))
            return
        if label and _may_be_picture(path, ""):
            self.depths[split, label][sub] += 1
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
        """Whether a link leads to a folder that is followed: inside DATA (or outside too), and not one around it."""
        real = os.path.realpath(path)
        return os.path.isdir(path) and (self.outside or self._inside(real)) and not self._holds(real, path)

    def _inside(self, real: str) -> bool:
        return real.startswith(os.path.join(self.real_root, "")) or real == self.real_root

    @staticmethod
    def _holds(real: str, path: str) -> bool:
        """Whether the folder real holds the link path."""
        return os.path.join(os.path.realpath(os.path.dirname(path)), "").startswith(os.path.join(real, ""))

    def _no_access(self, folder: str, error: OSError, told: bool = True) -> None:
        why = (error.strerror or str(error)).lower()
        self.tell("no_access", folder, f"this folder can not be read: {why}", told)

    def tell(self, kind: str, path: str, text: str, told: bool = True) -> None:
        """Keep a notice, unless this folder is looked at for the second time."""
        if told:
            self.notices.append(Notice(kind, path, text))


def _may_be_picture(path: str, target: str) -> bool:
    """Whether a link could be one to a picture, by its name or by its target's; caches have targets without endings."""
    if picture_name(path) or picture_name(target):
        return True
    stem, suffix = os.path.splitext(os.path.basename(path))
    return not suffix and stem.lower() not in _TEXTS


def _saved_as_text(path: str) -> str:
    """The folder to which a link led before git or an archive wrote it as a text file; "" for any other file."""
    if os.path.splitext(path)[1]:
        return ""
    try:
        with open(path, "rb") as file:
            text = os.fsdecode(file.read(LINK_BYTES + 1)).strip()
        is_link = 0 < len(text) <= LINK_BYTES and text.isprintable() and os.sep in text
        return text if is_link and os.path.isdir(os.path.join(os.path.dirname(path), text)) else ""
    except OSError:
        return ""
