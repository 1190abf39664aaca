"""ONNX and OpenVINO, which run on this machine and are measured against each other: deploy/targets.py makes them."""

import importlib.util
from typing import TYPE_CHECKING

from foveate.deploy.formats.form import Files, Form, Given

if TYPE_CHECKING:
    from foveate.deploy.runtime import Session
    from foveate.deploy.subject import Subject

ABOUTS = {
    "onnx": "ONNX Runtime, and whatever else reads ONNX",
    "onnx_int8": "ONNX Runtime in 8 bits",
    "openvino": "OpenVINO on Intel and ARM processors",
    "openvino_bf16": "OpenVINO in 16 bits, on processors that have them",
    "openvino_int8": "OpenVINO in 8 bits",
}


def _form(name: str) -> Form:
    engine, _, precision = name.partition("_")

    def missing(given: Given) -> str | None:
        if engine == "onnx":
            return None
        if importlib.util.find_spec("openvino") is None:  # told without loading more
            return "openvino is not installed: pip install 'foveate[openvino]'"
        from foveate.deploy.targets import TARGETS

        return TARGETS[name].missing()

    def make(subject: "Subject", given: Given) -> Files:
        from foveate.deploy.targets import TARGETS

        return TARGETS[name].make(subject)

    def opened(files: Files, threads: int) -> "Session":
        from foveate.deploy.targets import TARGETS

        return TARGETS[name].open(files, threads)

    suffix = ".onnx" if engine == "onnx" else ".xml"
    return Form(ABOUTS[name], suffix, missing, make, opened, precision or "fp32")


FORMS = {name: _form(name) for name in ABOUTS}
