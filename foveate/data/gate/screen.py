"""From files to pictures: headers are probed, files that are no pictures are set aside, equal ones are found."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from foveate.data.gate.walk import Item, Listing, picture_name
from foveate.data.holdout import alike
from foveate.data.read.formats import BadImage, probe

# Above this many files, opening a data set reads no header of a file with a picture's name and compares no bytes: for
# a million that takes many minutes. Empty files are still found, and `foveate data check` reads everything.
HEADER_LIMIT = 50_000
THREADS = 4  # they wait for the disk
CHUNK = 4096


class Screened(NamedTuple):
    """items: usable pictures. bad: (path, "code: reason") of files that should be pictures. notes: for the user."""

    items: list[Item]
    bad: list[tuple[str, str]]
    notes: list[str]


def screen(listing: Listing) -> Screened:
    """Probe the headers of a listing. A file that is no picture by name nor by content is ignored and counted."""
    headers = len(listing.items) <= HEADER_LIMIT
    items: list[Item] = []
    bad = [(path, f"{missing_kind(listing)}: {reason}") for path, reason in listing.missing]
    ignored = 0

    def fault(item: Item) -> str | None:
        return None if not headers and picture_name(item.path) and item.size_bytes else header_fault(item.path)

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(listing.items), CHUNK):
            part = listing.items[start : start + CHUNK]
            for item, reason in zip(part, pool.map(fault, part) if headers else map(fault, part), strict=True):
                if reason is None:
                    items.append(item)
                elif claims(listing, item.path, reason):
                    bad.append((item.path, reason))
                else:
                    ignored += 1
    notes = [f"{ignored:,} files that are no pictures ignored"] if ignored else []
    if not headers:
        notes.append(f"over {HEADER_LIMIT:,} files: headers not read, bytes not compared; foveate data check does both")
    return Screened(items, bad, notes)


def claims(listing: Listing, path: str, reason: str) -> bool:
    """Whether a file that can not be used should have been a picture: a table, its name or its first bytes say so."""
    return listing.claimed or picture_name(path) or reason.partition(":")[0] not in UNSURE


UNSURE = ("format", "empty", "lfs_pointer", "annex_pointer")  # reasons that do not say that it was to be a picture


def missing_kind(listing: Listing) -> str:
    """What a picture is called that is named but not there: a row of a table, or a link."""
    return "missing" if listing.claimed else "broken_link"


def header_fault(path: str) -> str | None:
    """ "code: reason" when the header says that the file can not be used, else None."""
    try:
        probe(path)
    except BadImage as error:
        return f"{error.reason}: {error.detail}"
    return None


def same_bytes(items: Sequence[Item]) -> list[list[int]]:
    """The sets of two or more positions whose files have the same bytes: by size, first 4 KiB, then SHA-256."""

    def digest(length: int) -> Callable[[int], bytes]:
        def one(i: int) -> bytes:
            try:
                with open(items[i].path, "rb") as file:
                    if length < 2**20:
                        return file.read(length)
                    return hashlib.file_digest(file, "sha256").digest()
            except OSError:  # gone since it was listed; whoever reads it next says so
                return str(i).encode()

        return one

    sets = alike([item.size_bytes for item in items])
    with ThreadPoolExecutor(THREADS) as pool:
        for length in (4096, 2**62):
            places = [i for members in sets for i in members]
            keys = zip((items[i].size_bytes for i in places), pool.map(digest(length), places), strict=True)
            sets = [[places[p] for p in members] for members in alike(keys)]
    return [sorted(members) for members in sets]
