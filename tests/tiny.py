"""Hosts that are tiny, so that every layer can be tried in every family; for the tests and for scripts/layer_matrix."""

import math

import torch

from foveate.config import replace
from foveate.layers import ACTS, ATTNS, CONVS, NORMS, Layers
from foveate.zoo import FAMILIES, build, variant
from foveate.zoo.families import (
    airbench,
    alexnet,
    densenet,
    mgic,
    mixnet,
    nas,
    nasbench201,
    senet,
    shufflenet,
    sknet,
    vgg,
)
from foveate.zoo.families.attention import network as attention
from foveate.zoo.families.efficientnet import network as efficientnet
from foveate.zoo.families.ghostnet import network as ghostnet
from foveate.zoo.families.googlenet import network as googlenet
from foveate.zoo.families.inception import network as inception
from foveate.zoo.families.mnasnet import network as mnasnet
from foveate.zoo.families.mobilenet import network as mobilenet
from foveate.zoo.families.nasnet import network as nasnet
from foveate.zoo.families.nfnet import network as nfnet
from foveate.zoo.families.regnet import network as regnet
from foveate.zoo.families.resnet import network as resnet

TABLES = (NORMS, ACTS, ATTNS, CONVS)  # in the order of the fields of Layers

# A family that has none here is tested with its small variant.
TINY = {
    "airbench": airbench.AirbenchConfig(
        (airbench.Group((16, 16)), airbench.Group((32, 16, 32), residual=True)), stem=8
    ),
    "resnet": resnet.ResNetConfig(
        stages=(resnet.Stage(16, (8,), 1), resnet.Stage(32, (8, 8), 2)),
        block="bottleneck",
        stem="cifar",
        pool="none",
        stem_widths=(8,),
    ),
    "efficientnet": efficientnet.EfficientNetConfig(
        stages=(efficientnet.Stage(1, 8, 1, 3, 1), efficientnet.Stage(2, 16, 2, 5, 2)), stem=8, head=32
    ),
    "shufflenet": shufflenet.ShuffleNetConfig(
        (shufflenet.Stage(16, (4, 8)), shufflenet.Stage(32, (8, 8))), groups=4, stem=8
    ),
    "sknet": sknet.SKNetConfig(
        (sknet.Stage(16, (8,), (4,), 1, groups=2), sknet.Stage(32, (8, 16), (4, 8), groups=4)), stem=8
    ),
    "senet": senet.SENetConfig(
        (senet.Stage(16, (8,), (16,), 1, 1, groups=4), senet.Stage(32, (8, 16), (16, 32), groups=8)), stem=(4, 4, 8)
    ),
    "nasnet": nasnet.NASNetConfig(
        (nasnet.Stage((nasnet.CellWidths(4),)), nasnet.Stage((nasnet.CellWidths(4), nasnet.CellWidths(8)))),
        stem="cifar",
        stem_width=8,
    ),
    "mixnet": mixnet.MixNetConfig(
        (
            mixnet.Stage((mixnet.Block(8, 0),)),
            mixnet.Stage((mixnet.Block(16, 16, (3, 5), 2, 2, 2), mixnet.Block(16, 32, (3, 5)))),
        ),
        stem=8,
        head=32,
    ),
    "mnasnet": mnasnet.MnasNetConfig(
        (mnasnet.Stage(1, 8, 1, 3, 1, "sepconv"), mnasnet.Stage(2, 16, 2, 5, 2)), stem=8, head=32
    ),
    "regnet": regnet.RegNetConfig(
        (regnet.Stage(16, (16,), 8), regnet.Stage(32, (32, 12, 12, 32), 8, ghost=regnet.Ghost(12, 6, 20))), stem=8
    ),
    "ghostnet": ghostnet.GhostNetConfig(
        (
            ghostnet.Stage((ghostnet.Block(8, 8, True),)),
            ghostnet.Stage((ghostnet.Block(12, 8, dfc=True), ghostnet.Block(16, 12, True, True)), 5, 2),
        ),
        stem=8,
        last=16,
        head=16,
        form="branches",
    ),
    "mobilenet": mobilenet.MobileNetConfig(
        (
            mobilenet.Stage(
                (
                    mobilenet.Block("conv", 8, 1),
                    mobilenet.Block("separable", 8),
                    mobilenet.Block("inverted", 8),
                    mobilenet.Block("inverted", 16, 5, 2, 24),
                )
            ),
            mobilenet.Stage(
                (
                    mobilenet.Block("fused", 16, 3, mid=24),
                    mobilenet.Block("universal", 16, 3, 2, 24, 3),
                    mobilenet.Attention(2, 8, kv_stride=2),
                )
            ),
        ),
        stem=8,
        head=32,
    ),
    "densenet": densenet.DenseNetConfig(
        (densenet.Stage((4, 4), (8, 8), 8), densenet.Stage((4, 4))), stem="cifar", stem_width=8
    ),
    "vgg": vgg.VGGConfig((vgg.Stage((8,)), vgg.Stage((16, 8))), grid=2, hidden=(16,)),
    "alexnet": alexnet.AlexNetConfig(
        (alexnet.Stage(8, 5, 2, 2, lrn=True, pool=True), alexnet.Stage(8, 3, padding=1, groups=2, pool=True)),
        grid=2,
        hidden=(16, 16),
    ),
    "nfnet": nfnet.NFNetConfig(
        (nfnet.Stage(16, (8,), 1), nfnet.Stage(32, (8, 8), 2)), stem_widths=(4, 4, 8, 8), head=32
    ),
    "attention": attention.AttentionConfig(
        stages=(attention.Stage(8, 4, 1, 2, stride=1), attention.Stage(16, 4, 1, 1), attention.Stage(16, 4)),
        stem="cifar",
        stem_width=8,
    ),
    "googlenet": googlenet.GoogLeNetConfig(
        (
            googlenet.Stage((googlenet.Branches(4, (4, 8), (4, 4), 4),), 3),
            googlenet.Stage(
                (
                    googlenet.Branches(0, (4, 8), (4, 4, 4), 0, stride=2),
                    googlenet.Branches(4, (4, 4), (4, 4, 4), 4, pool="avg"),
                )
            ),
        ),
        stem=(8, 8, 8),
    ),
    "inception": inception.InceptionConfig(
        (
            inception.Stage((inception.Mixed((inception.Branch((inception.Unit(8, 3, 2),)),)),)),
            inception.Stage(
                (
                    inception.Mixed((inception.Branch((inception.Unit(8, 3, 2, True),)), inception.Branch(pool="max"))),
                    inception.Mixed(
                        (
                            inception.Branch((inception.Unit(8),), "avg"),
                            inception.Branch(
                                (inception.Unit(8),), fork=(inception.Unit(4, (1, 3)), inception.Unit(4, (3, 1)))
                            ),
                        )
                    ),
                )
            ),
            inception.Stage(
                (
                    inception.Mixed((inception.Branch((inception.Unit(8, 3, 2),)),)),
                    inception.Mixed(
                        (
                            inception.Branch((inception.Unit(4),)),
                            inception.Branch((inception.Unit(4), inception.Unit(4, (7, 1)))),
                        ),
                        0.2,
                    ),
                )
            ),
        ),
        resolution=32,
    ),
    "nasbench201": nasbench201.NASBench201Config(
        ("conv3x3", "conv1x1", "avg3x3", "none", "conv3x3", "skip"),
        (nasbench201.Stage(8, 1), nasbench201.Stage(16, 1, mid=8)),
        stem=8,
    ),
    "nas": nas.NASConfig((nas.Node(8), nas.Node(8, (3, 1), (2, 2), (0,)), nas.Node(12, (1, 5), (1, 1), (0, 1)))),
    "mgic": mgic.MGICConfig(
        stages=(mgic.Stage(16, 1, 1), mgic.Stage(32, 1)), group=8, coarsest=8, stem="cifar", stem_width=8
    ),
}


# The variant that the real forwards take; a family without a line here is tested with its first one.
SMALL = {
    "shufflenet": "shufflenet_g1_025x",
    "sknet": "skresnet18",
    "senet": "senet154",
    "nasnet": "nasnet_mobile",
    "nasbench201": "nasbench201_best_cifar",
    "nas": "nas_example_cifar",
    "mixnet": "mixnet_s",
    "mnasnet": "mnasnet_small",
    "regnet": "regnetx_002",
    "ghostnet": "ghostnet_050",
    "mobilenet": "mobilenetv1_025",
    "densenet": "densenet40_k12_cifar",
    "vgg": "vgg11_bn_cifar",
    "airbench": "airbench_small_cifar",
    "alexnet": "alexnet",
    "nfnet": "nf_resnet26",
    "resnet": "resnet20_cifar",
    "efficientnet": "efficientnet_lite0",
    "attention": "attention56_cifar",
    "googlenet": "googlenet",
    "inception": "inception_v3",
    "mgic": "mgic_resnet_cifar",
}
# Families without padding: the least side of a picture; those whose maps' sides do not divide the picture's
LEAST = {"inception": 75}
RAGGED = {"airbench", "alexnet", "inception", "nasnet"}


def side(family, wanted):
    return max(wanted, LEAST.get(family, 0))


HEAVY = {"senet"}  # 115 million parameters in the smallest published one: the tiny host stands for it


def small_config(family: str):
    return TINY[family] if family in HEAVY else variant(SMALL.get(family, next(iter(FAMILIES[family].variants))))


NARROW = {"mgic": "mgic(group=2, coarsest=2)"}


def host(family: str, layers: Layers):
    """The tiny config of a family with these layers, for three classes; wide units get narrow groups."""
    layers = replace(layers, conv=NARROW.get(layers.conv, layers.conv))
    return replace(TINY.get(family) or small_config(family), layers=layers, num_classes=3)


# Layers that a tiny host refuses, and a part of the reason: they would change nothing, or leave nothing.
IDLE, NOTHING_LEFT = "changes no convolution", "only its bias is left"
NO_DEPTHWISE = {"airbench", "resnet", "attention", "googlenet", "inception", "mgic", "nfnet"}
NO_DEPTHWISE |= {"alexnet", "vgg", "densenet", "regnet", "senet", "sknet", "nas", "nasbench201"}
REFUSED = {("mix_conv", family): IDLE for family in NO_DEPTHWISE}
REFUSED |= {("mgic", family): IDLE for family in ("alexnet", "shufflenet")}
REFUSED |= {("group_shuffle", "alexnet"): IDLE, ("instance_norm", "regnet"): NOTHING_LEFT}


def refusal(family: str, layers: Layers) -> str | None:
    """Why the tiny host of a family has to refuse these layers, if it has to."""
    reasons = [REFUSED.get((name, family)) for name in (layers.norm, layers.conv)]
    return next((reason for reason in reasons if reason), None)


def train_once(config, make=build) -> torch.nn.Module:
    """The network of a config after one forward and backward pass over 4 pictures of 32 x 32, always the same.

    ArithmeticError where the loss or a gradient is not finite, or a parameter has none.
    """
    torch.manual_seed(0)
    model = make(config).train()
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    loss = torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 0]))
    if not math.isfinite(loss.item()):
        raise ArithmeticError(f"the loss is {loss.item()}")
    loss.backward()
    for name, p in model.named_parameters():
        if p.requires_grad and (p.grad is None or not p.grad.isfinite().all()):
            raise ArithmeticError(f"{name} has {'no' if p.grad is None else 'an infinite'} gradient")
    return model
