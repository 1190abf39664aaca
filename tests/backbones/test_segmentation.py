"""Segmenters: every family under FCNHead, torchvision's numbers, mean IoU."""

import pytest
import torch
import torch.nn.functional as F
from heads import SMALL, check_gradients, learn, published

from foveate.backbones.segmentation import mean_iou, segmenter
from foveate.zoo import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_carries_a_segmenter(family, shapes):
    torch.manual_seed(0)
    model = segmenter(published(family), 4)
    for height, width in ((64, 64), (51, 60)):
        x, labels = shapes[0][:, :, :height, :width], shapes[2][:, :height, :width]
        y = model(x)
        assert y.shape == (4, 4, height, width)
        loss = F.cross_entropy(y, labels)
        assert loss.isfinite()
    loss.backward()
    check_gradients(model, published(family))


def test_the_head_on_the_last_map_is_torchvisions_fcn():
    from torchvision.models import resnet18
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    torch.manual_seed(0)
    theirs = FCN(IntermediateLayerGetter(resnet18(), {"layer4": "out"}), FCNHead(512, 5)).eval()
    ours = segmenter("resnet18", 5, finest=32).eval()
    ours.body.net.load_state_dict(theirs.backbone.state_dict())
    ours.head.load_state_dict(theirs.classifier.state_dict())
    x = torch.rand(2, 3, 96, 64)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs((x - mean) / std)["out"], atol=1e-6)


def test_a_segmenter_learns(shapes):
    torch.manual_seed(0)
    model = segmenter(SMALL, 4, finest=4)
    losses = learn(model, lambda: F.cross_entropy(model(shapes[0]), shapes[2]), 1e-2, 30)
    assert losses[-1] < 0.3 * losses[0]
    with torch.inference_mode():
        assert mean_iou(model(shapes[0]).argmax(1), shapes[2], 4) > 0.4


def test_mean_iou_is_torchmetrics():
    from torchmetrics.classification import MulticlassJaccardIndex

    generator = torch.Generator().manual_seed(0)
    predicted, target = (torch.randint(0, 4, (3, 9, 7), generator=generator) for _ in range(2))
    expected = MulticlassJaccardIndex(num_classes=4, average="macro")(predicted, target)
    assert mean_iou(predicted, target, 4) == pytest.approx(expected.item(), abs=1e-6)
    assert mean_iou(predicted, predicted, 9) == 1.0
