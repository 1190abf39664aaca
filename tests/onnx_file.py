"""A module through an ONNX file: what the tests of layers and networks share."""

import io
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from torch import nn

from foveate.data.preprocess import Preprocess, normalise
from foveate.deploy.export import export_onnx
from foveate.deploy.runtime import open_session


def check_compiles_and_exports(
    net: nn.Module, x: torch.Tensor, *, compiled: float = 1e-6, exported: float = 1e-4
) -> None:
    """One graph without breaks, and an ONNX file for batches of any length: the outputs of the module, within these."""
    with torch.inference_mode():
        y = net(x)
        torch._dynamo.reset()
        assert torch.allclose(torch.compile(net, fullgraph=True, backend="eager")(x), y, atol=compiled)
    run = through_onnx(net, x)
    for batch in (x, x[:1]):
        assert abs(run(batch) - y[: len(batch)].numpy()).max() < exported


def check_logits(model: nn.Module, side: int) -> None:
    """Our ONNX file of a network of three classes gives its logits for pictures of this side."""
    p = Preprocess(resolution=side, resize=side, fit="squash")
    pictures = torch.randint(0, 256, (3, side, side, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model(normalise(pictures.permute(0, 3, 1, 2), p)).numpy()
    session = open_session(export_onnx(model, p, ("a", "b", "c")), 1)
    assert np.abs(session.run(pictures.numpy()) - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


def through_onnx(model: nn.Module, x: torch.Tensor) -> Callable[[torch.Tensor], np.ndarray]:
    """The model as ONNX Runtime runs it, for batches like x of any length."""
    file = io.BytesIO()
    shapes = ({0: torch.export.Dim("N", min=1)},)
    torch.onnx.export(
        model, (x,), dynamo=True, dynamic_shapes=shapes, input_names=["x"], opset_version=18, verbose=False
    ).save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"x": batch.numpy()})[0]
