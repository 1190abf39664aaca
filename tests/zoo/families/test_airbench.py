"""The speed-run networks against a plain reading of their public code, in order of its layers."""

import pytest
import torch
import torch.nn.functional as F
from compare import difference
from torch import nn

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.zoo import build, variant
from foveate.zoo.families.airbench import VARIANTS, Airbench, Group

WIDTHS = {
    "airbench94_cifar": ((64, 256, 256), 2),
    "airbench95_cifar": ((128, 384, 384), 2),
    "airbench96_cifar": ((128, 384, 512), 3),
    "airbench_medium_cifar": ((48, 160, 160), 2),
    "airbench_small_cifar": ((32, 96, 128), 2),
}


class PublicGroup(nn.Module):
    """conv1, maximum, norm1, act, conv2, norm2 (, act, conv3, norm3, + what conv2 read), act."""

    def __init__(self, c_in, width, depth):
        super().__init__()
        for i in range(depth):
            setattr(self, f"conv{i}", nn.Conv2d(width if i else c_in, width, 3, padding=1, bias=False))
        for i in range(depth):
            setattr(self, f"norm{i}", nn.BatchNorm2d(width, eps=1e-12))
        self.depth = depth

    def forward(self, x):
        x = F.gelu(self.norm0(F.max_pool2d(self.conv0(x), 2)))
        first, x = x, self.norm1(self.conv1(x))
        if self.depth == 3:
            x = self.norm2(self.conv2(F.gelu(x))) + first
        return F.gelu(x)


class Public(nn.Module):
    def __init__(self, widths, depth):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.groups = nn.Sequential(*(PublicGroup(a, b, depth) for a, b in zip((24, *widths), widths, strict=False)))
        self.fc = nn.Linear(widths[2], 10, bias=False)

    def forward(self, x):
        return self.fc(F.max_pool2d(self.groups(F.gelu(self.whiten(x))), 3).flatten(1)) / 9


@pytest.mark.parametrize("name", ["airbench96_cifar", "airbench_small_cifar"])
def test_logits_equal_those_of_the_public_code(name):
    assert difference(build(VARIANTS[name]), Public(*WIDTHS[name]), size=(32, 32)) <= 1e-10


def test_the_scale_of_the_norms_stays_one():
    model = Airbench(VARIANTS["airbench_small_cifar"]).train()
    model(torch.randn(8, 3, 32, 32)).sum().backward()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 6 and all(m.weight.grad is None and m.bias.grad is not None for m in norms)


def test_a_residual_group_ends_as_wide_as_it_begins():
    with pytest.raises(ConfigError, match="ends as wide as it begins"):
        Group((16, 32), residual=True)
    assert replace(Group((16, 32)), widths=(8, 8)).widths == (8, 8)


def test_means_can_stand_in_place_of_all_maxima():
    model = build(replace(variant("airbench_small_cifar"), pool="avg")).eval()
    assert all(isinstance(group.pool, torch.nn.AvgPool2d) for group in model.groups)
    features = torch.randn(2, 128, 3, 3)
    assert torch.allclose(model.forward_head(features), model.fc(features.mean((2, 3))) / 9, atol=1e-6)
