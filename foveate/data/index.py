"""The index of a data set: which pictures, which classes, which splits. Reads headers, decodes nothing."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foveate.data.builtin import BUILT_IN, CLOTHES, digits
from foveate.data.gate.layout import read_folder
from foveate.data.gate.screen import HEADER_LIMIT, Screened, same_bytes, screen
from foveate.data.gate.structure import FATAL, sentence, structure
from foveate.data.gate.walk import SPLITS, Item, Listing, below, outside_line, some
from foveate.data.holdout import alike, check_fractions, hold_out, units
from foveate.data.read.formats import shown
from foveate.data.read.kinds import KINDS
from foveate.data.table import read_table
from foveate.errors import ConfigError, DataError

WHOLE = ("nested", "unlabelled")  # kinds of notices that are told in full, and before training


@dataclass(frozen=True, eq=False)
class Split:
    """The samples of one split, in text order of their names.

    paths: absolute, openable (built-in data: names such as "digits/0042"). labels: indices into Dataset.classes.
    pixels: uint8 (N, H, W, 3), only built-in data. stamps: (size in bytes, mtime in ns) of every file when indexed.
    groups: what must not be torn apart (patient, camera), "" for none; an empty tuple where nobody has named groups.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    pixels: np.ndarray | None = None
    stamps: tuple[tuple[int, int], ...] = ()
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Splits by name ("train", "val", "test") with one class index for all."""

    name: str
    root: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    notes: tuple[str, ...]
    fingerprint: str  # SHA-256 of split, name below root, size and class of every sample, in order
    left_out: tuple[tuple[str, str], ...]  # (path, reason)
    warnings: tuple[str, ...] = ()  # those of the notes that a user should see before training

    def sentence(self) -> str:
        """The classes and their pictures, all splits together: what a user can object to."""
        n = np.bincount(np.concatenate([split.labels for split in self.splits.values()]), minlength=len(self.classes))
        return sentence(dict(zip(self.classes, n.tolist(), strict=True)))


def open_data(
    data: str | Path,
    *,
    seed: int = 0,
    val: float = 0.1,
    test: float = 0.1,
    bad_files: str = "stop",
    need_test: bool = True,
    group_by: str | None = None,
    follow_links: bool = False,
) -> Dataset:
    """Index DATA: a folder of splits or of classes, a CSV path,label[,split,group], or "clothes" or "digits", built in.

    Classes are the names in train in text order; val and test are mapped by name.
    Missing splits are cut from train, stratified, with the seed. val, test: their shares of what is there to be cut; 0
    cuts none; need_test=False cuts no test. Members of a group stay together, and files with the same bytes (up to
    HEADER_LIMIT pictures). group_by: a regular expression on the name below DATA; its first group, else the match, is
    the group. bad_files: "stop" raises DataError; "skip" leaves them out and lists them. follow_links: take what links
    outside of the folder lead to; else they are a DataError.
    A folder that is called like a built-in data set is given as "./digits".
    """
    check_fractions(val, test)
    if bad_files not in ("stop", "skip"):
        raise ConfigError(f'bad_files = "{bad_files}": expected "stop" or "skip"')
    shares = {"val": val, "test": test} if need_test else {"val": val}
    if data == "digits":
        return _digits(shares, seed)
    listing = read(data, follow_links)
    return assemble(
        listing, screen(listing), shares, seed, bad_files=bad_files, group_by=group_by, further=_shadowed(data)
    )


def assemble(
    listing: Listing,
    screened: Screened,
    shares: dict[str, float],
    seed: int,
    *,
    bad_files: str = "stop",
    group_by: str | None = None,
    further: Sequence[str] = (),
) -> Dataset:
    """The data set of a listing whose pictures were looked at. Everything that stops training is a DataError here.

    further: notes of the caller.
    """
    if outside := [notice.path for notice in listing.notices if notice.kind == "outside"]:
        raise DataError(outside_line(listing.root, outside))
    if screened.bad and bad_files == "stop":
        raise DataError(stop_line(listing, screened.bad))
    notes = list(screened.notes)
    if screened.bad:
        notes.append(
            f"{len(screened.bad):,} bad files left out: {some(below(listing.root, p) for p, _ in screened.bad)}"
        )
    found = structure(listing, screened.items)
    for kind in FATAL:
        for notice in [*listing.notices, *found]:
            if notice.kind == kind:
                at_path = kind in ("no_access", "text_link")
                how = f"; {KINDS[kind].fix}" if kind == "text_link" else ""
                raise DataError(f"{shown(notice.path if at_path else listing.root)}: {notice.text}{how}")
    notes += _told(listing) + [notice.text for notice in found] + list(further)
    items = screened.items if group_by is None else _grouped(screened.items, listing.root, group_by)
    items, cut = _cut(items, shares, seed)
    warnings = tuple(notice.text for notice in listing.notices if notice.kind in WHOLE)
    return _dataset(listing, items, [*notes, *cut], tuple(screened.bad), warnings)


def read(data: str | Path, follow_links: bool = False) -> Listing:
    """The listing of a folder, a CSV or the built-in photographs, before any picture is opened."""
    path = os.fspath(CLOTHES if data == "clothes" else data)
    if os.path.isdir(path):
        return read_folder(path, follow_links or data == "clothes")  # installers may link a package from a cache
    if os.path.isfile(path) and path.lower().endswith((".csv", ".tsv")):
        return read_table(path)
    if os.path.lexists(path):
        raise DataError(f"{shown(path)}: expected a folder or a .csv or .tsv file; unpack archives first")
    raise DataError(f"{shown(path)}: no such folder or CSV file; built in: {', '.join(BUILT_IN)}")


def changed(split: Split, indices: Sequence[int] | None = None) -> list[tuple[str, str]]:
    """(path, "gone" or "changed") of the samples whose file has another size or modification time than when indexed.

    Added files are not looked for: open the data again and compare fingerprints.
    """
    found = []
    for i in range(len(split.stamps)) if indices is None else indices:
        try:
            status = os.stat(split.paths[i])
        except OSError:
            found.append((split.paths[i], "gone"))
            continue
        if (status.st_size, status.st_mtime_ns) != split.stamps[i]:
            found.append((split.paths[i], "changed"))
    return found


def stop_line(listing: Listing, bad: Sequence[tuple[str, str]]) -> str:
    """One line for bad files: how many, the first, how to go on."""
    first = "; ".join(
        f"{shown(below(listing.root, path))} ({shown(reason.partition(':')[0])})" for path, reason in bad[:3]
    )
    more = f" and {len(bad) - 3:,} more" if len(bad) > 3 else ""
    for kind in ("lfs_pointer", "annex_pointer"):
        if count := sum(reason.startswith(kind) for _, reason in bad):
            which = some(below(listing.root, path) for path, reason in bad if reason.startswith(kind))
            return f"{shown(listing.source)}: {count:,} files are {KINDS[kind].title}: {which}; {KINDS[kind].fix}"
    if listing.claimed and len(listing.missing) == len(bad) > len(listing.items):
        more += " (paths count from the folder of the table)"
    how = f"go on without them: --bad-files skip; see all: foveate data check {shown(listing.source)}"
    return f"{len(bad):,} of {len(listing.items) + len(listing.missing):,} files can not be used: {first}{more}; {how}"


def _told(listing: Listing) -> list[str]:
    """One note for each kind of oddity that the walk met."""
    by_kind: dict[str, list[str]] = {}
    for notice in listing.notices:
        if notice.kind not in WHOLE:
            by_kind.setdefault(notice.kind, []).append(below(listing.root, notice.path))
    whole = [notice.text for notice in listing.notices if notice.kind in WHOLE]
    return whole + [f"{KINDS[kind].title}: {some(paths)}" for kind, paths in by_kind.items()]


def _grouped(items: list[Item], root: str, group_by: str) -> list[Item]:
    """The items with the group that the expression finds in their names."""
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ConfigError(f'group-by "{group_by}": not a regular expression ({error})') from None
    grouped = []
    for item in items:
        match = pattern.search(below(root, item.path))
        group = match.group(1 if pattern.groups else 0) if match else None
        if not group:
            name = shown(below(root, item.path))
            raise DataError(f'group-by "{group_by}" finds no group in {name}; it must match every picture')
        grouped.append(item._replace(group=group))
    return grouped


def _cut(items: list[Item], shares: dict[str, float], seed: int) -> tuple[list[Item], list[str]]:
    """(items with no split left open, notes): val and test are cut where they are missing and a share is asked for."""
    present = {item.split for item in items}
    shares = {split: share for split, share in shares.items() if split not in present and share > 0}
    fixed = [item for item in items if item.split not in ("", "train")]
    pool = [item for item in items if item.split in ("", "train")]
    if not shares:
        return [item._replace(split="train") for item in pool] + fixed, _torn(items)
    index = {name: i for i, name in enumerate(sorted({item.label for item in pool}))}
    same = alike([item.group for item in pool]) + (same_bytes(pool) if len(items) <= HEADER_LIMIT else [])
    splits = hold_out([index[item.label] for item in pool], units(len(pool), same), shares, seed)
    cut = [item._replace(split=split) for item, split in zip(pool, splits, strict=True)]
    what = " and ".join(f"{split} ({share:.0%})" for split, share in shares.items())
    notes = [f"{what} cut from {'train' if 'train' in present else 'the class folders'}, stratified, with seed {seed}"]
    for split in shares:
        held = {item.label for item in cut if item.split == split}
        if not held:
            counted = f"{len(pool)} pictures in {len(index)} classes"
            raise DataError(f"{counted} are too few to cut {split} from; add pictures or a {split}/ folder")
        if len(held) < len(index):
            notes.append(f"too few pictures to have any in {split}: {some(n for n in index if n not in held)}")
    return cut + fixed, notes + _torn(cut + fixed)


def _torn(items: list[Item]) -> list[str]:
    """A note when a group stands in two splits (they were given so)."""
    splits: dict[str, set[str]] = {}
    for item in items:
        if item.group:
            splits.setdefault(item.group, set()).add(item.split)
    torn = [group for group, where in splits.items() if len(where) > 1]
    return [f"{KINDS['group_leak'].title}: {some(torn)}"] if torn else []


def _dataset(
    listing: Listing,
    items: list[Item],
    notes: list[str],
    left_out: tuple[tuple[str, str], ...],
    warnings: tuple[str, ...],
) -> Dataset:
    classes = tuple(sorted({item.label for item in items if item.split == "train"}))
    index = {name: i for i, name in enumerate(classes)}
    digest, splits = hashlib.sha256(), {}
    for name in SPLITS:
        part = [item for item in items if item.split == name]
        if not part:
            continue
        splits[name] = Split(
            tuple(item.path for item in part),
            tuple(index[item.label] for item in part),
            stamps=tuple((item.size_bytes, item.mtime_ns) for item in part),
            groups=tuple(item.group for item in part) if any(item.group for item in part) else (),
        )
        for item in part:
            line = f"{name}\0{below(listing.root, item.path)}\0{item.size_bytes}\0{item.label}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    fingerprint = digest.hexdigest()
    return Dataset(listing.name, listing.root, classes, splits, tuple(notes), fingerprint, left_out, warnings)


def _shadowed(data: str | Path) -> list[str]:
    """A note where a folder here has the name of the built-in data set that is used."""
    if data in BUILT_IN and os.path.isdir(data):
        return [f'the built-in "{data}" is used, not the folder of that name; write ./{data} for the folder']
    return []


def _digits(shares: dict[str, float], seed: int) -> Dataset:
    """The scans of digits, cut with the seed. The fingerprint is of pixels, labels and splits."""
    data = digits()
    shares = {split: share for split, share in shares.items() if share > 0}
    places = np.array(hold_out(data.labels, range(len(data.labels)), shares, seed))
    splits = {}
    digest = hashlib.sha256(data.pixels.tobytes() + bytes(data.labels) + "".join(places).encode())
    for split in SPLITS:
        chosen = np.flatnonzero(places == split)
        if len(chosen):
            paths, labels = tuple(data.names[i] for i in chosen), tuple(data.labels[i] for i in chosen)
            splits[split] = Split(paths, labels, data.pixels[chosen])
    notes = [f"{' and '.join(shares)} cut, stratified, with seed {seed}"] if shares else []
    notes += _shadowed("digits")
    return Dataset("digits", "", data.classes, splits, tuple(notes), digest.hexdigest(), ())


def subset(split: Split, picks: np.ndarray) -> Split:
    """Some samples of a split."""
    pixels = None if split.pixels is None else split.pixels[picks]
    return Split(tuple(split.paths[i] for i in picks), tuple(split.labels[i] for i in picks), pixels)
