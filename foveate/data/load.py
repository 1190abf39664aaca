"""Loading: a split as squares of uint8 in memory when they fit, through workers when they do not. Both give the same
bytes.

Training pictures are stored squashed to S x S with their aspect ratio beside them; augment cuts undistorted crops out
of them. Pictures that are cut while they are read (cut_pictures) are never stored: augment then only turns them.
Evaluation pictures are prepared exactly as prediction prepares them.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from foveate.data.augment import CROP
from foveate.data.balance import balanced_order
from foveate.data.index import Split
from foveate.data.preprocess import Preprocess, needed, prepare
from foveate.data.random import epoch_order, uniforms
from foveate.data.read.decode import Need, opened
from foveate.data.read.fast import cut, shrunk
from foveate.data.read.formats import BadImage
from foveate.data.repeat import repeated_order, virtual_samples
from foveate.errors import DataError

Decoding = Literal["exact", "scaled", "cut"]
Square = tuple[torch.Tensor, float]  # uint8 (3, S, S) and width / height before squashing
Key = tuple[int, int]  # seed and epoch: what the random crops of an epoch grow from
Wanted = tuple[np.ndarray, np.ndarray | None, Key | None]  # positions, copies, key: one batch


@dataclass(frozen=True)
class Batch:
    """pictures uint8 (N, 3, S, S); labels int64 (N,); aspect float32 (N,); samples int64 (N,), the indices in the
    split.

    copies: int64 (N,), which copy of its sample each is, where samples are repeated.
    cut: the pictures are random crops already; augment must neither crop nor shift them (their aspect is 1).
    planned, whole: how many pictures were asked for here, and by all processes together; 0: not part of a training.
    """

    pictures: torch.Tensor
    labels: torch.Tensor
    aspect: torch.Tensor
    samples: np.ndarray
    copies: np.ndarray
    cut: bool = False
    planned: int = 0
    whole: int = 0


@dataclass(frozen=True)
class Crop:
    """Random crops that are made while the pictures are read: crop and shift as augment takes them. store: side of the
    squares that would be stored; no picture is decoded at fewer pixels than they hold, unless its crop needs fewer.
    """

    crop: float
    shift: float
    store: int


class Pictures:
    """One split, ready to be read in any order. Resident when `resident` is not None, else decoded again at every
    reading.
    """

    def __init__(
        self,
        split: Split,
        side: int,
        ready: Callable[[Image.Image], Square],
        background: tuple[int, int, int],
        *,
        need: Need | None = None,
        crop: Crop | None = None,
    ):
        self.split, self.side, self.background, self.need, self.crop = split, side, background, need, crop
        self.labels = torch.tensor(split.labels, dtype=torch.int64)
        self.ready = ready
        self.keep = np.arange(len(split))  # samples that are used; a file left out is missing here
        self.resident: torch.Tensor | None = None  # uint8 (len(keep), 3, S, S)
        self.aspect = torch.ones(len(split))
        self.bad_files = "stop"  # "skip": a file that can not be decoded is left out and listed, never replaced
        self.left_out: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self.keep)

    def read(self, i: int, u: Sequence[float] | None = None) -> Square:
        """Sample i of the split; raises BadImage with its file name. u: the numbers of its random crop; None: whole."""
        source = self.split.paths[i] if self.split.pixels is None else self.split.pixels[i]
        if u is not None and self.crop is not None:
            how = self.crop
            picture = cut(source, u, self.side, how.crop, how.shift, side=how.store, background=self.background)
            return picture, 1.0
        if isinstance(source, np.ndarray):
            return self.ready(Image.fromarray(source))
        with opened(source, background=self.background, need=self.need) as image:
            return self.ready(image)

    def load(self, threads: int = 2) -> "Pictures":
        """Decode everything once and keep it. A bad file stops with its name, or is left out (bad_files "skip").

        Pictures that are cut while they are read can not be kept: this is then a mistake of the caller.
        """
        assert self.crop is None
        store = torch.empty((len(self.split), 3, self.side, self.side), dtype=torch.uint8)
        good = np.ones(len(self.split), bool)

        def one(i: int) -> None:
            try:
                store[i], self.aspect[i] = self.read(i)
            except BadImage as error:
                self._leave_out(i, error)
                good[i] = False

        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(one, range(len(self.split))):
                pass
        self.left_out.sort()  # threads finish in any order
        self.keep = np.flatnonzero(good)
        if not len(self.keep):
            raise DataError("no picture is left after leaving out the bad ones; see foveate data check")
        self.resident = store if good.all() else store[torch.from_numpy(self.keep)]
        return self

    def gather(
        self, positions: Sequence[int] | np.ndarray, copies: np.ndarray | None = None, key: Key | None = None
    ) -> Batch:
        """The batch at these positions in `keep`, from memory or from the files.

        key: of the epoch, where pictures are cut while they are read. A file that turned bad since stops with its name,
        or makes the batch smaller (bad_files "skip").
        """
        samples = self.keep[np.asarray(positions)]
        copies = np.zeros(len(samples), np.int64) if copies is None else copies
        picked, cuts = torch.from_numpy(samples), self.crop is not None and key is not None
        if self.resident is not None:
            pictures = self.resident[torch.from_numpy(np.asarray(positions))]
            return Batch(pictures, self.labels[picked], self.aspect[picked], samples, copies)
        numbers: list[list[float] | None] = [None] * len(samples)
        if cuts and key is not None:  # the numbers that augment takes for the same copies of these samples
            numbers = uniforms(*key, virtual_samples(samples, copies, len(self)), CROP.stop)[:, CROP].tolist()
        layout = torch.channels_last if cuts else torch.contiguous_format  # crops come so, and are used once
        pictures = torch.empty((len(samples), 3, self.side, self.side), dtype=torch.uint8, memory_format=layout)
        good = np.ones(len(samples), bool)
        for place, (i, u) in enumerate(zip(samples.tolist(), numbers, strict=True)):
            try:
                pictures[place], self.aspect[i] = self.read(i, u)
            except BadImage as error:
                self._leave_out(i, error)
                good[place] = False
        if not good.any():
            raise DataError(f"{self.split.paths[int(picked[0])]}: this and every other picture of a batch turned bad")
        if not good.all():
            pictures, samples, copies = pictures[torch.from_numpy(good)], samples[good], copies[good]
            picked = torch.from_numpy(samples)
        return Batch(pictures, self.labels[picked], self.aspect[picked], samples, copies, cuts)

    def _leave_out(self, i: int, error: BadImage) -> None:
        if self.bad_files != "skip":
            raise error
        if (pair := (self.split.paths[i], str(error))) not in self.left_out:
            self.left_out.append(pair)

    def epoch(
        self,
        seed: int,
        epoch: int,
        batch: int,
        start: int = 0,
        workers: int = 0,
        *,
        share: tuple[int, int] = (0, 1),
        repeats: int = 1,
        balanced: bool = False,
    ) -> Iterator[Batch]:
        """The batches of one epoch from batch number `start` on. The order depends on (seed, epoch) alone; the short
        rest is dropped.

        share (i, n): the i-th of n neighbouring parts of every batch, which together are the batch. repeats: copies of
        a sample, in an epoch that is as long as without (data/repeat.py). balanced: every class equally often.
        """
        labels = self.labels.numpy()[self.keep]
        drawn = balanced_order(labels, seed, epoch) if balanced else epoch_order(len(self), seed, epoch)
        order, copies = repeated_order(drawn, repeats, batch)
        places = [np.arange(i * batch, min((i + 1) * batch, len(order))) for i in range(start, self.steps(batch))]
        parts = [np.array_split(place, share[1])[share[0]] for place in places]
        for item, part, place in zip(
            self._batches([(order[p], copies[p], (seed, epoch)) for p in parts], workers), parts, places, strict=True
        ):
            yield replace(item, planned=len(part), whole=len(place))

    def steps(self, batch: int) -> int:
        """Batches in an epoch; a split smaller than a batch is one batch."""
        return max(1, len(self) // batch)

    def in_order(self, batch: int, workers: int = 0, *, only: np.ndarray | None = None) -> Iterator[Batch]:
        """All samples once (or those at the positions `only`), in order, the short rest included (evaluation)."""
        positions = np.arange(len(self)) if only is None else only
        starts = range(0, len(positions), batch)
        yield from self._batches([(positions[i : i + batch], None, None) for i in starts], workers)

    def _batches(self, wanted: list[Wanted], workers: int) -> Iterator[Batch]:
        """gather of each, in order."""
        if self.resident is not None or workers == 0:
            yield from (self.gather(*one) for one in wanted)
            return
        with ThreadPoolExecutor(
            workers
        ) as pool:  # PIL decodes without the GIL; threads leave no orphans and share the picture memory
            pending = [pool.submit(self.gather, *one) for one in wanted[: 2 * workers]]
            for i in range(len(wanted)):
                yield pending.pop(0).result()
                if i + 2 * workers < len(wanted):
                    pending.append(pool.submit(self.gather, *wanted[i + 2 * workers]))


def training_pictures(
    split: Split, side: int, background: tuple[int, int, int] = (255, 255, 255), decode: Decoding = "exact"
) -> Pictures:
    """A split for augment: squashed to side x side by torch's antialiased kernel (Pillow's to one level of 255).

    decode "scaled" or "cut": a JPEG is decoded at 1/2, 1/4 or 1/8 where both sides still have `side` pixels.
    """

    def ready(image: Image.Image) -> Square:
        return shrunk(image, side), image.width / image.height

    return Pictures(split, side, ready, background, need=None if decode == "exact" else lambda *size: (side, side))


def cut_pictures(split: Split, size: int, crop: Crop, background: tuple[int, int, int] = (255, 255, 255)) -> Pictures:
    """A split that is never kept: each epoch reads each picture and cuts its random crop of size x size out of it, the
    one that augment takes for the same (seed, epoch, sample). Only epoch() gives crops.
    """
    pictures = training_pictures(split, size, background, "scaled")
    pictures.crop = crop
    return pictures


def evaluation_pictures(split: Split, preprocess: Preprocess) -> Pictures:
    """A split prepared as prediction prepares its pictures: uint8 (3, resolution, resolution)."""

    def ready(image: Image.Image) -> Square:
        return torch.from_numpy(prepare(image, preprocess)).permute(2, 0, 1), 1.0

    return Pictures(split, preprocess.resolution, ready, preprocess.background, need=needed(preprocess))


def fits_in_memory(count: int, side: int, share: float = 0.4) -> bool:
    """Whether count pictures of side x side fit into this share of the memory that is free now."""
    return count * 3 * side * side <= share * free_bytes()


def free_bytes() -> int:
    """Free memory in bytes (Linux: MemAvailable, and the container's limit where there is one); 4 GiB where it can
    not be read.
    """
    free = 4 * 2**30
    meminfo, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if meminfo.exists():
        free = int(meminfo.read_text().split("MemAvailable:")[1].split()[0]) * 1024
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        free = min(free, int(text) - used)
    return max(free, 0)
