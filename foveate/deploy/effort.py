"""What one answer of a model costs, told and limited before it runs: a config of a few bytes can ask for minutes."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.data.preprocess import Preprocess
from foveate.errors import WeightsError

if TYPE_CHECKING:
    from torch import nn

MAX_RESOLUTION = 1024  # pixels; EfficientNet-L2 sees 800
MAX_MACS = 500e9  # of one picture; NFNet-F7 has 481 G at 608 pixels
TOLD_MACS = 20e9  # from here on the cost is told
PER_SECOND = 30e9  # MACs of one core in float32, roughly
SURE = 512  # pixels up to which a network of few weights needs no counting


def warn(text: str) -> None:
    """A UserWarning."""
    warnings.warn(text, stacklevel=4)


def check_effort(
    model: "nn.Module",
    architecture: Any,
    preprocess: Preprocess,
    what: str,
    *,
    named: bool = False,
    tell: Callable[[str], None] = warn,
) -> None:
    """WeightsError where a picture would cost more than MAX_MACS or is larger than MAX_RESOLUTION.

    named: whoever calls has named the resolution, and knows. tell: hears of what takes about a second or more.
    """
    size = preprocess.resolution
    check_resolution(preprocess, what, named=named)
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 4)
    if size <= SURE and weights * size * size <= 4 * MAX_MACS:  # no convolution is used oftener than there are pixels
        return
    from foveate.cost.count import cost

    macs = cost(architecture, resolution=size).macs
    seconds = (
        f"{macs / 1e9:,.0f} G multiply-adds a picture of {size} x {size}, about {macs / PER_SECOND:,.0f} s on a core"
    )
    if macs > MAX_MACS and not named:
        raise WeightsError(
            f"{what}: {seconds}; at most {MAX_MACS / 1e9:,.0f} G: --resolution {size} runs it, fewer pixels cost less"
        )
    if macs > TOLD_MACS:
        tell(f"{what}: {seconds}")


def check_resolution(preprocess: Preprocess, what: str | Path, *, named: bool = False) -> None:
    """WeightsError where a picture is larger than MAX_RESOLUTION and nobody has named that."""
    size = max(preprocess.resolution, preprocess.resize if preprocess.fit == "crop" else 0)
    if size > MAX_RESOLUTION and not named:
        raise WeightsError(
            f"{what}: it wants pictures of {size} x {size} pixels; at most {MAX_RESOLUTION} unless you name them: "
            f"--resolution {preprocess.resolution}, or load(..., resolution={preprocess.resolution})"
        )
