"""What a model can be exported to: the files of each form, and how they are opened again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foveate.deploy import openvino
from foveate.deploy.parity import PICTURE_TOLERANCE
from foveate.deploy.runtime import Session, open_session
from foveate.deploy.subject import Subject
from foveate.deploy.trust_graph import with_trust
from foveate.errors import FoveateError, WeightsError
from foveate.files import write_bytes
from foveate.train.trusted import Known, Trust

INSIDE = 3  # pictures on which OpenVINO resizes by itself, to check it
Files = Mapping[str, bytes]  # suffix -> bytes


@dataclass(frozen=True)
class Target:
    """One form. engine, precision: what it is measured as (compare.py)."""

    engine: str
    precision: str
    make: Callable[[Subject], Files]
    open: Callable[[Files, int], Session]

    @property
    def suffix(self) -> str:
        """Of the file that is opened."""
        return ".onnx" if self.engine == "onnxruntime" else ".xml"

    def missing(self) -> str | None:
        """Why it can not be made here, with the extra to install; None where it can."""
        return openvino.missing(self.precision) if self.engine == "openvino" else None


def _xml_and_bin(subject: Subject, precision: str) -> Files:
    net = subject.openvino_int8 if precision == "int8" else openvino.network(subject.onnx)
    model = openvino.whole(net, subject.onnx)
    if subject.trust is not None:
        model = openvino.trusted(model, *kept_in(subject.trust, subject.known, precision))
    graph, weights = openvino.model_files(model, precision)
    return {".bin": weights, ".xml": graph}


def kept_in(trust: Trust, known: Known | None, precision: str) -> tuple[Trust, Known | None]:
    """What a precision can hold: in bf16 products of features have two digits, and no distance is left."""
    if precision != "bf16":
        return trust, known
    return replace(trust, keep=(), note="bf16: no strangeness"), None


def with_trust_in(files: Files, trust: Trust, known: Known | None) -> Files:
    """Files whose outputs are logits and features, with what is known of the answers inside."""
    if ".onnx" in files:
        return {".onnx": with_trust(files[".onnx"], trust, known)}
    graph, weights = openvino.trusted_files(files[".xml"], files[".bin"], trust, known)
    return {".bin": weights, ".xml": graph}


def _int8(subject: Subject) -> bytes:
    data = subject.int8.data
    return data if subject.trust is None else with_trust(data, subject.trust, subject.known)


def _open_onnx(files: Files, threads: int) -> Session:
    return open_session(files[".onnx"], threads)


def _open_xml(files: Files, threads: int) -> Session:
    return openvino.opened(files[".xml"], files[".bin"], threads)


def check_inside(files: Files, pictures: Sequence[np.ndarray]) -> None:
    """FoveateError where an OpenVINO model that resizes by itself answers otherwise than after Pillow's resize.

    Our own sessions let Pillow do it; others that open the file do not. A few pictures: each new size takes long.
    """
    if ".xml" not in files:
        return
    ours = openvino.opened(files[".xml"], files[".bin"])
    theirs = openvino.opened(files[".xml"], files[".bin"], resize_inside=True)
    for picture in pictures[:INSIDE]:
        expected, got = ours.run(picture[None]), theirs.run(picture[None])
        limit = PICTURE_TOLERANCE * max(1.0, float(np.abs(expected).max()))
        if not np.abs(got - expected).max() <= limit:
            raise FoveateError(f"the model's own resize changes its logits by more than {limit:.2g}; nothing is kept")


TARGETS = {
    "onnx": Target("onnxruntime", "fp32", lambda s: {".onnx": s.trusted_onnx}, _open_onnx),
    "onnx_int8": Target("onnxruntime", "int8", lambda s: {".onnx": _int8(s)}, _open_onnx),
    "openvino": Target("openvino", "fp32", lambda s: _xml_and_bin(s, "fp32"), _open_xml),
    "openvino_bf16": Target("openvino", "bf16", lambda s: _xml_and_bin(s, "bf16"), _open_xml),
    "openvino_int8": Target("openvino", "int8", lambda s: _xml_and_bin(s, "int8"), _open_xml),
}


def float_files(onnx: bytes, engine: str) -> Files:
    """An ONNX file that export_onnx wrote in the form that a runtime opens."""
    if engine == "onnxruntime":
        return {".onnx": onnx}
    graph, weights = openvino.model_files(openvino.convert(onnx), "fp32")
    return {".bin": weights, ".xml": graph}


def opened(files: Files, engine: str, precision: str, threads: int) -> Session:
    """The files of a form, opened in its runtime."""
    return TARGETS[target_of(engine, precision)].open(files, threads)


def target_of(engine: str, precision: str) -> str:
    """The name of the form that was measured as this."""
    return next(name for name, t in TARGETS.items() if (t.engine, t.precision) == (engine, precision))


def write(files: Files, out: Path) -> list[Path]:
    """Write all files of an export beside each other, durably, and return their paths; out: the one to open.

    An older .xml goes first, so that a crash never leaves it with weights that are not its own.
    """
    if ".xml" in files:
        out.with_suffix(".xml").unlink(missing_ok=True)
    written = []
    for suffix, data in files.items():  # the graph after its weights
        written.append(out.with_suffix(suffix))
        write_bytes(written[-1], data)
    return written


def open_exported(path: str | Path, threads: int = 1) -> Session:
    """Open a .onnx or .xml file that foveate exported; the checks are those of open_session and open_openvino."""
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        return open_session(Path(path), threads)
    if suffix == ".xml":
        return openvino.open_openvino(path, threads)
    raise WeightsError(f"{path}: expected a .onnx or .xml file that foveate exported")
