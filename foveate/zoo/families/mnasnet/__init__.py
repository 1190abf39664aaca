"""MnasNets. network.py: records, layers, network, variants; published.py: what is published of them."""

from foveate.zoo.families.mnasnet.network import FAMILY, VARIANTS, MnasNet, MnasNetConfig, Stage, scale

__all__ = ["FAMILY", "VARIANTS", "MnasNet", "MnasNetConfig", "Stage", "scale"]
