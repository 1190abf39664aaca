from foveate.zoo.families.ghostnet.network import FAMILY as FAMILY
