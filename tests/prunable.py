"""Tiny networks of every family that channels can be removed from, plain and with plug-in layers."""

from tiny import host, refusal

from foveate.config import replace
from foveate.layers import Layers
from foveate.zoo.families import shufflenet

PLUGS = {
    "plain": Layers(),
    "ws": Layers("none", "scaled(act='silu')", "se(ratio=0.5)", "ws_conv(add_eps=True)"),
    "group": Layers("group_norm", "hard_sigmoid", "coord(least=2)", "conv2d"),
    "white": Layers("iter_norm(group_size=2)", "silu", "se(ratio=0.25, divisor=4)", "mix_conv"),
}
SIDES = {"inception": 75}  # pixels; the tiny host of the others takes 32
SHUFFLES = shufflenet.ShuffleNetConfig((shufflenet.Stage(16, (8, 8)), shufflenet.Stage(40, (16, 12))), groups=2, stem=8)


def prunable(family, layers):
    """The tiny host of a family with these layers and 5 classes, changed where nothing in it could shrink."""
    config = host(family, layers)
    if refusal(family, config.layers):  # mix_conv where nothing is depthwise
        config = host(family, replace(layers, conv="conv2d"))
    if family == "shufflenet" and layers.norm.startswith("iter_norm"):  # 4 groups, shuffled, beside pairs: none fits
        config = replace(SHUFFLES, layers=layers)
    if family == "mgic":  # without a head every width is fixed by the halving of the grid
        config = replace(config, head=16)
    return replace(config, num_classes=5)
