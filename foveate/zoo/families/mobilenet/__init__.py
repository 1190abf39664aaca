"""MobileNets 1 to 4. blocks.py: records, blocks; network.py: network; variants.py, v4.py: variants; published.py."""

from foveate.zoo.families.mobilenet.network import FAMILY, Block, MobileNetConfig, Stage

__all__ = ["FAMILY", "Block", "MobileNetConfig", "Stage"]
