"""Inception v3, v4 and Inception-ResNets. blocks.py: records, blocks; network.py: record, network, variants."""

from foveate.zoo.families.inception.network import FAMILY as FAMILY
