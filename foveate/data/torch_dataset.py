"""DATA as a torch Dataset: the same pictures, classes and splits that every command sees, for a loop of one's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar, cast, overload

import numpy as np
import torch
from PIL import Image

from foveate.data.index import open_data
from foveate.data.read.decode import decode
from foveate.errors import ConfigError

T = TypeVar("T")


class Dataset(torch.utils.data.Dataset[tuple[T, int]], Generic[T]):
    """The pictures of one split, each as (transform(picture), class index).

    data: a folder of class folders (or train/ val/ test/), a CSV path,label[,split,group], "digits" or "clothes".
    split: "train", "val" or "test"; what DATA has not is cut from train, stratified, with the seed, as fit cuts it; or
    "all". transform: a function of a PIL image (RGB, upright); None: the PIL image itself. seed, bad_files,
    follow_links: as in fit. Pictures are decoded when they are asked for.
    Raises DataError where the data can not be used, ConfigError for a split that there is not.

        model = fv.load("runs/photos-1")
        val = fv.Dataset("photos", split="val", transform=model.preprocess)
        for x, y in torch.utils.data.DataLoader(val, batch_size=32): ...   # x float32 (32, 3, R, R), y int64 (32,)
    """

    @overload
    def __init__(
        self: "Dataset[Image.Image]",
        data: str | Path,
        split: str = ...,
        transform: None = None,
        *,
        seed: int = ...,
        bad_files: str = ...,
        follow_links: bool = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        data: str | Path,
        split: str = ...,
        transform: Callable[[Image.Image], T] = ...,
        *,
        seed: int = ...,
        bad_files: str = ...,
        follow_links: bool = ...,
    ) -> None: ...
    def __init__(
        self,
        data: str | Path,
        split: str = "train",
        transform: Callable[[Image.Image], T] | None = None,
        *,
        seed: int = 0,
        bad_files: str = "stop",
        follow_links: bool = False,
    ) -> None:
        found = open_data(data, seed=seed, bad_files=bad_files, follow_links=follow_links)
        if split != "all" and split not in found.splits:
            raise ConfigError(f'split = "{split}": {found.name} has {", ".join(found.splits)}; "all" takes all of them')
        parts = list(found.splits.values()) if split == "all" else [found.splits[split]]
        self.name, self.split, self.transform = found.name, split, transform
        self.classes: tuple[str, ...] = found.classes  # in the order of the indices
        self.targets: tuple[int, ...] = tuple(label for part in parts for label in part.labels)
        self.paths: tuple[str, ...] = tuple(path for part in parts for path in part.paths)
        pixels = [part.pixels for part in parts if part.pixels is not None]
        self._pixels = np.concatenate(pixels) if pixels else None

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Index of a class by its name, as torchvision's folders have it."""
        return {name: i for i, name in enumerate(self.classes)}

    def picture(self, i: int) -> Image.Image:
        """The decoded picture, before the transform. BadImage where the file is damaged."""
        return Image.fromarray(decode(self.paths[i]) if self._pixels is None else self._pixels[i])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[T, int]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"{i}: {self.name} has {len(self):,} pictures in {self.split}")
        picture = self.picture(i)
        return (cast(T, picture) if self.transform is None else self.transform(picture)), self.targets[i]

    def __repr__(self) -> str:
        return f"<Dataset {self.name} {self.split}: {len(self):,} pictures of {len(self.classes):,} classes>"
