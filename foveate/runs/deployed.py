"""An exported file judged on real pictures beside the model that it was made from, and the likely fault named."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.data.labelled import open_labelled
from foveate.data.preprocess import prepare
from foveate.data.read.formats import BadImage, shown
from foveate.deploy import faults
from foveate.deploy.exported import Exported, load_exported
from foveate.errors import ConfigError, DataError
from foveate.runs.judged import check_classes
from foveate.train.intervals import wilson

if TYPE_CHECKING:
    from foveate.deploy.classifier import Classifier

PICTURES, TRIED = 256, 48  # compared, and tried with every change of the preprocessing


def check_deployed(
    file: str | Path,
    data: str | Path,
    *,
    model: str | Path | None = None,
    split: str | None = None,
    pictures: int = PICTURES,
    follow_links: bool = False,
    threads: int = 1,
) -> dict[str, Any]:
    """Parity and accuracy of a .onnx or .xml file on up to `pictures` labelled pictures, spread evenly over the split.

    model: the model folder that it was made from; else the one in which the file lies. Without one only the accuracy
    and the file itself are looked at. The keys are those of docs/json.md. "fault" is one sentence, None where the file
    does what its model does.
    Raises WeightsError where the file can not be opened, DataError where there is no picture.
    """
    exported = load_exported(file, threads=threads)
    folder = Path(model) if model is not None else _beside(Path(file))
    images, labels, judged = _pictures(exported, data, split, pictures, follow_links)
    logits = np.concatenate([exported.session.run(image[None]) for image in images])
    right = int((np.isfinite(logits).all(1) & (logits.argmax(1) == labels)).sum())
    fault = faults.still(logits)
    found: dict[str, Any] = {
        "file": str(file),
        "model": None if folder is None else str(folder),
        "judged": judged,
        "n": len(images),
        "accuracy": right / len(images),
        "interval": list(wilson(right, len(images))),
        "model_accuracy": None,
        "top1_agreement": None,
        "max_abs_diff": None,
        "median_abs_diff": None,
        "tolerance": None,
    }
    if folder is not None:
        told, why = _compared(exported, folder, images, labels, logits)
        found |= told
        fault = fault or why
    if Path(file).suffix.lower() == ".onnx" and (fault is not None or folder is None):
        cut = faults.cut_off(Path(file).read_bytes())
        fault = fault if cut is None else cut
    return found | {"agrees": fault is None if folder is not None else None, "fault": fault}


def _compared(
    exported: Exported, folder: Path, images: list[np.ndarray], labels: np.ndarray, logits: np.ndarray
) -> tuple[dict[str, Any], str | None]:
    """(the keys that need the model, the fault or None)."""
    from foveate.deploy import classifier
    from foveate.deploy.parity import torch_logits

    net: Classifier = classifier.load(classifier.find_folder(folder))
    if set(net.classes) != set(exported.classes):
        raise ConfigError(f"{folder}: {len(net.classes)} classes, the file has {len(exported.classes)}, or other names")
    place = [net.classes.index(name) for name in exported.classes]
    net.model.eval()

    def run(prepared: Any, p: Any) -> np.ndarray:
        import torch

        with torch.inference_mode():
            parts = [prepared[i : i + 16] for i in range(0, len(prepared), 16)]
            return np.concatenate([torch_logits(net.model, p, part) for part in parts])[:, place]

    p = net.preprocess
    expected = run([prepare(image, p) for image in images], p)
    apart = faults.difference(logits, expected)
    told = {
        "model_accuracy": float((expected.argmax(1) == labels).mean()),
        "top1_agreement": apart.top1_agreement,
        "max_abs_diff": apart.max_abs_diff if np.isfinite(apart.max_abs_diff) else None,
        "median_abs_diff": apart.median_abs_diff if np.isfinite(apart.median_abs_diff) else None,
        "tolerance": faults.TOLERANCE * apart.scale,
    }
    if apart.equal or faults.still(logits) is not None:
        return told, None
    if not apart.close and (order := faults.class_order(logits, expected)) is not None:
        where = next(i for i, k in enumerate(order) if i != k)
        names = f'"{exported.classes[order[where]]}" stands where "{exported.classes[where]}" is expected'
        return told, f"agrees with the classes in another order: {shown(names)}"
    some = np.unique(np.linspace(0, len(images) - 1, min(TRIED, len(images))).round().astype(int))
    named = faults.named_fault(logits[some], [images[i] for i in some], p, run)
    if named is None and apart.close:
        return told, None
    if named is None and "int8" in str(exported.session.metadata.get("precision", "")) and apart.top1_agreement >= 0.95:
        return told, None  # rounding: its logits differ, its answers hardly
    return told, named or "no known change of the preprocessing explains it: other weights, or another network"


def _beside(file: Path) -> Path | None:
    """The model folder in which a file lies: itself, or best/ beside it."""
    places = (file.parent, file.parent / "best")
    return next((place for place in places if (place / "config.json").is_file()), None)


def _pictures(
    exported: Exported, data: str | Path, split: str | None, count: int, follow_links: bool
) -> tuple[list[np.ndarray], np.ndarray, str]:
    """(decoded pictures, labels in the file's order, which they are); what can not be read is passed over."""
    from foveate.data.read.decode import decode

    labelled = open_labelled(data, split, bad_files="skip", follow_links=follow_links)
    check_classes(labelled, exported.classes, data)
    samples, images, kept = labelled.samples, list[np.ndarray](), list[int]()
    for i in np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)).tolist():
        try:
            images.append(decode(samples.paths[i]) if samples.pixels is None else samples.pixels[i])
        except BadImage:
            continue
        kept.append(exported.classes.index(labelled.classes[samples.labels[i]]))
    if not images:
        raise DataError(f"{shown(str(data))}: no picture can be read")
    return images, np.array(kept), f"{len(images):,} pictures of {shown(labelled.what)}"
