"""Residual attention networks. network.py: records, blocks, network, variants; published.py: papers, weights."""

from foveate.zoo.families.attention.network import FAMILY, VARIANTS, AttentionConfig, AttentionNet, Stage

__all__ = ["FAMILY", "VARIANTS", "AttentionConfig", "AttentionNet", "Stage"]
