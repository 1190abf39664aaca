from foveate.zoo.families.mnasnet.network import FAMILY as FAMILY
