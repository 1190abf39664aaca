"""The families: a file each, or a folder with blocks and published tables. A new one is a line of FAMILIES."""

from collections.abc import Mapping

from foveate.zoo.families import (
    airbench,
    alexnet,
    attention,
    densenet,
    efficientnet,
    ghostnet,
    googlenet,
    inception,
    mgic,
    mixnet,
    mnasnet,
    mobilenet,
    nas,
    nasbench201,
    nasnet,
    nfnet,
    regnet,
    resnet,
    senet,
    shufflenet,
    sknet,
    vgg,
)
from foveate.zoo.family import Family

FAMILIES: Mapping[str, Family] = {
    "resnet": resnet.FAMILY,
    "efficientnet": efficientnet.FAMILY,
    "attention": attention.FAMILY,
    "googlenet": googlenet.FAMILY,
    "inception": inception.FAMILY,
    "mgic": mgic.FAMILY,
    "nfnet": nfnet.FAMILY,
    "alexnet": alexnet.FAMILY,
    "vgg": vgg.FAMILY,
    "densenet": densenet.FAMILY,
    "mobilenet": mobilenet.FAMILY,
    "ghostnet": ghostnet.FAMILY,
    "regnet": regnet.FAMILY,
    "mnasnet": mnasnet.FAMILY,
    "mixnet": mixnet.FAMILY,
    "nasnet": nasnet.FAMILY,
    "senet": senet.FAMILY,
    "sknet": sknet.FAMILY,
    "shufflenet": shufflenet.FAMILY,
    "airbench": airbench.FAMILY,
    "nasbench201": nasbench201.FAMILY,
    "nas": nas.FAMILY,
}
