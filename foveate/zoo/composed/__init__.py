"""Architectures that are no convolutional family: pipelines with learnt parts, and several networks as one.

They build, save, open and export like the families; they have no variants, no slots for layers, and no gradients to
train them by. A new kind is a file and a line of COMPOSED.
"""

from collections.abc import Mapping

from foveate.zoo.composed import classic, fusion
from foveate.zoo.family import Family

COMPOSED: Mapping[str, Family] = {"classic": classic.FAMILY, "fusion": fusion.FAMILY}
