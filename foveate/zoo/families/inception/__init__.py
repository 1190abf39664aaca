"""Inception v3, v4 and Inception-ResNets. blocks.py: records, blocks; network.py: record, network, variants."""

from foveate.zoo.families.inception.network import (
    FAMILY,
    VARIANTS,
    Branch,
    Inception,
    InceptionConfig,
    Mixed,
    Stage,
    Unit,
)

__all__ = ["FAMILY", "VARIANTS", "Branch", "Inception", "InceptionConfig", "Mixed", "Stage", "Unit"]
