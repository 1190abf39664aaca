"""What a model folder knows of how far its answers hold: a scaling of the logits, limits for "unknown" and for sets of
classes, and known features. Records and arithmetic, no torch: exported files are answered by the same lines.

The fits are foveate.trust's; here is what is stored, and what becomes of one picture's logits and features.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from foveate.config import record
from foveate.errors import ConfigError, WeightsError
from foveate.train.familiarity import Familiarity, nearest_distance, unit

MAX_KNOWN, MAX_SIZE, MAX_USUAL = 4_000, 256, 4_000  # features, numbers of each, validation pictures: as files may have
MAX_FEATURES = 65_536  # numbers of a feature before the projection
MAX_BYTES = 64 * 2**20  # of trust.safetensors

Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0.0, lt=1.0, allow_inf_nan=False)]
Numbers = Annotated[tuple[Finite, ...], Field(min_length=1, max_length=65_536)]
Table = Annotated[tuple[tuple[Share, Finite | None], ...], Field(max_length=100)]


@record
class Trust:
    """The part "trust" of config.json, and the metadata "trust" of an exported file.

    keep and sets are tables of (share, limit), ascending: the strangeness that a share of the validation pictures does
    not pass; the 1 - probability up to which a class is in a set that holds the right one in that share. None: there
    were too few pictures, nothing is limited. Empty: not fitted.
    """

    kind: Literal["none", "temperature", "vector"] = "none"
    scale: Numbers = (1.0,)  # one, or one a class: logits are multiplied by it
    shift: Numbers = (0.0,)  # and this is added
    pictures: Annotated[int, Field(ge=0)] = 0  # of validation, that all of it was fitted on
    keep: Table = ()
    sets: Table = ()
    features_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None  # of trust.safetensors
    note: Annotated[str, Field(max_length=1024)] = ""  # what was not fitted, and why

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(N, K) -> float64 (N, K): softmax of the scaled logits."""
        z = self.scaled(logits)
        e = np.exp(z - z.max(1, keepdims=True))
        return np.asarray(e / e.sum(1, keepdims=True), np.float64)

    def scaled(self, logits: np.ndarray) -> np.ndarray:
        """(N, K) -> float64 (N, K): logits whose softmax are the probabilities."""
        return np.asarray(logits.astype(np.float64) * np.array(self.scale) + np.array(self.shift), np.float64)

    @property
    def temperature(self) -> float:
        """1 over the mean scale."""
        return 1.0 / float(np.mean(self.scale))


PLAIN = Trust()  # of a model that knows nothing: softmax of the logits


def check_trust(trust: Trust, classes: int, what: str) -> None:
    """ConfigError where the scaling is not for that many classes, or a table does not rise with its shares."""
    for name, numbers in (("scale", trust.scale), ("shift", trust.shift)):
        if len(numbers) not in (1, classes):
            raise ConfigError(f"{what}: trust.{name} has {len(numbers):,} numbers; expected 1 or {classes:,}")
    if any(number <= 0 for number in trust.scale) and trust.kind != "vector":
        raise ConfigError(f"{what}: trust.scale {min(trust.scale):g}: expected above 0")
    for name, table in (("keep", trust.keep), ("sets", trust.sets)):
        shares = [share for share, _ in table]
        limits = [np.inf if limit is None else limit for _, limit in table]
        if sorted(set(shares)) != shares or sorted(limits) != limits:
            raise ConfigError(f"{what}: trust.{name}: expected shares and limits that rise")


def limit_of(table: Sequence[tuple[float, float | None]], share: float, option: str) -> float:
    """The limit for a share: that of the next share in the table which is not smaller. inf: nothing is limited.

    ConfigError where the model was not fitted for it.
    """
    if not table:
        raise ConfigError(
            f"{option} {share:g}: this model was not fitted for it; models that foveate trains on 20 validation "
            "pictures or more are"
        )
    for known, limit in table:
        if share <= known + 1e-9:
            return np.inf if limit is None else limit
    raise ConfigError(f"{option} {share:g}: expected a share up to {table[-1][0]:g}")


@dataclass(frozen=True, eq=False)
class Known:
    """trust.safetensors: known features and what is usual among validation pictures."""

    axes: np.ndarray  # float16 (D, P): where most of the directions of training features lie
    features: np.ndarray  # float16 (M, P): their directions there, of length 1
    distances: np.ndarray  # float32 (n,) ascending
    doubts: np.ndarray  # float32 (n,) ascending: 1 - the largest probability
    sums: np.ndarray | None = None  # float32 (n,) ascending: of both (Familiarity); None in older files

    def distance(self, features: np.ndarray) -> np.ndarray:
        """(N,): 1 - the cosine of features (N, D) to their 10th nearest known one, where that is along the axes alone.

        What of a feature lies beside the axes counts as distance: with their directions along the axes alone, strangers
        could not be told (.997 of them are told, .67 without it: docs/trust.md).
        """
        inside = unit(features) @ self.axes.astype(np.float32)
        return nearest_distance(unit(self.features), inside)

    def strangeness(self, features: np.ndarray, confidence: np.ndarray) -> np.ndarray:
        """(N,): Familiarity.strangeness of features (N, D) and largest probabilities (N,)."""
        return self.usual.strangeness(self.distance(features), confidence)

    @cached_property
    def usual(self) -> Familiarity:
        """Of the validation pictures."""
        sums = None if self.sums is None else self.sums.astype(np.float64)
        return Familiarity(self.distances.astype(np.float64), self.doubts.astype(np.float64), sums)


def known_bytes(known: Known) -> bytes:
    """The bytes of trust.safetensors; equal ones for equal numbers."""
    from safetensors.numpy import save

    held = {name: getattr(known, name) for name in sorted(SHAPES)}
    return save({name: np.ascontiguousarray(value) for name, value in held.items() if value is not None})


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


SHAPES: Mapping[str, tuple[int, np.dtype]] = {  # name -> dimensions, type
    "axes": (2, np.dtype(np.float16)),
    "features": (2, np.dtype(np.float16)),
    "distances": (1, np.dtype(np.float32)),
    "doubts": (1, np.dtype(np.float32)),
    "sums": (1, np.dtype(np.float32)),
}
LATER = {"sums"}  # what older files lack


def known_from(tensors: Mapping[str, np.ndarray], what: str) -> Known:
    """Known features from a file's arrays. WeightsError where one is missing, too many, or can not be."""
    if not set(SHAPES) - LATER <= set(tensors) <= set(SHAPES):
        raise WeightsError(f"{what}: holds {sorted(tensors)[:8]}; expected {sorted(SHAPES)}")
    for name, array in tensors.items():
        dimensions, kind = SHAPES[name]
        if array.ndim != dimensions or array.dtype != kind or not array.size or not np.isfinite(array).all():
            raise WeightsError(f"{what}: {name} is {array.dtype} {array.shape}: expected finite {kind}, not empty")
    known = Known(**tensors)
    (d, p), (m, q) = known.axes.shape, known.features.shape
    sizes = {"axes": d <= MAX_FEATURES and p <= MAX_SIZE, "features": p == q and m <= MAX_KNOWN}
    for name in {"distances", "doubts", "sums"} & set(tensors):
        usual = tensors[name]
        sizes[name] = 2 <= len(usual) <= MAX_USUAL and bool((np.diff(usual) >= 0).all())
    if wrong := [name for name, right in sizes.items() if not right]:
        raise WeightsError(f"{what}: {wrong[0]} {tensors[wrong[0]].shape}: does not fit the others, or is no such part")
    return known
