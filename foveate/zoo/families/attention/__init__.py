from foveate.zoo.families.attention.network import FAMILY as FAMILY
