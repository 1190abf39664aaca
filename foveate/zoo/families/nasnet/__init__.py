from foveate.zoo.families.nasnet.network import FAMILY as FAMILY
