"""A search space of a user's own, small enough to search in a test, and options that make its trials short."""

SPACE = """
import foveate as fv
from foveate.search.space import Choice, Space

BASE = fv.replace(fv.variant("resnet20_cifar"), resolution=8)


def space():
    choices = [
        Choice("act", ("relu", "silu")),
        Choice("width", (4, 8, 16)),
        Choice("norm", ("batch_norm", "group_norm(groups=4)")),
    ]
    return Space(choices, name="tiny", make=make)


def make(values):
    width = values["width"]
    stages = tuple(fv.replace(s, width=width * 2**i, mid=(width * 2**i,)) for i, s in enumerate(BASE.stages))
    layers = fv.replace(BASE.layers, act=values["act"], norm=values["norm"])
    return fv.replace(BASE, stages=stages, stem_widths=(width,), layers=layers)
"""

SHORT = {"epochs": 1, "pictures": 256, "threads": 1}
