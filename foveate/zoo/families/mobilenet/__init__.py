from foveate.zoo.families.mobilenet.network import FAMILY as FAMILY
