from foveate.zoo.families.regnet.network import FAMILY as FAMILY
