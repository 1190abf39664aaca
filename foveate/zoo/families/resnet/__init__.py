from foveate.zoo.families.resnet.network import FAMILY as FAMILY
