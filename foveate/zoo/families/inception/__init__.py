from foveate.zoo.families.inception.network import FAMILY as FAMILY
