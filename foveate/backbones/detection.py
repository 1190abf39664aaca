"""Networks of the zoo under torchvision's Faster R-CNN, and average precision."""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from foveate.backbones.backbone import Backbone, Source, backbone

if TYPE_CHECKING:
    from torchvision.models.detection import FasterRCNN


Boxes = Mapping[str, torch.Tensor]  # "boxes" (N, 4) xyxy in pixels, "labels" (N,), of predictions "scores" (N,)


class Pyramid(nn.Module):
    """A backbone under a feature pyramid: normalised pictures -> {"0": finest map, ..., "pool": coarsest}."""

    def __init__(self, body: Backbone, levels: list[int], fpn: nn.Module, out_channels: int):
        super().__init__()
        self.body, self.levels, self.fpn, self.out_channels = body, levels, fpn, out_channels

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.body(x)
        return self.fpn(OrderedDict((str(n), maps[i]) for n, i in enumerate(self.levels)))


def detector(
    source: Source,
    num_classes: int,
    *,
    finest: int = 4,
    width: int = 256,
    hidden: int = 1024,
    anchor: float = 8.0,
    settings: Mapping[str, Any] | None = None,
) -> "FasterRCNN":
    """torchvision's Faster R-CNN (arXiv:1506.01497) on a feature pyramid (arXiv:1612.03144) over any backbone.

        source: a Backbone, or what backbone() takes. num_classes: kinds of objects, with labels from 1; label 0, the
    background, is added. finest: the least stride in the pyramid. width: its channels. hidden: of the two linear layers
    of the box head. anchor: side of the anchors of a level in cells: 8 gives torchvision's 32 to 512 pixels at strides
    4 to 64. Boxes are pooled at the level that fits: sides from 28 * anchor pixels at stride 16, as the paper's
    224 there. settings: what FasterRCNN takes beside these (min_size=800, max_size=1333, box_score_thresh=0.05, ...).

    The defaults are torchvision's fasterrcnn_resnet50_fpn, with the same numbers from the same weights; but for the
    pictures, padded to a multiple of the coarsest stride where that is not 32, and the level of pooling, which there is
    guessed from the first batch and here known.
    In training: (list of (C, H, W) from 0 to 1, list of {"boxes", "labels"}) -> a dict of four losses; in evaluation:
    list of pictures -> list of {"boxes", "labels", "scores"}.
    """
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.faster_rcnn import AnchorGenerator, FastRCNNPredictor, TwoMLPHead
    from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
    from torchvision.ops.poolers import initLevelMapper

    body = source if isinstance(source, Backbone) else backbone(source)
    levels = body.levels(finest)
    strides = [body.strides[i] for i in levels]
    fpn = FeaturePyramidNetwork([body.widths[i] for i in levels], width, LastLevelMaxPool())
    sizes = tuple((round(anchor * stride),) for stride in (*strides, 2 * strides[-1]))
    pool = MultiScaleRoIAlign([str(n) for n in range(len(levels))], 7, 2, canonical_scale=round(28 * anchor))
    pool.scales = [1 / stride for stride in strides]
    pool.map_levels = initLevelMapper(int(math.log2(strides[0])), int(math.log2(strides[-1])), round(28 * anchor))
    return FasterRCNN(
        Pyramid(body, levels, fpn, width),
        image_mean=list(body.mean),
        image_std=list(body.std),
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        box_roi_pool=pool,
        box_head=TwoMLPHead(width * 7 * 7, hidden),
        box_predictor=FastRCNNPredictor(hidden, num_classes + 1),
        **{"size_divisible": strides[-1], **(settings or {})},
    )


@torch.no_grad()
def average_precision(predictions: Sequence[Boxes], targets: Sequence[Boxes], iou: float = 0.5) -> dict[int, float]:
    """Class -> average precision over all pictures, for the classes that targets have. Their mean is mAP at this IoU.

    As COCO counts: by falling score, each box takes the free target of its class and picture that it overlaps most, if
    by `iou` at least; AP is the mean over recalls 0, 0.01, ..., 1 of the best precision at this recall or more, 0 where
    none is reached. Recalls are compared in whole numbers. No crowds, no limit to the number of boxes.
    """
    from torchvision.ops import box_iou

    result: dict[int, float] = {}
    for label in sorted({int(k) for t in targets for k in t["labels"]}):
        scores, hits, total = [], [], 0
        for p, t in zip(predictions, targets, strict=True):
            mine, wanted = p["labels"] == label, t["boxes"][t["labels"] == label]
            order = p["scores"][mine].argsort(descending=True, stable=True)
            overlaps = box_iou(p["boxes"][mine][order], wanted)
            total += len(wanted)
            scores.append(p["scores"][mine][order])
            for row in overlaps:
                best = int(row.argmax()) if len(wanted) else 0
                hits.append(bool(len(wanted)) and float(row[best]) >= iou)
                if hits[-1]:
                    overlaps[:, best] = -1.0  # taken
        falling = torch.cat(scores).argsort(descending=True, stable=True)
        true = torch.tensor(hits, dtype=torch.int64)[falling].cumsum(0)
        precision = true / torch.arange(1, len(true) + 1, dtype=torch.float64)
        best_from_here = torch.cat([precision.flip(0).cummax(0).values.flip(0), precision.new_zeros(1)])
        first = torch.searchsorted(100 * true, total * torch.arange(101))  # the first place that reaches each recall
        result[label] = float(best_from_here[first].mean())
    return result
