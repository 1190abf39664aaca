from foveate.zoo.families.efficientnet.network import FAMILY as FAMILY
