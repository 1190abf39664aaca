"""Trees of small pictures in the layouts that people bring, made from a few words."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image


def picture_bytes(seed: int) -> bytes:
    """A PNG of noise; another seed gives another picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def grow(root: Path, *words: str) -> Path:
    """ "train/cat:3" is three pictures in root/train/cat; "src/main.py" is a text file; "empty/" an empty folder."""
    seed = 0
    root.mkdir(parents=True, exist_ok=True)
    for word in words:
        folder, _, count = word.rpartition(":") if ":" in word else (word, "", "")
        path = root / folder
        if count:
            path.mkdir(parents=True, exist_ok=True)
            for i in range(int(count)):
                seed += 1
                (path / f"{i}.png").write_bytes(picture_bytes(seed))
        elif word.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("text\n")
    return root


def found(root: Path) -> dict[str, dict[str, int]]:
    """split -> class -> files of the listing."""
    from foveate.data.gate.layout import read_folder

    table: dict[str, dict[str, int]] = {}
    for item in read_folder(root).items:
        labels = table.setdefault(item.split, {})
        labels[item.label] = labels.get(item.label, 0) + 1
    return table


def question(root: Path) -> str:
    """The one line with which opening these data stops."""
    import pytest

    from foveate.data.index import open_data
    from foveate.errors import DataError

    with pytest.raises(DataError) as error:
        open_data(root)
    line = str(error.value)
    assert "\n" not in line and error.value.exit_code == 3
    return line.replace(os.fspath(root), "X")
