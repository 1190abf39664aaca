"""ResNet and its kin: a package, for one record has many forms. The way of the simplest one, ResNet-18 in order "post":

    blocks.py        ResNetConfig and Stage, the values; Basic, the block: conv-norm-act, conv-norm, + shortcut, act;
                     make_shortcut, a 1x1 convolution and a norm where shapes change
    network.py       ResNet: make_stem (7x7), make_pool, each stage's blocks, the mean and a linear layer;
                     imagenet(18), the value; VARIANTS, its names; from_timm, its keys
    zoo/frame.py     ResNetFrame: the forward pass over stem, pool, layer1 to layer4; feature_maps

What other forms add: Bottleneck, PreBasic and PreBottleneck in blocks.py, norms in front of convolutions in white.py,
deep stems and non-local blocks in network.py. published.py: papers, accuracies, public weights.
"""

from foveate.zoo.families.resnet.network import FAMILY, VARIANTS, ResNet, ResNetConfig, Stage, cifar

__all__ = ["FAMILY", "VARIANTS", "ResNet", "ResNetConfig", "Stage", "cifar"]
