"""Networks of the zoo under a fully convolutional segmentation head, and mean IoU."""

import torch
import torch.nn.functional as F
from torch import nn

from foveate.backbones.backbone import Backbone, Source, backbone


class Segmenter(nn.Module):
    """Pictures (N, C, H, W) from 0 to 1 -> logits (N, K, H, W). Made by segmenter()."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, body: Backbone, levels: list[int], head: nn.Module):
        super().__init__()
        self.body, self.levels, self.head = body, levels, head
        self.register_buffer("mean", torch.tensor(body.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(body.std).view(-1, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        maps = self.body((x - self.mean) / self.std)
        size, stride = maps[self.levels[0]].shape[2:], self.body.strides[self.levels[0]]
        fine = [F.interpolate(maps[i], size, mode="bilinear", align_corners=False) for i in self.levels]
        y = self.head(torch.cat(fine, 1))
        y = F.interpolate(y, scale_factor=float(stride), mode="bilinear", align_corners=False)
        return y[:, :, :height, :width]


def segmenter(source: Source, num_classes: int, *, finest: int = 8) -> Segmenter:
    """torchvision's FCNHead (arXiv:1411.4038) over any backbone: logits of num_classes for every pixel.

    source: a Backbone, or what backbone() takes. num_classes: all labels of a pixel, the background among them.
    finest: the least stride that the head sees: maps of this and coarser strides are brought to its size and put beside
    each other. 32 is the plain net of most backbones. torchvision instead dilates the last stages to stride 8, which
    few families of the zoo could follow.
    """
    from torchvision.models.segmentation.fcn import FCNHead

    body = source if isinstance(source, Backbone) else backbone(source)
    levels = body.levels(finest)
    return Segmenter(body, levels, FCNHead(sum(body.widths[i] for i in levels), num_classes))


def mean_iou(predicted: torch.Tensor, target: torch.Tensor, num_classes: int) -> float:
    """Mean over classes of TP / (TP + FP + FN), pixels of all pictures together; classes in neither are left out.

    predicted, target: label maps (N, H, W) of int64 below num_classes.
    """
    counts = torch.bincount((target * num_classes + predicted).flatten(), minlength=num_classes**2)
    counts = counts.view(num_classes, num_classes).double()  # [target, predicted]
    both, either = counts.diag(), counts.sum(0) + counts.sum(1) - counts.diag()
    return float((both / either)[either > 0].mean())
