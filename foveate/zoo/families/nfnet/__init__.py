from foveate.zoo.families.nfnet.network import FAMILY as FAMILY
