"""The data gate: one pass that reads and decodes every file once and tells all that is odd about a data set."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from foveate.data.gate.near import MIN_CONTRAST, SIDE, contrasts, near_groups, thumbnail
from foveate.data.gate.screen import Screened, claims, missing_kind
from foveate.data.gate.structure import counts, imbalance, in_all, sentence, structure
from foveate.data.gate.walk import Item, Listing, below
from foveate.data.holdout import alike
from foveate.data.index import assemble, read
from foveate.data.read.decode import opened
from foveate.data.read.formats import BadImage, Header, Limits, open_picture, probe
from foveate.data.read.kinds import KINDS, Severity
from foveate.data.read.reader import DEFAULT_LIMITS, Refused
from foveate.errors import ConfigError, DataError

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """kind: a code in kinds.KINDS. paths: names below the root, several where it is about several files together."""

    kind: str
    paths: tuple[str, ...]
    reason: str

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind].severity


@dataclass(frozen=True)
class Report:
    """What the gate found. pictures: split ("" where nobody has split) -> class -> usable pictures."""

    source: str  # the folder or the CSV
    files: int
    pictures: dict[str, dict[str, int]]
    imbalance: float  # largest class / smallest class in train
    findings: tuple[Finding, ...]  # errors first, then by kind as in KINDS, then by name
    wall_s: float
    root: str  # names are relative to it
    items: tuple[Item, ...]  # the usable pictures
    refusal: str | None = None  # what training would say before it stopped; None: it would go on

    def sentence(self) -> str:
        """The classes and their pictures, all splits together: what a user can object to."""
        return sentence(in_all(self.pictures))

    def count(self, severity: Severity) -> int:
        """How many findings are this bad."""
        return sum(finding.severity == severity for finding in self.findings)

    def good(self, strict: bool = False) -> bool:
        """Whether one can train on this: no errors; with strict no warnings either."""
        return self.refusal is None and not self.count("error") and not (strict and self.count("warning"))


class _Look(NamedTuple):
    """What one file turned out to be. fault: (kind, reason) or None; the other fields hold where there is none."""

    fault: tuple[str, str] | None
    digest: bytes = b""
    header: Header | None = None
    thumb: np.ndarray | None = None


def check(
    data: str | Path,
    *,
    threads: int = 2,
    limits: Limits = DEFAULT_LIMITS,
    follow_links: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Read DATA (a folder or a CSV) as training would, every file fully.

    The report does not depend on the number of threads. It takes the time of decoding everything once, and 1 KiB of
    memory a picture. DataError where there is no data set at all.
    """
    start = time.monotonic()
    if data == "digits":
        raise ConfigError(f'"{data}" is built in and has no files to check; a folder of that name is ./{data}')
    listing = read(data, follow_links)
    items: list[Item] = []
    bad = [(path, f"{missing_kind(listing)}: {reason}") for path, reason in listing.missing]
    digests: list[bytes] = []
    findings: list[Finding] = []
    thumbs = np.empty((len(listing.items), SIDE, SIDE, 3), np.uint8)
    looks = _looks(listing.items, threads, limits, progress)
    for item, look in zip(listing.items, looks, strict=True):
        name = below(listing.root, item.path)
        if look.fault:
            kind, reason = look.fault
            if claims(listing, item.path, kind):
                bad.append((item.path, f"{kind}: {reason}"))
            else:
                kind = "no_picture"
            findings.append(Finding(kind if kind in KINDS else "unreadable", (name,), reason))
            continue
        assert look.header is not None and look.thumb is not None
        findings += [Finding(note, (name,), _noted(note, look.header)) for note in look.header.notes if note in KINDS]
        thumbs[len(items)] = look.thumb
        digests.append(look.digest)
        items.append(item)
    findings += [
        Finding(missing_kind(listing), (below(listing.root, path),), reason) for path, reason in listing.missing
    ]
    for n in listing.notices:
        findings.append(Finding(n.kind, tuple(below(listing.root, p) for p in (n.other, n.path) if p), n.text))
    if not any(notice.kind == "outside" for notice in listing.notices):  # then all counts are those of what is missing
        findings += [Finding(n.kind, (n.path,) if n.path else (), n.text) for n in structure(listing, items)]
    findings += _twice(listing, items, digests, thumbs[: len(items)]) + _groups(items)
    order = list(KINDS)
    findings.sort(key=lambda f: (SEVERITIES.index(f.severity), order.index(f.kind), f.paths))
    table = counts(items)
    wall_s = round(time.monotonic() - start, 3)
    ratio = round(imbalance(table), 3)
    source, root, told = listing.source, listing.root, tuple(findings)
    return Report(
        source, len(listing.items), table, ratio, told, wall_s, root, tuple(items), _refusal(listing, items, bad)
    )


def _refusal(listing: Listing, items: list[Item], bad: list[tuple[str, str]]) -> str | None:
    """The line with which training would stop, by the same function, or None."""
    try:
        assemble(listing, Screened(items, bad, []), {"val": 0.1, "test": 0.1}, 0)
    except DataError as error:
        return str(error)
    return None


def _looks(
    items: Sequence[Item], threads: int, limits: Limits, progress: Callable[[int, int], None]
) -> Iterator[_Look]:
    """_look of every item in order. Chunks bound how many results wait."""
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, len(items), 256):
            progress(start, len(items))
            yield from pool.map(lambda item: _look(item, limits), items[start : start + 256])
    progress(len(items), len(items))


def _look(item: Item, limits: Limits) -> _Look:
    """Decode a file, then read its bytes: the system has them still."""
    try:
        with opened(item.path, limits) as image:  # while it lasts, no large picture of another thread is decoded
            thumb = thumbnail(image)
        with open_picture(item.path, limits) as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        return _Look(None, digest, probe(item.path, limits), thumb)
    except Refused as refused:
        return _Look((refused.reason, refused.detail))
    except BadImage as error:
        return _Look((error.reason, error.detail))
    except OSError as error:
        return _Look(("unreadable", (error.strerror or str(error)).lower()))


def _noted(note: str, header: Header) -> str:
    """The reason that stands beside a note."""
    said = {
        "not_upright": f"EXIF orientation {header.orientation}",
        "16bit": f"{header.bits} bits a sample",
        "wrong_extension": f"the content is {header.format}",
    }
    return said.get(note, f"{header.format} {header.mode}, {header.width} x {header.height}")


def _twice(listing: Listing, items: list[Item], digests: list[bytes], thumbs: np.ndarray) -> list[Finding]:
    """Equal and near-equal pictures; those in two splits or under two labels are told as such instead."""
    findings = []
    equal = alike(digests)
    first = sorted(set(range(len(items))) - {i for members in equal for i in members[1:]})
    copies = {members[0]: members for members in equal}
    near = [[first[p] for p in members] for members in near_groups(thumbs[first])]
    near = [sorted(i for f in members for i in copies.get(f, [f])) for members in near]
    for members, kind, what in (
        *((m, "exact_duplicate", "the same bytes") for m in equal),
        *((m, "near_duplicate", "the same picture, re-encoded, resized or mirrored") for m in near),
    ):
        paths = tuple(below(listing.root, items[i].path) for i in members)
        splits = sorted({items[i].split for i in members})
        labels = sorted({items[i].label for i in members})
        if len(splits) > 1:
            findings.append(Finding("leak", paths, f"{what} in {' and '.join(splits)}"))
        if len(labels) > 1:
            findings.append(Finding("two_labels", paths, f"{what} as {' and '.join(labels)}"))
        if len(splits) == len(labels) == 1:
            findings.append(Finding(kind, paths, what))
    one_colour = np.flatnonzero(contrasts(thumbs) < MIN_CONTRAST)
    return findings + [Finding("flat", (below(listing.root, items[i].path),), "one colour") for i in one_colour]


def _groups(items: list[Item]) -> list[Finding]:
    """Groups that stand in two splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.group:
            splits[item.group].add(item.split)
    torn = sorted(group for group, where in splits.items() if len(where) > 1)
    return [
        Finding("group_leak", (), f"the group {group} is in {' and '.join(sorted(splits[group]))}") for group in torn
    ]
