"""What is published of the Residual Attention Networks: by the authors' repository (ImageNet); of CIFAR, see below."""

from foveate.zoo.family import Published

TITLE, ARXIV = "Residual Attention Network for Image Classification", "1704.06904"
README = "authors' repository, one crop"


def _net(top1: float | None, source: str, resize: int = 256, resolution: int = 224) -> Published:
    return Published(TITLE, ARXIV, top1, source, resize=resize, resolution=resolution)


PUBLISHED = {
    "attention56": _net(78.24, README),
    "attention92": _net(80.5, README + ", 320 px", 366, 320),
    "attentionnext56": _net(78.8, README),
    "attentionnext92": _net(None, ""),
    "attentioninception56": _net(None, ""),
    # The paper gives no layers for CIFAR, and its parameters (1.9, 5.1 and 8.6 million of the 92, 236 and 452) are not
    # those of the tables here (1.8, 4.8 and 9.4): its accuracies, 95.0, 95.9 and 96.1, are of other networks.
    **{f"attention{depth}_cifar": _net(None, "", 32, 32) for depth in (56, 92, 128, 164, 236, 452)},
}
