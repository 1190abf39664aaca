"""Nets without norms. blocks.py: records, blocks; network.py: network, variants."""

from foveate.zoo.families.nfnet.network import FAMILY, VARIANTS, NFNet, NFNetConfig, Stage

__all__ = ["FAMILY", "VARIANTS", "NFNet", "NFNetConfig", "Stage"]
