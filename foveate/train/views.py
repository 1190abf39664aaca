"""Test-time augmentation: several views of a picture whose logits are averaged."""

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F

View = tuple[float, torch.Tensor]  # its weight; (N, 3, H, W)


def one(x: torch.Tensor) -> Iterator[View]:
    """The picture itself."""
    yield 1.0, x


def mirror(x: torch.Tensor) -> Iterator[View]:
    """The picture and its mirror image, equally."""
    yield 0.5, x
    yield 0.5, x.flip(3)


def shifts(x: torch.Tensor) -> Iterator[View]:
    """Six views, arXiv:2404.00498 section 3.5: mirror pairs of the picture (1/2) and of it moved by a pixel (1/4 each).

    One move is up and left, one down and right; the border is reflected.
    """
    height, width = x.shape[2:]
    wide = F.pad(x, (1, 1, 1, 1), mode="reflect")
    for weight, view in ((0.5, x), (0.25, wide[:, :, :height, :width]), (0.25, wide[:, :, 2:, 2:])):
        for share, seen in mirror(view):
            yield weight * share, seen


Viewer = Callable[[torch.Tensor], Iterator[View]]
VIEWS: Mapping[str, Viewer] = {"one": one, "mirror": mirror, "shifts": shifts}


def ten_crops(side: int) -> Viewer:
    """The corners and the middle of larger pictures, side x side pixels, and their mirror images: AlexNet's test.

    NIPS 2012, section 4.1: crops of 224 of pictures of 256. There probabilities are averaged, here logits are, as
    everywhere in this file.
    """

    def crops(x: torch.Tensor) -> Iterator[View]:
        height, width = x.shape[2:]
        bottom, right = height - side, width - side
        for top, left in ((0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)):
            for share, seen in mirror(x[:, :, top : top + side, left : left + side]):
                yield share / 5, seen

    return crops


def averaged(model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, views: str | Viewer) -> torch.Tensor:
    """The weighted mean of the logits of a picture's views: (N, K) float32. views: a name of VIEWS, or their maker."""
    total = torch.zeros(())
    for weight, seen in (VIEWS[views] if isinstance(views, str) else views)(x):
        total = weight * model(seen).float() + total.to(x.device)
    return total
