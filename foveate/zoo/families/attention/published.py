"""What is published of the Residual Attention Networks: by the authors' repository (ImageNet), the paper (CIFAR)."""

from foveate.zoo.family import Published

TITLE, ARXIV = "Residual Attention Network for Image Classification", "1704.06904"
README, PAPER = "authors' repository, one crop", "paper, table 3"


def _net(top1: float | None, source: str, resize: int = 256, resolution: int = 224) -> Published:
    return Published(TITLE, ARXIV, top1, source, resize=resize, resolution=resolution)


PUBLISHED = {
    "attention56": _net(78.24, README),
    "attention92": _net(80.5, README + ", 320 px", 366, 320),
    "attentionnext56": _net(78.8, README),
    "attentionnext92": _net(None, ""),
    "attentioninception56": _net(None, ""),
    **{
        f"attention{d}_cifar": _net(top1, "paper, table 1", 32, 32)
        for d, top1 in ((56, 94.48), (128, 95.56), (164, 95.69))
    },
    "attention92_cifar": _net(95.01, PAPER, 32, 32),
    "attention236_cifar": _net(95.86, PAPER, 32, 32),
    "attention452_cifar": _net(96.10, PAPER, 32, 32),
}
