"""Folding norms into the convolutions before them, and IterNorms into the convolutions around them."""

import copy
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from foveate.config import replace
from foveate.data.preprocess import Preprocess
from foveate.deploy.export import export_for_timing, export_onnx
from foveate.deploy.runtime import open_session
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.iter_norm import IterNorm, Shift
from foveate.zoo import FAMILIES, build, variant
from foveate.zoo.families.resnet.network import ResNetConfig, preact, stages
from foveate.zoo.families.senet import SENetConfig, Stage
from foveate.zoo.families.vgg import Stage as VGGStage
from foveate.zoo.families.vgg import VGGConfig
from foveate.zoo.fold import can_fold, fold, folded, is_folded, unfold
from foveate.zoo.fuse import fuse_whitening

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


WHITE = Layers(norm="iter_norm(group_size=4)")
RESNET = ResNetConfig(
    stages((1, 1), (8, 16), (8, 16)),
    stem="cifar",
    stem_widths=(8,),
    pool="none",
    layers=WHITE,
    num_classes=5,
    resolution=16,
)
VGG = VGGConfig(
    (VGGStage((8,)), VGGStage((12, 12))),
    grid=1,
    hidden=(),
    layers=replace(WHITE, attn="se"),
    num_classes=5,
    resolution=16,
)


def whitened(config):
    """A network whose IterNorms have seen pictures, in evaluation mode, float64."""
    torch.manual_seed(0)
    return seasoned(build(config))


def seasoned(model):
    model = model.double()
    for module in model.modules():
        if isinstance(module, IterNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d | IterNorm))
    channels = first.in_channels if isinstance(first, nn.Conv2d) else len(first.running_mean)
    for _ in range(6):
        model(torch.randn(8, channels, 16, 16, dtype=torch.float64) * 2 + 1)
    return model.eval()


def kinds(model):
    return Counter(type(m).__name__ for m in model.modules())


def test_iter_norms_behind_plain_convolutions_fold():
    for config in (RESNET, replace(RESNET, shortcut="avg", stem="deep", stem_widths=(4, 4, 8))):
        model = whitened(config)
        small = build(folded(config)).double().eval()
        small.load_state_dict(fold(model))
        x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
        with torch.no_grad():
            assert torch.allclose(small(x), model(x), rtol=0, atol=1e-10)
        assert not kinds(small)["IterNorm"]


def test_iter_norms_behind_depthwise_convolutions_do_not_fold():
    config = variant("mobilenetv2_035")
    assert can_fold(config) and can_fold(replace(config, layers=replace(config.layers, norm="iter_norm(group_size=1)")))
    assert not can_fold(replace(config, layers=replace(config.layers, norm="iter_norm")))


@pytest.mark.parametrize(
    ("config", "left"),
    [
        (RESNET, 0),
        (VGG, 0),
        (preact(RESNET), 3),
        (replace(RESNET, order="white"), 1),
        (replace(preact(RESNET), order="white_pre"), 1),
        (replace(VGG, order="white"), 1),
    ],
    ids=["resnet", "vgg", "preresnet", "white", "white_pre", "white vgg"],
)
def test_whitening_is_taken_into_the_convolutions_of_a_network(config, left):
    """In pre-activation order a norm of a sum stays: an activation follows. So does the last norm of a white net."""
    model = whitened(config)
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    fused = copy.deepcopy(model)
    fuse_whitening(fused, x[:1])
    with torch.no_grad():
        assert torch.allclose(fused(x), model(x), rtol=0, atol=1e-10)
    before, after = kinds(model), kinds(fused)
    assert after["IterNorm"] == left < before["IterNorm"]
    assert after["Conv2d"] == before["Conv2d"]


class WhiteUnits(nn.Module):
    """Norms before convolutions: behind a dropout, shared with a shortcut, and one whose output is wanted elsewhere."""

    def __init__(self, padding=1):
        super().__init__()
        self.norm1, self.drop, self.conv1 = IterNorm(8, 4), nn.Dropout(0.5), nn.Conv2d(8, 8, 3, padding=padding)
        self.norm2, self.conv2, self.short = IterNorm(8, 4), nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(8, 12, 1)
        self.norm3, self.conv3 = IterNorm(12, 4), nn.Conv2d(12, 12, 1)
        self.last = nn.Conv2d(12, 4, 1)

    def forward(self, x):
        x = self.conv1(self.drop(self.norm1(x))).relu()
        x = self.norm2(x)
        x = (self.conv2(x) + self.short(x)).relu()
        x = self.norm3(x)
        y = self.conv3(x) + x
        return self.last(self.last.weight.mean() * self.last(y).repeat(1, 3, 1, 1))


def test_norms_before_convolutions_are_taken_in_where_nothing_else_reads_them():
    model = seasoned(WhiteUnits())
    fused, x = copy.deepcopy(model), torch.randn(2, 8, 9, 7, dtype=torch.float64)
    fuse_whitening(fused, x)
    with torch.no_grad():
        assert torch.allclose(fused(x), model(x), rtol=0, atol=1e-10)
    assert isinstance(fused.norm1, nn.Identity) and isinstance(fused.norm2, nn.Identity)
    assert isinstance(fused.norm3, IterNorm)
    assert isinstance(fused.conv1[0], Shift) and isinstance(fused.conv2[0], Shift) and type(fused.short) is nn.Conv2d


def test_what_can_not_be_taken_in_stays():
    """A gain of 0 before zero padding; modules that run twice; a convolution that the norm shares."""
    model = seasoned(WhiteUnits())
    with torch.no_grad():
        model.norm1.weight[0] = 0
    fuse_whitening(model, torch.randn(1, 8, 5, 5, dtype=torch.float64))
    assert isinstance(model.norm1, IterNorm) and isinstance(model.norm2, nn.Identity)
    norm, conv = IterNorm(8, 4), nn.Conv2d(8, 8, 1)
    for twice in (nn.Sequential(norm, conv, norm, conv), nn.Sequential(conv, nn.ReLU(), conv, norm)):
        model = seasoned(twice)
        fuse_whitening(model, torch.randn(1, 8, 5, 5, dtype=torch.float64))
        assert kinds(model)["IterNorm"] == 1
    chain = seasoned(nn.Sequential(IterNorm(8, 4), nn.Conv2d(8, 8, 1), IterNorm(8, 2), nn.Conv2d(8, 8, 1)))
    x = torch.randn(1, 8, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        expected = chain(x)
        fuse_whitening(chain, x)
        assert torch.allclose(chain(x), expected, rtol=0, atol=1e-10)
    assert not kinds(chain)["IterNorm"]


@pytest.mark.parametrize("export", ["file", "timing"])
@pytest.mark.parametrize("config", [RESNET, VGG], ids=["resnet", "vgg"])
def test_an_exported_network_with_iter_norm_has_the_nodes_of_one_without(config, export):
    p, classes = Preprocess(resolution=16, resize=16, fit="squash"), list("abcde")
    model = whitened(config).float()
    plain = build(replace(config, layers=replace(config.layers, norm="none"))).eval()
    data, other = (export_onnx(m, p, classes) if export == "file" else export_for_timing(m, p) for m in (model, plain))
    nodes, expected = (Counter(n.op_type for n in onnx.load_from_string(d).graph.node) for d in (data, other))
    assert nodes == expected
    pixels = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (p.mean, p.std))
    with torch.no_grad():
        logits = model((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)
    assert np.abs(open_session(data, 1).run(pixels) - logits.numpy()).max() < 1e-4


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_a_folded_network_gets_norms_back_that_change_nothing_and_have_the_statistics_of_the_batches(name):
    config = replace(variant(name), num_classes=4, resolution=32)
    torch.manual_seed(0)
    model = build(config).eval()
    for _ in range(3):
        model.train()(torch.randn(8, 3, 32, 32))
    model.eval()
    small = build(folded(config)).eval()
    small.load_state_dict(fold(model))
    assert is_folded(small.config) and not is_folded(config)
    x = torch.randn(16, 3, 32, 32)
    again = unfold(small, [x])
    torch.testing.assert_close(again(x), small(x), rtol=1e-4, atol=1e-4)
    norms = [m for m in again.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    kept = [(m.running_mean.clone(), m.running_var.clone()) for m in norms]
    for m in norms:
        m.momentum = 1.0  # what a pass over the same pictures in training mode finds
    again.train()(x)
    for (mean, var), m in list(zip(kept, norms, strict=True))[:1]:
        torch.testing.assert_close(m.running_mean, mean)
        torch.testing.assert_close(m.running_var, var)
    with pytest.raises(ConfigError, match="its norms are not folded"):
        unfold(model, [x])
