"""NASNets. blocks.py: operations, cells; network.py: record, network, variants."""

from foveate.zoo.families.nasnet.network import (
    FAMILY,
    VARIANTS,
    Block,
    CellWidths,
    Genotype,
    NASNet,
    NASNetConfig,
    Stage,
)

__all__ = ["FAMILY", "VARIANTS", "Block", "CellWidths", "Genotype", "NASNet", "NASNetConfig", "Stage"]
