"""GhostNets. blocks.py: records, blocks; network.py: network, variants; published.py: what is published of them."""

from foveate.zoo.families.ghostnet.network import FAMILY, VARIANTS, Block, GhostNet, GhostNetConfig, Stage

__all__ = ["FAMILY", "VARIANTS", "Block", "GhostNet", "GhostNetConfig", "Stage"]
