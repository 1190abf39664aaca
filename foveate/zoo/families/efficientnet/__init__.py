"""EfficientNets. network.py: records, blocks, network, scaling, variants; published.py: what is published of them."""

from foveate.zoo.families.efficientnet.network import FAMILY, VARIANTS, EfficientNet, EfficientNetConfig, Stage, scale

__all__ = ["FAMILY", "VARIANTS", "EfficientNet", "EfficientNetConfig", "Stage", "scale"]
