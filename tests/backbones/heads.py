"""Small networks and detectors that the tests of backbones share, and steps of their training."""

import torch
from tiny import host

from foveate.backbones.backbone import rate_groups
from foveate.backbones.detection import detector
from foveate.zoo import FAMILIES, build
from foveate.zoo.families.resnet.network import ResNetConfig, Stage

FEW = {
    "min_size": 64,
    "max_size": 64,
    "rpn_pre_nms_top_n_train": 100,
    "rpn_post_nms_top_n_train": 30,
    "rpn_pre_nms_top_n_test": 50,
    "rpn_post_nms_top_n_test": 20,
    "box_batch_size_per_image": 16,
    "box_score_thresh": 0.0,
}
SMALL = ResNetConfig((Stage(16, (16,), 2), Stage(32, (32,), 2)), stem_widths=(16,), pool="none", num_classes=3)


def small_detector(source):
    return detector(source, 3, width=16, hidden=32, anchor=4.0, settings=FEW)


def published(family):
    """The tiny host of a family in its own layers."""
    return host(family, next(iter(FAMILIES[family].variants.values())).layers)


def check_gradients(model, config):
    """All that the family learns is learnt; a few families have gains that never are."""
    fixed = {name for name, p in build(config).named_parameters() if not p.requires_grad}
    for name, p in model.named_parameters():
        if name.rpartition("body.net.")[2] in fixed:
            assert not p.requires_grad, name
        else:
            assert p.requires_grad and p.grad is not None and p.grad.isfinite().all(), name


def loss_of(model, shapes):
    pictures, targets, _ = shapes
    return torch.stack(list(model(list(pictures), targets).values())).sum()


def learn(model, loss, lr, steps):
    """The losses of some steps on the same pictures."""
    optimizer = torch.optim.AdamW(rate_groups(model, lr, 0.9))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        losses.append(loss())
        losses[-1].backward()
        optimizer.step()
    return torch.stack(losses).detach()
