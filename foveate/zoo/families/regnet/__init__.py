"""RegNets. network.py: records, blocks, network, design rule, variants; published.py: what is published of them."""

from foveate.zoo.families.regnet.network import FAMILY, VARIANTS, Ghost, RegNet, RegNetConfig, Stage

__all__ = ["FAMILY", "VARIANTS", "Ghost", "RegNet", "RegNetConfig", "Stage"]
