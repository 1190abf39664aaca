"""Descriptors: pictures of 0 to 255 (N, 3, H, W) -> a field of numbers (N, D, h, w). Fixed: none of them is learnt.

Each is made for pictures of a size. `flat` says that the whole field, row by row, is the picture's vector; the others
are coded and pooled first.
"""

from collections.abc import Callable, Mapping

from torch import nn

from foveate.zoo.composed.descriptors.colour import Colour
from foveate.zoo.composed.descriptors.hog import Hog
from foveate.zoo.composed.descriptors.lbp import Lbp
from foveate.zoo.composed.descriptors.patches import Patches
from foveate.zoo.composed.descriptors.pixels import Pixels
from foveate.zoo.composed.descriptors.sift import Sift

DESCRIPTORS: Mapping[str, Callable[..., nn.Module]] = {
    "hog": Hog,
    "lbp": Lbp,
    "colour": Colour,
    "pixels": Pixels,
    "patches": Patches,
    "sift": Sift,
}
