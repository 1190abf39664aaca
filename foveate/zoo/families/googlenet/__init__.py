"""GoogLeNet and BN-Inception. blocks.py: records, modules; network.py: network, variants."""

from foveate.zoo.families.googlenet.network import FAMILY, VARIANTS, Branches, GoogLeNet, GoogLeNetConfig, Stage

__all__ = ["FAMILY", "VARIANTS", "Branches", "GoogLeNet", "GoogLeNetConfig", "Stage"]
