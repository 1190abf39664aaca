"""The table of runtimes: what each can run in, why it can not here, and how a model is made ready in it."""

from collections.abc import Callable
from dataclasses import dataclass

from foveate.deploy import openvino, torch_engine
from foveate.deploy.runtime import open_session
from foveate.deploy.subject import Engine, Subject


@dataclass(frozen=True)
class Runtime:
    """One way to run a model. quick: precisions that are ready in seconds.

    missing(precision, device): the reason why not here, with what to install; or None.
    """

    precisions: tuple[str, ...]
    quick: tuple[str, ...]
    missing: Callable[[str, str], str | None]
    prepare: Callable[[Subject, str], Engine]


def _onnxruntime_missing(precision: str, device: str) -> str | None:
    return None if device == "cpu" else "only measured on the processor"


def _onnxruntime(subject: Subject, precision: str) -> Engine:
    from onnxruntime import __version__

    data = subject.onnx if precision == "fp32" else subject.int8.data
    return Engine(open_session(data, subject.threads).run, len(data), f"onnxruntime {__version__}")


def _openvino_missing(precision: str, device: str) -> str | None:
    return openvino.missing(precision) if device == "cpu" else "only measured on the processor"


def _openvino(subject: Subject, precision: str) -> Engine:
    net = subject.openvino_int8 if precision == "int8" else openvino.network(subject.onnx)
    model = openvino.whole(net, subject.onnx)
    session = openvino.session(model, subject.threads, precision)
    return Engine(session.run, sum(map(len, openvino.model_files(model, precision))), openvino.version())


RUNTIMES = {
    "torch": Runtime(("fp32", "bf16", "fp16"), ("fp32", "bf16"), torch_engine.missing, torch_engine.eager),
    "torch_compile": Runtime(("fp32", "bf16", "fp16"), (), torch_engine.compile_missing, torch_engine.compiled),
    "onnxruntime": Runtime(("fp32", "int8"), ("fp32",), _onnxruntime_missing, _onnxruntime),
    "openvino": Runtime(("fp32", "bf16", "int8"), ("fp32", "bf16"), _openvino_missing, _openvino),
}
