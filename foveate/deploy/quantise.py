"""An exported ONNX classifier in int8 for ONNX Runtime: the same file with pairs of QuantizeLinear and
DequantizeLinear (QDQ), weights signed and per channel, activations unsigned, preprocessing as it was. Weights have 8
bits where the processor sums products of bytes exactly, else 7 (processor.py).

Where the whole network in int8 answers too differently, the nodes that do the most damage stay float.
"""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from foveate.data.preprocess import LUMINANCE, Preprocess, prepare
from foveate.deploy.graph import INPUT
from foveate.deploy.processor import HOLDS, KEY, Bits, bits_here
from foveate.deploy.runtime import Session, checked_model, first_line, open_session
from foveate.errors import ConfigError, DataError, FoveateError

if TYPE_CHECKING:
    from onnx import ModelProto

Method = Literal["minmax", "entropy", "percentile"]
METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
WEIGHTED = ("Conv", "Gemm", "MatMul")  # where the time goes; each is tried alone when damage is measured
# Those, and what lies between them and would else go back to float. Not Mul: gates of squeeze-and-excitation take
# the range of two tensors, and cost time and accuracy in int8.
OPERATORS = (
    *WEIGHTED,
    *("Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat"),
    *("Reshape", "Flatten", "Transpose", "Pad"),
)
TRIALS = 100  # nodes that are tried alone, the costliest first

Told = Callable[[str], None]


@dataclass(frozen=True)
class Quantised:
    """An int8 file, and how far it is from the float file on the n calibration pictures."""

    data: bytes
    excluded: tuple[str, ...]  # nodes that stayed float, the worst first
    agreement: float  # share of pictures with the same class
    logit_error: float  # root of the mean square difference of logits, of the logits' own
    n: int


def quantise(
    onnx: bytes,
    pictures: Sequence[np.ndarray],
    *,
    method: Method = "minmax",
    min_agreement: float = 0.99,
    threads: int = 1,
    told: Told = lambda text: None,
    bits: Bits | None = None,
) -> Quantised:
    """The int8 file of one that export_onnx wrote; calibrated on decoded pictures uint8 (H, W, 3) of any sizes.

    They go through the file's own preprocessing; 128 to 512 of the training split are the usual number. method: how
    the ranges of activations are found. Where fewer than min_agreement of the pictures keep their class, every
    convolution and matrix product is quantised alone, and the 1, 2, 4, ... that change the logits most stay float,
    until enough pictures keep it or half of the nodes are float; then the best of these is returned.
    bits: of weights; None: what suits this processor. 7 hold on any; the file says which (metadata "int8_weights").
    The same pictures give the same bytes. DataError without pictures; FoveateError where onnxruntime fails.
    """
    if method not in METHODS:
        raise ConfigError(f'method "{method}": expected one of {", ".join(METHODS)}')
    pictures = checked(pictures)
    with _quiet():
        graph = _Graph(onnx, pictures, method, threads, bits or bits_here())
        best = graph.whole()
        if best.agreement >= min_agreement:
            return best
        told(f"int8 keeps the class of {best.agreement:.1%} of {best.n} pictures: looking for the layers that hurt")
        order = graph.worst_first(told)
        count = 1
        while count <= len(order) // 2:
            found = graph.whole(tuple(order[:count]))
            if (found.agreement, -found.logit_error) > (best.agreement, -best.logit_error):
                best = found
            if found.agreement >= min_agreement:
                return found
            count *= 2
        return best


def damages(
    onnx: bytes, pictures: Sequence[np.ndarray], *, method: Method = "minmax", threads: int = 1
) -> dict[str, float]:
    """Error of the logits (as Quantised.logit_error) when one convolution or matrix product alone is int8, by node."""
    pictures = checked(pictures)
    with _quiet():
        graph = _Graph(onnx, pictures, method, threads, bits_here())
        return {name: graph.alone(name) for name in graph.weighted()}


def checked(pictures: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """The pictures; DataError where there are none, or one is not uint8 (H, W, 3)."""
    if not len(pictures):
        raise DataError("int8 is calibrated on pictures, and none are given; give --data DATA or --pictures DIR")
    for picture in pictures:
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise DataError(f"a calibration picture is {picture.dtype} {picture.shape}: expected uint8 (H, W, 3)")
    return pictures


def ready(picture: np.ndarray, p: Preprocess) -> np.ndarray:
    """A decoded picture as the network sees it: float32 (1, C, R, R), normalised as in the exported graph."""
    mean, std = (np.array(v, np.float64).reshape(1, -1, 1, 1) for v in (p.mean, p.std))
    x = prepare(picture, p).transpose(2, 0, 1)[None].astype(np.float32)
    if p.channels == 1:
        x = (x * np.array(LUMINANCE, np.float32).reshape(1, 3, 1, 1)).sum(1, keepdims=True)
    y: np.ndarray = x * (1 / (255 * std)).astype(np.float32) + (-mean / std).astype(np.float32)
    return y


class _Graph:
    """A float model with the ranges of its activations, from which int8 models are made."""

    def __init__(self, onnx: bytes, pictures: Sequence[np.ndarray], method: str, threads: int, bits: Bits):
        from onnx import shape_inference

        model = checked_model(onnx)[0]
        self.pictures, self.threads, self.bits = pictures, threads, bits
        self.float_logits = _logits(open_session(onnx, threads), pictures)
        self.model = shape_inference.infer_shapes(model)
        self.names = [n.name for n in self.model.graph.node if not n.name.startswith("image/")]
        self.before = [n.name for n in self.model.graph.node if n.name.startswith("image/")]
        try:
            self.ranges = _ranges(self.model, pictures, method)
        except Exception as error:
            raise FoveateError(f"onnxruntime can not calibrate the model: {first_line(error)}") from error

    def weighted(self) -> list[str]:
        """Nodes with weights in order of use, at most TRIALS."""
        found = [n.name for n in self.model.graph.node if n.op_type in WEIGHTED and n.name in set(self.names)]
        return found[:TRIALS]

    def worst_first(self, told: Told) -> list[str]:
        """Nodes with weights, the one that alone changes the logits most first."""
        names = self.weighted()
        errors = {}
        for i, name in enumerate(names):
            errors[name] = self.alone(name)
            if (i + 1) % 10 == 0:
                told(f"tried {i + 1} of {len(names)} layers alone")
        return sorted(names, key=lambda name: -errors[name])

    def whole(self, excluded: tuple[str, ...] = ()) -> Quantised:
        """All in int8 but the excluded."""
        data = self._made([], [*self.before, *excluded])
        logits = _logits(open_session(data, self.threads), self.pictures)
        agreement = float((logits.argmax(1) == self.float_logits.argmax(1)).mean())
        return Quantised(data, excluded, agreement, self._error(logits), len(self.pictures))

    def alone(self, name: str) -> float:
        """Error of the logits when only this node is int8, on at most 32 of the pictures."""
        few = self.pictures[:: max(1, len(self.pictures) // 32)]
        return self._error(_logits(open_session(self._made([name], self.before), self.threads), few), few)

    def _error(self, logits: np.ndarray, few: Sequence[np.ndarray] | None = None) -> float:
        step = 1 if few is None else max(1, len(self.pictures) // 32)
        expected = self.float_logits[::step].astype(np.float64)
        scale = np.sqrt(np.mean(expected**2)) or 1.0
        return float(np.sqrt(np.mean((logits - expected) ** 2)) / scale)

    def _made(self, only: list[str], without: list[str]) -> bytes:
        """The bytes of an int8 model of the nodes named (none: all)."""
        import copy

        from onnx import helper
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import QuantType

        kinds = list(WEIGHTED if only else OPERATORS)
        weights, activations, reduced = QuantType.QInt8, QuantType.QUInt8, self.bits == 7
        try:
            quantizer = QDQQuantizer(
                copy.deepcopy(self.model), True, reduced, weights, activations, self.ranges, only, without, kinds, {}
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        except Exception as error:
            raise FoveateError(f"onnxruntime can not quantise the model: {first_line(error)}") from error
        made: ModelProto = quantizer.model.model
        facts = {item.key: item.value for item in self.model.metadata_props}
        del made.metadata_props[:]
        helper.set_model_props(made, facts | {"precision": "int8", KEY: HOLDS[self.bits]})
        made.graph.ClearField("value_info")
        made.producer_name, made.producer_version = self.model.producer_name, self.model.producer_version
        return made.SerializeToString(deterministic=True)


def _ranges(model: "ModelProto", pictures: Sequence[np.ndarray], method: str) -> Any:
    """What onnxruntime found the activations to be between, one picture at a time so that little is kept."""
    import onnx
    from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator

    class One(CalibrationDataReader):
        def __init__(self, picture: np.ndarray):
            self.feeds: dict[str, np.ndarray] | None = {INPUT: picture[None]}

        def get_next(self) -> dict[str, np.ndarray] | None:
            feeds, self.feeds = self.feeds, None
            return feeds

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(
            path,
            list(OPERATORS),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod[METHODS[method]],
        )
        for picture in pictures:
            calibrator.collect_data(One(np.ascontiguousarray(picture)))
        ranges = calibrator.compute_data()
        del calibrator  # Windows removes no file that is in use
    return ranges


def _logits(session: Session, pictures: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([session.run(picture[None]) for picture in pictures])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the log lines, warnings and prints of onnxruntime's quantiser."""
    import io

    root = logging.getLogger()
    disabled = root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
