"""From JPEG files to normalised training batches (N, 3, 224, 224): foveate beside torchvision and timm.

    OMP_NUM_THREADS=1 python scripts/benchmarks/input.py FOLDER [--count 80] [--repeats 9]

One process, one thread. Set A: photographs of FOLDER with 0.15 to 0.30 megapixels, as they are. Set B: the same
enlarged 3 x per side (bicubic), quality 90, 4:2:0. Every path does the same batches of 16 in turn, so that a busy
machine slows all of them; the figure of a path is the median over the repeats of its CPU seconds, the ratio that of
torchvision's to it in the same repeat. Random resized crop (area 8 to 100 %), flip, normalise; files come from the page
cache. Freed memory stays with the process for all paths, so that what is timed is not the kernel handing out pages.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from memory import keep_memory
from PIL import Image

from foveate.data.augment import COLUMNS, augment
from foveate.data.index import Split
from foveate.data.load import Crop, Pictures, cut_pictures, training_pictures
from foveate.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, normalise_own
from foveate.data.random import uniforms
from foveate.train.recipe import Augment

SIZE, STORE, SMALLEST, BATCH = 224, 256, 0.08, 16
Way = Callable[[np.ndarray, int], torch.Tensor]  # positions and repeat -> a batch


def make_sets(folder: Path, count: int, into: Path) -> dict[str, list[str]]:
    """The files of set A and of set B."""
    sets: dict[str, list[str]] = {"A": [], "B": []}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg")):
        image = Image.open(path)
        if len(sets["A"]) == count or not 1.5e5 <= image.width * image.height <= 3e5:
            continue
        sets["A"].append(str(path))
        large = into / f"{len(sets['A']):04}.jpg"
        data = BytesIO()
        size = (3 * image.width, 3 * image.height)
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(data, "JPEG", quality=90, subsampling="4:2:0")
        large.write_bytes(data.getvalue())
        sets["B"].append(str(large))
    if not sets["A"]:
        raise SystemExit(f"{folder}: no JPEG of 0.15 to 0.30 megapixels")
    return sets


def theirs(transform: Callable[[Image.Image], torch.Tensor], files: Sequence[str]) -> Way:
    """torchvision's ImageFolder loader, a transform and the collation of DataLoader."""

    def load(path: str) -> Image.Image:
        with open(path, "rb") as file:
            return Image.open(file).convert("RGB")

    return lambda places, _: torch.stack([transform(load(files[i])) for i in places])


def ours(pictures: Pictures, changes: Augment) -> Way:
    """Pictures, augment and normalise_own, as the training loop calls them."""
    preprocess = Preprocess(resolution=SIZE)

    def batch(places: np.ndarray, repeat: int) -> torch.Tensor:
        item = pictures.gather(places, key=(0, repeat))
        u = uniforms(0, repeat, item.samples, COLUMNS)
        return normalise_own(augment(item.pictures, item.aspect, u, SIZE, changes), preprocess)

    return batch


def paths_for(files: list[str]) -> dict[str, Way]:
    """Every way from these files to a batch, by its name in the table; the first one is the measure."""
    from timm.data import create_transform
    from torchvision import transforms

    steps = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    torchvision = transforms.Compose([*steps, transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    plain = create_transform(SIZE, is_training=True, color_jitter=None, interpolation="bilinear")
    split = Split(tuple(files), (0,) * len(files))
    crop = Augment(crop=SMALLEST)
    at_size, at_store = Crop(SMALLEST, 0.0, 0), Crop(SMALLEST, 0.0, STORE)
    return {
        "PIL + torchvision transforms": theirs(torchvision, files),
        "PIL + timm transforms (no colour jitter)": theirs(plain, files),
        "ours, exact": ours(training_pictures(split, STORE), crop),
        "ours, scaled": ours(training_pictures(split, STORE, decode="scaled"), crop),
        "ours, cut: as sharp as the crop asks": ours(cut_pictures(split, SIZE, at_size), Augment()),
        "ours, cut: as sharp as stored squares": ours(cut_pictures(split, SIZE, at_store), Augment()),
    }


def measure(paths: dict[str, Way], count: int, repeats: int) -> dict[str, list[float]]:
    """CPU milliseconds a picture of every path in every repeat."""
    found: dict[str, list[float]] = {name: [] for name in paths}
    for repeat in range(repeats + 1):
        used = dict.fromkeys(paths, 0.0)
        for start in range(0, count, BATCH):
            places = np.arange(start, min(start + BATCH, count))
            for name, path in paths.items():
                begun = time.process_time()
                batch = path(places, repeat)
                used[name] += time.process_time() - begun
                assert batch.shape == (len(places), 3, SIZE, SIZE) and batch.dtype == torch.float32
        if repeat:  # the first one warms up
            for name, seconds in used.items():
                found[name].append(1000 * seconds / count)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    with tempfile.TemporaryDirectory() as temporary:
        for name, files in make_sets(options.folder, options.count, Path(temporary)).items():
            pixels = [np.prod(Image.open(f).size) / 1e6 for f in files]
            size = statistics.mean(os.path.getsize(f) for f in files) / 1000
            print(f"set {name}: {len(files)} JPEGs, mean {statistics.mean(pixels):.2f} megapixels, {size:.0f} kB")
            found = measure(paths_for(files), len(files), options.repeats)
            first = next(iter(found.values()))
            for path, times in found.items():
                ratio = [a / b for a, b in zip(first, times, strict=True)]
                low, middle, high = min(ratio), statistics.median(ratio), max(ratio)
                print(f"  {statistics.median(times):6.2f} ms  {middle:5.2f} ({low:.2f} to {high:.2f})  {path}")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
