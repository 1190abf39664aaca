"""Folding batch norms into the convolutions before them."""

import pytest
import torch

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.zoo import FAMILIES, build, variant
from foveate.zoo.fold import can_fold, fold, folded
from foveate.zoo.senet import SENetConfig, Stage

NAMES = (
    "resnet18",
    "resnet50d",
    "seresnet20_cifar",
    "efficientnet_lite0",
    "efficientnet_b0",
    "googlenet",
    "bn_inception",
    "inception_v3",
    "inception_resnet_v1",
    "mobilenetv2_035",
    "shufflenet_g3_1x",
    "mnasnet_small",
    "regnety_002",
    "g_ghost_regnetx_002",
    "ghostnet_050",
    "ghostnetv2_100",
    "mobilenetv3_small_050",
)
TINY_SENET = SENetConfig(
    (Stage(16, (8,), (16,), 1, 1, groups=4), Stage(32, (8, 16), (16, 32), groups=8)), stem=(4, 4, 8)
)
CONFIGS = {**{name: variant(name) for name in NAMES}, "senet": TINY_SENET}  # the published one is large


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folded_network_gives_the_same_outputs(name):
    torch.manual_seed(0)
    model = build(replace(CONFIGS[name], num_classes=7)).double().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    small = build(folded(model.config)).double().eval()
    small.load_state_dict(fold(model))
    x = torch.randn(2, 3, 80, 80, dtype=torch.float64)
    with torch.no_grad():
        expected, got = model(x), small(x)
    assert (got - expected).abs().max() <= 1e-10 * max(1.0, expected.abs().max().item())
    assert not [m for m in small.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_norms_before_convolutions_and_other_norms_do_not_fold():
    for config in (
        variant("resnetv2_50"),
        variant("wrn16_8_nl_cifar"),
        variant("attention56"),
        variant("mobilenetv4_hybrid_medium"),
        replace(variant("resnet18"), layers=replace(variant("resnet18").layers, norm="group_norm")),
    ):
        assert not can_fold(config)
        with pytest.raises(ConfigError, match="fold"):
            folded(config)


def test_every_family_that_says_so_folds():
    folding = {family for family, entry in FAMILIES.items() if entry.folds}
    assert folding == {config.family for config in CONFIGS.values()}
