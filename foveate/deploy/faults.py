"""Why an exported file answers otherwise than its model: known faults are tried on the model until the answers agree.

The usual faults of a deployment are of the preprocessing: colours in another order, another mean, another resize. Each
is a small change of what the model is given, so that the change that makes both agree names the fault.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from foveate.config import replace
from foveate.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, prepare, resized_size

TOLERANCE = 5e-2  # of the largest logit: what two resizes that differ by a level give, as for an export
LEVEL = 2e-3  # of the same, in the median: below it there is nothing to explain
NEARER = 4  # times the median difference: a rounded file never agrees to the tolerance
DEAD = 0.2  # share of a tensor that is zero to its end; weights that were learnt are not

Logits = Callable[[Sequence[np.ndarray], Preprocess], np.ndarray]  # prepared uint8 (R, R, 3) -> float32 (N, K)


@dataclass(frozen=True)
class Difference:
    """How far two arrays of logits (N, K) agree."""

    top1_agreement: float  # share of pictures with the same class
    max_abs_diff: float
    median_abs_diff: float  # over pictures, of the largest difference of each
    scale: float  # largest logit of the model, at least 1: what the tolerance refers to

    @property
    def equal(self) -> bool:
        """Whether nothing is left to explain: single bytes of the resize."""
        return self.close and self.median_abs_diff <= LEVEL * self.scale

    @property
    def close(self) -> bool:
        """Whether the logits are the same but for rounding. False for NaN."""
        return self.max_abs_diff <= TOLERANCE * self.scale


def difference(file: np.ndarray, model: np.ndarray) -> Difference:
    """Of logits (N, K) of a file and of its model; infinite where the file's are not finite."""
    each = np.where(np.isfinite(file).all(1), np.abs(file - model).max(1), np.inf)
    same = np.isfinite(file).all(1) & (file.argmax(1) == model.argmax(1))
    return Difference(
        float(same.mean()), float(each.max()), float(np.median(each)), max(1.0, float(np.abs(model).max()))
    )


@dataclass(frozen=True)
class Change:
    """One way in which pictures may be prepared wrongly."""

    name: str  # as in "agrees after NAME"; "" for none
    pixels: Callable[[np.ndarray, Preprocess], np.ndarray] = prepare
    adapt: Callable[[Preprocess], Preprocess] = lambda p: p
    swapped: bool = False  # red and blue


NONE = Change("")


def without_antialias(picture: np.ndarray, p: Preprocess) -> np.ndarray:
    """prepare() from four neighbours a pixel, however much the picture shrinks: most libraries' default."""
    from PIL import Image

    height, width = picture.shape[:2]
    new = resized_size(width, height, p)
    matrix = (width / new[0], 0, 0, 0, height / new[1], 0)
    image = Image.fromarray(picture).transform(new, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return prepare(image, p)


def _with(**changes: object) -> Callable[[Preprocess], Preprocess]:
    return lambda p: replace(p, **changes)


def _scales(p: Preprocess) -> Iterator[Change]:
    """Other numbers for mean and std, for as many channels as there are."""
    n = p.channels
    known = {
        "pictures from 0 to 1 (no mean, no std)": ((0.0,) * n, (1.0,) * n),
        "pictures from -1 to 1 (mean and std 0.5)": ((0.5,) * n, (0.5,) * n),
        "mean and std of ImageNet": (IMAGENET_MEAN, IMAGENET_STD),
        "the mean alone, without the std": (p.mean, (1.0,) * n),
        "the std alone, without the mean": ((0.0,) * n, p.std),
        "mean and std in the order blue, green, red": (p.mean[::-1], p.std[::-1]),
    }
    for name, (mean, std) in known.items():
        if len(mean) == n and (mean, std) != (p.mean, p.std):
            yield Change(f"taking {name}", adapt=_with(mean=mean, std=std))


def _resizes(p: Preprocess) -> Iterator[Change]:
    """Another way to the right size."""
    ways = {"crop": "resizing and cutting", "squash": "squashing to a square", "letterbox": "adding bars"}
    for fit, kernel in itertools.product(("crop", "squash", "letterbox"), ("bilinear", "bicubic")):
        if (fit, kernel) != (p.fit, p.kernel):
            yield Change(f"{ways[fit]}, {kernel}", adapt=_with(fit=fit, kernel=kernel))
    for fit in dict.fromkeys((p.fit, "squash")):
        yield Change(f"{ways[fit]}, bilinear without antialias", without_antialias, _with(fit=fit))
    if p.fit == "crop" and p.resize > p.resolution:
        yield Change("resizing without cutting a border off", adapt=_with(resize=p.resolution))


def changes(p: Preprocess) -> Iterator[tuple[Change, Change, Change]]:
    """(colours, scale, resize): every single fault first, then two and three together."""
    colours = [NONE] + ([Change("swapping red and blue", swapped=True)] if p.channels == 3 else [])
    found = list(itertools.product(colours, [NONE, *_scales(p)], [NONE, *_resizes(p)]))
    return iter(sorted(found[1:], key=count_of))


def count_of(three: tuple[Change, Change, Change]) -> int:
    """How many faults these are."""
    return sum(bool(one.name) for one in three)


def named_fault(file: np.ndarray, pictures: Sequence[np.ndarray], p: Preprocess, logits: Logits) -> str | None:
    """ "agrees after swapping red and blue", or None where no known change of the preprocessing explains the file.

    file: its logits (N, K) of decoded pictures uint8 (H, W, 3); logits: the model's, of prepared pictures.
    """
    plain = difference(file, logits([prepare(x, p) for x in pictures], p))
    best, name = plain, ""
    for count, several in itertools.groupby(changes(p), key=count_of):
        if (name and best.close) or (count > 1 and plain.close):
            break  # what explains it needs no further fault; a small difference has no two
        for three in several:
            colours, scale, resize = three
            adapted = scale.adapt(resize.adapt(p))
            seen = [resize.pixels(x, adapted) for x in pictures]
            got = difference(file, logits([x[..., ::-1] if colours.swapped else x for x in seen], adapted))
            explains = (got.close and not plain.close) or got.median_abs_diff * NEARER < plain.median_abs_diff
            if explains and got.median_abs_diff < best.median_abs_diff:
                best, name = got, " and ".join(one.name for one in three if one.name)
    if not name:
        return None
    return f"agrees after {name}" if best.close else f"comes nearest after {name}, and does not agree"


def class_order(file: np.ndarray, model: np.ndarray) -> tuple[int, ...] | None:
    """The model's class at each place of the file, where the file's logits (N, K) are the model's in another order."""
    apart = np.array([np.median(np.abs(model - column[:, None]), axis=0) for column in file.T])
    order = apart.argmin(1)
    if len(set(order.tolist())) < len(order) or (order == np.arange(len(order))).all():
        return None
    return tuple(order.tolist()) if _explains(file, model, model[:, order]) else None


def _explains(file: np.ndarray, model: np.ndarray, other: np.ndarray) -> bool:
    plain, got = difference(file, model), difference(file, other)
    return got.close or got.median_abs_diff * NEARER < plain.median_abs_diff


def cut_off(data: bytes) -> str | None:
    """ "the weights "fc.weight" are zero from 40 % on" of an ONNX file, the worst tensor; None where none are."""
    import onnx
    from onnx import numpy_helper

    worst, text = DEAD, None
    for tensor in onnx.load_model_from_string(data).graph.initializer:
        values = numpy_helper.to_array(tensor).ravel()
        used = np.flatnonzero(values)
        start = (int(used[-1]) + 1) / values.size if used.size else 0.0
        if values.size >= 64 and len(tensor.dims) > 1 and 1 - start >= worst:
            worst, text = 1 - start, f'the weights "{tensor.name}" are zero from {100 * start:.0f} % on: cut off'
    return text


def still(file: np.ndarray) -> str | None:
    """What is wrong with logits (N, K) by themselves: not finite, or the same for every picture."""
    if not np.isfinite(file).all():
        return "its answers are not finite: weights are damaged, or numbers of low precision overflow"
    if len(file) > 1 and float(np.ptp(file, axis=0).max()) <= 1e-6 * max(1.0, float(np.abs(file).max())):
        return "it answers the same for every picture: weights or input are lost"
    return None
