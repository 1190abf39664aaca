"""What runtimes are compared on: one model with its preprocessing, the pictures, threads and batch; and what a runtime
makes of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from foveate.data.preprocess import Preprocess, framed, sized
from foveate.deploy import openvino
from foveate.deploy.export import export_onnx, has_features
from foveate.deploy.quantise import Quantised, Told, quantise
from foveate.deploy.runtime import open_session
from foveate.deploy.trust_graph import with_trust
from foveate.train.trusted import Known, Trust


@dataclass(frozen=True)
class Engine:
    """A model made ready in one runtime and precision."""

    run: Callable[[np.ndarray], np.ndarray]  # uint8 (batch, S, S, 3) -> logits float32 (batch, K)
    size_bytes: int  # of its files
    version: str  # "onnxruntime 1.32.0"


@dataclass(frozen=True)
class Subject:
    """One model, for all runtimes. What several of them need (the ONNX file) is made once, when it is first asked for.

    calibration: decoded pictures uint8 (H, W, 3) of any sizes, for int8. min_agreement: what quantise() has to keep.
    """

    model: nn.Module
    preprocess: Preprocess
    classes: tuple[str, ...]
    threads: int = 1
    batch: int = 1
    device: str = "cpu"
    calibration: Sequence[np.ndarray] = ()
    min_agreement: float = 0.99
    told: Told = field(default=lambda text: None, repr=False)
    trust: Trust | None = None  # what the folder knows of its answers, for the files that are kept
    known: Known | None = field(default=None, repr=False)
    features: bool = False  # whether files also answer features, for trust that is fitted later

    @cached_property
    def onnx(self) -> bytes:
        """The file of export_onnx."""
        self.told("exporting to ONNX")
        if (self.features or self.known is not None) and has_features(self.model):
            return export_onnx(self.model, self.preprocess, self.classes, features=True)
        return export_onnx(self.model, self.preprocess, self.classes)

    @cached_property
    def trusted_onnx(self) -> bytes:
        """The same with what the folder knows of its answers inside."""
        return self.onnx if self.trust is None else with_trust(self.onnx, self.trust, self.known)

    @cached_property
    def int8(self) -> Quantised:
        """Its int8 form for onnxruntime."""
        self.told(f"calibrating int8 for onnxruntime on {len(self.calibration)} pictures")
        return quantise(
            self.onnx, self.calibration, min_agreement=self.min_agreement, threads=self.threads, told=self.told
        )

    @cached_property
    def openvino_int8(self) -> Any:
        """The network in int8 for OpenVINO; where it answers too differently, with the float layers of int8 above."""
        self.told(f"calibrating int8 for OpenVINO on {len(self.calibration)} pictures")
        made = openvino.quantised(self.onnx, self.calibration)
        frames = np.stack([self.frame(p) for p in self.calibration])
        exact = open_session(self.onnx, self.threads).run
        expected = [exact(f[None]).argmax() for f in frames]
        run = openvino.session(openvino.whole(made, self.onnx), self.threads, "int8").run
        if np.mean([run(f[None]).argmax() == e for f, e in zip(frames, expected, strict=True)]) >= self.min_agreement:
            return made
        return openvino.quantised(self.onnx, self.calibration, self.int8.excluded) if self.int8.excluded else made

    @property
    def side(self) -> int:
        """S: side in pixels of what the engines are fed with."""
        return sized(self.preprocess)

    def frame(self, picture: np.ndarray) -> np.ndarray:
        """A decoded picture of any size as every engine is fed with it: preprocess.framed."""
        return framed(picture, self.preprocess)

    def logits(self, engine: Engine, frames: np.ndarray) -> np.ndarray:
        """Logits float32 (N, K) of frames (N, S, S, 3) in batches of the one size; the last one is filled up."""
        parts = []
        for start in range(0, len(frames), self.batch):
            part = frames[start : start + self.batch]
            full = np.concatenate((part, np.repeat(part[-1:], self.batch - len(part), 0)))
            parts.append(engine.run(full)[: len(part)])
        return np.concatenate(parts)
