"""What is published of the ResNets: papers, accuracies with their sources, where public weights are.

Accuracies of torchvision are those of its weights IMAGENET1K_V1 (one plain recipe for nearly all), of timm those of its
results file for ImageNet. CIFAR-10 figures are the authors'.
"""

from collections.abc import Iterable, Mapping

from foveate.config import replace
from foveate.zoo.family import HALF, Published

RESNET = Published("Deep Residual Learning for Image Recognition", "1512.03385")
TRICKS = Published("Bag of Tricks for Image Classification with Convolutional Neural Networks", "1812.01187")
PREACT = Published("Identity Mappings in Deep Residual Networks", "1603.05027")
RESNEXT = Published("Aggregated Residual Transformations for Deep Neural Networks", "1611.05431")
WIDE = Published("Wide Residual Networks", "1605.07146")
NONLOCAL = Published("Rethinking Efficacy of Softmax for Lightweight Non-Local Neural Networks", "2207.13423")
GHOST = Published("GhostNet: More Features from Cheap Operations", "1911.11907", resize=32, resolution=32)
SENET = Published("Squeeze-and-Excitation Networks", "1709.01507")

TORCHVISION = {  # name -> (class of its weights, top-1 of IMAGENET1K_V1)
    "resnet18": ("ResNet18", 69.758),
    "resnet34": ("ResNet34", 73.314),
    "resnet50": ("ResNet50", 76.130),
    "resnet101": ("ResNet101", 77.374),
    "resnet152": ("ResNet152", 78.312),
    "resnext50_32x4d": ("ResNeXt50_32X4D", 77.618),
    "resnext101_32x8d": ("ResNeXt101_32X8D", 79.312),
    "resnext101_64x4d": ("ResNeXt101_64X4D", 83.246),
    "wide_resnet50_2": ("Wide_ResNet50_2", 78.468),
    "wide_resnet101_2": ("Wide_ResNet101_2", 78.848),
}
TIMM = {  # name -> (tag of its weights, top-1, resize, resolution)
    "resnet50c": ("gluon_in1k", 78.016, 256, 224),
    "resnet50d": ("gluon_in1k", 79.080, 256, 224),
    "resnet50s": ("gluon_in1k", 78.710, 256, 224),
    "resnet101c": ("gluon_in1k", 79.542, 256, 224),
    "resnet101d": ("gluon_in1k", 80.466, 256, 224),
    "resnet152c": ("gluon_in1k", 79.904, 256, 224),
    "resnet152d": ("gluon_in1k", 80.476, 256, 224),
    "resnet18d": ("ra2_in1k", None, 256, 224),
    "resnet34d": ("ra2_in1k", None, 256, 224),
}
AUTHORS = {  # CIFAR-10 test accuracy, and the file that says so
    "ghost_resnet56_cifar": (92.7, "paper, table of CIFAR-10"),
    "resnet20_cifar": (91.25, "paper, table 6"),
    "resnet32_cifar": (92.49, "paper, table 6"),
    "resnet44_cifar": (92.83, "paper, table 6"),
    "resnet56_cifar": (93.03, "paper, table 6"),
    "resnet110_cifar": (93.57, "paper, table 6"),
    "resnet1202_cifar": (92.07, "paper, table 6"),
    "preresnet164_cifar": (94.54, "paper, table 4"),
    "preresnet1001_cifar": (95.08, "authors' repository resnet-1k-layers, batch 128"),
    "wrn28_10_cifar": (96.00, "authors' repository, median of 5"),
    "resnext29_16x64d_cifar": (96.42, "authors' repository"),
    "resnet50_caffe": (75.3, "authors' repository, one crop"),
    "resnet101_caffe": (76.4, "authors' repository, one crop"),
    "resnet152_caffe": (77.0, "authors' repository, one crop"),
    "resnext101_32x4d": (78.8, "authors' repository"),
}


def paper_of(name: str) -> Published:
    """The paper that proposed a variant."""
    if name.startswith("ghost_"):
        return GHOST
    if "_nl_" in name:
        return NONLOCAL
    if name.startswith(("legacy_", "se")):
        return SENET
    if name.startswith(("preresnet", "resnetv2")):
        return PREACT
    if name.startswith("resnext"):
        return RESNEXT
    if name.startswith("w"):
        return WIDE
    return TRICKS if name[-1] in "cdst" and not name.endswith(("_cifar", "_caffe")) and "_" not in name else RESNET


def published(names: Iterable[str]) -> Mapping[str, Published]:
    """What is known of each variant."""
    found = {}
    for name in names:
        entry = paper_of(name)
        if name in TORCHVISION:
            weights, accuracy = TORCHVISION[name]
            entry = replace(
                entry,
                top1=accuracy,
                source="torchvision IMAGENET1K_V1",
                weights=f"torchvision {weights}_Weights.IMAGENET1K_V1",
            )
        elif name in TIMM:
            tag, top1, resize, resolution = TIMM[name]
            source = "timm results csv" if top1 else ""
            entry = replace(entry, top1=top1, source=source, weights=f"timm {name}.{tag}", interpolation="bicubic")
            entry = replace(entry, resize=resize, resolution=resolution)
        elif name in AUTHORS:
            top1, source = AUTHORS[name]
            entry = replace(entry, top1=top1, source=source)
        if name.startswith("resnetv2_"):
            entry = replace(entry, mean=HALF, std=HALF, interpolation="bicubic")
        found[name] = entry
    return found
