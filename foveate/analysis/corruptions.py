"""Pictures made worse on purpose: noise, blur, JPEG and contrast at five severities, as in ImageNet-C.

Strengths of Hendrycks and Dietterich, arXiv:1903.12261: the tables of their code, one for pictures of 224 pixels and a
milder one for 32; sides below SMALL take the second. Blur is scaled from the table's side to the one at hand. Own
lines: the published packages bring OpenCV and numba for what is a line of torch or Pillow each.
"""

import io
from collections.abc import Callable, Mapping

import numpy as np
import torch

from foveate.config import pick
from foveate.errors import ConfigError

SMALL = 96  # pixels
Table = tuple[tuple[float, ...], tuple[float, ...]]  # of 224 pixels, of 32
NOISE: Table = (0.08, 0.12, 0.18, 0.26, 0.38), (0.04, 0.06, 0.08, 0.09, 0.10)  # deviation, of values from 0 to 1
BLUR: Table = (1.0, 2.0, 3.0, 4.0, 6.0), (0.4, 0.6, 0.7, 0.8, 1.0)  # deviation in pixels of the table's side
JPEG: Table = (25, 18, 15, 10, 7), (80, 65, 58, 50, 40)  # quality
CONTRAST: Table = (0.4, 0.3, 0.2, 0.1, 0.05), (0.75, 0.5, 0.4, 0.3, 0.15)  # of the distance from the mean
SEVERITIES = (1, 2, 3, 4, 5)


def strength(table: Table, x: torch.Tensor, severity: int) -> float:
    """The number of a table for pictures of this side."""
    return table[x.shape[-1] < SMALL][severity - 1]


def noise(x: torch.Tensor, severity: int, seed: int) -> torch.Tensor:
    """Normal noise on each value."""
    generator = torch.Generator().manual_seed(seed)
    return x + strength(NOISE, x, severity) * torch.randn(x.shape, generator=generator)


def blur(x: torch.Tensor, severity: int, seed: int) -> torch.Tensor:
    """A normal kernel, edges repeated."""
    sigma = strength(BLUR, x, severity) * x.shape[-1] / (32 if x.shape[-1] < SMALL else 224)
    reach = max(1, min(round(4 * sigma), x.shape[-1] - 1, x.shape[-2] - 1))
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    padded = torch.nn.functional.pad(x, (reach,) * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
    y = torch.nn.functional.conv2d(torch.nn.functional.conv2d(padded, kernel), kernel.transpose(2, 3))
    return y.squeeze(1).view_as(x)


def jpeg(x: torch.Tensor, severity: int, seed: int) -> torch.Tensor:
    """Through a JPEG file of low quality."""
    from PIL import Image

    rows = []
    for picture in (x * 255).round().byte().permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=int(strength(JPEG, x, severity)))
        rows.append(np.asarray(Image.open(file).convert("RGB")))
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2) / 255


def contrast(x: torch.Tensor, severity: int, seed: int) -> torch.Tensor:
    """Towards each colour's mean over the picture."""
    mean = x.mean((2, 3), keepdim=True)
    return mean + strength(CONTRAST, x, severity) * (x - mean)


CORRUPTIONS: Mapping[str, Callable[[torch.Tensor, int, int], torch.Tensor]] = {
    "noise": noise,
    "blur": blur,
    "jpeg": jpeg,
    "contrast": contrast,
}


def corrupt(pictures: torch.Tensor, kind: str, severity: int, seed: int = 0) -> torch.Tensor:
    """uint8 (N, 3, H, W) -> the same, made worse. severity: 1 to 5. Equal seeds give equal pictures."""
    change = pick(CORRUPTIONS, kind, "corruption")
    if severity not in SEVERITIES:
        raise ConfigError(f"severity {severity}: 1 to 5")
    return (change(pictures / 255, severity, seed).clamp(0, 1) * 255).round().byte()
