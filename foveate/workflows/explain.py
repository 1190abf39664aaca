"""foveate explain: where a model looks in pictures, and whether that place matters to it."""

import re
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from foveate.config import near
from foveate.data.preprocess import normalise, prepare
from foveate.data.read.decode import opened
from foveate.data.read.formats import shown
from foveate.deploy.answer import ranked
from foveate.deploy.classifier import Classifier, load
from foveate.errors import ConfigError, DataError
from foveate.files import free_name, write_bytes
from foveate.trust.heat import METHODS, heat
from foveate.trust.occlusion import LEAST_SIDE, check
from foveate.trust.overlay import LONGEST, on_picture, overlay


def explain(
    model: str | Path,
    pictures: Iterable[str],
    *,
    label: str | None = None,
    method: str = "auto",
    out: str | Path | None = None,
    runs: str | Path = "runs",
    seed: int = 0,
) -> dict[str, Any]:
    """A map, an overlay and an occlusion check for each picture; written as PNG into a folder.

    label: the class that is explained; None: the most likely one. method: "auto" or a name of METHODS (trust/heat.py).
    Returns {"model", "folder", "pictures": rows}; the row of a bad picture holds "path" and "error".
    """
    if method not in ("auto", *METHODS):
        raise ConfigError(f'method "{method}": {near(method, ("auto", *METHODS))}')
    classifier = load(model)
    if label is not None and label not in classifier.classes:
        raise ConfigError(f'class "{shown(label)}": {near(label, classifier.classes)}')
    folder = None if out is None else Path(out)
    rows: list[dict[str, Any]] = []
    for path in pictures:
        try:
            row, picture = _one(classifier, path, label, method, seed)
        except DataError as error:
            rows.append({"path": path, "error": str(error)})
            continue
        folder = folder or free_name(runs, "explain")
        folder.mkdir(parents=True, exist_ok=True)
        file = _free(folder, path)
        write_bytes(file, _png(picture))
        rows.append({**row, "overlay": str(file)})
    return {"model": str(model), "folder": None if folder is None else str(folder), "pictures": rows}


def _one(c: Classifier, path: str, label: str | None, method: str, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """(row, overlay) of a picture."""
    p = c.preprocess
    with opened(path, background=p.background) as image:
        square = prepare(image, p)
        image.thumbnail((LONGEST, LONGEST), Image.Resampling.BILINEAR, reducing_gap=3.0)
        pixels = np.array(image)
    device = next(c.model.parameters()).device
    x = normalise(torch.from_numpy(square).permute(2, 0, 1)[None].to(device), p)
    wanted = None if label is None else torch.tensor([c.classes.index(label)], device=device)
    found = heat(c.model, x, wanted, method)
    cls = int(found.logits[0].argmax()) if label is None else c.classes.index(label)
    values = found.values[0].float().cpu()
    if not bool(torch.isfinite(values).all()):
        raise DataError(f"{shown(path)}: the map is not finite; the model's numbers overflow")
    test = check(c.model, x[0], cls, values, seed)
    answers = ranked(found.logits[0].float().cpu().numpy(), c.classes, len(c.classes), c.trust)
    probability = dict(answers)[c.classes[cls]]
    laid, seen = on_picture(values.numpy(), pixels.shape[1], pixels.shape[0], p)
    row = {
        "path": path,
        "label": c.classes[cls],
        "probability": probability,
        "method": found.method,
        "exact": found.exact and found.method == "cam",
        "drop": round(test.marked, 6),
        "drop_random": round(test.random, 6),
        "matters": test.matters,
        "verdict": _verdict(values, test.matters),
        "map": [[float(f"{v:.6g}") for v in line] for line in values.tolist()],
    }
    return row, overlay(pixels, laid, seen)


def _verdict(values: torch.Tensor, matters: bool) -> str:
    """What the map is worth, in words."""
    if min(values.shape) < LEAST_SIDE:
        return f"the last map has {values.shape[0]} x {values.shape[1]} cells: too coarse to say where"
    if float(values.max()) <= 0:
        return "no region speaks for this class"
    return "the marked region matters" if matters else "means little: a random region matters as much"


def _free(folder: Path, path: str) -> Path:
    """NAME.png in the folder, NAME-2.png where it is taken: nothing is overwritten."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(path).stem)[:80].strip(".") or "picture"
    numbers = (f"{stem}.png" if n == 1 else f"{stem}-{n}.png" for n in range(1, 1_000_000))
    return next(folder / name for name in numbers if not (folder / name).exists())


def _png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
