from foveate.zoo.families.googlenet.network import FAMILY as FAMILY
